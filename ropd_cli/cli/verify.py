"""``ropd verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import run_api_stage


def verify(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    rubrics: Annotated[Path, typer.Option("--rubrics", help="Rubrics file.")],
    rollouts: Annotated[Path, typer.Option("--rollouts", help="The student's answers.")],
    out: Annotated[Path, typer.Option("--out", help="Verdicts file; what it holds is kept.")],
    index: Annotated[
        Path | None,
        typer.Option("--index", help="Teacher index, to mix its answers in; without it rollouts alone are judged."),
    ] = None,
    m: Annotated[
        int | None, typer.Option("--m", "-m", min=1, help="Distinct teacher answers mixed in a prompt.")
    ] = None,
    on_no_answer: Annotated[
        str | None,
        typer.Option(
            "--on-no-answer", metavar="zero|drop", help="Reward of a rollout without an answer: 0, or missing."
        ),
    ] = None,
    templates: Annotated[Path | None, typer.Option("--templates", help="Folder of your own templates.")] = None,
    model: o.Model = None,
    base_url: o.BaseUrl = None,
    api: o.Api = None,
    api_key_env: o.ApiKeyEnv = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    max_tokens: o.MaxTokens = None,
    reasoning_effort: o.ReasoningEffort = None,
    timeout: o.Timeout = None,
    concurrency: o.Concurrency = None,
    rpm: o.Rpm = None,
    tpm: o.Tpm = None,
    max_cost: o.MaxCost = None,
    max_failed_fraction: o.MaxFailedFraction = None,
    dry_run: o.DryRun = False,
    seed: o.Seed = None,
    limit: o.Limit = None,
    cache_dir: o.CacheDir = None,
    no_cache: o.NoCache = False,
    config: o.Config = None,
    overrides: o.Set = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Judge every answer by its group's rubric.

    A group that could not be judged is listed as failed and has no reward, which is not a reward of 0.

    The same command again goes on where it stopped, and tries failed groups again.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.method.prompts import Templates
        from ropd_cli.method.rewards import RewardMixer
        from ropd_cli.stages.verifier import Verifier
        from ropd_cli.stages.verify import VerifyFiles, pending
        from ropd_cli.stages.verify import verify as stage

        flags = o.endpoint_flags(
            "verifier",
            model=model,
            base_url=base_url,
            api=api,
            api_key_env=api_key_env,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            reasoning_effort=reasoning_effort,
            timeout=timeout,
            concurrency=concurrency,
            rpm=rpm,
            tpm=tpm,
            max_cost=max_cost,
            seed=seed,
        )
        flags |= {
            "judge.m": m,
            "judge.on_no_answer": on_no_answer,
            "judge.templates": str(templates) if templates else None,
        }
        settings = o.load(config, overrides, flags, cache_dir=cache_dir)
        texts = Templates.load(settings.judge)
        mixer = RewardMixer.load(settings.reward)
        files = VerifyFiles(
            prompts=prompts, rubrics=rubrics, rollouts=rollouts, out=out, index=index, limit=limit, seed=settings.seed
        )
        run_api_stage(
            screen,
            settings,
            "verifier",
            lambda client, progress: stage(
                files,
                Verifier(client, settings.judge, texts, mixer),
                max_failed_fraction=max_failed_fraction,
                progress=progress,
            ),
            out,
            requests=lambda endpoint: pending(files, Verifier(endpoint, settings.judge, texts, mixer)),
            dry_run=dry_run,
            cached=not no_cache,
            noun="groups",
        )

"""``ropd rubricate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import run_api_stage


def rubricate(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    index: Annotated[Path, typer.Option("--index", help="Teacher index.")],
    rollouts: Annotated[Path, typer.Option("--rollouts", help="The student's answers.")],
    out: Annotated[Path, typer.Option("--out", help="Rubrics file; what it holds is kept.")],
    m: Annotated[int | None, typer.Option("--m", "-m", min=1, help="Distinct teacher answers shown a prompt.")] = None,
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
    """Write one rubric for each group of rollouts.

    A group is a prompt with its rollouts and m teacher answers.

    The same command again goes on where it stopped, and tries failed groups again.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.method.prompts import Templates
        from ropd_cli.stages.rubricate import RubricateFiles, pending
        from ropd_cli.stages.rubricate import rubricate as stage
        from ropd_cli.stages.rubricator import Rubricator

        flags = o.endpoint_flags(
            "rubricator",
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
        flags |= {"judge.m": m, "judge.templates": str(templates) if templates else None}
        settings = o.load(config, overrides, flags, cache_dir=cache_dir)
        texts = Templates.load(settings.judge)
        files = RubricateFiles(
            prompts=prompts, rollouts=rollouts, index=index, out=out, limit=limit, seed=settings.seed
        )
        run_api_stage(
            screen,
            settings,
            "rubricator",
            lambda client, progress: stage(
                files,
                Rubricator(client, settings.judge, texts),
                max_failed_fraction=max_failed_fraction,
                progress=progress,
            ),
            out,
            requests=lambda endpoint: pending(files, Rubricator(endpoint, settings.judge, texts)),
            dry_run=dry_run,
            cached=not no_cache,
            noun="groups",
        )

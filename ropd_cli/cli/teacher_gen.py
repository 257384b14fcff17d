"""``ropd teacher-gen``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import run_api_stage


def teacher_gen(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    out: Annotated[Path, typer.Option("--out", help="Answers file; what it holds is kept.")],
    m: Annotated[int | None, typer.Option("--m", "-m", min=1, help="Distinct answers a prompt.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take the first m answers even where they are the same.")
    ] = False,
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
    """Ask a teacher for m answers a prompt.

    Answers that are empty, cut off, or the same as another are asked for again. With --seed, sample s is sent
    seed + s. The same command again goes on where it stopped, and tries failed prompts again.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.stages.teacher import TeacherFiles, pending
        from ropd_cli.stages.teacher import teacher_gen as stage

        flags = o.endpoint_flags(
            "teacher",
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
        settings = o.load(config, overrides, flags | {"judge.m": m}, cache_dir=cache_dir)
        files = TeacherFiles(prompts=prompts, out=out, limit=limit)
        run_api_stage(
            screen,
            settings,
            "teacher",
            lambda client, progress: stage(
                files,
                client,
                settings.judge.m,
                same_allowed=force,
                max_failed_fraction=max_failed_fraction,
                progress=progress,
            ),
            out,
            requests=lambda endpoint: pending(files, endpoint, settings.judge.m, force),
            dry_run=dry_run,
            cached=not no_cache,
            noun="prompts",
        )

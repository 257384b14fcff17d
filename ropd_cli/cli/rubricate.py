"""``ropd rubricate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli._options import EndpointOptions, StageOptions, TemplatesFolder, command
from ropd_cli.cli._screen import Screen
from ropd_cli.config.masking import shown_url


@command
def rubricate(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    index: Annotated[Path, typer.Option("--index", help="Teacher index.")],
    rollouts: Annotated[Path, typer.Option("--rollouts", help="The student's answers.")],
    out: Annotated[Path, typer.Option("--out", help="Rubrics file; existing records are kept.")],
    m: Annotated[
        int | None,
        typer.Option("--m", "-m", min=1, help="Distinct teacher answers shown per prompt.", show_default="4"),
    ] = None,
    templates: TemplatesFolder = None,
    *,
    endpoint: EndpointOptions,
    run: StageOptions,
    screen: Screen,
) -> None:
    """Write one rubric for each group of rollouts.

    A group is a prompt with its rollouts and m teacher answers.

    The same command again continues where it stopped, and tries failed groups again.
    """
    from ropd_cli.cli._stages import named_alike, require_rubrics, run_api_stage
    from ropd_cli.method.prompts import Templates
    from ropd_cli.stages.rubricate import RubricateFiles, pending
    from ropd_cli.stages.rubricate import rubricate as stage
    from ropd_cli.stages.rubricator import Rubricator

    flags = {"judge.m": m, "judge.templates": str(templates) if templates else None}
    settings = run.load(endpoint.flags("rubricator", seed=run.seed) | flags)
    require_rubrics(settings, "rubricate")
    texts = Templates.load(settings.judge)
    files = RubricateFiles(
        prompts=prompts, rollouts=rollouts, index=index, out=out, limit=run.limit, seed=settings.seed
    )
    run_api_stage(
        screen,
        settings,
        "rubricator",
        lambda client, progress: stage(
            files,
            Rubricator(client, settings.judge, texts),
            max_failed_fraction=run.max_failed_fraction,
            progress=progress,
        ),
        out,
        run,
        requests=lambda endpoint, note, made: pending(
            files, Rubricator(endpoint, settings.judge, texts), note, made=made
        ),
        noun="group",
        is_asked=settings.judge.rubrics != "dataset",
        following=[
            *("ropd", "verify", prompts, "--rubrics", out, "--rollouts", rollouts, "--index", index),
            *("--out", named_alike(out, "rubrics", "verdicts")),
            *(part for file in run.config or () for part in ("-c", file)),
            *(("--base-url", shown_url(endpoint.base_url)) if endpoint.base_url else ()),
            *(("--model", endpoint.model) if endpoint.model else ()),
            *(("--templates", templates) if templates else ()),
            *(("-m", m) if m else ()),
            *(("--seed", run.seed) if run.seed is not None else ()),
            *(("--cache-dir", run.cache_dir) if run.cache_dir else ()),
            *(("--max-cost", run.max_cost) if run.max_cost is not None else ()),
            *(("--limit", run.limit) if run.limit else ()),
            *(("--no-cache",) if run.no_cache else ()),
            *(part for setting in run.overrides or () for part in ("--set", setting)),
        ],
    )

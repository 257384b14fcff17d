"""``ropd verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli._options import EndpointOptions, StageOptions, TemplatesFolder, command
from ropd_cli.cli._screen import Screen


@command
def verify(
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    rubrics: Annotated[Path, typer.Option("--rubrics", help="Rubrics file.")],
    rollouts: Annotated[Path, typer.Option("--rollouts", help="The student's answers.")],
    out: Annotated[Path, typer.Option("--out", help="Verdicts file; existing records are kept.")],
    index: Annotated[
        Path | None,
        typer.Option("--index", help="Teacher index, to mix its answers in. Without it only rollouts are judged."),
    ] = None,
    m: Annotated[
        int | None,
        typer.Option("--m", "-m", min=1, help="Distinct teacher answers mixed in per prompt.", show_default="4"),
    ] = None,
    on_no_answer: Annotated[
        str | None,
        typer.Option(
            "--on-no-answer",
            metavar="zero|drop",
            help="Reward of a rollout without an answer: 0, or missing.",
            show_default="zero",
        ),
    ] = None,
    templates: TemplatesFolder = None,
    *,
    endpoint: EndpointOptions,
    run: StageOptions,
    screen: Screen,
) -> None:
    """Judge every answer by its group's rubric.

    A group that could not be judged is listed as failed. Its rewards are missing, not 0.

    The same command again continues where it stopped, and tries failed groups again.
    """
    from ropd_cli.cli._stages import require_rubrics, reward_figures, run_api_stage
    from ropd_cli.method.prompts import Templates
    from ropd_cli.method.rewards import RewardMixer
    from ropd_cli.records.group_sources import Sources
    from ropd_cli.stages.verifier import Verifier
    from ropd_cli.stages.verify import VerifyFiles, pending
    from ropd_cli.stages.verify import verify as stage

    flags = {
        "judge.m": m,
        "judge.on_no_answer": on_no_answer,
        "judge.templates": str(templates) if templates else None,
    }
    settings = run.load(endpoint.flags("verifier", seed=run.seed) | flags)
    require_rubrics(settings, "verify")
    texts = Templates.load(settings.judge)
    mixer = RewardMixer.load(settings.reward, settings.seed)
    files = VerifyFiles(
        prompts=prompts, rubrics=rubrics, rollouts=rollouts, out=out, index=index, limit=run.limit, seed=settings.seed
    )
    written_for = Sources.of(rubrics).rollouts
    if written_for is not None and written_for.resolve() != rollouts.resolve():
        screen.note(f"warning: {rubrics} was written for {written_for}, and judges {rollouts} here")
    run_api_stage(
        screen,
        settings,
        "verifier",
        lambda client, progress: stage(
            files,
            Verifier(client, settings.judge, texts, mixer),
            max_failed_fraction=run.max_failed_fraction,
            progress=progress,
        ),
        out,
        run,
        requests=lambda endpoint, note, made: pending(
            files, Verifier(endpoint, settings.judge, texts, mixer), note, made=made
        ),
        noun="group",
        figures=reward_figures,
        following=("ropd", "inspect-rubrics", out),
    )

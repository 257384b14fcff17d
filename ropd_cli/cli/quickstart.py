"""``ropd quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli._options import CacheDir, Set, command
from ropd_cli.cli._screen import Screen


@command
def quickstart(
    out: Annotated[Path, typer.Option("--out", help="Directory of all files.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the task, the training order and the rollouts.")] = 0,
    model_path: Annotated[
        str | None,
        typer.Option("--model-path", help="Student: a folder or hub name.", show_default="SmolLM2-135M-Instruct"),
    ] = None,
    overrides: Set = None,
    cache_dir: CacheDir = None,
    *,
    screen: Screen,
) -> None:
    """Distil a small student on this machine, from nothing.

    Fetches the student, makes a small task (sums) with held-out prompts, has the built-in teacher answer it,
    measures the student, trains it on rubric rewards with verl and vLLM, and measures it again. It needs no GPU and no
    account, and takes about ten minutes on 2 cores. The same command again continues where it stopped.
    """
    import os

    from ropd_cli.recipes.quickstart import Options
    from ropd_cli.recipes.quickstart import quickstart as recipe
    from ropd_cli.recipes.quickstart_summary import as_text

    options = Options(
        out=out.absolute(),
        seed=seed,
        model_path=model_path,
        overrides=tuple(overrides or ()),
        cache_dir=str(cache_dir) if cache_dir is not None else None,
    )
    outcome = recipe(options, environ=os.environ, progress=screen.progress())
    screen.result(outcome.document(), as_text(outcome))

"""``ropd quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen


def quickstart(
    out: Annotated[Path, typer.Option("--out", help="Directory of all its files.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option("--seed", help="Draws the task, the training order and the rollouts.")] = 0,
    model_path: Annotated[
        str | None,
        typer.Option("--model-path", help="Another student: a folder or hub name (default: SmolLM2-135M-Instruct)."),
    ] = None,
    overrides: o.Set = None,
    cache_dir: o.CacheDir = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Distil a small student, from nothing, right here.

    Fetches the student, makes a small task (sums) with prompts held out, lets the built-in teacher answer it,
    measures the student, trains it on rubric rewards with verl and vLLM, and measures it again. No GPU and no
    account are needed; on 2 cores it takes about a quarter of an hour. The same command again goes on where it
    stopped.
    """
    import os

    screen = Screen(json, quiet, debug)
    with screen.errors():
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

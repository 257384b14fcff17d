"""``ropd quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._options import CacheDir, Set, command
from ropd_cli.cli._screen import Screen
from ropd_cli.errors import EXIT_INTERRUPTED, InputError
from ropd_cli.util.visible_text import print_err


class JudgedOnly(TypedDict):
    """With ``--judge-only``."""

    verdicts: str
    """File."""


@command
def quickstart(
    out: Annotated[Path, typer.Option("--out", help="Directory of all files.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the task, the training order and the rollouts.")] = 0,
    model_path: Annotated[
        str | None,
        typer.Option("--model-path", help="Student: a folder or hub name.", show_default="SmolLM2-135M-Instruct"),
    ] = None,
    judge_only: Annotated[
        bool,
        typer.Option("--judge-only", help="Train nothing: sample from a built-in student, write rubrics and judge."),
    ] = False,
    overrides: Set = None,
    cache_dir: CacheDir = None,
    *,
    screen: Screen,
) -> None:
    """Distil a small student on this machine, from nothing.

    Fetches the student, makes a small task (sums) with held-out prompts, has the built-in teacher answer it,
    measures the student, trains it on rubric rewards with verl and vLLM, and measures it again. It needs no GPU and no
    account, and takes about ten minutes on 2 cores. The same command again continues where it stopped.

    With --judge-only it takes seconds and needs neither verl nor vLLM: a built-in student that gets half of its answers
    right takes the place of the model. It leaves rollouts, rubrics and verdicts to inspect.
    """
    import os

    from ropd_cli.recipes.quickstart import Options, Paths
    from ropd_cli.recipes.quickstart import quickstart as recipe
    from ropd_cli.recipes.quickstart_summary import as_text
    from ropd_cli.training.launch import after_a_stop

    if judge_only:
        from ropd_cli.cli._stages import closing_lines, reward_figures
        from ropd_cli.recipes.judged_task import judged_task

        if model_path is not None:
            raise InputError("--judge-only has a built-in student, and --model-path names another", "leave one out")
        flags = {"cache_dir": str(cache_dir or os.environ.get("ROPD_CACHE_DIR") or "") or None}
        verdicts = judged_task(out, seed, tuple(overrides or ()), flags, screen.progress())
        lines = closing_lines(reward_figures(verdicts), ["ropd", "inspect-rubrics", verdicts])
        screen.result(JudgedOnly(verdicts=str(verdicts)), "\n".join([f"{verdicts}: rubrics and verdicts", *lines]))
        return
    options = Options(
        out=out.absolute(),
        seed=seed,
        model_path=model_path,
        overrides=tuple(overrides or ()),
        cache_dir=str(cache_dir) if cache_dir is not None else None,
    )
    try:
        outcome = recipe(options, environ=os.environ, progress=screen.progress())
    except KeyboardInterrupt:
        words = "what is finished is kept, the same command does the rest"
        if (run := Paths(options.out).run).exists():
            words = after_a_stop(str(run), "the same command")
        print_err(f"ropd: interrupted; {words}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    screen.result(outcome.document(), as_text(outcome))

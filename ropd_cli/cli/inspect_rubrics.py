"""``ropd inspect-rubrics``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli._options import Debug, Json, Quiet
from ropd_cli.cli._screen import Screen


def inspect_rubrics(
    path: Annotated[Path, typer.Argument(help="Rubrics file, verdicts file, or directory of a training run.")],
    uid: Annotated[str | None, typer.Option("--uid", help="Show this group in full.")] = None,
    step: Annotated[int | None, typer.Option("--step", help="Only groups of this training step.")] = None,
    rubrics: Annotated[Path | None, typer.Option("--rubrics", help="Rubrics file, where PATH holds verdicts.")] = None,
    rollouts: Annotated[
        Path | None, typer.Option("--rollouts", help="Answers file, to show the rollouts' texts.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="Prompts file, to show the questions.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a self-contained page of all groups there.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show rubrics, verdicts and scores of groups.

    Without --uid: one line a group, with its mean reward, the spread of its rewards, the mean score of the
    teacher's answers, and what is wrong with it. With --uid: question, criteria, the verdict on each answer.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.artifacts import write_atomic
        from ropd_cli.errors import InputError
        from ropd_cli.report.groups import load_groups, summary

        views = load_groups(path, rubrics=rubrics, rollouts=rollouts, prompts=prompts)
        if step is not None:
            views = [view for view in views if view.step == step]
        if uid is not None:
            views = [view for view in views if view.uid == uid]
        if not views:
            wanted = " and ".join(
                w for w in (f"uid {uid}" if uid else "", f"step {step}" if step is not None else "") if w
            )
            raise InputError(f"{path}: no group of {wanted}", f"ropd inspect-rubrics {path} lists what is there")
        if html is not None:
            from ropd_cli.report.groups_html import page

            write_atomic(html, page(views, f"Groups of {path.name}"))
            screen.note(f"wrote {html}")
        document = {"groups": [view.to_json(full=uid is not None) for view in views], "summary": summary(views)}
        screen.result(document, _shown(views, full=uid is not None))


def _shown(views: list, *, full: bool) -> object:
    from rich.console import Group

    from ropd_cli.report.groups_text import GroupInFull, GroupList

    return Group(*map(GroupInFull, views)) if full else GroupList(views)

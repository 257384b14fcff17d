"""``ropd runs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._options import command
from ropd_cli.cli._screen import Screen
from ropd_cli.errors import InputError
from ropd_cli.training.run_list import RunSummary


class Runs(TypedDict):
    runs: list[RunSummary]


@command
def runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder to look through.")] = Path("."),
    *,
    screen: Screen,
) -> None:
    """List the training runs below a folder, with state, step, mean reward and cost.

    A run that is stopped goes on with ropd train --resume, a server with the same ropd serve-reward.
    """
    from ropd_cli.report.words import number
    from ropd_cli.training.run_list import runs_below, summary

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "name the folder that your runs lie in")
    found = []
    for run in runs_below(folder):
        try:
            found.append(summary(run))
        except InputError as fault:
            screen.note(f"left out: {fault.message}")
    lines = [f"{'state':8}  {'step':>9}  {'reward':>6}  {'cost':>8}  run"] if found else [f"no run below {folder}"]
    for each in found:
        step = f"{each.step}/{number(each.steps, 'd')}"
        cost = "–" if each.cost_usd is None else f"${each.cost_usd:.2f}"
        lines.append(f"{each.state:8}  {step:>9}  {number(each.reward):>6}  {cost:>8}  {each.path}")
    screen.result(Runs(runs=found), "\n".join(lines))

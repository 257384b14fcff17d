"""The training runs below a folder, and how far each is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ropd_cli.config.load import read_yaml
from ropd_cli.records.outputs import is_being_written
from ropd_cli.training.run_dir import RunDir

State = Literal["finished", "running", "stopped"]


@dataclass(frozen=True)
class RunSummary:
    """How far a run is. ``reward`` is the mean reward of the last step; None where there is none."""

    path: str
    state: State
    step: int
    steps: int | None
    """Planned steps; None where the configuration leaves them to the number of prompts, and the run is not done."""
    reward: float | None
    cost_usd: float | None


def runs_below(folder: Path) -> Iterator[RunDir]:
    """Yield the run directories in a folder and below it, in the order of their paths."""
    for path, folders, files in os.walk(folder):
        run = RunDir(Path(path))
        if {run.config.name, run.prompts_lock.name, run.versions.name} <= set(files):
            yield run
            folders.clear()  # checkpoints are large, and no run lies in another
        folders.sort()


def summary(run: RunDir) -> RunSummary:
    """Return how far a run is. Raises InputError for a damaged file."""
    rows = run.metric_rows()
    done = run.finished()
    last = rows[-1] if rows else {}
    planned = done["steps"] if done else (read_yaml(run.config).get("train") or {}).get("steps")
    state: State = "finished" if done else "running" if is_being_written(run.path) else "stopped"
    cost = run.spent_usd() if run.spent.is_file() else None
    return RunSummary(str(run.path), state, int(last.get("step", 0)), planned, last.get("reward/mean"), cost)

"""Methods side by side: what came of each run of a comparison, and of each method over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import orjson
from pydantic import TypeAdapter, ValidationError

from ropd_cli.analysis.intervals import Interval, unbounded_mean
from ropd_cli.errors import InputError
from ropd_cli.records.files import write_atomic

USED = ("samples", "teacher_answers", "judge_calls", "judge_tokens")
"""What a run has used until a step, by the names of ``Point``."""


@dataclass(frozen=True)
class Point:
    """The student after a step. ``samples``, ``teacher_answers``, ``judge_calls`` and ``judge_tokens`` are what was
    used until then, replies from the cache included; ``seconds`` are those of the steps."""

    step: int
    accuracy: float
    checks: float | None
    """Mean share of the built-in provider's checks that an answer meets, by weight; None for tasks it does not know."""
    samples: int = 0
    teacher_answers: int = 0
    judge_calls: int = 0
    judge_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class CellResult:
    """What came of a cell. ``scores`` has 1 for each held-out prompt that the last model answers right, else 0."""

    label: str
    seed: int
    task: str
    steps: int
    points: tuple[Point, ...]
    scores: tuple[float, ...]
    tokens_mean: float | None
    """Of a rollout of the last step."""
    without_spread: float | None
    """Share of the judged groups."""
    teacher_mean: float | None
    """Mean score of the teacher's answers."""
    machine: str
    version: str

    @property
    def key(self) -> tuple[str, str, int]:
        return self.task, self.label, self.seed

    @property
    def last(self) -> Point:
        return self.points[-1]


@dataclass(frozen=True)
class MethodRow:
    """A method over its seeds; ``change`` is against the first method, over the seeds that both have."""

    label: str
    seeds: int
    before: float
    accuracy: Interval
    checks: Interval | None
    change: Interval | None
    used: dict[str, int]
    """Means over the cells, by the names of ``USED``."""
    minutes: float
    """Of the steps, mean over the seeds."""


def rows_of(cells: Sequence[CellResult]) -> list[MethodRow]:
    """Return the methods of one task in the order in which they come, each over its seeds.

    Intervals are Student's over seeds, so a single seed has an infinite one. Changes are paired by seed.
    """
    by_label: dict[str, dict[int, CellResult]] = {}
    for cell in cells:
        by_label.setdefault(cell.label, {})[cell.seed] = cell
    first = next(iter(by_label.values()), {})
    rows = []
    for label, own in by_label.items():
        shared = sorted(own.keys() & first.keys())
        changes = [own[seed].last.accuracy - first[seed].last.accuracy for seed in shared]
        lasts = [cell.last for cell in own.values()]
        used = {name: round(fmean(getattr(last, name) for last in lasts)) for name in USED}
        checks = [last.checks for last in lasts if last.checks is not None]
        rows.append(
            MethodRow(
                label=label,
                seeds=len(own),
                before=fmean(cell.points[0].accuracy for cell in own.values()),
                accuracy=unbounded_mean([last.accuracy for last in lasts]),
                checks=unbounded_mean(checks) if checks else None,
                change=unbounded_mean(changes) if changes and own is not first else None,
                used=used,
                minutes=fmean(last.seconds for last in lasts) / 60,
            )
        )
    return rows


def by_task(cells: Sequence[CellResult]) -> dict[str, list[MethodRow]]:
    """Return the rows of each task."""
    names = dict.fromkeys(cell.task for cell in cells)
    return {name: rows_of([cell for cell in cells if cell.task == name]) for name in names}


def read_cells(path: Path) -> list[CellResult]:
    """Read the cells of a comparison; none where there is no file. Raises InputError for another file."""
    if not path.is_file():
        return []
    try:
        return TypeAdapter(list[CellResult]).validate_python(orjson.loads(path.read_bytes())["cells"])
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError) as fault:
        raise InputError(f"{path}: no comparison's cells", "name a compare.json of ropd compare-methods") from fault


def write_cells(path: Path, cells: Sequence[CellResult]) -> None:
    """Write the cells of a comparison."""
    document = {"cells": [asdict(cell) for cell in sorted(cells, key=lambda cell: cell.key)]}
    write_atomic(path, orjson.dumps(document, option=orjson.OPT_INDENT_2))

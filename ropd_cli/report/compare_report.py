"""A comparison of methods: its table for a terminal and as Markdown, and its page with the curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from ropd_cli.analysis.intervals import Interval
from ropd_cli.analysis.method_runs import CellResult, MethodRow, Point
from ropd_cli.report.charts import COLOURS, Chart, Line, chart
from ropd_cli.report.pages import render
from ropd_cli.util.terminal import FittedTable

HEAD = ("method", "seeds", "before", "after", "change", "checks", "rollouts", "teacher", "calls", "tokens", "minutes")
NOTE = (
    "before, after: held-out accuracy, the mean over seeds with Student's 95% interval. change: in points against the "
    "first method, paired by seed. checks: share of the built-in checks that the answers meet at the end. teacher: "
    "teacher answers. calls, tokens: of the judges, replies from the cache included. minutes: of the steps."
)
AXES = {
    "step": "steps",
    "samples": "rollouts",
    "teacher_answers": "teacher answers",
    "judge_calls": "judge calls",
    "judge_tokens": "judge tokens",
    "seconds": "seconds of training",
}


def cells_of(row: MethodRow) -> tuple[str, ...]:
    """Return a row's cells as ``HEAD`` names them."""
    used = row.used
    return (
        row.label,
        str(row.seeds),
        f"{row.before:.1%}",
        _share(row.accuracy),
        "–" if row.change is None else _points(row.change),
        "–" if row.checks is None else f"{row.checks.mean:.1%}",
        *(f"{used[name]:,}" for name in ("samples", "teacher_answers", "judge_calls", "judge_tokens")),
        f"{row.minutes:.1f}",
    )


def table(rows: Sequence[MethodRow]) -> FittedTable:
    """Return the table for a terminal."""
    return FittedTable(HEAD, map(cells_of, rows))


def markdown(tasks: Mapping[str, Sequence[MethodRow]]) -> str:
    """Return the tables of all tasks as Markdown."""
    parts = []
    for task, rows in tasks.items():
        lines = [f"**{task}**", "", _line(HEAD), _line("---" for _ in HEAD), *(_line(cells_of(row)) for row in rows)]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, NOTE]) + "\n"


def page(tasks: Mapping[str, Sequence[MethodRow]], cells: Sequence[CellResult], title: str) -> str:
    """Return the page: for each task the table, and the accuracy against what it took."""
    return render(
        "methods.html",
        title=title,
        note=NOTE,
        head=HEAD,
        tasks=[(task, [cells_of(row) for row in rows], charts(task, cells)) for task, rows in tasks.items()],
    )


def charts(task: str, cells: Sequence[CellResult]) -> list[Chart]:
    """Return the held-out accuracy of a task's methods against each of ``AXES``: means over seeds."""
    labels = list(dict.fromkeys(cell.label for cell in cells if cell.task == task))
    drawn = []
    for axis, words in AXES.items():
        lines = []
        for number, label in enumerate(labels):
            own = [cell for cell in cells if (cell.task, cell.label) == (task, label)]
            by_step: dict[int, list[Point]] = {}
            for point in (point for cell in own for point in cell.points):
                by_step.setdefault(point.step, []).append(point)
            points = [
                (round(fmean(getattr(point, axis) for point in at)), fmean(point.accuracy for point in at))
                for _, at in sorted(by_step.items())
            ]
            if len({x for x, _ in points}) > 1:  # a method that uses none of it has no curve
                lines.append(Line(label, points, colour=number % COLOURS, dashed=number >= COLOURS))
        if (
            one := chart(f"held-out accuracy against {words}", lines, axis="accuracy", across=words, unit="%", low=0.0)
        ) is not None:
            drawn.append(one)
    return drawn


def _share(interval: Interval) -> str:
    half = interval.high - interval.mean
    return f"{interval.mean:.1%}" + (f" ± {100 * half:.1f}" if half != float("inf") else "")


def _points(interval: Interval) -> str:
    half = interval.high - interval.mean
    return f"{100 * interval.mean:+.1f}" + (f" ± {100 * half:.1f}" if half != float("inf") else "")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"

"""Charts of a run over its steps, and of several runs in one chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ropd_cli.analysis.run_data import RunData
from ropd_cli.report.charts import Line, chart


def course_charts(runs: Sequence[RunData]) -> list[str]:
    """The charts of a run over its steps; of several runs the same with a line a run."""
    several = len(runs) > 1

    def lines(named: Sequence[tuple[str, str, bool]]) -> list[Line]:
        """Lines of metrics: (name, metric, dashed)."""
        found = []
        for at, run in enumerate(runs):
            for k, (name, metric, dashed) in enumerate(named):
                points = run.series(metric)
                label = f"{run.name} {name}".strip() if several else name
                found.append(Line(label, points, at if several else k, dashed))
        return found

    reward = lines([("rollouts", "reward/mean", False), ("teacher", "reward/teacher_mean", True)])
    charts = [chart("Mean score by the rubric", reward, low=0.0, high=1.0)]
    charts += _validation_charts(runs)
    charts.append(_share_chart(runs))
    if not several:
        charts += [_category_chart(runs[0]), _lint_chart(runs[0]), _time_chart(runs[0])]
    else:
        charts.append(chart("Seconds a step", lines([("", "timing_s/step", False)]), unit="s", low=0.0))
    judging = [("mean", "judge/seconds_mean", False), ("slowest", "judge/seconds_max", True)]
    charts.append(chart("Judging one group", lines(judging), unit="s", low=0.0))
    charts.append(chart("Length of a rollout, tokens", lines([("mean", "response_length/mean", False)]), low=0.0))
    cut = [("cut off by the limit", "response_length/clip_ratio", False)]
    charts.append(chart("Rollouts that were cut off", lines(cut), unit="%", low=0.0))
    tokens = [("prompt", "judge/prompt_tokens", False), ("reply", "judge/completion_tokens", True)]
    charts.append(chart("Judges' tokens a step", lines(tokens), low=0.0))
    charts.append(_cost_chart(runs))
    charts += _monitor_charts(lines)
    return [each for each in charts if each]


def _validation_charts(runs: Sequence[RunData]) -> list[str]:
    several, charts = len(runs) > 1, []
    names = list(dict.fromkeys(name for run in runs for row in run.validations for name in row["benchmarks"]))
    for name in names:
        lines = []
        for at, run in enumerate(runs):
            found = [
                (row["step"], row["benchmarks"][name]["metrics"])
                for row in run.validations
                if name in row["benchmarks"]
            ]
            metric = next((key for _, metrics in found for key, figure in metrics.items() if figure), None)
            figures = [(step, metrics[metric]) for step, metrics in found if metric and metrics.get(metric)]
            lines.append(
                Line(
                    run.name if several else str(metric),
                    [(step, figure["value"]) for step, figure in figures],
                    at,
                    bars=[(step, figure["low"], figure["high"]) for step, figure in figures],
                )
            )
        charts.append(chart(f"Validation: {name}", lines, low=0.0, high=1.0))
    return charts


def _share_chart(runs: Sequence[RunData]) -> str:
    kinds = (
        ("without spread", lambda row: row.dead),
        ("failed", lambda row: row.error is not None),
        ("teacher below student", lambda row: row.teacher_below),
    )
    lines = []
    for at, run in enumerate(runs):
        totals = run.by_step(run.rows)
        for k, (name, fits) in enumerate(kinds if len(runs) == 1 else kinds[:1]):
            counts = run.by_step(row for row in run.rows if fits(row))
            points = [(step, counts[step] / totals[step]) for step in sorted(totals)]
            lines.append(Line(name if len(runs) == 1 else run.name, points, (0, 4, 1)[k] if len(runs) == 1 else at))
    return chart("Groups that teach nothing" if len(runs) == 1 else "Groups without spread", lines, unit="%", low=0.0)


def _category_chart(data: RunData) -> str:
    lines = []
    for k, (name, by_step) in enumerate(sorted(data.categories.items(), key=weight, reverse=True)[:6]):
        points = [(step, rate) for step in sorted(by_step) if (rate := by_step[step].student_rate) is not None]
        lines.append(Line(name, points, k))
    return chart("Criteria met by the rollouts, by category", lines, unit="%", low=0.0, high=1.0)


def weight(item: tuple[str, Mapping[int, Any]]) -> int:
    """Points of a category's criteria over all steps; of an item of ``RunData.categories``."""
    return sum(met.weight for met in item[1].values())


def _lint_chart(data: RunData) -> str:
    totals = data.by_step(data.rows)
    often = sorted(data.lint.items(), key=lambda item: item[1].total(), reverse=True)[:6]
    lines = [
        Line(rule, [(step, counts[step] / totals[step]) for step in sorted(totals)], k)
        for k, (rule, counts) in enumerate(often)
    ]
    return chart("Linter findings a group", lines, low=0.0)


def _time_chart(data: RunData) -> str:
    waited = dict(data.series("judge/waited_seconds"))
    gen = [(step, seconds - waited.get(step, 0.0)) for step, seconds in data.series("timing_s/gen")]
    lines = [
        Line("rollouts (judged meanwhile)", gen, 0),
        Line("waiting for the judges alone", sorted(waited.items()), 4),
        Line("update", data.series("timing_s/update_actor"), 1),
        Line("whole step", data.series("timing_s/step"), 5, dashed=True),
    ]
    return chart("Where a step's seconds go", lines, unit="s", low=0.0)


def _cost_chart(runs: Sequence[RunData]) -> str:
    lines = []
    for at, run in enumerate(runs):
        total, points = 0.0, []
        second = dict(run.series("monitor/cost_usd"))
        for step, cost in run.series("judge/cost_usd"):
            total += cost + second.get(step, 0.0)
            points.append((step, total))
        if total:
            lines.append(Line(run.name if len(runs) > 1 else "spent so far", points, at))
    return chart("Cost of judging", lines, unit="$", low=0.0)


def _monitor_charts(lines: Any) -> list[str]:
    gap = [("first judge", "monitor/first_mean", False), ("second judge", "monitor/second_mean", True)]
    fences = [("imitate its tags, or break out of their own", "rollouts/fence_attempts", False)]
    return [
        chart("Two judges on the same groups", lines(gap), low=0.0, high=1.0),
        chart("Rollouts that address the judge", lines(fences), unit="%", low=0.0),
    ]

"""Runs side by side: their figures, their course in common charts, their hardest criteria, what differs in their
configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from ropd_cli.analysis.run_data import RunData
from ropd_cli.config.masking import masked
from ropd_cli.report.pages import render
from ropd_cli.report.run_charts import course_charts
from ropd_cli.report.run_words import outcome


@with_config(ConfigDict(extra="forbid", json_schema_extra={"patternProperties": {"^best_": {"type": "number"}}}))
class RunFigures(TypedDict):
    """A run. A figure is null where the run has none; ``best_NAME`` is the best value of a benchmark's first metric in
    the validations, for each."""

    path: str
    name: str
    steps: int
    groups: int
    failed_groups: int
    groups_without_spread: float | None
    """Share of the judged groups."""
    teacher_below_student: float | None
    """Share of the judged groups."""
    reward_first_third: float | None
    """Mean reward over the first third of the steps."""
    reward_last_third: float | None
    change: float | None
    """Of the reward, with its 95% interval."""
    change_low: float | None
    change_high: float | None
    loss_first_third: float | None
    loss_last_third: float | None
    linter_findings_per_group: float | None
    seconds: float | None
    """Of all steps."""
    judge_calls: float | None
    judging_usd: float | None


def compared_page(runs: Sequence[RunData]) -> str:
    """Return the page of two runs or more."""
    columns = [figures(run) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    flat = [dict(_flat(masked(run.config))) for run in runs]
    keys = dict.fromkeys(key for config in flat for key in config)
    return render(
        "runs.html",
        title=" · ".join(run.name for run in runs),
        runs=runs,
        figures=[(name, [_figure(name, column.get(name)) for column in columns]) for name in names],
        charts=course_charts(runs),
        sentences=list(map(outcome, runs)),
        differences=[
            (key, [config.get(key, "–") for config in flat])
            for key in keys
            if len({config.get(key) for config in flat}) > 1
        ],
    )


def figures(run: RunData) -> dict[str, Any]:
    """Return the figures of a run, by name; None where it has none."""
    judged, trend, loss = run.judged, run.trend, run.thirds("train/loss")
    findings = sum(counts.total() for counts in run.lint.values())
    return {
        "steps": len(run.steps),
        "groups": len(run.rows),
        "failed groups": len(run.failed),
        "groups without spread": sum(row.zero_variance for row in judged) / len(judged) if judged else None,
        "teacher below student": sum(row.below for row in judged) / len(judged) if judged else None,
        "reward, first third": trend[0] if trend else None,
        "reward, last third": trend[1] if trend else None,
        "change": trend[2].mean if trend else None,
        "change, low": trend[2].low if trend else None,
        "change, high": trend[2].high if trend else None,
        "loss, first third": loss[0] if loss else None,
        "loss, last third": loss[1] if loss else None,
        "linter findings per group": findings / max(1, len(run.rows)) if run.has_rubrics else None,
        "seconds": run.total("timing_s/step"),
        "judge calls": run.total("judge/requests_sent"),
        "judging, USD": run.judging_usd,
        **{f"best {name}": value for name, value in _best(run).items()},
    }


def _best(run: RunData) -> dict[str, float]:
    """Return the best value of each benchmark's first metric."""
    best: dict[str, float] = {}
    for row in run.validations:
        for name, benchmark in row["benchmarks"].items():
            figure = next((figure for figure in benchmark["metrics"].values() if figure), None)
            if figure:
                best[name] = max(best.get(name, 0.0), figure["value"])
    return best


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name in ("groups without spread", "teacher below student") or name.startswith("best "):
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted path, value) of a configuration."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _flat(part, f"{path}.{key}" if path else str(key))
    else:
        yield path, str(value)

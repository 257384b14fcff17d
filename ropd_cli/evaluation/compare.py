"""Runs beside one another, problem by problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NotRequired

import orjson
from typing_extensions import TypedDict

from ropd_cli.analysis.intervals import Limit, paired_difference, paired_p_value, unbounded_mean
from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Metric
from ropd_cli.evaluation.statistics import Figure, problem_values
from ropd_cli.evaluation.store import EvalRun

SOLVED = 0.5
"""A problem counts as solved by a run whose mean over samples is above this."""


class RunShown(TypedDict):
    name: str
    path: str
    model: str | None


class MetricChange(TypedDict):
    """A change over the problems that both have, with its 95% interval."""

    title: str
    first: float
    other: float
    problems: int
    only_in_one: int
    """Problems."""
    difference: float
    low: Limit
    high: Limit
    p_value: float | None
    gained: NotRequired[list[str]]
    """Of the first metric, if its scores are 0 or 1: ids of problems that only the later one solves."""
    lost: NotRequired[list[str]]
    """The same, of the first."""


Change = TypedDict("Change", {"from": str, "to": str, "metrics": dict[str, MetricChange]})
"""Between two evaluations, by name."""


class ProblemShown(TypedDict):
    """A problem; values are those of the runs in order, null where a run lacks it."""

    id: str
    values: list[float | None]


class BenchmarkCompared(TypedDict):
    """A benchmark that all evaluations have; lists are in the order of the runs."""

    name: str
    metric: str
    """The first one."""
    title: str
    figures: list[Figure | None]
    n: list[int]
    """Samples per problem."""
    differences: list[Change]
    """Of each further evaluation from the first."""
    problems: list[ProblemShown]
    """Those that differ most first."""


class Compared(TypedDict):
    """Evaluations beside one another; the first is the baseline."""

    runs: list[RunShown]
    benchmarks: list[BenchmarkCompared]


@dataclass(frozen=True)
class Run:
    """One evaluation that has a report."""

    path: Path
    report: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Run:
        """Raises InputError for a directory without a report."""
        file = EvalRun(path).report
        if not file.is_file():
            raise InputError(f"{path}: no report of an evaluation", "run ropd eval with --out there")
        try:
            return cls(path, orjson.loads(file.read_bytes()))
        except orjson.JSONDecodeError as fault:
            raise InputError(f"{file}: not JSON ({fault})", "run the same ropd eval again") from fault

    def benchmark(self, name: str) -> dict[str, Any] | None:
        """What the report says of a benchmark."""
        return next((each for each in self.report["benchmarks"] if each["name"] == name), None)

    def values(self, name: str, metric: Metric) -> dict[str, float]:
        """The metric's value of each problem that the report counts."""
        described = self.benchmark(name)
        assert described is not None
        questions, n = described["questions"], described["n"]
        grades = EvalRun(self.path).grades(name).values()
        values = problem_values(metric, (each for each in grades if each.sample < n))
        return {id: values[id] for id in questions if id in values}


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """The first run against each of the others, for every benchmark that all have, as a document.

    Differences are later minus first, over the problems that both have, with a paired interval. Raises InputError for
    fewer than two runs, and where no benchmark is in all of them.
    """
    if len(runs) < 2:
        raise InputError("compare needs two evaluations or more", "ropd eval compare A B")
    first = runs[0]
    names = [each["name"] for each in first.report["benchmarks"] if all(run.benchmark(each["name"]) for run in runs)]
    if not names:
        raise InputError("no benchmark is in all of these evaluations", "run the same --benchmarks for each")
    shown = _names(runs)
    for name in names:
        _check_same_questions(name, runs, shown)
    return {
        "runs": [
            {"name": name, "path": str(run.path), "model": run.report.get("model")}
            for name, run in zip(shown, runs, strict=True)
        ],
        "benchmarks": [_benchmark(name, runs, shown) for name in names],
    }


def _check_same_questions(name: str, runs: Sequence[Run], shown: Sequence[str]) -> None:
    """Raise InputError where a problem's id is another question in another run (older reports do not tell)."""
    asked: dict[str, tuple[str, str]] = {}
    for run, title in zip(runs, shown, strict=True):
        described = run.benchmark(name) or {}
        for id, text in zip(described["questions"], described.get("question_hashes") or (), strict=False):
            first, before = asked.setdefault(id, (title, text))
            if before != text:
                raise InputError(
                    f"{name}: problem {id} is one question in {first} and another in {title}",
                    "evaluate both on the same file; a uid per row keeps a question's id where rows move",
                )


def _names(runs: Sequence[Run]) -> list[str]:
    """Short names of the runs that tell them apart."""
    names = [run.path.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _benchmark(name: str, runs: Sequence[Run], shown: Sequence[str]) -> dict[str, Any]:
    described = [each for run in runs if (each := run.benchmark(name)) is not None]  # it is in all of them
    metrics = [Metric(**each) for each in described[0]["metrics_of"]]
    primary = metrics[0]
    values = [run.values(name, primary) for run in runs]
    samples = [each["n"] for each in described]
    problems = list(dict.fromkeys(id for each in values for id in each))
    return {
        "name": name,
        "metric": primary.name,
        "title": primary.title,
        "figures": [each["figures"]["metrics"].get(primary.name) for each in described],
        "n": samples,
        "differences": [
            _difference(metrics, name, runs[0], other, shown[0], title, (samples[0], count))
            for other, title, count in zip(runs[1:], shown[1:], samples[1:], strict=True)
        ],
        "problems": [
            {"id": id, "values": [each.get(id) for each in values]}
            for id in sorted(problems, key=lambda id: _spread([each.get(id) for each in values]), reverse=True)
        ],
    }


def _difference(
    metrics: Sequence[Metric], name: str, first: Run, other: Run, first_name: str, other_name: str, ns: tuple[int, int]
) -> dict[str, Any]:
    by_metric = {}
    for metric in metrics:
        before, after = first.values(name, metric), other.values(name, metric)
        both = [id for id in before if id in after]
        if not both:
            continue
        means = [fmean(values[id] for id in both) for values in (before, after)]
        if metric.clipped:
            means = [min(max(mean, 0.0), 1.0) for mean in means]
        changes = [after[id] - before[id] for id in both]
        samples = math.inf if metric.clipped else 2 / (1 / ns[0] + 1 / ns[1])
        interval = unbounded_mean(changes) if metric.clipped else paired_difference(changes, samples)
        by_metric[metric.name] = {
            "title": metric.title,
            "first": means[0],
            "other": means[1],
            "problems": len(both),
            "only_in_one": len(before) + len(after) - 2 * len(both),
            "difference": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "p_value": paired_p_value(changes, samples),
        }
        if metric is metrics[0] and metric.binary:
            by_metric[metric.name] |= {
                "gained": [id for id in both if before[id] <= SOLVED < after[id]],
                "lost": [id for id in both if after[id] <= SOLVED < before[id]],
            }
    return {"from": first_name, "to": other_name, "metrics": by_metric}


def _spread(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(known) - min(known) if known else 0.0

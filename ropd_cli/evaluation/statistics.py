"""Figures of one benchmark from its grades: the unit is the problem, and what is missing is left out and counted."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ropd_cli.analysis.intervals import Interval, Limit, problem_mean, problem_ratio, unbounded_mean
from ropd_cli.evaluation.samples import Grade, Metric, Sample
from ropd_cli.evaluation.store import Key


@dataclass(frozen=True)
class Figure:
    """A value with its 95% interval; ``problems``: over how many."""

    value: float
    low: Limit
    high: Limit
    problems: int


@dataclass(frozen=True)
class Lengths:
    """What is said of the samples whatever their grades: how many were cut off by the token limit, and how long they
    are."""

    samples: int
    truncated: int
    mean_tokens: float | None
    median_tokens: float | None
    mean_chars: float | None


@dataclass(frozen=True)
class BenchmarkFigures(Lengths):
    """All figures of a benchmark. ``metrics``: by name; one is missing where nothing was graded. ``no_result``: graded
    samples in which no final result was found; None where the task looks for none. ``undecided``: those whose result
    was not compared by value and counts as wrong."""

    problems: int
    graded_problems: int
    graded: int
    missing: int
    no_result: int | None
    undecided: int
    metrics: dict[str, Figure]
    pass_at: dict[int, Figure] = field(default_factory=dict)
    majority: Figure | None = None

    def document(self) -> dict[str, Any]:
        """For JSON (``FiguresShown``)."""
        document = asdict(self)
        return document | {
            "no_result_share": _share(self.no_result, self.graded),
            "undecided_share": _share(self.undecided, self.graded),
            "truncated_share": _share(self.truncated, self.samples),
            "pass_at": {str(k): figure for k, figure in document["pass_at"].items()},
        }


@dataclass(frozen=True, kw_only=True)
class FiguresShown(BenchmarkFigures):
    """Figures with the shares of ``graded``, and of ``samples`` that were cut off; null of none."""

    no_result_share: float | None
    undecided_share: float | None
    truncated_share: float | None


def benchmark_figures(
    questions: Sequence[str],
    n: int,
    metrics: Sequence[Metric],
    grades: Mapping[Key, Grade],
    lengths: Lengths,
    *,
    extracts: bool,
) -> BenchmarkFigures:
    """The figures over ``questions`` (ids) with ``n`` samples each; ``metrics[0]`` is the one of pass@k and majority.

    Grades of other questions, or of samples beyond ``n``, are left out. A problem's value is the mean over its graded
    samples; a problem without any is left out and counted.
    """
    first = metrics[0]
    by_problem: dict[str, list[Grade]] = {id: [] for id in questions}
    for (question, sample), grade in sorted(grades.items()):
        if question in by_problem and sample < n and grade.scores.get(first.name) is not None:
            by_problem[question].append(grade)
    known = [found for found in by_problem.values() if found]
    graded = sum(map(len, known))
    has_votes = extracts and first.binary and n > 1
    votes = [majority_score(found, first.name) for found in known] if has_votes else []
    figures = {metric.name: figure for metric in metrics if (figure := _figure(metric, known)) is not None}
    return BenchmarkFigures(
        problems=len(questions),
        graded_problems=len(known),
        graded=graded,
        missing=len(questions) * n - graded,
        no_result=sum(grade.extracted is None for found in known for grade in found) if extracts else None,
        undecided=sum(grade.undecided is not None for found in known for grade in found),
        metrics=figures,
        **asdict(lengths),
        pass_at=_pass_at(first, known, n),
        majority=_of(problem_mean(votes), len(votes)) if votes else None,
    )


def lengths_of(samples: Iterable[Sample], questions: Iterable[str], n: int) -> Lengths:
    """The lengths of the samples of these questions, ``n`` each at most."""
    wanted = set(questions)
    tokens, chars, truncated = [], [], 0
    for sample in samples:
        if sample.id not in wanted or sample.sample >= n:
            continue
        chars.append(len(sample.text) + len(sample.reasoning or ""))
        truncated += sample.finish_reason == "length"
        if sample.usage is not None:
            tokens.append(sample.usage.completion_tokens)
    return Lengths(
        len(chars),
        truncated,
        statistics.fmean(tokens) if tokens else None,
        statistics.median(tokens) if tokens else None,
        statistics.fmean(chars) if chars else None,
    )


def problem_values(metric: Metric, grades: Iterable[Grade]) -> dict[str, float]:
    """A metric's value of each problem that has one: the mean over its graded samples, or its own share."""
    found: dict[str, list[Grade]] = defaultdict(list)
    for grade in grades:
        found[grade.id].append(grade)
    values = {id: _value(metric, each) for id, each in found.items()}
    return {id: value for id, value in values.items() if value is not None}


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Probability that one of k samples is right, drawn without replacement from n of which ``correct`` are: 1 -
    C(n - c, k) / C(n, k) (Chen et al. 2021, eq. 1). Raises ValueError for k > n."""
    if not 1 <= k <= n or not 0 <= correct <= n:
        raise ValueError("1 <= k <= n and 0 <= correct <= n are needed")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def majority_score(grades: Sequence[Grade], metric: str) -> float:
    """1 where the most frequent result of a problem's samples is right; of several most frequent ones the share that is
    right. Samples without a result do not vote; without any vote it is 0."""
    votes = Counter(grade.extracted for grade in grades if grade.extracted is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    leading = [result for result, count in votes.items() if count == most]
    right = {grade.extracted for grade in grades if grade.scores[metric] == 1.0}
    return sum(result in right for result in leading) / len(leading)


def _figure(metric: Metric, problems: Sequence[Sequence[Grade]]) -> Figure | None:
    if metric.from_counts:
        counted = [[grade.counts[metric.name] for grade in found if metric.name in grade.counts] for found in problems]
        met = [sum(part for part, _ in pairs) for pairs in counted]
        of = [sum(whole for _, whole in pairs) for pairs in counted]
        return _of(problem_ratio(met, of), len(of)) if sum(of) else None
    values = [value for found in problems if (value := _value(metric, found)) is not None]
    if not values:
        return None
    if metric.clipped:
        interval = unbounded_mean(values)
        bounds = (min(1.0, max(0.0, bound)) for bound in (interval.mean, interval.low, interval.high))
        return _of(Interval(*bounds), len(values))
    return _of(problem_mean(values), len(values))


def _value(metric: Metric, grades: Sequence[Grade]) -> float | None:
    if metric.from_counts:
        pairs = [grade.counts[metric.name] for grade in grades if metric.name in grade.counts]
        whole = sum(of for _, of in pairs)
        return sum(met for met, _ in pairs) / whole if whole else None
    scores = [score for grade in grades if (score := grade.scores.get(metric.name)) is not None]
    return statistics.fmean(scores) if scores else None


def _pass_at(metric: Metric, problems: Sequence[Sequence[Grade]], n: int) -> dict[int, Figure]:
    """For k = 1, 2, 4, … and n; a problem with fewer graded samples than k is left out of that one."""
    if not metric.binary or n < 2:
        return {}
    figures = {}
    for k in sorted({*(2**power for power in range(n.bit_length()) if 2**power <= n), n}):
        values = [
            pass_at_k(len(found), sum(grade.scores[metric.name] == 1.0 for grade in found), k)
            for found in problems
            if len(found) >= k
        ]
        if values:
            figures[k] = _of(problem_mean(values), len(values))
    return figures


def _of(interval: Interval, problems: int) -> Figure:
    return Figure(interval.mean, interval.low, interval.high, problems)


def _share(part: int | None, whole: int) -> float | None:
    return None if part is None or not whole else part / whole

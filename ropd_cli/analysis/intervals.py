"""Intervals of means, shares and differences: how far a figure can be trusted."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Annotated

from pydantic import WithJsonSchema

Limit = Annotated[float, WithJsonSchema({"type": ["number", "null"]})]
"""Of an interval: infinite, and null in JSON, where the data give none."""


@dataclass(frozen=True)
class Interval:
    """A point estimate and its interval, in the unit of the data."""

    mean: float
    low: Limit
    high: Limit


def paired_bootstrap(
    before_P: Sequence[float], after_P: Sequence[float], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Return the mean of ``after - before`` over problems with a percentile bootstrap interval.

    ``before_P`` and ``after_P`` hold one score a problem, shape (P,), in the same order. Problems are
    resampled, both scores of one together, so what makes a problem hard or easy cancels. Raises
    ValueError on empty or unequal lengths.
    """
    if not before_P or len(before_P) != len(after_P):
        raise ValueError("two equally long, non-empty sequences are needed")
    differences_P = [after - before for before, after in zip(before_P, after_P, strict=True)]
    count = len(differences_P)
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(differences_P, k=count)) / count for _ in range(draws))
    tail = (1 - level) / 2
    low, high = means[int(tail * draws)], means[min(draws - 1, int((1 - tail) * draws))]
    return Interval(sum(differences_P) / count, low, high)


def wilson(successes: int, trials: int) -> Interval:
    """Return the share of ``successes`` in ``trials`` with Wilson's 95% score interval, all in [0, 1].

    Raises ValueError without trials.
    """
    from scipy.stats import binomtest

    limits = binomtest(successes, trials).proportion_ci(method="wilson")
    return Interval(successes / trials, float(limits.low), float(limits.high))


def problem_mean(values_P: Sequence[float]) -> Interval:
    """Return the mean over problems of values in [0, 1], shape (P,), with a 95% interval whose unit is the problem.

    Wilson's score interval, with as many trials as would have the variance that the problems show, p (1 - p) /
    (s² / P), and Student's quantile of P - 1 degrees for the normal one. All zeros or all ones count as P trials, so
    no interval has no width. Its coverage is in docs/eval.md. Raises ValueError without values.
    """
    count, mean = len(values_P), fmean(values_P)
    if count == 1:
        return Interval(mean, 0.0, 1.0)
    error = variance(values_P) / count
    trials = max(1.0, mean * (1 - mean) / error) if error > 0 else float(count)
    square = student_quantile(count - 1) ** 2
    middle = (mean + square / (2 * trials)) / (1 + square / trials)
    inner = max(0.0, mean * (1 - mean)) / trials + square / (4 * trials**2)
    half = math.sqrt(square) / (1 + square / trials) * math.sqrt(inner)
    return Interval(mean, min(mean, max(0.0, middle - half)), max(mean, min(1.0, middle + half)))


def unbounded_mean(values_P: Sequence[float]) -> Interval:
    """Return the mean over problems of any values, shape (P,), with Student's 95% interval; of one value it is
    infinite. Raises ValueError without values."""
    count, mean = len(values_P), fmean(values_P)
    if count == 1:
        return Interval(mean, -math.inf, math.inf)
    half = student_quantile(count - 1) * math.sqrt(variance(values_P) / count)
    return Interval(mean, mean - half, mean + half)


def problem_ratio(met_P: Sequence[int], of_P: Sequence[int]) -> Interval:
    """Return ``sum(met) / sum(of)`` in [0, 1] with an interval whose unit is the problem: that of ``problem_mean`` for
    the variance of a ratio of sums (delta method). Raises ValueError where nothing is counted."""
    total, count = sum(of_P), len(of_P)
    if not total:
        raise ValueError("nothing is counted")
    share = sum(met_P) / total
    mean_of = total / count
    return problem_mean([share + (met - share * of) / mean_of for met, of in zip(met_P, of_P, strict=True)])


def paired_difference(differences_P: Sequence[float], samples: float = 1.0) -> Interval:
    """Return the mean difference of two runs over problems, shape (P,), in [-1, 1], with a 95% interval over problems.

    Student's interval, the squared deviations increased by 0.25 / ``samples`` (a problem and run): where few problems
    differ at all, their variance is mostly estimated too low. Raises ValueError without problems.
    """
    count, mean, error = _paired(differences_P, samples)
    half = student_quantile(count - 1) * error if count > 1 else math.inf
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half))


def paired_p_value(differences_P: Sequence[float], samples: float = 1.0) -> float:
    """Return the two-sided p-value of "no difference", of the same statistic as ``paired_difference``; with infinite
    ``samples`` of the same as ``unbounded_mean``."""
    from scipy.special import stdtr

    count, mean, error = _paired(differences_P, samples)
    if count == 1:
        return 1.0
    return float(2 * stdtr(count - 1, -abs(mean) / error)) if error else float(mean == 0)


def difference_of_means(before: Sequence[float], after: Sequence[float]) -> Interval | None:
    """Return the mean of ``after`` less that of ``before``, two samples of any sizes, with Welch's 95% interval; None
    where one of them has fewer than two values."""
    if min(len(before), len(after)) < 2:
        return None
    errors = [variance(values) / len(values) for values in (before, after)]
    squares = sum(error**2 / (len(values) - 1) for error, values in zip(errors, (before, after), strict=True))
    degrees = max(1, int(sum(errors) ** 2 / squares)) if squares else len(before) + len(after) - 2
    half = student_quantile(degrees) * math.sqrt(sum(errors))
    difference = fmean(after) - fmean(before)
    return Interval(difference, difference - half, difference + half)


def _paired(differences_P: Sequence[float], samples: float) -> tuple[int, float, float]:
    """Return (number, mean, standard error)."""
    count, mean = len(differences_P), fmean(differences_P)
    squares = sum((value - mean) ** 2 for value in differences_P) + 0.25 / samples
    return count, mean, math.sqrt(squares / max(1, count - 1) / count)


def student_quantile(degrees: int) -> float:
    """Return the t with P(|T| < t) = 0.95 of Student's distribution."""
    from scipy.special import stdtrit  # a tenth of the time that scipy.stats takes to import

    return float(stdtrit(degrees, 0.975))

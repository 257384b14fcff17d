"""Intervals of means, shares and differences: how far a figure can be trusted."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Interval:
    """A point estimate and its interval, in the unit of the data."""

    mean: float
    low: float
    high: float


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


def wilson(successes: int, trials: int, *, z: float = 1.959964) -> Interval:
    """Return the share of ``successes`` in ``trials`` with Wilson's score interval (95% by default), all in [0, 1].

    Raises ValueError without trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError("successes of at least one trial are needed")
    share, over = successes / trials, z * z / trials
    middle = (share + over / 2) / (1 + over)
    half = z / (1 + over) * math.sqrt(share * (1 - share) / trials + over / (4 * trials))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def problem_mean(values_P: Sequence[float], *, level: float = 0.95) -> Interval:
    """Return the mean over problems of values in [0, 1], shape (P,), with an interval whose unit is the problem.

    Wilson's score interval, with as many trials as would have the variance that the problems show, p (1 - p) /
    (s² / P), and Student's quantile of P - 1 degrees for the normal one. All zeros or all ones count as P trials, so
    no interval has no width. Its coverage is in docs/eval.md. Raises ValueError without values.
    """
    if not values_P:
        raise ValueError("no values")
    count, mean = len(values_P), sum(values_P) / len(values_P)
    if count == 1:
        return Interval(mean, 0.0, 1.0)
    variance = sum((value - mean) ** 2 for value in values_P) / (count - 1) / count
    trials = max(1.0, mean * (1 - mean) / variance) if variance > 0 else float(count)
    square = student_quantile(count - 1, level) ** 2
    middle = (mean + square / (2 * trials)) / (1 + square / trials)
    inner = max(0.0, mean * (1 - mean)) / trials + square / (4 * trials**2)
    half = math.sqrt(square) / (1 + square / trials) * math.sqrt(inner)
    return Interval(mean, min(mean, max(0.0, middle - half)), max(mean, min(1.0, middle + half)))


def unbounded_mean(values_P: Sequence[float], *, level: float = 0.95) -> Interval:
    """Return the mean over problems of any values, shape (P,), with Student's interval; of one value it is infinite.

    Raises ValueError without values.
    """
    if not values_P:
        raise ValueError("no values")
    count, mean = len(values_P), sum(values_P) / len(values_P)
    if count == 1:
        return Interval(mean, -math.inf, math.inf)
    variance = sum((value - mean) ** 2 for value in values_P) / (count - 1) / count
    half = student_quantile(count - 1, level) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half)


def problem_ratio(met_P: Sequence[int], of_P: Sequence[int], *, level: float = 0.95) -> Interval:
    """Return ``sum(met) / sum(of)`` in [0, 1] with an interval whose unit is the problem: that of ``problem_mean`` for
    the variance of a ratio of sums (delta method). Raises ValueError where nothing is counted."""
    total, count = sum(of_P), len(of_P)
    if not total:
        raise ValueError("nothing is counted")
    share = sum(met_P) / total
    mean_of = total / count
    return problem_mean(
        [share + (met - share * of) / mean_of for met, of in zip(met_P, of_P, strict=True)], level=level
    )


def paired_difference(differences_P: Sequence[float], samples: float = 1.0, *, level: float = 0.95) -> Interval:
    """Return the mean difference of two runs over problems, shape (P,), in [-1, 1], with an interval over problems.

    Student's interval, the squared deviations increased by 0.25 / ``samples`` (a problem and run): where few problems
    differ at all, their variance is mostly estimated too low. Raises ValueError without problems.
    """
    count, mean, error = _paired(differences_P, samples)
    half = student_quantile(count - 1, level) * error if count > 1 else math.inf
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half))


def paired_p_value(differences_P: Sequence[float], samples: float = 1.0) -> float:
    """Return the two-sided p-value of "no difference", of the same statistic as ``paired_difference``."""
    count, mean, error = _paired(differences_P, samples)
    return 1.0 - student_within(abs(mean) / error, count - 1) if count > 1 else 1.0


def difference_of_means(before: Sequence[float], after: Sequence[float], *, level: float = 0.95) -> Interval | None:
    """Return the mean of ``after`` less that of ``before``, two samples of any sizes, with Welch's interval; None where
    one of them has fewer than two values."""
    if min(len(before), len(after)) < 2:
        return None
    errors, means = [], []
    for values in (before, after):
        mean = math.fsum(values) / len(values)
        means.append(mean)
        errors.append(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    squares = sum(error**2 / (len(values) - 1) for error, values in zip(errors, (before, after), strict=True))
    degrees = max(1, int(sum(errors) ** 2 / squares)) if squares else len(before) + len(after) - 2
    half = student_quantile(degrees, level) * math.sqrt(sum(errors))
    difference = means[1] - means[0]
    return Interval(difference, difference - half, difference + half)


def _paired(differences_P: Sequence[float], samples: float) -> tuple[int, float, float]:
    """Return (number, mean, standard error)."""
    if not differences_P:
        raise ValueError("no problems")
    count, mean = len(differences_P), sum(differences_P) / len(differences_P)
    squares = sum((value - mean) ** 2 for value in differences_P) + 0.25 / samples
    return count, mean, math.sqrt(squares / max(1, count - 1) / count)


def student_within(t: float, degrees: int) -> float:
    """Return P(|T| < t) of Student's distribution with whole degrees of freedom (Abramowitz & Stegun 26.7.3-4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0 if degrees == 1 else term
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


@lru_cache(maxsize=256)
def student_quantile(degrees: int, level: float = 0.95) -> float:
    """Return the t with P(|T| < t) = ``level``. Raises ValueError without degrees of freedom."""
    if degrees < 1:
        raise ValueError("no degrees of freedom")
    low, high = 0.0, 1e3
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_within(middle, degrees) < level else (low, middle)
    return (low + high) / 2

"""How far a difference of two accuracies can be trusted."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A point estimate and its interval, in the unit of the data."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    before_P: Sequence[float], after_P: Sequence[float], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Mean of ``after - before`` over problems with a percentile bootstrap interval.

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
    """Share of ``successes`` in ``trials`` with Wilson's score interval (95% by default), all in [0, 1].

    Raises ValueError without trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError("successes of at least one trial are needed")
    share, over = successes / trials, z * z / trials
    middle = (share + over / 2) / (1 + over)
    half = z / (1 + over) * math.sqrt(share * (1 - share) / trials + over / (4 * trials))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))

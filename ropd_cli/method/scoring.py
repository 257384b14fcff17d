"""From judgements to scores, rewards and advantages. Pure; a missing judgement stays None all the way.

Suffixes: _K one entry a criterion, _G one entry a rollout of the group. Scores and rewards are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

EPSILON = 1e-8
"""eps of the advantage, and of the score of a rubric without weight: guards the division."""


def score(
    judgement_K: Sequence[bool | None], weights_K: Sequence[int], counted_K: Sequence[bool] | None = None
) -> float | None:
    """Score of one answer: score_i = sum_k w_k v_ik / sum_k w_k, in [0, 1]; 0 for a rubric without weight.

    Shapes (K,), weights positive. ``counted_K`` says which criteria the sums run over (None: all). None where
    one of those has no judgement, so that an unread criterion is never counted as failed. Raises
    ValueError where the shapes differ or no criterion counts.
    """
    if counted_K is not None:
        pairs = zip(judgement_K, weights_K, counted_K, strict=True)
        kept = [(v, w) for v, w, counted in pairs if counted]
        judgement_K, weights_K = [v for v, _ in kept], [w for _, w in kept]
    if len(judgement_K) != len(weights_K) or not weights_K:
        raise ValueError(f"{len(judgement_K)} judgements for {len(weights_K)} weights")
    if None in judgement_K:
        return None
    earned = sum(w for w, v in zip(weights_K, judgement_K, strict=True) if v)
    return earned / (sum(weights_K) or EPSILON)


def judged_for_all(judgements_GK: Sequence[Sequence[bool | None]]) -> tuple[bool, ...]:
    """Which criteria have a judgement for every one of the answers, shape (K,); of shape (G, K), G at least 1."""
    return tuple(None not in column for column in zip(*judgements_GK, strict=True))


def coverage(counted_K: Sequence[bool], weights_K: Sequence[int]) -> float:
    """Share of a rubric's weight that the counted criteria hold, in [0, 1]."""
    return sum(w for w, counted in zip(weights_K, counted_K, strict=True) if counted) / sum(weights_K)


@dataclass(frozen=True)
class GroupStats:
    """What one group's scores say. Means and spread are over what is there; None where nothing is."""

    n: int
    missing: int
    mean: float | None
    spread: float | None
    """Standard deviation (of the population) of the rewards."""
    teacher_mean: float | None
    zero_variance: bool
    """At least two rewards and all equal, as GRPO is given them: every advantage is 0, so there is nothing to learn."""
    teacher_below_student: bool
    """By the rubric the teacher's answers score lower than the rollouts: it may reward the wrong thing."""


def group_stats(
    rewards_G: Sequence[float | None],
    teacher_scores: Sequence[float | None] = (),
    scores_G: Sequence[float | None] | None = None,
    shaped_G: Sequence[float | None] = (),
) -> GroupStats:
    """Statistics of a group: ``rewards_G`` of shape (n,), ``teacher_scores`` of shape (m,), None is missing.

    ``scores_G`` are the rollouts' scores by the rubric, where other parts are mixed into their rewards: it is with them
    that the teacher's scores are compared. ``shaped_G`` are the numbers that GRPO is given, where they are others than
    the rewards.
    """
    rewards = [r for r in rewards_G if r is not None]
    teachers = [s for s in teacher_scores if s is not None]
    mean = math.fsum(rewards) / len(rewards) if rewards else None
    teacher_mean = math.fsum(teachers) / len(teachers) if teachers else None
    scores = [s for s in (rewards_G if scores_G is None else scores_G) if s is not None]
    student_mean = math.fsum(scores) / len(scores) if scores else None
    given = [r for r in shaped_G if r is not None] or rewards
    below = student_mean is not None and teacher_mean is not None and teacher_mean < student_mean - EPSILON
    return GroupStats(
        n=len(rewards_G),
        missing=len(rewards_G) - len(rewards),
        mean=mean,
        spread=_spread(rewards) if rewards else None,
        teacher_mean=teacher_mean,
        zero_variance=len(given) > 1 and max(given) == min(given),
        teacher_below_student=below,
    )


def advantages(rewards_G: Sequence[float | None], *, by_std: bool = True) -> tuple[float | None, ...]:
    """GRPO advantages of a group, shape (n,): r_i - mean(r), over (std(r) + eps) if ``by_std``.

    The mean and the standard deviation (with Bessel's correction, as verl and torch compute it) are over
    the rewards that are there; a missing reward has no advantage. A lone reward has advantage 0.
    """
    rewards = [r for r in rewards_G if r is not None]
    if not rewards:
        return tuple(None for _ in rewards_G)
    # of equal rewards exactly their value, whatever the rounding of the sum
    mean = rewards[0] if max(rewards) == min(rewards) else math.fsum(rewards) / len(rewards)
    scale = 1.0
    if by_std and len(rewards) > 1:
        scale = _spread(rewards) * math.sqrt(len(rewards) / (len(rewards) - 1)) + EPSILON
    return tuple(None if r is None else (r - mean) / scale for r in rewards_G)


def _spread(values: Sequence[float]) -> float:
    if max(values) == min(values):
        return 0.0  # exactly, whatever the rounding of the mean
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))

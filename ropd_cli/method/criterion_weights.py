"""Weigh the criteria of a rubric for one group's update otherwise than by their points
(``reward.criterion_weights``, ``reward.criterion_dropout``). Pure; suffixes as in ``scoring``."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ropd_cli.config import RewardConfig
from ropd_cli.method.scoring import judged_for_all, score
from ropd_cli.records.schemas import AnswerVerdict, Group, digest

Rows = Sequence[Sequence[bool | None]]
"""Judgements, shape (G, K)."""


def counted_weights(rows_GK: Rows, points_K: Sequence[int], settings: RewardConfig, seed: str) -> tuple[int, ...]:
    """Return the weights of the criteria for one group, shape (K,), up to a common factor.

    A criterion that was not judged for all of the rollouts has weight 0, as has one that the mask drops; ``seed``
    draws the mask. At least one weight is above 0 where at least one criterion was judged for all.
    """
    counted_K = judged_for_all(rows_GK)
    if settings.criterion_dropout:
        counted_K = kept(counted_K, settings.criterion_dropout, seed)
    weights_K = tuple(w if counted else 0 for w, counted in zip(points_K, counted_K, strict=True))
    return discriminating(rows_GK, weights_K) if settings.criterion_weights == "discriminating" else weights_K


def discriminating(rows_GK: Rows, weights_K: Sequence[int]) -> tuple[int, ...]:
    """Return the weights times a_k (n - a_k), shape (K,), where a_k of the n rollouts meet criterion k.

    That is w_k 4 p_k (1 - p_k) with the pass rate p_k = a_k / n, times n^2 / 4: whole numbers, so that scores that are
    equal stay equal. A criterion that all meet or none has weight 0. Where no criterion separates the rollouts, the
    weights as they are.
    """
    met_K = [sum(value is True for value in column) for column in zip(*rows_GK, strict=True)]
    scaled_K = tuple(w * a * (len(rows_GK) - a) for w, a in zip(weights_K, met_K, strict=True))
    return scaled_K if any(scaled_K) else tuple(weights_K)


def kept(counted_K: Sequence[bool], rate: float, seed: str) -> tuple[bool, ...]:
    """Return which of the counted criteria a mask keeps, shape (K,): each is dropped with probability ``rate``, but for
    one where that would be all."""
    draw = random.Random(seed)
    draws_K = [draw.random() for _ in counted_K]
    kept_K = tuple(counted and u >= rate for counted, u in zip(counted_K, draws_K, strict=True))
    if any(kept_K) or not any(counted_K):
        return kept_K
    last = max((k for k, counted in enumerate(counted_K) if counted), key=lambda k: draws_K[k])
    return tuple(k == last for k in range(len(counted_K)))


def mask_seed(seed: int, group: Group) -> str:
    """Return what draws a group's mask: the run's seed, the prompt and its rollouts. The same group has the same mask
    again; a prompt's group in another step, with other rollouts, has another."""
    return digest([seed, group.uid, group.raw_prompt_hash, [rollout.text for rollout in group.rollouts]])


def weighted_scores(answers: Sequence[AnswerVerdict], weights_K: Sequence[int]) -> tuple[float | None, ...]:
    """Return the rollouts' scores by these weights, shape (n,). One that no judge was shown, or whose score is missing,
    keeps what it has."""
    counted_K = [weight > 0 for weight in weights_K]
    return tuple(
        score(a.judgement, weights_K, counted_K) if a.judgement and a.score is not None else a.score for a in answers
    )


def in_points(weights_K: Sequence[int], points_K: Sequence[int]) -> tuple[float, ...]:
    """Return weights so scaled that their sum is that of all points, shape (K,)."""
    return tuple(weight * sum(points_K) / sum(weights_K) for weight in weights_K)

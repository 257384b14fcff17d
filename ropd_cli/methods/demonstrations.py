"""A teacher answer in the place of a rollout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ropd_cli.config import RopdConfig
from ropd_cli.methods.base import Rewarded, Rewarder
from ropd_cli.records.schemas import Group


def demonstration_ids(tokenizer: Any, text: str) -> list[int]:
    """Return an answer in the student's tokens, with the end of its turn."""
    return [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]


class FilterRewarder(Rewarder):
    """Replaces the rollouts of a group whose score is under a threshold by the group's first teacher answer, whose
    reward is 1. One that is longer than a rollout may be replaces nothing; a rollout without a score stays missing.

    ``scored`` gives the rewards, in [0, 1]; ``fits`` says whether an answer is short enough.
    """

    def __init__(self, scored: Rewarder, threshold: float, fits: Callable[[str], bool]) -> None:
        self.clients = scored.clients
        self._scored, self._threshold, self._fits = scored, threshold, fits

    async def reward(self, group: Group) -> Rewarded:
        rewarded = await self._scored.reward(group)
        verdicts, demonstration = rewarded.verdicts, group.teacher_answers[0]
        rejected = [k for k, r in enumerate(verdicts.rewards) if r is not None and r < self._threshold]
        # the mean of the rollouts' own scores, of all groups, stays readable beside that of what is learnt from
        verdicts = verdicts.model_copy(update={"parts": {**verdicts.parts, "score": verdicts.rewards}})
        if not rejected:
            return Rewarded(verdicts)
        if not self._fits(demonstration):
            return Rewarded(verdicts, too_long=len(rejected))
        rewards = tuple(1.0 if k in rejected else reward for k, reward in enumerate(verdicts.rewards))
        mixed = verdicts.model_copy(update={"rewards": rewards})
        return Rewarded(mixed, replaced=dict.fromkeys(rejected, demonstration))

    async def close(self) -> None:
        await self._scored.close()


def fits(config: RopdConfig) -> Callable[[str], bool]:
    """Return what says whether an answer has no more than ``data.max_response_tokens`` of the student's tokens. Loads
    its tokenizer when it is first asked."""
    tokenizers: list[Any] = []

    def is_short_enough(text: str) -> bool:
        if not tokenizers:
            from transformers import AutoTokenizer

            tokenizers.append(AutoTokenizer.from_pretrained(config.student.model_path))
        return len(demonstration_ids(tokenizers[0], text)) <= config.data.max_response_tokens

    return is_short_enough

"""Methods in which a judge gives each rollout one score, without a rubric: T-Judge, and on-policy verbal distillation
(OVD, arXiv 2601.21968) with the score as reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ropd_cli.config import EndpointConfig, RopdConfig
from ropd_cli.errors import InputError
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.methods.base import Method, Needs, Resources, Rewarded, Rewarder, Role, named
from ropd_cli.methods.demonstrations import FilterRewarder, fits
from ropd_cli.records.schemas import Group, Prompt
from ropd_cli.stages.scorer import Scorer


class Scored(Method):
    """The reward of a rollout is its score over ``top``, in [0, 1]. The judge is the verifier's endpoint."""

    top: ClassVar[int]
    rewards_suffice = True
    sections = frozenset({"score"})

    def needs(self, config: RopdConfig) -> Needs:
        return Needs(
            teacher_answers=int(config.score.teacher == "shown"),
            roles=("verifier",),
            why_no_judge=f"method {self.name} knows no rubrics",
        )

    def check(self, config: RopdConfig, prompts: Sequence[Prompt]) -> None:
        self.scorer(config, config.verifier)
        if config.monitor.share:
            raise InputError(
                f"monitor.share is {config.monitor.share:g}, and method {self.name} has no rubrics for a second judge",
                "set monitor.share to 0",
            )

    def template_hashes(self, config: RopdConfig) -> dict[str, str]:
        return {"score": self.scorer(config, config.verifier).templates.score_hash(self.top)}

    def requests(self, config: RopdConfig, groups: Sequence[Group]) -> dict[Role, list[ChatRequest]]:
        scorer = self.scorer(config, named(config.verifier, "verifier"))
        asked = [each for group in groups for each in scorer.requests(group)]
        return {"verifier": [request for each in asked for request in each.requests]}

    def rewarder(self, resources: Resources) -> Rewarder:
        config = resources.config
        verifier = named(config.verifier, "verifier")
        client = ChatClient.open(verifier, cache=resources.cache, shared=resources.shared)
        return ScoreRewarder(client, self.scorer(config, client))

    def scorer(self, config: RopdConfig, model: ChatClient | EndpointConfig) -> Scorer:
        """Return what asks for the scores. Raises InputError for templates that can't be used."""
        return Scorer(model, config.judge, config.score, self.top)


class TJudge(Scored):
    """``method: t-judge``."""

    name = "t-judge"
    top = 100


class OvdReward(Scored):
    """``method: ovd-reward``."""

    name = "ovd-reward"
    top = 9


class OvdFilter(OvdReward):
    """``method: ovd-filter``: a rollout under ``score.threshold`` is replaced by a teacher answer."""

    name = "ovd-filter"
    rewards_suffice = False
    replaces = True

    def needs(self, config: RopdConfig) -> Needs:
        return replace(super().needs(config), teacher_answers=1)

    def check(self, config: RopdConfig, prompts: Sequence[Prompt]) -> None:
        super().check(config, prompts)
        for key, value, wanted in (
            ("train.rollout_is", config.train.rollout_is, ("auto", "none")),
            ("train.async", "one_step" if config.train.is_async else "none", ("none",)),
        ):
            if value not in wanted:
                raise InputError(
                    f"{key} is {value}, and a teacher answer has no log-probabilities of a rollout",
                    f"set {key} to none",
                )

    def verl_settings(self, config: RopdConfig) -> dict[str, Any]:
        # a demonstration was not sampled: its old log-probabilities are the actor's own
        correction = {"bypass_mode": False, "rollout_is": None}
        return {"algorithm": {"rollout_correction": correction}, "ropd": {"replaces": True}}

    def rewarder(self, resources: Resources) -> Rewarder:
        config = resources.config
        return FilterRewarder(super().rewarder(resources), config.score.threshold / self.top, fits(config))


class ScoreRewarder(Rewarder):
    """Asks for the scores of a group."""

    def __init__(self, client: ChatClient, scorer: Scorer) -> None:
        self.clients = {"verifier": client}
        self._scorer = scorer

    async def reward(self, group: Group) -> Rewarded:
        return Rewarded(await self._scorer.scores(group, partial=True))

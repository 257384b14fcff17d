"""Rubric-based on-policy distillation: one rubric per group, then verdicts, then the mixed reward."""

from __future__ import annotations

from collections.abc import Sequence

from ropd_cli.config import EndpointConfig, RopdConfig
from ropd_cli.errors import InputError
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.shared import Shared
from ropd_cli.method.dataset_rubrics import dataset_rubric
from ropd_cli.method.groups import given_rubric
from ropd_cli.method.prompts import Templates
from ropd_cli.method.replies import CATEGORIES
from ropd_cli.method.rewards import RewardMixer
from ropd_cli.methods.base import Method, Needs, Resources, Rewarded, Rewarder, Role, named
from ropd_cli.records.schemas import AnswerVerdict, Criterion, Group, Prompt, Rubric, VerdictRecord
from ropd_cli.stages.repair import repair
from ropd_cli.stages.reuse import KeptRubrics
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.verifier import Verifier
from ropd_cli.util.counted import counted

_CRITERIA = 8
_CRITERION_CHARS = 200


class Ropd(Method):
    """``method: ropd``."""

    name = "ropd"
    rewards_suffice = True
    sections = frozenset({"reward"})
    fixed = (  # what the paper compares: a run is one of them from end to end
        *("judge.m", "judge.form", "judge.rubric_per", "judge.blind", "judge.teacher_in_pool"),
        *("judge.rotate_answers", "judge.reuse"),
    )

    def needs(self, config: RopdConfig) -> Needs:
        answers = bool(config.reward.exact)
        if config.reward.rubric == 0:
            return Needs(0, answers, why_no_judge="reward.rubric is 0")
        if config.judge.rubrics == "dataset":
            return Needs(config.judge.m, answers, ("verifier",), why_no_judge="judge.rubrics is dataset")
        return Needs(config.judge.m, answers, ("rubricator", "verifier"))

    def check(self, config: RopdConfig, prompts: Sequence[Prompt]) -> None:
        RewardMixer.load(config.reward).check(prompts)
        if config.monitor.share and config.reward.rubric == 0:
            raise InputError(
                f"monitor.share is {config.monitor.share:g}, and with reward.rubric 0 there are no verdicts to compare",
                "set monitor.share to 0, or give reward.rubric a weight",
            )
        if config.judge.rubrics != "induced":
            lacking = [prompt.uid for prompt in prompts if dataset_rubric(prompt) is None]
            if lacking:
                raise InputError(
                    f"judge.rubrics is {config.judge.rubrics}, and there is no rubric in "
                    f"{counted(len(lacking), 'prompt')} "
                    f"(uid {lacking[0]!r})",
                    "give every prompt a `rubric`, or set judge.rubrics to induced",
                )

    def template_hashes(self, config: RopdConfig) -> dict[str, str]:
        return Templates.load(config.judge).hashes

    def requests(self, config: RopdConfig, groups: Sequence[Group]) -> dict[Role, list[ChatRequest]]:
        if config.reward.rubric == 0:
            return {}
        rubricator, verifier = named(config.rubricator, "rubricator"), named(config.verifier, "verifier")
        writer = Rubricator(rubricator, config.judge.model_copy(update={"rubrics": "induced"}))
        judge = Verifier(verifier, config.judge, writer.templates)
        rubrics: list[ChatRequest] = []
        verdicts: list[ChatRequest] = []
        for group in groups:
            block = writer.block(group)
            if config.judge.rubrics != "dataset":
                rubrics += [each.request for each in writer.requests(group, block)]
            questions = judge.requests(group, given_rubric(group, _rubric(), config.judge), block)
            verdicts += [request for each in questions for request in each.requests]
        return {"rubricator": rubrics, "verifier": verdicts}

    def rewarder(self, resources: Resources) -> Rewarder:
        return RubricRewarder(resources)


class RubricRewarder(Rewarder):
    """Asks for a rubric and the verdicts, and mixes the rewards."""

    def __init__(self, resources: Resources) -> None:
        config = resources.config
        self._repairs = config.judge.repair
        self._mixer = RewardMixer.load(config.reward, config.seed)
        templates = Templates.load(config.judge)
        judges: dict[Role, EndpointConfig] = {"rubricator": config.rubricator, "verifier": config.verifier}
        asked = Ropd().needs(config).roles
        judges |= {role: named(judges[role], role) for role in asked}
        self.clients = {  # the limits of one that is never asked hold nobody up
            role: ChatClient.open(
                endpoint, cache=resources.cache, shared=resources.shared if role in asked else Shared()
            )
            for role, endpoint in judges.items()
        }
        self._rubricator = Rubricator(self.clients["rubricator"], config.judge, templates)
        self._verifier = Verifier(self.clients["verifier"], config.judge, templates, self._mixer)
        self._kept = KeptRubrics(resources.earlier_rubrics) if config.judge.reuse == "epoch" else None

    async def reward(self, group: Group) -> Rewarded:
        if not self._mixer.needs_judges:
            return Rewarded(await self._unjudged(group))
        block = self._rubricator.block(group)
        judged = await self._kept.judged(group, self._rubricator, self._verifier, block) if self._kept else None
        if judged is None:
            rubric = await self._rubricator.rubric(group, block=block, partial=True)
            judged = rubric, await self._verifier.verdicts(group, rubric, block=block, partial=True)
        rewarded = Rewarded(judged[1], judged[0])
        if self._repairs:
            final = await repair(group, *judged, self._rubricator, self._verifier, block)
            rewarded = Rewarded(final.verdicts, final.rubric, final.outcome)
        if self._kept is not None and rewarded.rubric is not None:
            self._kept.keep(rewarded.rubric)
        return rewarded

    async def _unjudged(self, group: Group) -> VerdictRecord:
        """Return the rewards alone: no verdicts, all scores missing."""
        n = len(group.rollouts)
        mixed = await self._mixer.mix(group, [None] * n)
        return VerdictRecord(
            uid=group.uid,
            raw_prompt_hash=group.raw_prompt_hash,
            rubric_hash=None,
            answers=tuple(AnswerVerdict(source="student", index=k, judgement=(), score=None) for k in range(n)),
            rewards=mixed.rewards_G,
            parts=mixed.parts,
            shaped=mixed.shaped_G,
            model="",
            template_hash="",
        )


def _rubric() -> Rubric:
    """Return a rubric of a usual size."""
    criteria = tuple(
        Criterion(criterion_id=f"c{k}", category=CATEGORIES[0], criterion="x" * _CRITERION_CHARS, points=2)
        for k in range(1, _CRITERIA + 1)
    )
    return Rubric(rubrics=criteria, maximum_score=2 * _CRITERIA)

"""Ask the verifier for the verdicts on every answer of a group, and make scores and rewards of them (steps 4 and 5 of
the method)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from functools import partial as partial_of
from itertools import islice, repeat

from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import JudgeError, RopdError
from ropd_cli.llm.client import ChatClient, ChatReply, ChatRequest, JsonSchema
from ropd_cli.llm.structured import parse_json
from ropd_cli.method.block import Block
from ropd_cli.method.layouts import Layout, verdict_layouts
from ropd_cli.method.prompts import Templates
from ropd_cli.method.replies import VERDICTS_NAME, Judgements, parse_verdicts, verdicts_schema
from ropd_cli.method.rewards import RewardMixer
from ropd_cli.method.verdicts import Row, agreement, majority, score_answers
from ropd_cli.records.schemas import Group, RubricRecord, Usage, VerdictRecord
from ropd_cli.stages.judge import Judge
from ropd_cli.util.concurrency import all_of


@dataclass(frozen=True)
class VerdictRequest:
    """One question to the verifier: what it shows, by how many criteria it is to be judged, and the requests, one for
    each of ``judge.repeats``."""

    layout: Layout
    criteria: int
    requests: tuple[ChatRequest, ...]

    def read(self, reply: ChatReply) -> Judgements:
        """The judgements in a reply, shape (answers judged, K). Raises ReplyInvalid."""
        judged = self.layout.judged
        return parse_verdicts(parse_json(reply.text, "answers"), len(judged), self.criteria, judged[0])


class Verifier(Judge):
    """Judges groups by their rubrics. Rewards are the scores, or what ``mixer`` makes of them."""

    def __init__(
        self,
        model: ChatClient | EndpointConfig,
        settings: JudgeConfig,
        templates: Templates | None = None,
        mixer: RewardMixer | None = None,
    ) -> None:
        super().__init__(model, settings, templates)
        self.mixer = mixer

    def known_settings(self, seed: int) -> dict[str, object]:
        mixed = self.mixer.settings.model_dump(mode="json") if self.mixer is not None else {}
        return super().known_settings(seed) | {f"reward.{name}": value for name, value in mixed.items()}

    def requests(
        self, group: Group, rubric: RubricRecord, block: Block | None = None, *, first_sample: int = 0
    ) -> list[VerdictRequest]:
        """What is asked of a group; nothing where no rollout has an answer. ``first_sample`` is the number of the first
        of ``judge.repeats`` requests: other numbers are other requests, also in the cache.

        Raises JudgeError where the record has no rubric for a rollout with an answer.
        """
        block = block or self.block(group)
        if not block.has_students:
            return []
        answered = {None, *(block.answers[k - 1].index for k in block.rollouts)}
        # the rollouts may have changed since their rubrics were written
        rubrics = {rollout: own for rollout, own in rubric.by_rollout.items() if rollout in answered}
        if not rubrics:
            raise JudgeError(
                f"uid {group.uid}: rollouts with answers, but a rubric record without a rubric for them",
                "run ropd rubricate on these rollouts",
            )
        samples = range(first_sample, first_sample + self.settings.repeats)
        requests = []
        for rollout, own in rubrics.items():
            criteria = len(own.rubrics)
            for layout in verdict_layouts(block, self.settings, rollout):
                messages = self.templates.verifier_messages(layout, own)
                form = _form(len(layout.judged), criteria, layout.judged[0])
                repeats = [self._request(block, layout.block, messages, form, sample) for sample in samples]
                requests.append(VerdictRequest(layout, criteria, tuple(repeats)))
        return requests

    async def verdicts(
        self,
        group: Group,
        rubric: RubricRecord,
        *,
        block: Block | None = None,
        requests: Sequence[VerdictRequest] | None = None,
        partial: bool = False,
    ) -> VerdictRecord:
        """The verdicts on a group, teacher answers (if the group has any) mixed blind among the rollouts.

        ``rewards`` has one entry a rollout, shape (n,). A rollout without an answer, which no judge is shown, scores
        0.0 or None by ``judge.on_no_answer``. No call is made where no rollout has an answer. ``block`` and
        ``requests`` are the group's, where they are at hand. ``partial``: where some of several calls failed, the
        answers that they were about are missing, and the group goes on without them.
        Raises what ``requests`` raises, JudgeError where too little was judged for all rollouts and where the mixer
        fails, ProviderError where the verifier did not give valid verdicts within the client's retries: such a group is
        missing, never scored 0.
        """
        block = block or self.block(group)
        requests = self.requests(group, rubric, block) if requests is None else requests
        calls = [partial_of(self.client.ask, request, each.read) for each in requests for request in each.requests]
        outcomes = iter(await all_of(calls, partial=partial))
        rows: dict[tuple[int | None, str, int], Row | None] = {}
        votes: list[list[Judgements]] = []
        usages: list[Usage | None] = []
        for each in requests:
            repeats = len(each.requests)
            replies = [outcome for outcome in islice(outcomes, repeats) if not isinstance(outcome, RopdError)]
            usages += [reply.usage for reply, _ in replies]
            votes.append([judgements for _, judgements in replies])
            is_enough = 2 * len(replies) > repeats  # else no value can have a majority
            judged = majority(votes[-1], repeats) if is_enough else repeat(None)
            for number, row in zip(each.layout.judged, judged, strict=False):
                answer = each.layout.block.answers[number - 1]
                rows[each.layout.rollout, answer.source, answer.index] = row
        answers, covered = score_answers(group, block, rubric.by_rollout, rows, self.settings)
        rollouts = [answer for answer in answers if answer.source == "student"]
        scores_G = [answer.score for answer in rollouts]
        mixed = await self.mixer.mix(group, scores_G, rubric.rubric, rollouts) if self.mixer is not None else None
        return VerdictRecord(
            uid=group.uid,
            raw_prompt_hash=group.raw_prompt_hash,
            rubric_hash=rubric.rubric_hash,
            answers=answers,
            rewards=mixed.rewards_G if mixed else tuple(scores_G),
            parts=mixed.parts if mixed else {},
            shaped=mixed.shaped_G if mixed else (),
            weights=mixed.weights_K if mixed else (),
            coverage=covered,
            agreement=agreement(votes),
            cut=block.cut,
            model=self.endpoint.model or "",
            template_hash=self.templates.verifier_hash,
            usage=Usage.total(usages),
        )


@lru_cache(maxsize=256)
def _form(answers: int, criteria: int, first: int) -> JsonSchema:
    return JsonSchema(name=VERDICTS_NAME, body=verdicts_schema(answers, criteria, first))

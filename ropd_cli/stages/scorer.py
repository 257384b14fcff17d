"""Ask a judge for one score of every rollout of a group, without a rubric, and make rewards of them.

The counterpart of ``verifier`` for the methods in which the teacher is a judge: T-Judge (0 to 100) and on-policy verbal
distillation (0 to 9). The reward of a rollout is its score over the top of the scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from functools import partial as partial_of
from itertools import islice

from ropd_cli.config import EndpointConfig, JudgeConfig, ScoreConfig
from ropd_cli.errors import InputError, JudgeError, ReplyInvalid, RopdError
from ropd_cli.llm.client import ChatClient, ChatReply, ChatRequest, JsonSchema
from ropd_cli.llm.structured import parse_json
from ropd_cli.method.block import Block
from ropd_cli.method.layouts import Layout, score_layouts
from ropd_cli.method.prompts import Templates
from ropd_cli.method.replies import SCORES_NAME, RawScores, parse_scores, read_scores, scores_schema
from ropd_cli.method.verdicts import median_scores, score_agreement, scored_answers
from ropd_cli.records.schemas import Group, Usage, VerdictRecord
from ropd_cli.stages.judge import Judge
from ropd_cli.util.concurrency import all_of


@dataclass(frozen=True)
class ScoreRequest:
    """One question for scores from 0 to ``top``: what it shows, and the requests, one for each of ``judge.repeats``."""

    layout: Layout
    top: int
    requests: tuple[ChatRequest, ...]

    def read(self, reply: ChatReply) -> RawScores:
        """The scores in a reply, in shown order. Raises ReplyInvalid."""
        judged = self.layout.judged
        return parse_scores(parse_json(reply.text, "answers"), len(judged), self.top, judged[0])

    def read_some(self, reply: ChatReply) -> RawScores:
        """The scores that can be read in a reply, None in the place of the others. Raises ReplyInvalid where the reply
        holds no list of answers."""
        judged = self.layout.judged
        return read_scores(parse_json(reply.text, "answers"), len(judged), self.top, judged[0])[0]

    @property
    def rollouts(self) -> list[int]:
        """The rollouts that are scored, in shown order."""
        return [self.layout.block.answers[number - 1].index for number in self.layout.judged]


class Scorer(Judge):
    """Scores the rollouts of groups from 0 to ``top``."""

    def __init__(
        self,
        model: ChatClient | EndpointConfig,
        settings: JudgeConfig,
        score: ScoreConfig,
        top: int,
        templates: Templates | None = None,
    ) -> None:
        """Raises InputError for templates that do not tell the judge of the references that it is shown."""
        super().__init__(model, settings, templates)
        self.score, self.top = score, top
        if score.teacher == "shown" and "{{references}}" not in self.templates.score:
            raise InputError(
                "judge.templates: placeholder {{references}} is missing in score.md (score.teacher is shown)",
                "write {{references}} where the judge is to be told which answers are the teacher's",
            )

    def requests(self, group: Group, block: Block | None = None, *, first_sample: int = 0) -> list[ScoreRequest]:
        """What is asked of a group; nothing where no rollout has an answer. ``first_sample`` as of the verifier.

        Raises JudgeError where the judge is to see a teacher answer and the group has none.
        """
        block = block or self.block(group)
        if not block.has_students:
            return []
        if self.score.teacher == "shown" and not block.references:
            raise JudgeError(
                f"uid {group.uid}: no teacher answer to show (score.teacher is shown)",
                f"look at what the index holds for uid {group.uid}, or set score.teacher to none",
            )
        requests = []
        for layout in score_layouts(block, self.score, self.settings):
            messages = self.templates.score_messages(layout, self.top)
            form = _form(len(layout.judged), self.top, layout.judged[0])
            samples = range(first_sample, first_sample + self.settings.repeats)
            repeats = [self._request(block, layout.block, messages, form, sample) for sample in samples]
            requests.append(ScoreRequest(layout, self.top, tuple(repeats)))
        return requests

    async def scores(
        self,
        group: Group,
        *,
        block: Block | None = None,
        requests: Sequence[ScoreRequest] | None = None,
        partial: bool = False,
    ) -> VerdictRecord:
        """The scores of a group, as verdicts without judgements. ``rewards`` has one entry per rollout, shape (n,).

        A rollout without an answer, which no judge is shown, scores 0.0 or None by ``judge.on_no_answer``. Of
        ``judge.repeats`` scores the median counts. ``block`` and ``requests`` are the group's, where they are at hand.
        ``partial``: a rollout whose call failed, or that every reply of a call left out, is missing, and the group goes
        on without it. Raises what ``requests`` raises, and ProviderError where no rollout (without ``partial``: one of
        them) got a valid score within the client's retries.
        """
        block = block or self.block(group)
        requests = self.requests(group, block) if requests is None else requests
        calls = [partial_of(self._ask, request, each, partial) for each in requests for request in each.requests]
        outcomes = iter(await all_of(calls, partial=partial))
        raw: dict[int, float | None] = {}
        votes: list[list[RawScores]] = []
        usages: list[Usage | None] = []
        for each in requests:
            replies = [one for one in islice(outcomes, len(each.requests)) if not isinstance(one, RopdError)]
            usages += [usage for _, usage in replies]
            votes.append([scores for scores, _ in replies])
            raw |= dict.fromkeys(each.rollouts)  # missing, where every call failed
            raw |= zip(each.rollouts, median_scores(votes[-1], len(each.requests)), strict=False)
        answers = scored_answers(group, raw, self.top, self.settings)
        return VerdictRecord(
            uid=group.uid,
            raw_prompt_hash=group.raw_prompt_hash,
            rubric_hash=None,
            answers=answers,
            rewards=tuple([answer.score for answer in answers]),
            agreement=score_agreement(votes),
            scale=self.top,
            cut=tuple(name for name in block.cut if self.score.teacher == "shown" or name.startswith("student")),
            model=self.endpoint.model or "",
            template_hash=self.templates.score_hash(self.top),
            usage=Usage.total(usages),
        )

    async def _ask(self, request: ChatRequest, asked: ScoreRequest, partial: bool) -> tuple[RawScores, Usage | None]:
        """The scores of a request and what it took. With ``partial``, where no reply has all scores, those of the last
        reply that has any; it is not kept, so the next run asks again."""
        some: RawScores = ()

        def read(reply: ChatReply) -> RawScores:
            nonlocal some
            scores = asked.read_some(reply)
            if any(score is not None for score in scores):
                some = scores
            return asked.read(reply)

        try:
            reply, scores = await self.client.ask(request, read)
        except ReplyInvalid:
            if not partial or not some:
                raise
            return some, None
        return scores, reply.usage


@lru_cache(maxsize=256)
def _form(answers: int, top: int, first: int) -> JsonSchema:
    return JsonSchema(name=SCORES_NAME, body=scores_schema(answers, top, first))

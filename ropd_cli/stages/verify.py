"""Verify: the verifier's verdict on every answer of a group, and from it scores and rewards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from functools import partial as partial_of
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import InputError, JudgeError, RopdError
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.client import ChatClient, ChatReply, ChatRequest, JsonSchema, endpoint_request
from ropd_cli.llm.structured import parse_json
from ropd_cli.method.block import Block, build_block
from ropd_cli.method.layouts import View, verdict_views
from ropd_cli.method.prompts import Templates
from ropd_cli.method.replies import VERDICTS_NAME, Judgements, parse_verdicts, verdicts_schema
from ropd_cli.method.rewards import PARTS, RewardMixer
from ropd_cli.method.verdicts import Row, agreement, majority, score_answers
from ropd_cli.records.schemas import AnswerVerdict, Group, RubricRecord, Usage, VerdictRecord, load_models
from ropd_cli.stages.groups import GroupFile, request_hash, with_teacher
from ropd_cli.stages.runner import Finished, Tally, run_records
from ropd_cli.util.concurrency import all_of
from ropd_cli.util.progress import Progress

STAGE = "verify"


async def verify_group(
    group: Group,
    rubric: RubricRecord,
    client: ChatClient,
    settings: JudgeConfig,
    *,
    templates: Templates,
    mixer: RewardMixer | None = None,
    block: Block | None = None,
    partial: bool = False,
    first_sample: int = 0,
) -> VerdictRecord:
    """The verdicts on one group, teacher answers (if the group has any) mixed blind among the rollouts.

    ``rewards`` has one entry a rollout, shape (n,): its score, or what ``mixer`` makes of it. A rollout without
    an answer, which no judge is shown, scores 0.0 or None by ``settings.on_no_answer``. No call is made where no
    rollout has an answer. ``block`` is the group's, where it is at hand. ``partial``: where some of several calls
    failed, the answers that they were about are missing, and the group goes on without them. ``first_sample``: the
    number of the first of ``settings.repeats`` calls of a question; other numbers are other calls, also in the cache.
    Raises JudgeError where the record has no rubric to judge by, where too little of it was judged for all
    rollouts, and where the mixer fails; ProviderError where the verifier did not give valid verdicts within
    the client's retries: such a group is missing, never scored 0.
    """
    block = block or build_block(group, settings.max_answer_tokens)
    asks = verdict_requests(group, rubric, client.endpoint, settings, templates, block, first_sample)
    return await _ask(group, rubric, block, asks, client, settings, templates, mixer, partial=partial)


async def unjudged_group(group: Group, mixer: RewardMixer, *, template_hash: str = "") -> VerdictRecord:
    """A group whose rewards need no judge (``mixer.needs_judges`` is False): no verdicts, all scores missing."""
    mixed = await mixer.mix(group, [None] * len(group.rollouts))
    answers = [AnswerVerdict(source="student", index=k, judgement=(), score=None) for k in range(len(group.rollouts))]
    return VerdictRecord(
        uid=group.uid,
        raw_prompt_hash=group.raw_prompt_hash,
        rubric_hash=None,
        answers=tuple(answers),
        rewards=mixed.rewards_G,
        parts=mixed.parts,
        model="",
        template_hash=template_hash,
    )


@dataclass(frozen=True)
class VerdictAsk:
    """One question to the verifier: by whose rubric (None: the group's), what it shows, and the requests, one for
    each time it is asked."""

    rollout: int | None
    view: View
    criteria: int
    requests: tuple[ChatRequest, ...]

    def read(self, reply: ChatReply) -> Judgements:
        """The judgements in a reply, shape (answers judged, K). Raises ReplyInvalid."""
        return parse_verdicts(parse_json(reply.text), len(self.view.judged), self.criteria, self.view.judged[0])


def verdict_requests(
    group: Group,
    rubric: RubricRecord,
    endpoint: EndpointConfig,
    settings: JudgeConfig,
    templates: Templates,
    block: Block,
    first_sample: int = 0,
) -> list[VerdictAsk]:
    """What the verifier is asked of a group; nothing where no rollout has an answer."""
    if not block.has_students:
        return []
    answered = {None, *(block.answers[k - 1].index for k in block.rollouts)}
    rubrics = {
        of: own for of, own in rubric.by_rollout.items() if of in answered
    }  # the rollouts may have changed since
    if not rubrics:
        raise JudgeError(
            f"uid {group.uid}: rollouts with answers, but a rubric record without a rubric for them",
            "run ropd rubricate on these rollouts",
        )
    asks = []
    for rollout, own in rubrics.items():
        for view in verdict_views(block, settings, rollout):
            messages = templates.verifier_messages(view, own)
            written = templates.written(view.block, messages)
            form = _form(len(view.judged), len(own.rubrics), view.judged[0])
            requests = [
                endpoint_request(endpoint, messages, form, sample=sample, affinity=block.tag, written=written)
                for sample in range(first_sample, first_sample + settings.repeats)
            ]
            asks.append(VerdictAsk(rollout, view, len(own.rubrics), tuple(requests)))
    return asks


@lru_cache(maxsize=256)
def _form(answers: int, criteria: int, first: int) -> JsonSchema:
    return JsonSchema(name=VERDICTS_NAME, schema=verdicts_schema(answers, criteria, first))


@dataclass(frozen=True)
class VerifyFiles:
    """What the stage reads, and the file it appends to. Without an index only rollouts are judged."""

    prompts: Path
    rubrics: Path
    rollouts: Path
    out: Path
    index: Path | None = None
    limit: int | None = None
    seed: int = 0
    """Says which m of more teacher answers are used; the same as for the rubrics."""


async def verify(
    files: VerifyFiles,
    client: ChatClient,
    settings: JudgeConfig,
    *,
    templates: Templates,
    mixer: RewardMixer | None = None,
    max_failed_fraction: float | None = None,
    progress: Progress,
) -> Tally:
    """Verdicts on all groups of a rollouts file that have a rubric, appended to ``files.out``; what stands
    there is kept.

    A group that fails is listed in ``<out>.failed.jsonl`` and tried again by the next run.
    """
    groups, rubrics = _read(files)
    if mixer is not None:
        mixer.check(groups.prompts)
    if groups.left_out:
        progress.note(f"{groups.left_out} prompts without rollouts or without a rubric are left out")
    done = Finished(files.out)
    with _index_of(files) as index:
        plan = _Plan(files.seed, rubrics, index, client.endpoint, settings, templates, mixer)

        async def work(bare: Group) -> VerdictRecord | None:
            group, rubric, block, asks, asked = plan.of(bare)
            if done.holds(group.uid, asked):
                return None
            record = await _ask(group, rubric, block, asks, client, settings, templates, mixer)
            return record.model_copy(update={"request_hash": asked})

        return await run_records(
            groups,
            work,
            total=done.left_of(groups.uids),
            out=files.out,
            stage=STAGE,
            concurrency=client.endpoint.limits.concurrency,
            max_failed_fraction=max_failed_fraction,
            progress=progress,
            asked=lambda record: any(answer.judgement for answer in record.answers),
        )


def pending(
    files: VerifyFiles,
    endpoint: EndpointConfig,
    settings: JudgeConfig,
    templates: Templates,
    mixer: RewardMixer | None = None,
) -> Iterator[ChatRequest]:
    """The requests of the groups that ``files.out`` does not hold."""
    groups, rubrics = _read(files)
    done = Finished(files.out)
    with _index_of(files) as index:
        plan = _Plan(files.seed, rubrics, index, endpoint, settings, templates, mixer)
        for bare in groups:
            group, _, _, asks, asked = plan.of(bare)
            if not done.holds(group.uid, asked):
                yield from (request for ask in asks for request in ask.requests)


Rubrics = dict[tuple[str, str], RubricRecord]


def _read(files: VerifyFiles) -> tuple[GroupFile, Rubrics]:
    groups = GroupFile(files.prompts, files.rollouts, files.limit)
    rubrics = {(record.uid, record.raw_prompt_hash): record for record in load_models(files.rubrics, RubricRecord)}
    groups.keep_only(rubrics.keys())
    if not groups.uids:
        raise InputError(
            f"{files.rubrics}: no rubric of any group in {files.rollouts}", "run ropd rubricate on these rollouts first"
        )
    return groups, rubrics


def _index_of(files: VerifyFiles) -> closing[TeacherIndex] | nullcontext[None]:
    return closing(TeacherIndex.open(files.index)) if files.index else nullcontext()


@dataclass(frozen=True)
class _Plan:
    """What is asked of each group."""

    seed: int
    rubrics: Rubrics
    index: TeacherIndex | None
    endpoint: EndpointConfig
    settings: JudgeConfig
    templates: Templates
    mixer: RewardMixer | None

    def of(self, bare: Group) -> tuple[Group, RubricRecord, Block, list[VerdictAsk], str]:
        """The group with its teacher answers, its rubric, its block, the questions, and the hash of all that."""
        group = with_teacher(bare, self.index, self.settings.m, seed=self.seed)
        rubric = self.rubrics[group.uid, group.raw_prompt_hash]
        block = build_block(group, self.settings.max_answer_tokens)
        asks = verdict_requests(group, rubric, self.endpoint, self.settings, self.templates, block)
        asked = request_hash(
            group,
            block,
            [request.digest for ask in asks for request in ask.requests],
            self.templates.verifier_hash,
            rubric.rubric_hash,
            self.settings.on_no_answer,
            self.settings.min_coverage,
            self._paid_by(group),
        )
        return group, rubric, block, asks, asked

    @cached_property
    def _reward_settings(self) -> dict[str, Any] | None:
        return self.mixer.settings.model_dump() if self.mixer is not None else None

    def _paid_by(self, group: Group) -> list[Any] | dict[str, Any] | None:
        """What rewards depend on besides the verdicts: their settings and, where more than the rubric is mixed in,
        what no judge was shown of the group."""
        settings = self._reward_settings
        if settings is None or not any(settings[part] for part in PARTS if part != "rubric"):
            return settings
        rollouts = [(r.text, r.usage.completion_tokens if r.usage is not None else None) for r in group.rollouts]
        told = repr([group.answer, group.data_source, group.extra_info, rollouts])  # Parquet brings dates and bytes too
        return [settings, hashlib.sha256(told.encode()).hexdigest()]


async def _ask(
    group: Group,
    rubric: RubricRecord,
    block: Block,
    asks: list[VerdictAsk],
    client: ChatClient,
    settings: JudgeConfig,
    templates: Templates,
    mixer: RewardMixer | None,
    *,
    partial: bool = False,
) -> VerdictRecord:
    calls = [partial_of(client.ask, request, ask.read) for ask in asks for request in ask.requests]
    outcomes = iter(await all_of(calls, partial=partial))
    rows: dict[tuple[int | None, str, int], Row | None] = {}
    asked: list[list[Judgements]] = []
    usages: list[Usage | None] = []
    for ask in asks:
        said = [each for each in islice(outcomes, len(ask.requests)) if not isinstance(each, RopdError)]
        usages += [reply.usage for reply, _ in said]
        asked.append([judgements for _, judgements in said])
        enough = 2 * len(said) > len(ask.requests)  # else no value can have a majority
        judged = majority(asked[-1], len(ask.requests)) if enough else repeat(None)
        for number, row in zip(ask.view.judged, judged, strict=False):
            answer = ask.view.block.answers[number - 1]
            rows[ask.rollout, answer.source, answer.index] = row
    answers, covered = score_answers(group, block, rubric.by_rollout, rows, settings)
    scores_G = [answer.score for answer in answers if answer.source == "student"]
    mixed = await mixer.mix(group, scores_G) if mixer is not None else None
    return VerdictRecord(
        uid=group.uid,
        raw_prompt_hash=group.raw_prompt_hash,
        rubric_hash=rubric.rubric_hash,
        answers=answers,
        rewards=mixed.rewards_G if mixed else tuple(scores_G),
        parts=mixed.parts if mixed else {},
        coverage=covered,
        agreement=agreement(asked),
        cut=block.cut,
        model=client.endpoint.model or "",
        template_hash=templates.verifier_hash,
        usage=Usage.total(usages),
    )

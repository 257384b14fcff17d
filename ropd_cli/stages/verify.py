"""Verify: the verifier's verdict on every answer of a group, and from it scores and rewards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from ropd_cli.block import Block, build_block
from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import InputError, JudgeError
from ropd_cli.groups import GroupFile, request_hash, with_teacher
from ropd_cli.index import TeacherIndex
from ropd_cli.judging_format import VERDICTS_NAME, Judgements, parse_verdicts, verdicts_schema
from ropd_cli.llm.client import ChatClient, ChatReply, ChatRequest, JsonSchema, endpoint_request
from ropd_cli.llm.structured import parse_json
from ropd_cli.progress import Progress
from ropd_cli.rewards import PARTS, RewardMixer
from ropd_cli.schemas import AnswerVerdict, Group, Rubric, RubricRecord, Usage, VerdictRecord, load_models
from ropd_cli.scoring import coverage, judged_for_all, score
from ropd_cli.stage_run import Finished, Tally, run_records
from ropd_cli.templates import Templates

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
) -> VerdictRecord:
    """The verdicts on one group, teacher answers (if the group has any) mixed blind among the rollouts.

    ``rewards`` has one entry a rollout, shape (n,): its score, or what ``mixer`` makes of it. A rollout without
    an answer, which no judge is shown, scores 0.0 or None by ``settings.on_no_answer``. No call is made where no
    rollout has an answer. ``block`` is the group's, where it is at hand.
    Raises JudgeError where the record has no rubric to judge by, where too little of it was judged for all
    rollouts, and where the mixer fails; ProviderError where the verifier did not give valid verdicts within
    the client's retries: such a group is missing, never scored 0.
    """
    block = block or build_block(group, settings.max_answer_tokens)
    request = verdict_request(group, rubric, client.endpoint, templates, block)
    return await _ask(group, rubric, block, request, client, settings, templates, mixer)


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


def verdict_request(
    group: Group, rubric: RubricRecord, endpoint: EndpointConfig, templates: Templates, block: Block
) -> ChatRequest | None:
    """What the verifier is asked of a group; None where no rollout has an answer."""
    if not block.has_students:
        return None
    if rubric.rubric is None:
        raise JudgeError(
            f"uid {group.uid}: rollouts with answers, but a rubric record without a rubric",
            "run ropd rubricate on these rollouts",
        )
    form = _form(len(block.answers), len(rubric.rubric.rubrics))
    messages = templates.verifier_messages(block, rubric.rubric)
    return endpoint_request(endpoint, messages, form, written=templates.written(block, messages))


@lru_cache(maxsize=256)
def _form(answers: int, criteria: int) -> JsonSchema:
    return JsonSchema(name=VERDICTS_NAME, schema=verdicts_schema(answers, criteria))


@dataclass(frozen=True)
class VerifyFiles:
    """What the stage reads, and the file it appends to. Without an index only rollouts are judged."""

    prompts: Path
    rubrics: Path
    rollouts: Path
    out: Path
    index: Path | None = None
    limit: int | None = None


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
        plan = _Plan(rubrics, index, client.endpoint, settings, templates, mixer)

        async def work(bare: Group) -> VerdictRecord | None:
            group, rubric, block, request, asked = plan.of(bare)
            if done.holds(group.uid, asked):
                return None
            record = await _ask(group, rubric, block, request, client, settings, templates, mixer)
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
        plan = _Plan(rubrics, index, endpoint, settings, templates, mixer)
        for bare in groups:
            group, _, _, request, asked = plan.of(bare)
            if request is not None and not done.holds(group.uid, asked):
                yield request


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

    rubrics: Rubrics
    index: TeacherIndex | None
    endpoint: EndpointConfig
    settings: JudgeConfig
    templates: Templates
    mixer: RewardMixer | None

    def of(self, bare: Group) -> tuple[Group, RubricRecord, Block, ChatRequest | None, str]:
        """The group with its teacher answers, its rubric, its block, the request, and the hash of all that."""
        group = with_teacher(bare, self.index, self.settings.m)
        rubric = self.rubrics[group.uid, group.raw_prompt_hash]
        block = build_block(group, self.settings.max_answer_tokens)
        request = verdict_request(group, rubric, self.endpoint, self.templates, block)
        asked = request_hash(
            group,
            block,
            request.digest if request else None,
            self.templates.verifier_hash,
            rubric.rubric_hash,
            self.settings.on_no_answer,
            self.settings.min_coverage,
            self._paid_by(group),
        )
        return group, rubric, block, request, asked

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
    request: ChatRequest | None,
    client: ChatClient,
    settings: JudgeConfig,
    templates: Templates,
    mixer: RewardMixer | None,
) -> VerdictRecord:
    judgements: Judgements = ()
    usage: Usage | None = None
    if request is not None and rubric.rubric is not None:
        shape = len(block.answers), len(rubric.rubric.rubrics)

        def read(reply: ChatReply) -> Judgements:
            return parse_verdicts(parse_json(reply.text), *shape)

        reply, judgements = await client.ask(request, read)
        usage = reply.usage
    answers, covered = score_answers(group, block, judgements, rubric.rubric, settings)
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
        cut=block.cut,
        model=client.endpoint.model or "",
        template_hash=templates.verifier_hash,
        usage=usage,
    )


def score_answers(
    group: Group, block: Block, judgements: Judgements, rubric: Rubric | None, settings: JudgeConfig
) -> tuple[tuple[AnswerVerdict, ...], float | None]:
    """The verdict on each rollout, then on each teacher answer, back in their own order; and the coverage.

    ``judgements`` has shape (answers in shown order, K). Scores are computed here, from the judgements alone,
    over the criteria that were judged for every rollout shown: the rollouts of a group are compared with each
    other, so all are measured by the same criteria. Raises JudgeError where these hold less than
    ``settings.min_coverage`` of the rubric's weight.
    """
    shown = block.answers if judgements else ()
    judged = {(answer.source, answer.index): row for answer, row in zip(shown, judgements, strict=True)}
    counted_K: Sequence[bool] | None = None  # all of them
    covered: float | None = None
    if judged and rubric is not None:
        counted_K = judged_for_all([row for (source, _), row in judged.items() if source == "student"])
        covered = coverage(counted_K, rubric.weights_K)
        if covered < settings.min_coverage:
            raise JudgeError(
                f"uid {group.uid}: only {covered:.0%} of the rubric's weight was judged for all rollouts, less than "
                f"judge.min_coverage {settings.min_coverage:.0%}",
                "asked again it is the same reply, from the cache: ask another verifier, or lower judge.min_coverage",
            )
        counted_K = None if all(counted_K) else counted_K
    weights_K = rubric.weights_K if rubric is not None else ()
    no_answer = 0.0 if settings.on_no_answer == "zero" else None

    def verdict(source: Literal["student", "teacher"], index: int) -> AnswerVerdict:
        row = judged.get((source, index))
        if row is None or rubric is None:
            missing = no_answer if source == "student" else None
            return AnswerVerdict(source=source, index=index, judgement=(), score=missing)
        return AnswerVerdict(source=source, index=index, judgement=row, score=score(row, weights_K, counted_K))

    students = tuple([verdict("student", index) for index in range(len(group.rollouts))])
    return students + tuple([verdict("teacher", index) for index in range(len(group.teacher_answers))]), covered

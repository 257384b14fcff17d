"""Verify: the verifier's verdict on every answer of a group, and from it scores and rewards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ropd_cli.config import EndpointConfig, JudgeConfig, RopdConfig
from ropd_cli.errors import InputError, JudgeError
from ropd_cli.groups import GroupFile, group_digest, with_teacher
from ropd_cli.index import TeacherIndex
from ropd_cli.judging_format import VERDICTS_NAME, Judgements, parse_verdicts, verdicts_schema
from ropd_cli.llm.client import ChatClient, ChatReply, ChatRequest, JsonSchema, endpoint_request
from ropd_cli.llm.structured import parse_json
from ropd_cli.progress import Progress
from ropd_cli.schemas import AnswerVerdict, Group, Rubric, RubricRecord, VerdictRecord, load_models
from ropd_cli.scoring import score
from ropd_cli.stage_run import Finished, Tally, run_records
from ropd_cli.templates import Block, Templates, build_block

STAGE = "verify"


async def verify_group(
    group: Group, rubric: RubricRecord, client: ChatClient, settings: JudgeConfig, *, templates: Templates
) -> VerdictRecord:
    """The verdicts on one group, teacher answers (if the group has any) mixed blind among the rollouts.

    ``rewards`` has one entry a rollout, shape (n,): its score; for a rollout without an answer, which no
    judge is shown, 0.0 or None by ``settings.on_no_answer``. No call is made where no rollout has an answer.
    Raises JudgeError where the record has no rubric to judge by, ProviderError where the verifier did not
    give valid verdicts within the client's retries: such a group is missing, never scored 0.
    """
    request = verdict_request(group, rubric, client.endpoint, templates)
    return await _ask(group, rubric, request, client, settings, templates)


def verdict_request(
    group: Group, rubric: RubricRecord, endpoint: EndpointConfig, templates: Templates
) -> ChatRequest | None:
    """What the verifier is asked of a group; None where no rollout has an answer."""
    block = build_block(group)
    if not block.has_students:
        return None
    if rubric.rubric is None:
        raise JudgeError(
            f"uid {group.uid}: rollouts with answers, but a rubric record without a rubric",
            "run ropd rubricate on these rollouts",
        )
    schema = JsonSchema(name=VERDICTS_NAME, schema=verdicts_schema(len(block.answers), len(rubric.rubric.rubrics)))
    return endpoint_request(endpoint, templates.verifier_messages(block, rubric.rubric), schema)


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
    max_failed_fraction: float | None = None,
    progress: Progress,
) -> Tally:
    """Verdicts on all groups of a rollouts file that have a rubric, appended to ``files.out``; what stands
    there is kept.

    A group that fails is listed in ``<out>.failed.jsonl`` and tried again by the next run.
    """
    groups = GroupFile(files.prompts, files.rollouts, files.limit)
    rubrics = {(record.uid, record.raw_prompt_hash): record for record in load_models(files.rubrics, RubricRecord)}
    groups.keep_only(rubrics.keys())
    if not groups.uids:
        raise InputError(
            f"{files.rubrics}: no rubric of any group in {files.rollouts}", "run ropd rubricate on these rollouts first"
        )
    if groups.left_out:
        progress.note(f"{groups.left_out} prompts without rollouts or without a rubric are left out")
    done = Finished(files.out)
    with closing(TeacherIndex.open(files.index)) if files.index else nullcontext() as index:

        async def work(bare: Group) -> VerdictRecord | None:
            group = with_teacher(bare, index, settings.m)
            rubric = rubrics[group.uid, group.raw_prompt_hash]
            request = verdict_request(group, rubric, client.endpoint, templates)
            asked = group_digest(
                group,
                templates.verifier_hash,
                rubric.rubric_hash,
                settings.on_no_answer,
                request.model_dump(mode="json") if request else None,
            )
            if done.holds(group.uid, asked):
                return None
            record = await _ask(group, rubric, request, client, settings, templates)
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


async def _ask(
    group: Group,
    rubric: RubricRecord,
    request: ChatRequest | None,
    client: ChatClient,
    settings: JudgeConfig,
    templates: Templates,
) -> VerdictRecord:
    block, usage = build_block(group), None
    judgements: Judgements = ()
    if request is not None and rubric.rubric is not None:
        shape = len(block.answers), len(rubric.rubric.rubrics)

        def read(reply: ChatReply) -> Judgements:
            return parse_verdicts(parse_json(reply.text), *shape)

        reply = await client.complete(request, validate=read)
        judgements, usage = read(reply), reply.usage
    answers = score_answers(group, block, judgements, rubric.rubric, settings.on_no_answer)
    return VerdictRecord(
        uid=group.uid,
        raw_prompt_hash=group.raw_prompt_hash,
        rubric_hash=rubric.rubric_hash,
        answers=answers,
        rewards=tuple(answer.score for answer in answers if answer.source == "student"),
        model=client.endpoint.model or "",
        template_hash=templates.verifier_hash,
        usage=usage,
    )


def score_answers(
    group: Group, block: Block, judgements: Judgements, rubric: Rubric | None, on_no_answer: Literal["zero", "drop"]
) -> tuple[AnswerVerdict, ...]:
    """The verdict on each rollout, then on each teacher answer, back in their own order.

    ``judgements`` has shape (answers in shown order, K). Scores are computed here, from the judgements alone.
    """
    shown = block.answers if judgements else ()
    judged = {(answer.source, answer.index): row for answer, row in zip(shown, judgements, strict=True)}
    no_answer = 0.0 if on_no_answer == "zero" else None

    def verdict(source: Literal["student", "teacher"], index: int) -> AnswerVerdict:
        row = judged.get((source, index))
        if row is None or rubric is None:
            return AnswerVerdict(
                source=source, index=index, judgement=(), score=no_answer if source == "student" else None
            )
        return AnswerVerdict(source=source, index=index, judgement=row, score=score(row, rubric.weights_K))

    students = tuple(verdict("student", index) for index in range(len(group.rollouts)))
    return students + tuple(verdict("teacher", index) for index in range(len(group.teacher_answers)))


def pending(
    files: VerifyFiles, endpoint: EndpointConfig, settings: RopdConfig, templates: Templates
) -> Iterator[ChatRequest]:
    """The requests of the groups that ``files.out`` does not hold."""
    done = Finished(files.out)
    rubrics = {(record.uid, record.raw_prompt_hash): record for record in load_models(files.rubrics, RubricRecord)}
    groups = GroupFile(files.prompts, files.rollouts, files.limit)
    groups.keep_only(rubrics.keys())
    with closing(TeacherIndex.open(files.index)) if files.index else nullcontext() as index:
        for bare in groups:
            group = with_teacher(bare, index, settings.judge.m)
            request = verdict_request(group, rubrics[group.uid, group.raw_prompt_hash], endpoint, templates)
            if request is not None and done.left_of([bare.uid]):
                yield request

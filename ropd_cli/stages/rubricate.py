"""Rubricate: one rubric for each group, written by the rubricator from the teacher's and the student's answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ropd_cli.block import Block, build_block
from ropd_cli.brought import merged
from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import JudgeError
from ropd_cli.groups import GroupFile, request_hash, with_teacher
from ropd_cli.index import TeacherIndex
from ropd_cli.judging_format import RUBRIC_NAME, parse_rubric, rubric_schema
from ropd_cli.llm.client import ChatClient, ChatReply, ChatRequest, JsonSchema, endpoint_request
from ropd_cli.llm.structured import parse_json
from ropd_cli.progress import Progress
from ropd_cli.schemas import Group, Rubric, RubricRecord
from ropd_cli.stage_run import Finished, Tally, run_records
from ropd_cli.templates import Templates

STAGE = "rubricate"
FORM = JsonSchema(name=RUBRIC_NAME, schema=rubric_schema())


async def rubricate_group(
    group: Group, client: ChatClient, settings: JudgeConfig, *, templates: Templates, block: Block | None = None
) -> RubricRecord:
    """The rubric of one group: written by the rubricator, brought by the data set, or both, as
    ``settings.rubrics`` says. Where no rollout has an answer there is nothing to judge: no call is made and the
    record's rubric is None.

    ``block`` is the group's, where it is at hand. Raises JudgeError for a group without teacher answers or
    without the rubric it should bring, ProviderError (ReplyInvalid among them) where the rubricator
    did not give a valid rubric within the client's retries.
    """
    block = block or build_block(group, settings.max_answer_tokens)
    request = rubric_request(group, client.endpoint, settings, templates, block)
    return await _ask(group, block, request, client, settings, templates)


def rubric_request(
    group: Group, endpoint: EndpointConfig, settings: JudgeConfig, templates: Templates, block: Block
) -> ChatRequest | None:
    """What the rubricator is asked of a group; None where no rollout has an answer, and where the rubric is the
    data set's."""
    if not block.has_students:
        return None
    if settings.rubrics != "induced" and group.brought is None:
        raise JudgeError(
            f"uid {group.uid}: judge.rubrics is {settings.rubrics}, and the prompt brings no rubric",
            "give the prompts a `rubric` (docs/rewards.md), or set judge.rubrics to induced",
        )
    if settings.rubrics == "dataset":
        return None
    if not block.references:
        raise JudgeError(
            f"uid {group.uid}: no teacher answer to show", f"look at what the index holds for uid {group.uid}"
        )
    messages = templates.rubricator_messages(block)
    return endpoint_request(endpoint, messages, FORM, written=templates.written(block, messages))


@dataclass(frozen=True)
class RubricateFiles:
    """What the stage reads, and the file it appends to."""

    prompts: Path
    rollouts: Path
    index: Path
    out: Path
    limit: int | None = None


async def rubricate(
    files: RubricateFiles,
    client: ChatClient,
    settings: JudgeConfig,
    *,
    templates: Templates,
    max_failed_fraction: float | None = None,
    progress: Progress,
) -> Tally:
    """Rubrics of all groups of a rollouts file, appended to ``files.out``; what stands there is kept.

    A group that fails is listed in ``<out>.failed.jsonl`` and tried again by the next run.
    """
    groups = _groups(files, settings)
    if groups.left_out:
        progress.note(f"{groups.left_out} prompts without rollouts are left out")
    done = Finished(files.out)
    with closing(TeacherIndex.open(files.index)) as index:

        async def work(bare: Group) -> RubricRecord | None:
            group, block, request, asked = _plan(bare, index, client.endpoint, settings, templates)
            if done.holds(group.uid, asked):
                return None
            record = await _ask(group, block, request, client, settings, templates)
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
            asked=lambda record: record.rubric is not None,
        )


def pending(
    files: RubricateFiles, endpoint: EndpointConfig, settings: JudgeConfig, templates: Templates
) -> Iterator[ChatRequest]:
    """The requests of the groups that ``files.out`` does not hold."""
    done = Finished(files.out)
    with closing(TeacherIndex.open(files.index)) as index:
        for bare in _groups(files, settings):
            group, _, request, asked = _plan(bare, index, endpoint, settings, templates)
            if request is not None and not done.holds(group.uid, asked):
                yield request


def _groups(files: RubricateFiles, settings: JudgeConfig) -> GroupFile:
    return GroupFile(files.prompts, files.rollouts, files.limit, with_rubric=settings.rubrics != "induced")


def _plan(
    bare: Group, index: TeacherIndex, endpoint: EndpointConfig, settings: JudgeConfig, templates: Templates
) -> tuple[Group, Block, ChatRequest | None, str]:
    """The group with its teacher answers, its block, what is asked of it, and the hash of that."""
    group = with_teacher(bare, index, settings.m)
    block = build_block(group, settings.max_answer_tokens)
    request = rubric_request(group, endpoint, settings, templates, block)
    brought = group.brought.hash if group.brought and settings.rubrics != "induced" else None
    digest = request.digest if request else None
    return group, block, request, request_hash(group, block, digest, templates.rubricator_hash, brought)


async def _ask(
    group: Group,
    block: Block,
    request: ChatRequest | None,
    client: ChatClient,
    settings: JudgeConfig,
    templates: Templates,
) -> RubricRecord:
    rubric, mended, usage = None, (), None
    if request is not None:
        reply, (rubric, mended) = await client.ask(request, _read)
        usage = reply.usage
    if block.has_students and group.brought is not None and settings.rubrics != "induced":
        rubric = merged(group.brought, rubric) if rubric is not None else group.brought
    return RubricRecord(
        uid=group.uid,
        raw_prompt_hash=group.raw_prompt_hash,
        rubric=rubric,
        rubric_hash=rubric.hash if rubric else None,
        model=client.endpoint.model or "",
        template_hash=templates.rubricator_hash,
        usage=usage,
        mended=mended,
        cut=block.cut,
    )


def _read(reply: ChatReply) -> tuple[Rubric, tuple[str, ...]]:
    return parse_rubric(parse_json(reply.text))

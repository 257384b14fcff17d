"""Rubricate: one rubric for each group, written by the rubricator from the prompt and all its answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import JudgeError
from ropd_cli.groups import GroupFile, group_digest, with_teacher
from ropd_cli.index import TeacherIndex
from ropd_cli.judging_format import RUBRIC_NAME, parse_rubric, rubric_schema
from ropd_cli.llm.client import ChatClient, ChatReply, ChatRequest, JsonSchema, endpoint_request
from ropd_cli.llm.structured import parse_json
from ropd_cli.progress import Progress
from ropd_cli.schemas import Group, Rubric, RubricRecord
from ropd_cli.stage_run import Finished, Tally, run_records
from ropd_cli.templates import Templates, build_block

STAGE = "rubricate"


async def rubricate_group(
    group: Group, client: ChatClient, settings: JudgeConfig, *, templates: Templates
) -> RubricRecord:
    """The rubric of one group. Where no rollout has an answer there is nothing to judge: no call is made and
    the record's rubric is None.

    Raises JudgeError for a group without teacher answers, ProviderError (ReplyInvalid among them) where
    the rubricator did not give a valid rubric within the client's retries.
    """
    return await _ask(group, rubric_request(group, client.endpoint, templates), client, templates)


def rubric_request(group: Group, endpoint: EndpointConfig, templates: Templates) -> ChatRequest | None:
    """What the rubricator is asked of a group; None where no rollout has an answer."""
    block = build_block(group)
    if not block.has_students:
        return None
    if not block.references:
        raise JudgeError(
            f"uid {group.uid}: no teacher answer to show", f"look at what the index holds for uid {group.uid}"
        )
    schema = JsonSchema(name=RUBRIC_NAME, schema=rubric_schema())
    return endpoint_request(endpoint, templates.rubricator_messages(block), schema)


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
    groups = GroupFile(files.prompts, files.rollouts, files.limit)
    if groups.left_out:
        progress.note(f"{groups.left_out} prompts without rollouts are left out")
    done = Finished(files.out)
    with closing(TeacherIndex.open(files.index)) as index:

        async def work(bare: Group) -> RubricRecord | None:
            group = with_teacher(bare, index, settings.m)
            request = rubric_request(group, client.endpoint, templates)
            asked = group_digest(group, templates.rubricator_hash, request.model_dump(mode="json") if request else None)
            if done.holds(group.uid, asked):
                return None
            record = await _ask(group, request, client, templates)
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


async def _ask(group: Group, request: ChatRequest | None, client: ChatClient, templates: Templates) -> RubricRecord:
    rubric, reply = None, None
    if request is not None:
        reply = await client.complete(request, validate=_read)
        rubric = _read(reply)
    return RubricRecord(
        uid=group.uid,
        raw_prompt_hash=group.raw_prompt_hash,
        rubric=rubric,
        rubric_hash=rubric.hash if rubric else None,
        model=client.endpoint.model or "",
        template_hash=templates.rubricator_hash,
        usage=reply.usage if reply else None,
    )


def _read(reply: ChatReply) -> Rubric:
    return parse_rubric(parse_json(reply.text))


def pending(
    files: RubricateFiles, endpoint: EndpointConfig, settings: JudgeConfig, templates: Templates
) -> Iterator[ChatRequest]:
    """The requests of the groups that ``files.out`` does not hold."""
    done = Finished(files.out)
    with closing(TeacherIndex.open(files.index)) as index:
        for bare in GroupFile(files.prompts, files.rollouts, files.limit):
            request = rubric_request(with_teacher(bare, index, settings.m), endpoint, templates)
            if request is not None and done.left_of([bare.uid]):
                yield request

"""Rubricate: one rubric for each group, written by the rubricator from the teacher's and the student's answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial as partial_of
from pathlib import Path

from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import JudgeError, RopdError
from ropd_cli.index import TeacherIndex
from ropd_cli.lint import RULES, Finding, lint_group
from ropd_cli.llm.client import ChatClient, ChatReply, ChatRequest, JsonSchema, endpoint_request
from ropd_cli.llm.structured import parse_json
from ropd_cli.method.block import Block, build_block
from ropd_cli.method.dataset_rubrics import merged
from ropd_cli.method.layouts import rubric_blocks
from ropd_cli.method.prompts import Templates
from ropd_cli.method.replies import RUBRIC_NAME, parse_rubric, rubric_schema
from ropd_cli.records.schemas import Group, Rubric, RubricRecord, Usage, VerdictRecord, digest
from ropd_cli.stages.groups import GroupFile, request_hash, with_teacher
from ropd_cli.stages.runner import Finished, Tally, run_records
from ropd_cli.util.concurrency import all_of
from ropd_cli.util.progress import Progress

STAGE = "rubricate"
FORM = JsonSchema(name=RUBRIC_NAME, schema=rubric_schema())


async def rubricate_group(
    group: Group,
    client: ChatClient,
    settings: JudgeConfig,
    *,
    templates: Templates,
    block: Block | None = None,
    partial: bool = False,
) -> RubricRecord:
    """The rubric of one group (with ``settings.rubric_per`` of each of its rollouts): written by the rubricator,
    brought by the data set, or both, as ``settings.rubrics`` says. Where no rollout has an answer there is nothing
    to judge: no call is made and the record has no rubric.

    ``block`` is the group's, where it is at hand. ``partial``: of several rubrics those that failed are left out,
    unless all failed. Raises JudgeError for a group without teacher answers or without the rubric it should bring,
    ProviderError (ReplyInvalid among them) where the rubricator did not give a valid rubric within the
    client's retries.
    """
    block = block or build_block(group, settings.max_answer_tokens)
    asks = rubric_requests(group, client.endpoint, settings, templates, block)
    return await _ask(group, block, asks, client, settings, templates, partial=partial)


@dataclass(frozen=True)
class RubricAsk:
    """One request to the rubricator: for which rollout (None: for all of them), and what it shows."""

    rollout: int | None
    block: Block
    request: ChatRequest


def rubric_requests(
    group: Group, endpoint: EndpointConfig, settings: JudgeConfig, templates: Templates, block: Block
) -> list[RubricAsk]:
    """What the rubricator is asked of a group; nothing where no rollout has an answer, and where the rubric is the
    data set's."""
    if not block.has_students:
        return []
    if settings.rubrics != "induced" and group.brought is None:
        raise JudgeError(
            f"uid {group.uid}: judge.rubrics is {settings.rubrics}, and the prompt brings no rubric",
            "give the prompts a `rubric` (docs/rewards.md), or set judge.rubrics to induced",
        )
    if settings.rubrics == "dataset":
        return []
    if not block.references:
        raise JudgeError(
            f"uid {group.uid}: no teacher answer to show", f"look at what the index holds for uid {group.uid}"
        )
    asks = []
    for rollout, shown in rubric_blocks(block, settings):
        messages = templates.rubricator_messages(shown)
        written = templates.written(shown, messages)
        request = endpoint_request(endpoint, messages, FORM, affinity=block.tag, written=written)
        asks.append(RubricAsk(rollout, shown, request))
    return asks


async def repair_group(
    group: Group,
    record: RubricRecord,
    verdicts: VerdictRecord,
    client: ChatClient,
    settings: JudgeConfig,
    *,
    templates: Templates,
    block: Block | None = None,
) -> RubricRecord | None:
    """A rubric in the place of one by which all rollouts of a group got the same score: the rubricator is shown its own
    rubric, how often each criterion was met and what the linter found, and writes it again. None where no other rubric
    could tell the rollouts apart (they are the same text, or have no answer), and for a rubric of each rollout.

    Raises ProviderError as ``rubricate_group`` does.
    """
    block = block or build_block(group, settings.max_answer_tokens)
    texts = {answer.text for answer in block.answers if answer.source == "student"}
    if record.rubric is None or len(texts) < 2:
        return None
    [ask] = rubric_requests(group, client.endpoint, settings, templates, block)
    found = lint_group(group, record, verdicts) or []
    score = next((score for score in verdicts.student_scores if score is not None), 0.0)
    said = _said(record.rubric, verdicts, found)
    messages = templates.repair_messages(ask.block, ask.request.messages, record.rubric, said, score)
    request = endpoint_request(client.endpoint, messages, FORM, affinity=block.tag)
    reply, (rubric, faults) = await client.ask(request, _read)
    return record.model_copy(
        update={
            "rubric": rubric,
            "rubric_hash": rubric.hash,
            "template_hash": templates.repair_hash,
            "usage": reply.usage,
            "mended": faults,
            "repaired": tuple(dict.fromkeys(finding.rule for finding in found)),
        }
    )


def spoilt_by(group: Group, record: RubricRecord, verdicts: VerdictRecord) -> set[str]:
    """The rules of severity "error" that a group's rubric breaks, judged as it was."""
    found = lint_group(group, record, verdicts) or []
    return {finding.rule for finding in found if RULES[finding.rule].severity == "error"}


def _said(rubric: Rubric, verdicts: VerdictRecord, found: Sequence[Finding]) -> str:
    """A line a criterion with how often it was met, then a line a finding."""
    rows = [a.judgement for a in verdicts.answers if a.source == "student" and a.judgement]
    lines = []
    for k, criterion in enumerate(rubric.rubrics):
        marks = [row[k] for row in rows if row[k] is not None]
        lines.append(f"- {criterion.criterion_id}: met by {sum(map(bool, marks))} of {len(marks)}")
    constant = ("met-by-all", "met-by-none")  # the lines above say that
    for finding in found:
        if finding.rule not in constant:
            about = f"{', '.join(finding.criteria)}: " if finding.criteria else ""
            lines.append(f"- {about}{RULES[finding.rule].title} ({finding.message})")
    return "\n".join(lines)


@dataclass(frozen=True)
class RubricateFiles:
    """What the stage reads, and the file it appends to."""

    prompts: Path
    rollouts: Path
    index: Path
    out: Path
    limit: int | None = None
    seed: int = 0
    """Says which m of more teacher answers are used."""


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
            group, block, asks, asked = _plan(bare, files, index, client.endpoint, settings, templates)
            if done.holds(group.uid, asked):
                return None
            record = await _ask(group, block, asks, client, settings, templates)
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
            asked=lambda record: bool(record.by_rollout),
        )


def pending(
    files: RubricateFiles, endpoint: EndpointConfig, settings: JudgeConfig, templates: Templates
) -> Iterator[ChatRequest]:
    """The requests of the groups that ``files.out`` does not hold."""
    done = Finished(files.out)
    with closing(TeacherIndex.open(files.index)) as index:
        for bare in _groups(files, settings):
            group, _, asks, asked = _plan(bare, files, index, endpoint, settings, templates)
            if not done.holds(group.uid, asked):
                yield from (ask.request for ask in asks)


def _groups(files: RubricateFiles, settings: JudgeConfig) -> GroupFile:
    return GroupFile(files.prompts, files.rollouts, files.limit, with_rubric=settings.rubrics != "induced")


def _plan(
    bare: Group,
    files: RubricateFiles,
    index: TeacherIndex,
    endpoint: EndpointConfig,
    settings: JudgeConfig,
    templates: Templates,
) -> tuple[Group, Block, list[RubricAsk], str]:
    """The group with its teacher answers, its block, what is asked of it, and the hash of that."""
    group = with_teacher(bare, index, settings.m, seed=files.seed)
    block = build_block(group, settings.max_answer_tokens)
    asks = rubric_requests(group, endpoint, settings, templates, block)
    brought = group.brought.hash if group.brought and settings.rubrics != "induced" else None
    own = ["rollout"] if settings.rubric_per == "rollout" else []
    digests = [ask.request.digest for ask in asks]
    return group, block, asks, request_hash(group, block, digests, templates.rubricator_hash, brought, *own)


async def _ask(
    group: Group,
    block: Block,
    asks: list[RubricAsk],
    client: ChatClient,
    settings: JudgeConfig,
    templates: Templates,
    *,
    partial: bool = False,
) -> RubricRecord:
    calls = [partial_of(client.ask, ask.request, _read) for ask in asks]
    outcomes = await all_of(calls, partial=partial)
    brought = group.brought if block.has_students and settings.rubrics != "induced" else None
    rubrics: dict[int | None, Rubric] = {None: brought} if brought is not None and not asks else {}
    mended: set[str] = set()
    for ask, outcome in zip(asks, outcomes, strict=True):
        if not isinstance(outcome, RopdError):
            _, (rubric, faults) = outcome
            rubrics[ask.rollout] = merged(brought, rubric) if brought is not None else rubric
            mended.update(faults)
    own = tuple(rubrics.get(k) for k in range(len(group.rollouts))) if settings.rubric_per == "rollout" and asks else ()
    return RubricRecord(
        uid=group.uid,
        raw_prompt_hash=group.raw_prompt_hash,
        rubric=rubrics.get(None),
        rubric_hash=_hash(rubrics),
        rubrics=own,
        model=client.endpoint.model or "",
        template_hash=templates.rubricator_hash,
        usage=Usage.total(outcome[0].usage for outcome in outcomes if not isinstance(outcome, RopdError)),
        mended=tuple(sorted(mended)),
        cut=block.cut,
    )


def _hash(rubrics: dict[int | None, Rubric]) -> str | None:
    """Of the one rubric, or of those of all rollouts."""
    if not rubrics:
        return None
    if None in rubrics:
        return rubrics[None].hash
    return digest({str(rollout): rubric.hash for rollout, rubric in rubrics.items()})[:16]


def _read(reply: ChatReply) -> tuple[Rubric, tuple[str, ...]]:
    return parse_rubric(parse_json(reply.text))

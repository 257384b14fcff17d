"""Verify: judge every answer of each group that has a rubric, and write scores and rewards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ropd_cli.errors import InputError
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.client import ChatRequest
from ropd_cli.llm.urls import builtin_query
from ropd_cli.method.block import Block
from ropd_cli.method.groups import request_hash
from ropd_cli.records.group_sources import Sources
from ropd_cli.records.packed import Packed
from ropd_cli.records.schemas import Group, RubricRecord, VerdictRecord, texts_hash
from ropd_cli.stages.groups import GroupFile, forecast_plans, with_teacher
from ropd_cli.stages.runner import Finished, Tally, run_records
from ropd_cli.stages.verifier import VerdictRequest, Verifier
from ropd_cli.util.progress import Progress

STAGE = "verify"


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
    files: VerifyFiles, verifier: Verifier, *, max_failed_fraction: float | None = None, progress: Progress
) -> Tally:
    """Verdicts on all groups of a rollouts file that have a rubric, appended to ``files.out``; what stands
    there is kept.

    A group that fails is listed in ``<out>.failed.jsonl`` and tried again by the next run.
    """
    groups, rubrics = _read(files)
    if verifier.mixer is not None:
        verifier.mixer.check(groups.prompts)
    for line in groups.left_out:
        progress.note(line)
    done = _finished(files, verifier)
    with _index_of(files) as index:
        done.write_sources()

        async def work(bare: Group) -> VerdictRecord | None:
            plan = _plan(bare, rubrics, files, index, verifier)
            if done.holds(bare.uid, plan.hash, **_origin(plan, verifier)):
                return None
            record = await verifier.verdicts(plan.group, plan.rubric, block=plan.block, requests=plan.requests)
            return record.model_copy(update={"request_hash": plan.hash, **_hashes(plan.group)})

        return await run_records(
            groups,
            work,
            total=done.left_of(groups.uids),
            out=files.out,
            stage=STAGE,
            concurrency=verifier.endpoint.limits.concurrency,
            max_failed_fraction=max_failed_fraction,
            progress=progress,
            needed_endpoint=lambda record: any(answer.judgement for answer in record.answers),
        )


def pending(
    files: VerifyFiles, verifier: Verifier, note: Callable[[str], None], *, made: bool = False
) -> Iterator[ChatRequest]:
    """The requests of the groups that ``files.out`` does not hold, or of those ``made``; ``note`` is told of groups
    that would fail."""
    groups, rubrics = _read(files)
    done = _finished(files, verifier)
    with _index_of(files) as index:
        for plan in forecast_plans(groups, lambda bare: _plan(bare, rubrics, files, index, verifier), note):
            if done.holds(plan.group.uid, plan.hash, **_origin(plan, verifier)) is made:
                yield from (request for each in plan.requests for request in each.requests)


def _finished(files: VerifyFiles, verifier: Verifier) -> Finished:
    known, m = verifier.known_settings(files.seed), verifier.settings.m
    sources = Sources(files.prompts, files.rubrics, files.rollouts, files.index, None, m, files.seed, known)
    return Finished(files.out, "verdicts", sources)


def _hashes(group: Group) -> dict[str, str]:
    return {
        "rollouts_hash": texts_hash(rollout.text for rollout in group.rollouts),
        "teacher_hash": texts_hash(group.teacher_answers),
    }


def _origin(plan: _Plan, verifier: Verifier) -> dict[str, object]:
    """Return what a record of a group says of where it is from."""
    return {
        "raw_prompt_hash": plan.group.raw_prompt_hash,
        "model": f"{verifier.endpoint.model}{builtin_query(verifier.endpoint)}",
        "rubric_hash": plan.rubric.rubric_hash,
        "template_hash": verifier.templates.verifier_hash,
        **_hashes(plan.group),
    }


Rubrics = Packed[RubricRecord]


def _read(files: VerifyFiles) -> tuple[GroupFile, Rubrics]:
    groups = GroupFile(files.prompts, files.rollouts, files.limit)
    rubrics = Packed(files.rubrics, RubricRecord)
    groups.keep_rubrics(rubrics.keys())
    if not groups.uids:
        raise InputError(
            f"{files.rubrics}: no rubric of any group in {files.rollouts}", "run ropd rubricate on these rollouts first"
        )
    return groups, rubrics


def _index_of(files: VerifyFiles) -> closing[TeacherIndex] | nullcontext[None]:
    return closing(TeacherIndex.open(files.index)) if files.index else nullcontext()


class _Plan(NamedTuple):
    """A group with its teacher answers, its rubric, its block, what is asked of it, and the hash of all that."""

    group: Group
    rubric: RubricRecord
    block: Block
    requests: list[VerdictRequest]
    hash: str


def _plan(bare: Group, rubrics: Rubrics, files: VerifyFiles, index: TeacherIndex | None, verifier: Verifier) -> _Plan:
    settings, mixer = verifier.settings, verifier.mixer
    group = with_teacher(bare, index, settings.m, seed=files.seed)
    rubric = rubrics[group.uid, group.raw_prompt_hash]
    block = verifier.block(group)
    requests = verifier.requests(group, rubric, block)
    hashed = request_hash(
        group,
        block,
        [request.digest for each in requests for request in each.requests],
        verifier.templates.verifier_hash,
        rubric.rubric_hash,
        settings.on_no_answer,
        settings.min_coverage,
        mixer.fingerprint(group) if mixer is not None else None,
        *filter(None, [builtin_query(verifier.endpoint)]),
    )
    return _Plan(group, rubric, block, requests, hashed)

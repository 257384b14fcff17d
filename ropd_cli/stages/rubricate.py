"""Rubricate: write one rubric for each group of a rollouts file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ropd_cli.index import TeacherIndex
from ropd_cli.llm.client import ChatRequest
from ropd_cli.llm.urls import builtin_query
from ropd_cli.method.block import Block
from ropd_cli.method.groups import request_hash
from ropd_cli.records.group_sources import Sources
from ropd_cli.records.schemas import Group, RubricRecord
from ropd_cli.stages.groups import GroupFile, forecast_plans, with_teacher
from ropd_cli.stages.rubricator import Rubricator, RubricRequest
from ropd_cli.stages.runner import Finished, Tally, run_records
from ropd_cli.util.progress import Progress

STAGE = "rubricate"


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

    def groups(self, rubricator: Rubricator) -> GroupFile:
        """The groups to write rubrics for."""
        with_rubric = rubricator.settings.rubrics != "induced"
        return GroupFile(self.prompts, self.rollouts, self.limit, with_rubric=with_rubric)


async def rubricate(
    files: RubricateFiles, rubricator: Rubricator, *, max_failed_fraction: float | None = None, progress: Progress
) -> Tally:
    """Rubrics of all groups of a rollouts file, appended to ``files.out``; what stands there is kept.

    A group that fails is listed in ``<out>.failed.jsonl`` and tried again by the next run.
    """
    groups = files.groups(rubricator)
    for line in groups.left_out:
        progress.note(line)
    done = _finished(files, rubricator)
    with closing(TeacherIndex.open(files.index)) as index:
        done.write_sources()

        async def work(bare: Group) -> RubricRecord | None:
            plan = _plan(bare, files, index, rubricator)
            if done.holds(bare.uid, plan.hash, **_origin(plan, rubricator)):
                return None
            record = await rubricator.rubric(plan.group, block=plan.block, requests=plan.requests)
            return record.model_copy(update={"request_hash": plan.hash})

        return await run_records(
            groups,
            work,
            total=done.left_of(groups.uids),
            out=files.out,
            stage=STAGE,
            concurrency=rubricator.endpoint.limits.concurrency,
            max_failed_fraction=max_failed_fraction,
            progress=progress,
            needed_endpoint=lambda record: bool(record.by_rollout),
        )


def pending(
    files: RubricateFiles, rubricator: Rubricator, note: Callable[[str], None], *, made: bool = False
) -> Iterator[ChatRequest]:
    """The requests of the groups that ``files.out`` does not hold, or of those ``made``; ``note`` is told of groups
    that would fail."""
    done = _finished(files, rubricator)
    with closing(TeacherIndex.open(files.index)) as index:
        plans = forecast_plans(files.groups(rubricator), lambda bare: _plan(bare, files, index, rubricator), note)
        for plan in plans:
            if done.holds(plan.group.uid, plan.hash, **_origin(plan, rubricator)) is made:
                yield from (each.request for each in plan.requests)


def _finished(files: RubricateFiles, rubricator: Rubricator) -> Finished:
    known, m = rubricator.known_settings(files.seed), rubricator.settings.m
    return Finished(
        files.out, "rubrics", Sources(files.prompts, None, files.rollouts, files.index, None, m, files.seed, known)
    )


def _origin(plan: _Plan, rubricator: Rubricator) -> dict[str, object]:
    """Return what a record of a group says of where it is from."""
    return {
        "raw_prompt_hash": plan.group.raw_prompt_hash,
        "model": rubricator.author and f"{rubricator.author}{builtin_query(rubricator.endpoint)}",
        "template_hash": rubricator.templates.rubricator_hash,
    }


class _Plan(NamedTuple):
    """A group with its teacher answers, its block, what is asked of it, and the hash of all that."""

    group: Group
    block: Block
    requests: list[RubricRequest]
    hash: str


def _plan(bare: Group, files: RubricateFiles, index: TeacherIndex, rubricator: Rubricator) -> _Plan:
    settings = rubricator.settings
    group = with_teacher(bare, index, settings.m, seed=files.seed)
    block = rubricator.block(group)
    requests = rubricator.requests(group, block)
    dataset = group.dataset_rubric.hash if group.dataset_rubric and settings.rubrics != "induced" else None
    more = ["rollout"] if settings.rubric_per == "rollout" else []
    more += filter(None, [builtin_query(rubricator.endpoint)])
    digests = [each.request.digest for each in requests]
    hashed = request_hash(group, block, digests, rubricator.templates.rubricator_hash, dataset, *more)
    return _Plan(group, block, requests, hashed)

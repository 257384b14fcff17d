"""Judge the saved groups of a run again, by another verifier, template, rubric or model, or by the same one.

Nothing is generated: rollouts and teacher answers are those of the group files, so the same judge and template ask
exactly what the training asked, and the cache answers.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from ropd_cli.analysis.agreement import Pair
from ropd_cli.analysis.group_files import step_files
from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import InputError
from ropd_cli.llm.client import ChatRequest
from ropd_cli.llm.urls import builtin_query
from ropd_cli.method.block import Block
from ropd_cli.method.prompts import Templates
from ropd_cli.records.files import Record, read_journal
from ropd_cli.records.group_sources import Sources
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.kinds import Kind, existing_of
from ropd_cli.records.schemas import Group, RubricRecord, VerdictRecord, first_fault, load_models
from ropd_cli.stages.rubricator import Rubricator, RubricRequest
from ropd_cli.stages.runner import Tally, run_records
from ropd_cli.stages.verifier import VerdictRequest, Verifier
from ropd_cli.util.progress import Progress

STAGE = "rejudge"
GroupKey = tuple[int, str, int]
"""(step, uid, number among the step's groups of this uid, from 0): a prompt that occurs twice makes two groups."""
Key = tuple[GroupKey, int]
"""(group, repeat)."""
RubricSource = Literal["saved", "file", "new"]


@dataclass(frozen=True)
class Saved:
    """One group as a run has saved it."""

    step: int
    group: Group
    rubric: RubricRecord
    verdicts: VerdictRecord
    nth: int = 0

    @property
    def key(self) -> GroupKey:
        return self.step, self.group.uid, self.nth


@dataclass(frozen=True)
class Job:
    """A group to judge, for the nth time."""

    saved: Saved
    repeat: int

    @property
    def uid(self) -> str:
        """What the list of failed ones calls it."""
        more = f", group {self.saved.nth + 1}" if self.saved.nth else ""
        more += f", repeat {self.repeat}" if self.repeat else ""
        return f"{self.saved.group.uid} (step {self.saved.step}{more})"

    @property
    def key(self) -> Key:
        return self.saved.key, self.repeat


@dataclass(frozen=True)
class RejudgeFiles:
    """What is judged again, and the folder for what comes of it."""

    path: Path
    """A run directory, or the group file of one step."""
    out: Path
    steps: range | None = None
    limit: int | None = None
    rubrics: Path | None = None
    """Rubrics in the place of the saved ones, by uid and prompt."""

    @property
    def verdicts(self) -> Path:
        return self.out / "verdicts.jsonl"

    @property
    def written_rubrics(self) -> Path:
        """Rubrics that were written anew."""
        return self.out / "rubrics.jsonl"

    def groups(self) -> Iterator[Saved]:
        """The judged groups, in order; read as they are needed. Raises InputError where a file is none of a run's."""
        taken = 0
        for file in step_files(self.path) if self.path.is_dir() else [self.path]:
            before = Counter[tuple[str, str]]()
            for line, record in read_journal(file):
                place = str(record.get("step")), str(record.get("uid"))
                saved = _saved(record, f"{file}:{line}", before[place])
                before[place] += 1
                if saved is None or (self.steps is not None and saved.step not in self.steps):
                    continue
                if self.limit is not None and taken == self.limit:
                    return
                taken += 1
                yield saved


def _saved(record: Mapping[str, Any], where: str, nth: int) -> Saved | None:
    """A group; None for one that was not judged."""
    if not {"rollouts", "verdicts", "rubric", "prompt"} <= record.keys():
        raise InputError(f"{where}: no group of a training run", "give a run directory, or a file of its groups folder")
    if not record["verdicts"] or not record["rubric"]:
        return None
    names = ("uid", "prompt", "raw_prompt_hash", "teacher_answers", "rollouts", "answer")
    try:
        group = Group.model_validate({name: record[name] for name in names if record.get(name) is not None})
        rubric = RubricRecord.model_validate(record["rubric"])
        verdicts = VerdictRecord.model_validate(record["verdicts"])
    except ValidationError as fault:
        raise InputError(f"{where}: {first_fault(fault)}", "is it a file that ropd wrote?") from fault
    return Saved(int(record.get("step") or 0), group, rubric, verdicts, nth)


@dataclass
class Rejudger:
    """Judges the saved groups again. ``rubricator`` only where the rubrics are to be written anew. The two need no
    client before ``run``."""

    files: RejudgeFiles
    verifier: Verifier
    repeats: int = 1
    source: RubricSource = "saved"
    rubricator: Rubricator | None = None
    _written: dict[GroupKey, RubricRecord] = field(default_factory=dict)
    _locks: dict[GroupKey, asyncio.Lock] = field(default_factory=dict)

    def jobs(self) -> Iterator[Job]:
        """Every group as often as it is to be judged, those without a rubric of the file left out."""
        for saved in self.files.groups():
            if self.source != "file" or (saved.group.uid, saved.group.raw_prompt_hash) in self.of_file:
                for repeat in range(self.repeats):
                    yield Job(saved, repeat)

    @cached_property
    def of_file(self) -> dict[tuple[str, str], RubricRecord]:
        """The rubrics of ``files.rubrics``."""
        records = load_models(self.files.rubrics, RubricRecord) if self.files.rubrics else ()
        return {(record.uid, record.raw_prompt_hash): record for record in records}

    def count(self) -> int:
        """How many jobs there are. Raises InputError where there is none."""
        total = sum(1 for _ in self.jobs())
        if not total and self.source == "file" and any(True for _ in self.files.groups()):
            raise InputError(
                f"{self.files.rubrics}: no rubric of a judged group of {self.files.path}",
                "rubrics are found by uid and prompt; ropd rubricate writes them for the prompts of a run",
            )
        if not total:
            raise InputError(
                f"{self.files.path}: no group judged by a rubric"
                + (" in these steps" if self.files.steps is not None else ""),
                "ropd inspect-rubrics lists what is there",
            )
        return total

    async def run(self, *, max_failed_fraction: float | None, progress: Progress) -> Tally:
        """Judge what is not judged yet. Raises as ``run_records``."""
        done = self._done()
        self._read_written()
        model = self.rubricator.endpoint.model if self.rubricator is not None else None
        other = next((each.model for each in self._written.values() if model and each.model != model), None)
        if other is not None:
            raise InputError(
                f"{self.files.written_rubrics}: these rubrics are of {other}, not of {model}",
                "give another --out, or delete the folder to have all of it written again",
            )

        left = self._left(done)
        by = {"saved": None, "file": self.files.rubrics, "new": self.files.written_rubrics}[self.source]
        Sources(rubrics=by, groups=self.files.path).write(self.files.verdicts)
        if self.source == "new":
            Sources(groups=self.files.path).write(self.files.written_rubrics)

        async def work(job: Job) -> VerdictRecord | None:
            if job.key in done:
                return None
            group, rubric = job.saved.group, await self._rubric_of(job.saved)
            block = self.verifier.block(group)
            requests = self._requests(job, rubric, block)
            record = await self.verifier.verdicts(group, rubric, block=block, requests=requests)
            where = {"step": job.saved.step, "nth": job.saved.nth, "repeat": job.repeat}
            return record.model_copy(update=where | {"request_hash": self._digest(requests, rubric)})

        return await run_records(
            self.jobs(),
            work,
            total=left,
            out=self.files.verdicts,
            stage=STAGE,
            concurrency=self.verifier.endpoint.limits.concurrency,
            max_failed_fraction=max_failed_fraction,
            progress=progress,
            needed_endpoint=lambda record: any(answer.judgement for answer in record.answers),
        )

    def pending(self) -> Iterator[ChatRequest]:
        """The verifier's requests that are still to be made; a rubric to be written is taken to be as the saved one."""
        done = self._done()
        for job in self.jobs():
            if job.key not in done:
                for each in self._requests(job, self._known_rubric(job.saved) or job.saved.rubric):
                    yield from each.requests

    def pending_rubrics(self) -> Iterator[ChatRequest]:
        """The rubricator's requests that are still to be made."""
        if self.rubricator is not None:
            self._read_written()
            for job in self.jobs():
                if not job.repeat and self._known_rubric(job.saved) is None:
                    yield from (each.request for each in self._rubric_requests(job.saved.group))

    def pairs(self) -> list[Pair]:
        """The groups under both judgings, as far as ``verdicts.jsonl`` goes; where a repeat failed, the others."""
        new: dict[GroupKey, dict[int, VerdictRecord]] = {}
        for record in self._existing("verdicts", self.files.verdicts):
            new.setdefault(_key(record), {})[record["repeat"]] = VerdictRecord.model_validate(record)
        self._read_written()
        pairs = []
        for saved in self.files.groups():
            repeats = new.get(saved.key, {})
            rubric = self._known_rubric(saved)
            kept = tuple(repeats[k] for k in sorted(repeats) if k < self.repeats)
            if kept and rubric is not None:
                pairs.append(Pair(saved.step, saved.group.uid, saved.verdicts, saved.rubric, kept, rubric))
        return pairs

    def _read_written(self) -> None:
        """Take the rubrics that were written anew before."""
        self._written |= {
            _key(record): RubricRecord.model_validate(record)
            for record in self._existing("rubrics", self.files.written_rubrics)
        }

    @staticmethod
    def _existing(kind: Kind, file: Path) -> Iterator[Record]:
        """Yield what is written already. Raises InputError for what ``ropd verify`` or ``ropd rubricate`` wrote."""
        for record in existing_of(kind, file):
            if "step" not in record:
                raise InputError(f"{file}: holds {kind} of no training step", "give another --out")
            yield record

    def _done(self) -> dict[Key, str | None]:
        keys = {(_key(r), r["repeat"]): r.get("request_hash") for r in self._existing("verdicts", self.files.verdicts)}
        return {key: hashed for key, hashed in keys.items() if key[1] < self.repeats}

    def _left(self, done: Mapping[Key, str | None]) -> int:
        """How many jobs are still to be done. Raises InputError where a done one was not judged as it would be now."""
        left = 0
        for job in self.jobs():
            rubric = self._known_rubric(job.saved)
            if job.key not in done:
                left += 1
                continue
            if rubric is None:
                fault = f"{self.files.written_rubrics}: the rubric by which {job.uid} was judged is not there"
            elif done[job.key] in (None, self._digest(self._requests(job, rubric), rubric)):
                continue
            else:
                fault = f"{self.files.verdicts}: {job.uid} was judged with another judge, template, rubric or setting"
            raise InputError(fault, "give another --out, or delete the folder to judge all of it again")
        return left

    def _digest(self, requests: Sequence[VerdictRequest], rubric: RubricRecord) -> str:
        digests = [request.digest for each in requests for request in each.requests]
        query = builtin_query(self.verifier.endpoint)
        return hashlib.sha256(orjson.dumps([digests, rubric.rubric_hash, *filter(None, [query])])).hexdigest()

    def _requests(self, job: Job, rubric: RubricRecord, block: Block | None = None) -> list[VerdictRequest]:
        # each repeat asks anew, past the cache: the first one asks what the training asked
        first_sample = job.repeat * self.verifier.settings.repeats
        return self.verifier.requests(job.saved.group, rubric, block, first_sample=first_sample)

    def _rubric_requests(self, group: Group) -> list[RubricRequest]:
        # another sample than the training's, whose reply may be in the cache
        asked = self.rubricator.requests(group) if self.rubricator is not None else []
        return [replace(each, request=each.request.model_copy(update={"sample": 1})) for each in asked]

    def _known_rubric(self, saved: Saved) -> RubricRecord | None:
        if self.source == "saved":
            return saved.rubric
        if self.source == "file":
            return self.of_file.get((saved.group.uid, saved.group.raw_prompt_hash))
        return self._written.get(saved.key)

    async def _rubric_of(self, saved: Saved) -> RubricRecord:
        """The rubric to judge by; a new one is written once for all repeats, and kept."""
        async with self._locks.setdefault(saved.key, asyncio.Lock()):
            known = self._known_rubric(saved)
            if known is not None:
                return known
            assert self.rubricator is not None
            record = await self.rubricator.rubric(saved.group, requests=self._rubric_requests(saved.group))
            self._written[saved.key] = record
            with RecordWriter(self.files.written_rubrics) as writer:
                writer.append({"step": saved.step, "nth": saved.nth, **record.to_json()})
            return record


def _key(record: Mapping[str, Any]) -> GroupKey:
    """Which group a record of ours is of."""
    return record["step"], record["uid"], record.get("nth", 0)


def default_out(run: Path, settings: JudgeConfig, templates: Templates, endpoint: EndpointConfig, source: str) -> Path:
    """A folder of the run for this judge, template and rubrics: the same for the same."""
    model = endpoint.model or "judge"
    parts = [
        model,
        endpoint.base_url,
        endpoint.sampling.model_dump(),
        templates.hashes,
        settings.model_dump(exclude={"templates", "max_failed_fraction", "repair"}),
        source,
    ]
    short = hashlib.sha256(orjson.dumps(parts)).hexdigest()[:8]
    name = "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in model).strip(".-") or "judge"
    return run / "rejudge" / f"{name[:60]}-{short}"

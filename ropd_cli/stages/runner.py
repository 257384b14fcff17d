"""Work through the records of a stage: so many at once, each written when it is done, the failed ones listed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypedDict, TypeVar, Unpack, cast

from ropd_cli.errors import (
    IndexMissing,
    InputError,
    JudgeError,
    PromptRefused,
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    ReplyInvalid,
    RopdError,
    TooFewAnswers,
)
from ropd_cli.records.files import existing_records, failed_path, journal_of, write_records
from ropd_cli.records.group_sources import Sources
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.kinds import Kind, existing_of
from ropd_cli.records.schemas import FailedRecord, Failure, RecordModel
from ropd_cli.util.changes import changes
from ropd_cli.util.concurrency import STOPS
from ropd_cli.util.progress import Progress

RECORD_ERRORS = (JudgeError, ProviderError, IndexMissing, TooFewAnswers, PromptRefused)
"""What one record may fail of while the others go on; anything else ends the stage."""
ENDPOINT_ERRORS = (ProviderUnreachable, ProviderRefused, ProviderBusy)
GIVE_UP_AFTER = 8
"""So many records lost to the endpoint before one succeeded: it is down, and the rest need not be tried."""


class HasUid(Protocol):
    """A record of a stage's input."""

    @property
    def uid(self) -> str: ...


T = TypeVar("T", bound=HasUid)
R = TypeVar("R", bound=RecordModel)
V = TypeVar("V")


@dataclass
class Tally:
    """How a stage went, in records."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    """Already in the output."""
    why_failed: str | None = None
    """The first error of the type that most failed records have."""


_RECORDED = {
    "raw_prompt_hash": "another prompt",
    "model": "another model",
    "rubric_hash": "another rubric",
    "template_hash": "another template",
    "template": "another system prompt",
    "rollouts_hash": "other rollouts",
    "teacher_hash": "other teacher answers",
}
"""Fields of records by which a change is told, in words."""


class Finished:
    """What an output file of this ``kind`` already holds: uid and the digest of what was asked (``request_hash``).

    ``sources`` are those of now, with the settings that records do not hold. Raises InputError where the file holds
    records of another kind.
    """

    def __init__(self, out: Path, kind: Kind, sources: Sources = Sources()) -> None:
        self._out, self._now = out, sources
        self._hashes: dict[str, str | None] = {
            r["uid"]: r.get("request_hash") for r in existing_of(kind, out) if "uid" in r
        }
        self._was = Sources.of(out) if self._hashes else sources

    def write_sources(self) -> None:
        """Write beside the file what it is made of, unless that stands there: what is refused changes nothing."""
        if not self._hashes or self._was.gone or not self._was.files:
            replace(self._now, settings=self._was.settings).write(self._out)

    def left_of(self, uids: Iterable[str]) -> int:
        """How many of the uids are still to do."""
        return sum(uid not in self._hashes for uid in uids)

    def holds(self, uid: str, request_hash: str, **now: object) -> bool:
        """Whether the record of ``uid`` is there. ``now``: what fields of a new record would be.

        Raises InputError where it answers another question than ``request_hash`` stands for; a record of unknown origin
        is taken as it is.
        """
        if uid not in self._hashes:
            return False
        if self._hashes[uid] not in (None, request_hash):
            raise InputError(
                f"{self._out}: the record of uid {uid!r} was made from {self._changed(uid, now)}",
                "give another --out, or delete the file to make all of it again: replies in the cache cost nothing",
            )
        return True

    def _changed(self, uid: str, now: Mapping[str, object]) -> str:
        """Return in words what the record of ``uid`` was made from."""
        record = next(r for _, r in existing_records(self._out) if r.get("uid") == uid)
        told = []
        for name, words in _RECORDED.items():
            was_there = record.get(name) if name in ("model", "template") else record.get(name, now.get(name))
            # the built-in provider's settings are in its URL, which a record does not hold
            if name in now and was_there not in (now[name], str(now[name]).partition("?")[0]):
                told.append(words + (f" ({was_there}, now {now[name]})" if name == "model" else ""))
        for name, file in self._was.by_name.items():
            other = self._now.by_name.get(name)
            if other is None or file.resolve() != other.resolve():
                told.append(f"{name} {file}, now {other or 'none'}")
        was = dict(self._was.settings)
        new = dict(self._now.settings) if was else {}
        if "sampling" in now:
            was |= {_key(name): value for name, value in (record.get("sampling") or {}).items()}
            new |= {_key(name): value for name, value in cast(Mapping[str, object], now["sampling"]).items()}
        if "m" in now:
            was["judge.m"] = sum(answer.get("finish_reason") != "length" for answer in record.get("answers") or ())
            new["judge.m"] = now["m"]
        query = str(now.get("model")).partition("?")[2]
        unknown = f"other settings of the built-in provider (now {query})" if query else "other answers or settings"
        return "; ".join([*told, *changes(was, new)]) or unknown


def _key(name: str) -> str:
    """Return the configuration key of what a record says of its sampling."""
    return {"n": "rollout.n", "system_prompt": "student.system_prompt"}.get(name, f"sampling.{name}")


class Options(TypedDict):
    """How a stage works through its records."""

    total: int
    """How many are left to do: what ``out`` holds already is not counted."""
    out: Path
    """Names the list of failed ones too."""
    stage: str
    concurrency: int
    max_failed_fraction: float | None
    progress: Progress


async def run_records(
    items: Iterable[T],
    work: Callable[[T], Awaitable[R | None]],
    *,
    needed_endpoint: Callable[[R], bool] = lambda _: True,
    answered: tuple[type[RopdError], ...] = (ReplyInvalid,),
    **options: Unpack[Options],
) -> Tally:
    """Do ``work`` on every item as ``run_jobs`` does, and append the records that it returns to ``out``."""
    _reopen(options["out"])
    with RecordWriter(options["out"]) as writer:
        return await run_jobs(
            items,
            work,
            lambda record: writer.append(record.to_json()),
            needed_endpoint=needed_endpoint,
            answered=answered,
            **options,
        )


async def run_jobs(
    items: Iterable[T],
    work: Callable[[T], Awaitable[V | None]],
    keep: Callable[[V], None] = lambda _: None,
    *,
    needed_endpoint: Callable[[V], bool] = lambda _: True,
    answered: tuple[type[RopdError], ...] = (ReplyInvalid,),
    **options: Unpack[Options],
) -> Tally:
    """Do ``work`` on every item, ``concurrency`` at once, and ``keep`` what it returns.

    ``work`` returns None for an item that was done before; ``needed_endpoint`` says whether the endpoint had to be
    there for it, and ``answered`` of which errors it was. An item that raises one of RECORD_ERRORS goes to
    ``<out>.failed.jsonl``, which is rewritten at the end, also after an interruption. Raises one of STOPS when what was
    under way is finished, JudgeError when more than ``max_failed_fraction`` of ``total`` failed, the endpoint's own
    error when it answered nothing at all, and the first error of the most frequent type when no item succeeded, now or
    before.
    """
    run = _Run(options, answered)
    shared = iter(items)  # each item goes to the worker that is free

    async def worker() -> None:
        for item in shared:
            if run.stopped_by is not None:
                return
            try:
                result = await work(item)
            except STOPS as fault:
                run.stopped_by = run.stopped_by or fault
                return
            except RECORD_ERRORS as fault:
                run.fail(item.uid, fault)
                continue
            if result is None:
                run.skip(item.uid)
            else:
                keep(result)
                run.succeed(item.uid, needed_endpoint=needed_endpoint(result))

    if options["total"]:
        options["progress"].start(options["total"], options["stage"])
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(options["concurrency"], options["total"] or 1))):
                group.create_task(worker())
        if not options["total"]:  # known when all records have been compared with what is asked now
            options["progress"].start(0, options["stage"])
    except BaseExceptionGroup as faults:
        if all(isinstance(fault, RopdError) for fault in faults.exceptions):
            raise faults.exceptions[0] from None
        raise
    finally:
        options["progress"].finish()
        run.write_failed()
    for error in (run.stopped_by, run.dead_endpoint):
        if error is not None:
            raise error
    if run.tally.failed:
        fault, count = run.most_frequent()
        run.tally.why_failed = fault.message
        if run.nothing_succeeded:
            if run.tally.failed > 1:
                fault.message += f" ({count} of {run.tally.failed} failed for this reason)"
            fault.hint = "; ".join(filter(None, [fault.hint, f"listed in {failed_path(options['out'])}"]))
            raise fault
    return run.tally


def _reopen(out: Path) -> None:
    """Make a finished ``.parquet`` a journal again: a RecordWriter begins a new file, which would replace it."""
    journal = journal_of(out)
    if journal != out and out.is_file() and not journal.exists():
        write_records(journal, (record for _, record in existing_records(out)))


class _Run:
    """The books of one run: what is done, what failed, and when to stop."""

    def __init__(self, options: Options, answered: tuple[type[RopdError], ...]) -> None:
        self._options, self._answering = options, answered
        self.tally = Tally()
        self.stopped_by: RopdError | None = None
        self._failed: dict[str, FailedRecord] = {}
        self._faults: list[RopdError] = []
        self._settled: set[str] = set()
        self._answered = False
        self._lost: list[RopdError] = []

    @property
    def dead_endpoint(self) -> RopdError | None:
        """The endpoint's first error, where it has answered nothing at all."""
        return self._lost[0] if self._lost and not self._answered else None

    def most_frequent(self) -> tuple[RopdError, int]:
        """Return the first error of the type that most records failed of, and their number."""
        [(kind, count)] = Counter(map(type, self._faults)).most_common(1)
        fault = next(each for each in self._faults if type(each) is kind)
        return fault, count

    @property
    def nothing_succeeded(self) -> bool:
        return not self.tally.done and not self.tally.skipped

    def skip(self, uid: str) -> None:
        self._settled.add(uid)
        self.tally.skipped += 1

    def succeed(self, uid: str, *, needed_endpoint: bool) -> None:
        self._settled.add(uid)
        self._answered = self._answered or needed_endpoint
        self.tally.done += 1
        self._options["progress"].advance()

    def fail(self, uid: str, fault: RopdError) -> None:
        """Book a failure. Raises where going on makes no sense."""
        self.tally.failed += 1
        self._faults.append(fault)
        self._failed[uid] = FailedRecord(
            uid=uid, error=Failure(stage=self._options["stage"], type=type(fault).__name__, message=fault.message)
        )
        self._options["progress"].advance(failed=1)
        if isinstance(fault, ENDPOINT_ERRORS):
            self._lost.append(fault)
            if self.dead_endpoint and len(self._lost) >= GIVE_UP_AFTER:
                raise fault
        self._answered = self._answered or isinstance(fault, self._answering)
        limit, total = self._options["max_failed_fraction"], self._options["total"]
        if limit is not None and self.tally.failed > limit * total:
            raise JudgeError(
                f"{self.tally.failed} of {total} failed, more than --max-failed-fraction {limit:g}; "
                f"the last: {fault.message}",
                f"see {failed_path(self._options['out'])}; the same command tries them again",
            )

    def write_failed(self) -> None:
        """Rewrite the list of failed records; earlier ones that were not tried again stay on it."""
        path = failed_path(self._options["out"])
        kept = {r["uid"]: r for _, r in existing_records(path) if r.get("uid") not in self._settled}
        kept |= {uid: record.to_json() for uid, record in self._failed.items()}
        if kept:
            write_records(path, kept.values())
        else:
            path.unlink(missing_ok=True)

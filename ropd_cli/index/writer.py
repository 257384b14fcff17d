"""Building: into a copy beside the index, which takes its place when it is whole.

A reader therefore sees the index of before or the index of after, whenever and wherever it looks, and a kill leaves
the index of before. The copy (``.NAME.building``) is committed now and then; a build of the same ``job`` that was
killed goes on from there. Its lock keeps a second writer out and goes with the process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson

from ropd_cli.answers.thinking import split_thinking
from ropd_cli.errors import InputError, NoSpace
from ropd_cli.index.layout import (
    checksum,
    create,
    meta,
    open_read,
    open_write,
    seed_of,
    set_meta,
    text_digest,
    text_seed,
)
from ropd_cli.index.rows import Row, Source, rest_of
from ropd_cli.records.files import disk_errors
from ropd_cli.records.schemas import Answer, AnswerRecord, digest

Prefer = Literal["first", "last", "error"]
COMMIT_BYTES = 8_000_000
"""So much text is written between two commits: what a kill can cost."""


@dataclass
class Added:
    """What a build did. ``unusable``: empty, or thoughts without an answer: not kept. ``truncated``: cut off by the
    token limit: kept, marked, and not handed out."""

    prompts: int = 0
    answers: int = 0
    known: int = 0
    unusable: int = 0
    truncated: int = 0
    differing: int = 0
    """Known answers that came from another source now."""


class IndexWriter:
    """Adds answers to an index, made where there is none. What is there already is not added twice.

    Use as a context manager: everything is there at its clean end and nothing otherwise. ``job`` names what is built
    from what: where a build of the same job was killed, ``consumed`` records of it are there already, and
    ``passed_over`` says so of each. ``use_truncated``: answers that were cut off are handed out like others.
    ``prefer`` says whose provenance an answer keeps that comes from several sources, the ``first``, the ``last``, or
    that it is an ``error``.
    Raises InputError where another process builds the same index, or the file is none.
    """

    def __init__(
        self, path: str | Path, *, job: str | None = None, use_truncated: bool = False, prefer: Prefer = "first"
    ) -> None:
        self.path = Path(os.path.realpath(path))  # of a link, what it points to is replaced and not the link
        self.added = Added()
        self.consumed = self._seen = 0
        self._use_truncated, self._prefer = use_truncated, prefer
        self._copy = self.path.with_name(f".{self.path.name}.building")
        self._pending = 0
        self._changed = False
        self._sources: dict[bytes, int] = {}
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self._copy, self.path)
        try:
            self._db = self._resume(job) or self._begin(job)
        except BaseException:
            self._lock.close()
            raise

    def passed_over(self) -> bool:
        """Whether the next record was added by the killed build that this one goes on from."""
        if self._seen < self.consumed:
            self._seen += 1
            return True
        return False

    def add(self, record: AnswerRecord) -> None:
        """Add the answers of one record: those that can be used, and, marked, those that were cut off."""
        prompt = record.prompt if isinstance(record.prompt, str) else [m.model_dump(mode="json") for m in record.prompt]
        number = self._prompt(record.uid, record.raw_prompt_hash, prompt)
        seed = seed_of(record.uid, record.raw_prompt_hash)
        for answer in record.answers:
            reasoning, text = split_thinking(answer.text)
            if text is None:
                self.added.unusable += 1
                continue
            if reasoning or text is not answer.text:
                answer = answer.model_copy(update={"text": text.strip(), "reasoning": answer.reasoning or reasoning})
            source = Source(
                model=answer.model or record.model,
                endpoint=answer.endpoint or record.endpoint,
                sampling=answer.sampling or record.sampling,
                template=record.template,
            )
            truncated = answer.finish_reason == "length"
            self.added.truncated += truncated
            self._answer(number, record.uid, seed, answer, source, usable=self._use_truncated or not truncated)
        self._count()

    def add_row(self, row: Row) -> None:
        """Add a prompt and its answers as another index holds them."""
        number = self._prompt(row.uid, row.raw_prompt_hash, row.prompt)
        seed = seed_of(row.uid, row.raw_prompt_hash)
        for stored in row.answers:
            self._answer(number, row.uid, seed, stored.answer, stored.source, usable=stored.usable)
        self._count()

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _trace: object) -> None:
        try:
            with disk_errors(self.path), _database_errors(self.path):
                if kind is None:
                    self._publish()
                elif issubclass(kind, KeyboardInterrupt):
                    self._commit()  # the same command goes on from here
                    self._db.close()
                else:
                    self._db.close()
                    _remove(self._copy)
                    if isinstance(fault, sqlite3.Error):
                        raise fault
        finally:
            self._db.close()
            self._lock.close()

    def _begin(self, job: str | None) -> sqlite3.Connection:
        """A copy of the index there is, or an empty one."""
        with disk_errors(self.path), _database_errors(self.path):
            base = ""
            if self.path.exists():
                found = open_read(self.path)
                base = meta(found, "generation") or ""
                found.close()
                _copy_into(self.path, self._lock)
            else:
                self._lock.truncate(0)
            _journal(self._copy).unlink(missing_ok=True)  # of a build that was killed
            db = open_write(self._copy)
            if not base:
                create(db)
            set_meta(db, "building", orjson.dumps({"job": job, "base": base}).decode())
            db.execute("BEGIN")
            self._changed = not base
            return db

    def _resume(self, job: str | None) -> sqlite3.Connection | None:
        """The copy that a killed build of the same job left, where the index is still the one it began from."""
        if job is None or not os.fstat(self._lock.fileno()).st_size:
            return None
        db = None
        try:
            db = open_write(self._copy)
            state = orjson.loads(meta(db, "building") or "{}")
            base = ""
            if self.path.exists():
                found = open_read(self.path)
                base = meta(found, "generation") or ""
                found.close()
            if state.get("job") == job and state.get("base") == base and "added" in state:
                self.added, self.consumed = Added(**state["added"]), state["consumed"]
                self._changed = state["changed"]
                db.execute("BEGIN")
                return db
        except (sqlite3.Error, orjson.JSONDecodeError):
            pass  # killed before it was an index
        if db is not None:
            db.close()
        return None

    def _prompt(self, uid: str, raw_prompt_hash: str, prompt: Any) -> int:
        """The number of a prompt, added where it is new; its text is added where it was not known."""
        text = orjson.dumps(prompt).decode() if prompt is not None else None
        found = self._db.execute(
            "SELECT id, prompt IS NULL FROM prompts WHERE hash = ? AND uid = ?", (raw_prompt_hash, uid)
        ).fetchone()
        if found is None:
            self.added.prompts += 1
            self._changed = True
            self._pending += len(text or "")
            sum_ = checksum((text or "").encode(), seed_of(uid, raw_prompt_hash))
            sql = "INSERT INTO prompts (uid, hash, sum, prompt) VALUES (?, ?, ?, ?)"
            return self._db.execute(sql, (uid, raw_prompt_hash, sum_, text)).lastrowid or 0
        if found[1] and text is not None:
            self._changed = True
            sum_ = checksum(text.encode(), seed_of(uid, raw_prompt_hash))
            self._db.execute("UPDATE prompts SET prompt = ?, sum = ? WHERE id = ?", (text, sum_, found[0]))
        return found[0]

    def _answer(self, number: int, uid: str, seed: int, answer: Answer, source: Source, *, usable: bool) -> None:
        same = text_digest(answer.text)
        known = self._db.execute(
            "SELECT a.id, a.usable, s.body FROM answers a JOIN sources s ON s.id = a.source_id"
            " WHERE a.prompt_id = ? AND a.digest = ?",
            (number, same),
        ).fetchone()
        body = source.body()
        if known is not None:
            differs = known[2].encode() != body
            self.added.known += 1
            self.added.differing += differs
            if differs and self._prefer == "error":
                raise InputError(
                    f"{self.path}: an answer to uid {uid!r} comes from two sources ({known[2]} and {body.decode()})",
                    "say whose provenance it keeps: --on-conflict first or last",
                )
            if not (usable and not known[1]) and not (differs and self._prefer == "last"):
                return
            self._db.execute("DELETE FROM answers WHERE id = ?", (known[0],))
        text, rest = answer.text.encode(), rest_of(answer)
        self._db.execute(
            "INSERT INTO answers (id, prompt_id, source_id, usable, chars, tokens, finish_reason, digest, sum,"
            " rest_sum, text, rest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(known[0] if known else None, number, self._source(body), usable, len(answer.text)),
                *(answer.usage.completion_tokens if answer.usage else None, answer.finish_reason, same),
                *(checksum(text, text_seed(seed, usable)), checksum(rest + body, seed), answer.text, rest.decode()),
            ),
        )
        self._changed = True
        self._pending += len(text) + len(rest)
        self.added.answers += known is None and usable

    def _source(self, body: bytes) -> int:
        if body not in self._sources:
            text = body.decode()
            self._db.execute("INSERT INTO sources (body) VALUES (?) ON CONFLICT DO NOTHING", (text,))
            (self._sources[body],) = self._db.execute("SELECT id FROM sources WHERE body = ?", (text,)).fetchone()
        return self._sources[body]

    def _count(self) -> None:
        self.consumed += 1
        self._seen += 1
        if self._pending >= COMMIT_BYTES:
            with disk_errors(self.path), _database_errors(self.path):
                self._commit()
                self._db.execute("BEGIN")

    def _commit(self) -> None:
        state = orjson.loads(meta(self._db, "building") or "{}")
        state |= {"added": asdict(self.added), "consumed": self.consumed, "changed": self._changed}
        set_meta(self._db, "building", orjson.dumps(state).decode())
        self._db.execute("COMMIT")
        self._pending = 0

    def _publish(self) -> None:
        """Put the copy in the place of the index; an index that was not changed is left alone."""
        if not self._changed:
            self._db.close()
            _remove(self._copy)
            return
        self._db.execute("DELETE FROM meta WHERE key = 'building'")
        set_meta(self._db, "generation", uuid.uuid4().hex)
        set_meta(self._db, "built", str(int(time.time())))
        self._db.execute("COMMIT")
        self._db.execute("PRAGMA locking_mode = NORMAL")
        self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.close()
        os.fsync(self._lock.fileno())
        _journal(self._copy).unlink(missing_ok=True)
        os.replace(self._copy, self.path)
        _sync_folder(self.path.parent)


def job_of(kind: str, files: Iterable[Path], *options: object) -> str:
    """A name for a build: of the same files, unchanged since, in the same way."""
    stats = [(str(file.absolute()), stat.st_size, stat.st_mtime_ns) for file in files for stat in (file.stat(),)]
    return digest([kind, stats, [str(option) for option in options]])


def _locked(copy: Path, path: Path) -> BinaryIO:
    """The copy, opened and locked; the lock goes when it is closed or the process dies. Raises InputError where
    another process holds it."""
    mode = path.stat().st_mode & 0o777 if path.exists() else None
    while True:
        file = open(os.open(copy, os.O_RDWR | os.O_CREAT, 0o666), "rb+")  # noqa: SIM115 - it lives as long as the writer
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if copy.exists() and os.fstat(file.fileno()).st_ino == copy.stat().st_ino:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                return file
        except BlockingIOError:
            file.close()
            raise InputError(f"{path}: another process is building it", "wait until it is finished") from None
        file.close()  # another writer put it in its place between our open and our lock


def _copy_into(source: Path, target: BinaryIO) -> None:
    target.truncate(0)
    target.seek(0)
    with open(source, "rb") as file:
        shutil.copyfileobj(file, target, 1 << 22)
    target.flush()


def _journal(copy: Path) -> Path:
    return copy.with_name(copy.name + "-journal")


def _remove(copy: Path) -> None:
    _journal(copy).unlink(missing_ok=True)
    copy.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _database_errors(path: Path) -> Iterator[None]:
    """SQLite's words for a full disk and a place that can't be written, as errors a user can mend."""
    try:
        yield
    except sqlite3.OperationalError as fault:
        if "full" in str(fault):
            raise NoSpace(f"{path}: no space left on the disk", "make room, then run the same command again") from fault
        raise InputError(f"{path}: can't be written ({fault})", "choose a place you may write to") from fault

"""Building an index: into a copy beside it, which takes its place when it is whole.

A reader therefore sees the old index or the new one, whenever and wherever it looks, and a kill leaves the old one.
The copy (``.NAME.building``) of a killed build is overwritten by the next: a gigabyte takes ten seconds.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from ropd_cli.answers.endings import Ending, ending_of
from ropd_cli.answers.thinking import split_thinking
from ropd_cli.errors import InputError, NoSpace
from ropd_cli.index.layout import (
    checksum,
    create,
    open_read,
    open_write,
    seed_of,
    set_meta,
    text_digest,
    text_seed,
)
from ropd_cli.index.rows import Row, Source, rest_of
from ropd_cli.records.files import disk_errors
from ropd_cli.records.outputs import sole_writer
from ropd_cli.records.schemas import Answer, AnswerRecord, prompt_hash

Prefer = Literal["first", "last", "error"]
_OTHER_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet", ".zst")


@dataclass
class Added:
    """Counts of a build. ``unusable``: empty, or thoughts without an answer: not kept. ``truncated``: cut off by the
    token limit: kept, marked, and not used."""

    prompts: int = 0
    answers: int = 0
    known: int = 0
    unusable: int = 0
    truncated: int = 0
    differing: int = 0
    """Known answers that came from another source now."""


class IndexWriter:
    """Adds answers to an index, created where there is none. What it holds already is not added twice.

    Use as a context manager: everything is there at its clean end and nothing otherwise. ``use_truncated``: answers
    that were cut off are used like others. ``prefer`` says which source an answer keeps that comes from several, the
    ``first``, the ``last``, or that it is an ``error``.
    Raises InputError where another process builds the same index, or the file is none.
    """

    def __init__(self, path: str | Path, *, use_truncated: bool = False, prefer: Prefer = "first") -> None:
        check_name(Path(path))
        self.path = Path(os.path.realpath(path))  # of a link, what it points to is replaced and not the link
        self.added = Added()
        self._use_truncated, self._prefer = use_truncated, prefer
        self._sources: dict[bytes, int] = {}
        with ExitStack() as stack:
            stack.enter_context(sole_writer(Path(path)))
            self._copy = self.path.with_name(f".{self.path.name}.building")
            stack.callback(self._copy.unlink, missing_ok=True)  # a finished one has moved away
            self._db = self._begin()
            self._held = stack.pop_all()

    def add(self, record: AnswerRecord) -> None:
        """Add the answers of one record: those that can be used, and, marked, those that were cut off."""
        prompt = record.prompt if isinstance(record.prompt, str) else [m.model_dump(mode="json") for m in record.prompt]
        if prompt_hash(record.prompt) != record.raw_prompt_hash:
            raise InputError(
                f"uid {record.uid!r}: raw_prompt_hash is not that of its prompt",
                "ropd index import reads answers that were made elsewhere, and needs no hash",
            )
        number = self._prompt(record.uid, record.raw_prompt_hash, prompt)
        seed = seed_of(record.uid, record.raw_prompt_hash)
        for answer in record.answers:
            reasoning, text = split_thinking(answer.text)
            # words of other tools stand in imported records; one that is not known is no whole answer
            ending = Ending.WHOLE if not answer.finish_reason else ending_of(answer.finish_reason) or Ending.CUT_OFF
            if text is None or ending in (Ending.REFUSED, Ending.BROKEN_OFF):
                self.added.unusable += 1
                continue
            if answer.finish_reason not in (None, ending):
                answer = answer.model_copy(update={"finish_reason": ending.value})
            if reasoning or text is not answer.text:
                answer = answer.model_copy(update={"text": text.strip(), "reasoning": answer.reasoning or reasoning})
            source = Source(
                model=answer.model or record.model,
                endpoint=answer.endpoint or record.endpoint,
                sampling=answer.sampling or record.sampling,
                template=record.template,
            )
            truncated = ending is Ending.CUT_OFF
            self.added.truncated += truncated
            self._answer(number, record.uid, seed, answer, source, usable=self._use_truncated or not truncated)

    def add_row(self, row: Row) -> None:
        """Add a prompt and its answers as another index holds them."""
        number = self._prompt(row.uid, row.raw_prompt_hash, row.prompt)
        seed = seed_of(row.uid, row.raw_prompt_hash)
        self.added.unusable += row.left_out
        for stored in row.answers:
            self._answer(number, row.uid, seed, stored.answer, stored.source, usable=stored.usable)

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _trace: object) -> None:
        try:
            with disk_errors(self.path), _database_errors(self.path):
                if kind is None and self._changed:  # an index that was not changed keeps its generation
                    self._publish()
                elif isinstance(fault, sqlite3.Error):
                    raise fault  # a full disk, in words
        finally:
            self._db.close()
            self._held.close()

    def _begin(self) -> sqlite3.Connection:
        """Open a copy of the index there is, or a new one."""
        with disk_errors(self.path), _database_errors(self.path):
            self._changed = not self.path.exists()
            # Versions before 0.2 kept a journal; SQLite would play one that is left over back into the copy.
            self._copy.with_name(self._copy.name + "-journal").unlink(missing_ok=True)
            if not self._changed:
                open_read(self.path).close()  # raises for what is no index
            self._copy.unlink(missing_ok=True)
            with open(self._copy, "wb") as copy:
                if not self._changed:
                    with open(self.path, "rb") as file:
                        shutil.copyfileobj(file, copy, 1 << 22)
                    os.fchmod(copy.fileno(), self.path.stat().st_mode & 0o777)
            db = open_write(self._copy)
            if self._changed:
                create(db)
            db.execute("BEGIN")
            return db

    def _prompt(self, uid: str, raw_prompt_hash: str, prompt: Any) -> int:
        """Return the number of a prompt, added where it is new; its text is added where it was not known."""
        text = orjson.dumps(prompt).decode() if prompt is not None else None
        row = self._db.execute(
            "SELECT id, prompt IS NULL FROM prompts WHERE hash = ? AND uid = ?", (raw_prompt_hash, uid)
        ).fetchone()
        if row is None:
            self.added.prompts += 1
            self._changed = True
            sum_ = checksum((text or "").encode(), seed_of(uid, raw_prompt_hash))
            sql = "INSERT INTO prompts (uid, hash, sum, prompt) VALUES (?, ?, ?, ?)"
            return self._db.execute(sql, (uid, raw_prompt_hash, sum_, text)).lastrowid or 0
        if row[1] and text is not None:
            self._changed = True
            sum_ = checksum(text.encode(), seed_of(uid, raw_prompt_hash))
            self._db.execute("UPDATE prompts SET prompt = ?, sum = ? WHERE id = ?", (text, sum_, row[0]))
        return row[0]

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
                    "say which source it keeps: --on-conflict first or last",
                )
            replaces = usable if usable != bool(known[1]) else differs and self._prefer == "last"
            if not replaces:  # a whole answer is never lost to one that was cut off
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
        self.added.answers += known is None and usable

    def _source(self, body: bytes) -> int:
        if body not in self._sources:
            text = body.decode()
            self._db.execute("INSERT INTO sources (body) VALUES (?) ON CONFLICT DO NOTHING", (text,))
            (self._sources[body],) = self._db.execute("SELECT id FROM sources WHERE body = ?", (text,)).fetchone()
        return self._sources[body]

    def _publish(self) -> None:
        """Put the copy in the place of the index."""
        set_meta(self._db, "generation", uuid.uuid4().hex)
        set_meta(self._db, "built", str(int(time.time())))
        self._db.execute("COMMIT")
        self._db.close()
        _sync(self._copy)
        os.replace(self._copy, self.path)
        _sync(self.path.parent)  # the new name must outlive a power cut, too


def check_name(out: Path, more: str = "") -> None:
    """Raise InputError for a new index under the name of another format, with ``more`` in the hint: programs would
    read it as that."""
    if out.name.endswith(_OTHER_FILES) and not out.exists():
        raise InputError(
            f"{out}: a teacher index would be written, under the name of another format",
            f"give another --out, such as teacher.index{more}",
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _database_errors(path: Path) -> Iterator[None]:
    """SQLite's words for a full disk and a place that can't be written, as errors a user can mend."""
    try:
        yield
    except sqlite3.OperationalError as fault:
        if "full" in str(fault):
            raise NoSpace(f"{path}: no space left on the disk", "make room, then run the same command again") from fault
        raise InputError(f"{path}: can't be written ({fault})", "choose a place you may write to") from fault

"""The teacher index: the teacher's answers by prompt, in one SQLite file.

An answer belongs to the pair (uid, hash of the prompt). A lookup takes the pair, else the hash alone, so
that files with other uids for the same prompts still find them; it never takes the uid alone, which would
hand out answers to another question.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from ropd_cli.artifacts import disk_errors
from ropd_cli.errors import IndexMissing, InputError, TooFewAnswers
from ropd_cli.schemas import Answer, AnswerRecord, Prompt
from ropd_cli.thinking import has_answer

FORMAT = "ropd.index.v1"
_APPLICATION_ID = 0x726F7064  # "ropd": what the file says of itself, also to `file`
_SCHEMA = """
CREATE TABLE prompts (
    id INTEGER PRIMARY KEY, uid TEXT NOT NULL, hash TEXT NOT NULL, prompt BLOB NOT NULL, UNIQUE (uid, hash)
);
CREATE INDEX prompts_by_hash ON prompts (hash);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY, prompt_id INTEGER NOT NULL REFERENCES prompts (id),
    text TEXT NOT NULL, model TEXT NOT NULL, sampling BLOB NOT NULL, finish_reason TEXT, usage BLOB,
    UNIQUE (prompt_id, text)
);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Stored:
    """One answer as the index holds it, and where it came from."""

    uid: str
    raw_prompt_hash: str
    answer: Answer
    model: str
    sampling: dict


@dataclass(frozen=True)
class Overview:
    """What an index holds. ``per_prompt`` counts prompts by their number of distinct answers."""

    prompts: int
    answers: int
    models: dict[str, int]
    per_prompt: dict[int, int]


@dataclass
class Coverage:
    """How an index fits a prompts file: uids without an answer, and with fewer than m distinct ones."""

    prompts: int
    missing: list[str] = field(default_factory=list)
    short: dict[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.missing and not self.short


@dataclass
class Added:
    """What a build did. ``unusable``: empty, cut off by the token limit, or thoughts without an answer."""

    prompts: int = 0
    answers: int = 0
    known: int = 0
    unusable: int = 0


class TeacherIndex:
    """Read access. Use ``closing(TeacherIndex.open(path))``; not for several threads at once."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._path = path

    @classmethod
    def open(cls, path: str | Path) -> TeacherIndex:
        """The index at ``path``, read-only. Raises InputError for a file that is missing or is none."""
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no teacher index {path}", "build one: ropd index build ANSWERS --out INDEX")
        return cls(_connect(path, "ro"), path)

    def answers(self, uid: str, raw_prompt_hash: str, m: int) -> tuple[str, ...]:
        """The first ``m`` distinct answers to a prompt, in the order they were added, shape (m,).

        Raises IndexMissing where there is none, TooFewAnswers where there are fewer than ``m``.
        """
        texts = self._texts("p.uid = ? AND p.hash = ?", (uid, raw_prompt_hash))
        texts = texts or self._texts("p.hash = ?", (raw_prompt_hash,))
        if not texts:
            raise IndexMissing(
                f"{self._path}: no answer for uid {uid!r}",
                "run ropd teacher-gen for it, then ropd index build; ropd index check lists all that are missing",
            )
        if len(texts) < m:
            raise TooFewAnswers(
                f"{self._path}: uid {uid!r} has {len(texts)} distinct answers, {m} are asked for",
                "ask the teacher for more (a temperature above 0), or lower judge.m",
            )
        return tuple(texts[:m])

    def get(self, uid: str | None = None, raw_prompt_hash: str | None = None) -> list[Stored]:
        """Every distinct answer to a prompt, by uid, by hash, or by both (then by the hash alone where the
        pair is not there)."""
        if uid is not None and raw_prompt_hash is not None:
            pair = self._stored("p.uid = ? AND p.hash = ?", (uid, raw_prompt_hash))
            return pair or self.get(None, raw_prompt_hash)
        if uid is not None:
            return self._stored("p.uid = ?", (uid,))
        found = self._stored("p.hash = ?", (raw_prompt_hash,))
        return list({stored.answer.text: stored for stored in reversed(found)}.values())[::-1]

    def check(self, prompts: Iterable[Prompt], m: int) -> Coverage:
        """Which of the prompts lack ``m`` distinct answers."""
        coverage = Coverage(prompts=0)
        for prompt in prompts:
            coverage.prompts += 1
            count = len(self.get(prompt.uid, prompt.raw_prompt_hash))
            if not count:
                coverage.missing.append(prompt.uid)
            elif count < m:
                coverage.short[prompt.uid] = count
        return coverage

    def overview(self) -> Overview:
        """Counts of prompts, answers, models and answers a prompt."""
        per_prompt = "SELECT count(*) AS n FROM answers GROUP BY prompt_id"
        return Overview(
            prompts=self._query("SELECT count(*) FROM prompts")[0][0],
            answers=self._query("SELECT count(*) FROM answers")[0][0],
            models=dict(self._query("SELECT model, count(*) FROM answers GROUP BY model ORDER BY 2 DESC, 1")),
            per_prompt=dict(self._query(f"SELECT n, count(*) FROM ({per_prompt}) GROUP BY n ORDER BY n")),
        )

    def uids(self) -> Iterator[str]:
        """The uids of all prompts, in the order they were added."""
        yield from (uid for (uid,) in self._query("SELECT uid FROM prompts ORDER BY id"))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _texts(self, where: str, values: tuple[str, ...]) -> list[str]:
        """The distinct texts of these prompts' answers, in the order they were added."""
        sql = f"SELECT a.text FROM answers a JOIN prompts p ON p.id = a.prompt_id WHERE {where} ORDER BY a.id"
        return list(dict.fromkeys(text for (text,) in self._query(sql, values)))

    def _stored(self, where: str, values: tuple[str | None, ...]) -> list[Stored]:
        rows = self._query(
            "SELECT p.uid, p.hash, a.text, a.finish_reason, a.usage, a.model, a.sampling"
            f" FROM answers a JOIN prompts p ON p.id = a.prompt_id WHERE {where} ORDER BY a.id",
            values,
        )
        return [
            Stored(
                uid=uid,
                raw_prompt_hash=hash_,
                answer=Answer(text=text, finish_reason=reason, usage=orjson.loads(usage) if usage else None),
                model=model,
                sampling=orjson.loads(sampling),
            )
            for uid, hash_, text, reason, usage, model, sampling in rows
        ]

    def _query(self, sql: str, values: tuple = ()) -> list[tuple]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as fault:
            raise InputError(f"{self._path}: can't be read ({fault})", "build the index again") from fault


class IndexWriter:
    """Adds answers to an index, made where there is none. What is there already is not added twice.

    Use as a context manager: everything is committed at its clean end and nothing otherwise.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.added = Added()
        fresh = not self.path.exists()
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _connect(self.path, "rwc", fresh=fresh)

    def add(self, record: AnswerRecord) -> None:
        """Add the answers of one record that can be used: not empty, not cut off, not thoughts alone."""
        prompt = orjson.dumps(record.model_dump(mode="json")["prompt"])
        row = self._db.execute(
            "INSERT INTO prompts (uid, hash, prompt) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
            (record.uid, record.raw_prompt_hash, prompt),
        ).fetchone()
        self.added.prompts += row is not None
        prompt_id = (row or self._find(record))[0]
        for answer in record.answers:
            if answer.finish_reason == "length" or not has_answer(answer.text):
                self.added.unusable += 1
                continue
            usage = orjson.dumps(answer.usage.model_dump(mode="json")) if answer.usage else None
            changed = self._db.execute(
                "INSERT INTO answers (prompt_id, text, model, sampling, finish_reason, usage)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (prompt_id, answer.text, record.model, orjson.dumps(record.sampling), answer.finish_reason, usage),
            ).rowcount
            self.added.answers += changed
            self.added.known += 1 - changed

    def _find(self, record: AnswerRecord) -> tuple[int]:
        return self._db.execute(
            "SELECT id FROM prompts WHERE uid = ? AND hash = ?", (record.uid, record.raw_prompt_hash)
        ).fetchone()

    def __enter__(self) -> IndexWriter:
        self._db.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with disk_errors(self.path):
            self._db.execute("ROLLBACK" if kind else "COMMIT")
            self._db.close()


def _connect(path: Path, mode: str, *, fresh: bool = False) -> sqlite3.Connection:
    """Open the file and make sure that it is an index of this format; ``fresh`` makes it one."""
    try:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0, check_same_thread=False)
        if fresh:
            db.executescript(
                f"BEGIN; PRAGMA application_id = {_APPLICATION_ID}; {_SCHEMA}"
                f"INSERT INTO meta VALUES ('format', '{FORMAT}'); COMMIT;"
            )
        (application_id,) = db.execute("PRAGMA application_id").fetchone()
        (kind,) = db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone() or (None,)
    except sqlite3.Error as fault:
        if not os.access(path if path.exists() else path.parent, os.W_OK) and mode != "ro":
            raise InputError(f"{path}: permission denied", "choose a place you may write to") from fault
        raise InputError(
            f"{path}: not a teacher index ({fault})", "build one: ropd index build ANSWERS --out INDEX"
        ) from fault
    if application_id != _APPLICATION_ID or kind != FORMAT:
        db.close()
        raise InputError(
            f"{path}: an index of another format ({kind})", f"this program reads {FORMAT}: build the index again"
        )
    return db

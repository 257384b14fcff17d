"""Looking up answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.errors import IndexMissing, InputError, TooFewAnswers
from ropd_cli.index.layout import AGAIN_HINT, checksum, meta, open_read, seed_of, text_seed
from ropd_cli.index.rows import Row, Source, Stored, answer_of
from ropd_cli.index.selection import chosen
from ropd_cli.records.schemas import Prompt
from ropd_cli.util.counted import counted

_PAIR = "p.hash = ? AND p.uid = ?"
_HASH = "p.hash = ?"
_UID = "p.uid = ?"
_DIGESTS = {
    where: "SELECT a.id, p.uid, a.digest FROM prompts p JOIN answers a ON a.prompt_id = p.id"
    f" WHERE {where} AND a.usable ORDER BY a.id"
    for where in (_PAIR, _HASH)
}
_STORED = (
    "SELECT p.uid, p.hash, a.usable, a.sum, a.rest_sum, a.text, a.rest, s.body"
    " FROM prompts p JOIN answers a ON a.prompt_id = p.id LEFT JOIN sources s ON s.id = a.source_id"
)


@dataclass
class Coverage:
    """How an index fits a prompts file: uids without an answer, and with fewer than m distinct ones."""

    prompts: int
    missing: list[str] = field(default_factory=list)
    short: dict[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.missing and not self.short

    @property
    def lacking(self) -> set[str]:
        """All uids that lack answers."""
        return {*self.missing, *self.short}


class TeacherIndex:
    """Read access. Use ``closing(TeacherIndex.open(path))``; not for several threads at once.

    What is read is what was there when it was opened: a writer that finishes meanwhile puts another file in its place.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self.path = path

    @classmethod
    def open(cls, path: str | Path) -> TeacherIndex:
        """Open the index at ``path``, read-only. Raises InputError for a file that is missing, none, or not whole."""
        path = Path(path)
        return cls(open_read(path), path)

    @property
    def prompts(self) -> int:
        """Number of prompts."""
        return self.query("SELECT count(*) FROM prompts")[0][0]

    def answers(self, uid: str, raw_prompt_hash: str, m: int, *, seed: int = 0, epoch: int = 0) -> tuple[str, ...]:
        """Return ``m`` distinct answers to a prompt, in the order they were added, shape (m,). Where there are more,
        ``selection`` says which.

        Raises IndexMissing where there is none, TooFewAnswers where there are fewer than ``m``, InputError where
        one is damaged.
        """
        texts = self._usable(_PAIR, (raw_prompt_hash, uid), m, seed, uid, epoch)
        texts = texts or self._usable(_HASH, (raw_prompt_hash,), m, seed, uid, epoch)
        if not texts:
            raise self._missing(uid, raw_prompt_hash)
        if len(texts) < m:
            raise TooFewAnswers(
                f"{self.path}: uid {uid!r} has {counted(len(texts), 'distinct answer')}, {m} asked for",
                "ask the teacher for more (a temperature above 0), or lower judge.m (-m)",
            )
        return tuple(texts)

    def get(self, uid: str | None = None, raw_prompt_hash: str | None = None) -> list[Stored]:
        """Return every answer to a prompt, the unusable ones too: by uid, by hash, or by both (then by the hash
        alone where the pair is not there). Answers of the same text under several uids are given once."""
        if uid is not None and raw_prompt_hash is not None:
            pair = self._stored(_PAIR, (raw_prompt_hash, uid))
            return pair or self.get(None, raw_prompt_hash)
        if uid is not None:
            return self._stored(_UID, (uid,))
        first: dict[tuple[str, bool], Stored] = {}
        for stored in self._stored(_HASH, (raw_prompt_hash,)):
            first.setdefault((stored.answer.text.strip(), stored.usable), stored)
        return list(first.values())

    def check(self, prompts: Iterable[Prompt], m: int) -> Coverage:
        """Return which of the prompts lack ``m`` distinct usable answers; no text is read."""
        coverage = Coverage(prompts=0)
        for prompt in prompts:
            coverage.prompts += 1
            count = self.count(prompt.uid, prompt.raw_prompt_hash)
            if not count:
                coverage.missing.append(prompt.uid)
            elif count < m:
                coverage.short[prompt.uid] = count
        return coverage

    def count(self, uid: str, raw_prompt_hash: str) -> int:
        """Return the number of distinct usable answers to a prompt."""
        pair = self.query(_DIGESTS[_PAIR], (raw_prompt_hash, uid))
        return len(_distinct(pair or self.query(_DIGESTS[_HASH], (raw_prompt_hash,))))

    def prompt_texts(self) -> Iterator[tuple[int, Any]]:
        """Yield each prompt's number and, where it is known, the prompt as JSON holds it."""
        for number, prompt in self.query("SELECT id, prompt FROM prompts WHERE prompt IS NOT NULL ORDER BY id"):
            yield number, orjson.loads(prompt)

    def rows(self) -> Iterator[Row]:
        """Yield every prompt with its answers, in the order the prompts were added."""
        for (number,) in self.query("SELECT id FROM prompts ORDER BY id"):
            yield self.row(number)

    def row(self, number: int) -> Row:
        """Return the prompt of this number in the table of prompts, with its answers."""
        rows = self.query("SELECT uid, hash, sum, prompt FROM prompts WHERE id = ?", (number,))
        if not rows:
            raise self._damaged(f"prompt {number} is not where it should be")
        uid, hash_, sum_, prompt = _word(rows[0][0]), _word(rows[0][1]), *rows[0][2:]
        if not _fits(b"" if prompt is None else prompt, seed_of(uid, hash_), sum_):
            raise self._damaged(f"the prompt of uid {uid!r} is not what was written")
        answers = tuple(self._stored("p.id = ?", (number,)))
        return Row(uid, hash_, orjson.loads(prompt) if prompt is not None else None, answers)

    def uids(self) -> Iterator[str]:
        """Yield the uids of all prompts, in the order they were added."""
        yield from (_word(uid) for (uid,) in self.query("SELECT uid FROM prompts ORDER BY id"))

    def meta(self, key: str) -> str | None:
        """Return a value of the whole index: ``format``, ``generation`` (a new one with every build), ``built``."""
        return meta(self._db, key)

    def models(self) -> tuple[str, ...]:
        """Return the names of the models that gave its answers; answers without a model's name are left out."""
        bodies = (orjson.loads(body) for (body,) in self.query("SELECT body FROM sources"))
        return tuple(sorted({model for body in bodies if (model := body.get("model"))}))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _usable(self, where: str, values: tuple[str, ...], m: int, seed: int, uid: str, epoch: int) -> list[str]:
        """Return the texts that are used, at most m."""
        known = _distinct(self.query(_DIGESTS[where], values))
        places = chosen([digest for _, _, digest in known], m, seed=seed, uid=uid, epoch=epoch)
        owners = {known[place][0]: _word(known[place][1]) for place in places}
        rows = self.query(_texts(len(owners)), tuple(owners))
        return [self._text(owners[number], values[0], True, text, sum_) for number, sum_, text in rows]

    def _text(self, uid: str, raw_prompt_hash: str, usable: bool, text: bytes, sum_: int) -> str:
        if not _fits(text, text_seed(seed_of(uid, raw_prompt_hash), usable), sum_):
            raise self._damaged(f"an answer to uid {uid!r} is not what was written")
        return text.decode()

    def _stored(self, where: str, values: tuple[Any, ...]) -> list[Stored]:
        some = []
        for uid, hash_, usable, sum_, rest_sum, text, rest, body in self.query(
            f"{_STORED} WHERE {where} ORDER BY a.id", values
        ):
            owner, raw_prompt_hash = _word(uid), _word(hash_)
            answer = self._text(owner, raw_prompt_hash, bool(usable), text, sum_)
            # A damaged file may have other types in its cells, or no source for an answer.
            whole = isinstance(rest, bytes) and isinstance(body, bytes)
            if not whole or not _fits(rest + body, seed_of(owner, raw_prompt_hash), rest_sum):
                raise self._damaged(f"what is known of an answer to uid {owner!r} is not what was written")
            some.append(Stored(owner, raw_prompt_hash, answer_of(answer, rest), Source.of(body), bool(usable)))
        return some

    def _missing(self, uid: str, raw_prompt_hash: str) -> IndexMissing:
        others = self.query(
            "SELECT count(*) FROM answers a JOIN prompts p ON p.id = a.prompt_id WHERE p.hash = ?", (raw_prompt_hash,)
        )[0][0]
        if others:
            return IndexMissing(
                f"{self.path}: uid {uid!r} has no usable answer ({others} were cut off by their token limit)",
                "ask the teacher again with a higher --max-tokens, then ropd index build",
            )
        return IndexMissing(
            f"{self.path}: no answer for uid {uid!r}",
            "run ropd teacher-gen for it, then ropd index build; ropd index check lists all that are missing",
        )

    def query(self, sql: str, values: tuple = ()) -> list[tuple]:
        """Return rows of the index's tables (``layout``); texts are bytes. Raises InputError where the file is
        damaged."""
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as fault:
            # On a network file system a file that was replaced is gone for its readers: it is opened again.
            try:
                fresh = open_read(self.path)
                self._db.close()
                self._db = fresh
                return fresh.execute(sql, values).fetchall()
            except (sqlite3.Error, InputError):
                raise self._damaged(str(fault)) from fault

    def _damaged(self, what: str) -> InputError:
        return InputError(f"{self.path}: damaged ({what})", AGAIN_HINT)


def _word(value: Any) -> str:
    """Return a uid or a hash; of a damaged one, something that no checksum fits."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _fits(data: Any, seed: int, sum_: Any) -> bool:
    """Return whether a text has its checksum."""
    return isinstance(data, bytes) and checksum(data, seed) == sum_


def _distinct(rows: list[tuple[int, bytes, bytes]]) -> list[tuple[int, bytes, bytes]]:
    """Return (id, uid, digest) of the first answer of each digest, in order."""
    first: dict[bytes, tuple[int, bytes, bytes]] = {}
    for row in rows:
        first.setdefault(row[2], row)
    return list(first.values())


def _texts(count: int) -> str:
    """Return the query for the texts of ``count`` answers; SQLite compiles it once per count."""
    return f"SELECT id, sum, text FROM answers WHERE id IN ({', '.join('?' * count)}) ORDER BY id"

"""An index over judged groups: what lists and filters need of each, and where the whole of it lies.

Kept as one SQLite file in the cache directory, never beside the user's files. A run's groups stay in the run's own
files and are read from there one by one; those of a single file are kept here, together with what companion files add.
A growing run is gone on with: only files that are new or have changed are read.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson

import ropd_cli.lint
from ropd_cli.analysis.judged_groups import GroupView, load_groups, step_files, view_of
from ropd_cli.analysis.query import Query
from ropd_cli.lint import Finding
from ropd_cli.records.files import frames, loads, read_records
from ropd_cli.util.progress import NoProgress, Progress

LAYOUT = 2
_BATCH = 200
_SCHEMA = """
CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT UNIQUE, size INTEGER, mtime INTEGER);
CREATE TABLE groups (
  n INTEGER PRIMARY KEY, file INTEGER, place INTEGER, length INTEGER, line INTEGER, whole BLOB,
  step INTEGER, uid TEXT, rollouts INTEGER, criteria INTEGER, mean REAL, spread REAL, teacher REAL, missing INTEGER,
  dead INTEGER, below INTEGER, error TEXT, rules TEXT, faults TEXT, question TEXT, search TEXT,
  judge_findings BLOB, judge_fault TEXT
);
CREATE INDEX by_file ON groups (file);
"""
_TOLD = (
    *("step", "uid", "rollouts", "criteria", "mean", "spread", "teacher", "missing", "dead", "below"),
    *("error", "rules", "faults", "question", "search"),
)
"""Columns of what is told of a group, in the order of ``_told``."""
_QUESTION_CHARS = 160


@dataclass(frozen=True)
class Row:
    """One group as a line. Means and spread are None where nothing was judged."""

    n: int
    step: int | None
    uid: str
    rollouts: int
    criteria: int
    mean: float | None
    spread: float | None
    teacher: float | None
    missing: int
    dead: bool
    below: bool
    error: str | None
    rules: tuple[str, ...]
    faults: tuple[str, ...]
    question: str

    def to_json(self) -> dict[str, Any]:
        """As a list has it, by the names of ``GroupView.to_json``."""
        return {
            "uid": self.uid,
            "step": self.step,
            "rollouts": self.rollouts,
            "criteria": self.criteria,
            "mean": self.mean,
            "spread": self.spread,
            "teacher_mean": self.teacher,
            "missing": self.missing,
            "faults": list(self.faults),
            "lint": list(self.rules),
            "error": self.error,
        }


class Catalogue:
    """The groups of a path. ``numbers`` says which and in what order, ``row`` gives a line, ``group`` all of it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db, self.path = connection, path

    @classmethod
    def open(
        cls,
        path: Path,
        cache_dir: Path,
        *,
        rubrics: Path | None = None,
        rollouts: Path | None = None,
        prompts: Path | None = None,
        judge: str = "",
        progress: Progress | None = None,
    ) -> Catalogue:
        """The catalogue of a rubrics file, a verdicts file or a run directory; made or brought up to date first.

        ``judge`` stands for the lint judge that is asked and for its template: what each says has a catalogue of its
        own, so a look without a judge never shows its findings, and another judge's are never taken for its.
        Raises InputError for a path that holds no groups, and for a record that is none (file and line).
        """
        sources = [path.absolute(), *(p.absolute() if p is not None else None for p in (rubrics, rollouts, prompts))]
        files = step_files(path) if path.is_dir() else [path]
        companions = [p for p in (rubrics, rollouts, prompts) if p is not None]
        whole = not path.is_dir() or bool(companions)
        name = hashlib.sha256(repr([LAYOUT, _linter(), list(map(str, sources)), judge]).encode()).hexdigest()[:24]
        place = cache_dir / "catalogues" / f"{name}.db"
        place.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(place)
        try:
            if whole:
                _refresh_whole(
                    connection,
                    [*files, *companions],
                    lambda: load_groups(path, rubrics=rubrics, rollouts=rollouts, prompts=prompts),
                    progress or NoProgress(),
                )
            else:
                _refresh_run(connection, files, progress or NoProgress())
        except BaseException:
            connection.close()
            raise
        return cls(connection, place)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._db.execute("SELECT count(*) FROM groups").fetchone()[0]

    def numbers(self, query: Query | None = None) -> list[int]:
        """Numbers of the groups that a query asks for, in its order."""
        where, values, order = (query or Query()).sql()
        found = self._db.execute(f"SELECT n FROM groups WHERE {where} ORDER BY {order}", values)
        return [n for (n,) in found]

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """The lines of these groups, in this order."""
        found: dict[int, Row] = {}
        for at in range(0, len(numbers), 500):
            some = numbers[at : at + 500]
            marks = ",".join("?" * len(some))
            for values in self._db.execute(f"SELECT n, {', '.join(_TOLD[:-1])} FROM groups WHERE n IN ({marks})", some):
                row = _row(values)
                found[row.n] = row
        return [found[n] for n in numbers]

    def group(self, n: int) -> GroupView:
        """All of one group. Raises InputError where its file has changed under us."""
        whole, file, place, length, line, findings, fault = self._db.execute(
            "SELECT whole, file, place, length, line, judge_findings, judge_fault FROM groups WHERE n = ?", (n,)
        ).fetchone()
        if whole is not None:
            view = view_of(loads(_unpacked(whole)), "the catalogue")
        else:
            path = Path(self._db.execute("SELECT path FROM files WHERE id = ?", (file,)).fetchone()[0])
            with open(path, "rb") as raw:
                raw.seek(place)
                data = raw.read(length)
            lines = [text for text in (_unpacked(data) if path.suffix == ".zst" else data).splitlines() if text.strip()]
            view = view_of(loads(lines[line]), f"{path}")
        said = [Finding(**each | {"criteria": tuple(each["criteria"])}) for each in loads(findings or b"[]")]
        return replace(view, judge_findings=tuple(said), judge_fault=fault)

    def unjudged(self, numbers: Iterable[int]) -> list[int]:
        """Those of these groups of whose rubrics the lint judge has said nothing yet."""
        missing = {n for (n,) in self._db.execute("SELECT n FROM groups WHERE judge_findings IS NULL")}
        return [n for n in numbers if n in missing]

    def book_judge(self, n: int, findings: Sequence[Finding] | None, fault: str | None = None) -> None:
        """Keep what the lint judge found in a group; None with the ``fault`` for which that is not known."""
        view = replace(self.group(n), judge_findings=tuple(findings or ()), judge_fault=fault)
        told = dict(zip(_TOLD, _told(view), strict=True))
        kept = None if findings is None else orjson.dumps([finding.to_json() for finding in findings])
        with self._db:
            self._db.execute(
                "UPDATE groups SET rules = ?, faults = ?, search = ?, judge_findings = ?, judge_fault = ? WHERE n = ?",
                (told["rules"], told["faults"], told["search"], kept, fault, n),
            )

    def groups(self, numbers: Iterable[int]) -> Iterator[GroupView]:
        """These groups in full, one at a time."""
        return map(self.group, numbers)

    def summary(self, query: Query | None = None) -> dict[str, Any]:
        """Counts and means over the groups that a query asks for; means over those that have them."""
        where, values, _ = (query or Query()).sql()
        found = self._db.execute(
            "SELECT count(*), sum(error IS NOT NULL), avg(mean), avg(spread), avg(teacher), sum(dead), sum(below), "
            f"sum(missing) FROM groups WHERE {where}",
            values,
        ).fetchone()
        names = ("groups", "failed", "mean", "spread", "teacher_mean", "zero_variance", "teacher_below_student")
        document = dict(zip((*names, "missing_rewards"), found, strict=True))
        return {
            name: 0 if value is None and name not in ("mean", "spread", "teacher_mean") else value
            for name, value in document.items()
        }

    def rules(self) -> dict[str, int]:
        """How many groups each rule of the linter has found something in."""
        counts: dict[str, int] = {}
        for (rules,) in self._db.execute("SELECT rules FROM groups WHERE rules <> ''"):
            for rule in rules.strip("|").split("|"):
                counts[rule] = counts.get(rule, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def has_steps(self) -> bool:
        return self._db.execute("SELECT 1 FROM groups WHERE step IS NOT NULL LIMIT 1").fetchone() is not None


def _connect(place: Path) -> sqlite3.Connection:
    """The database; one that is damaged or of another layout is made again."""
    for _ in range(2):
        connection = sqlite3.connect(place)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if not connection.execute("SELECT name FROM sqlite_master WHERE name = 'groups'").fetchone():
                connection.executescript(_SCHEMA)
            connection.execute("SELECT n, search FROM groups LIMIT 1").fetchone()
            return connection
        except sqlite3.DatabaseError:
            connection.close()
            for leftover in place.parent.glob(place.name + "*"):
                leftover.unlink()
    raise AssertionError("a new database can be opened")


def _refresh_run(db: sqlite3.Connection, files: Sequence[Path], progress: Progress) -> None:
    """Read the files that are new or have changed, forget those that are gone."""
    known = {path: (number, size, mtime) for number, path, size, mtime in db.execute("SELECT * FROM files")}
    current = {str(file.absolute()): file for file in files}
    changed = []
    for path, file in current.items():
        stat = file.stat()
        if path not in known or known[path][1:] != (stat.st_size, stat.st_mtime_ns):
            changed.append((path, file, stat))
    gone = [path for path in known if path not in current]
    if not changed and not gone:
        return
    progress.start(len(changed), "index")
    try:
        for path in gone:
            _forget(db, path, known[path][0])
        for path, file, stat in changed:
            if path in known:
                _forget(db, path, known[path][0])
            with db:  # a file is in the catalogue as a whole, or not at all
                made = db.execute(
                    "INSERT INTO files (path, size, mtime) VALUES (?, ?, ?)", (path, stat.st_size, stat.st_mtime_ns)
                )
                _insert(db, _located(file, made.lastrowid or 0))
            progress.advance()
    finally:
        progress.finish()


def _located(file: Path, number: int) -> Iterator[tuple[Any, ...]]:
    """Rows of a group file: of each group where it lies, and what it comes to."""
    if file.suffix != ".zst":
        with open(file, "rb") as raw:
            spans = list(_lines(raw))
        for (place, length), (line, record) in zip(spans, read_records(file), strict=False):
            yield (number, place, length, 0, None, *_told(view_of(record, f"{file}:{line}")))
        return
    # every record is read by the common reader, which knows unfinished ends and says what is wrong and where
    places = ((place, length, k) for place, length, count in frames(file) for k in range(count))
    for (place, length, k), (line, record) in zip(places, read_records(file), strict=False):
        yield (number, place, length, k, None, *_told(view_of(record, f"{file}:{line}")))


def _lines(raw: BinaryIO) -> Iterator[tuple[int, int]]:
    """(place, length) of the lines that hold something."""
    place = 0
    for line in raw:
        if line.strip():
            yield place, len(line)
        place += len(line)


def _refresh_whole(db: sqlite3.Connection, files: Sequence[Path], load: Any, progress: Progress) -> None:
    """Read all groups again where one of the files has changed."""
    stats = {str(file.absolute()): file.stat() for file in files if file.exists()}
    current = {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}
    known = {path: (size, mtime) for path, size, mtime in db.execute("SELECT path, size, mtime FROM files")}
    if known and known == current:
        return
    views = load()
    progress.start(len(views), "index")

    def counted() -> Iterator[tuple[Any, ...]]:
        for view in views:
            yield (None, None, None, None, _packed(orjson.dumps(view.record())), *_told(view))
            progress.advance()

    try:
        with db:
            db.execute("DELETE FROM groups")
            db.execute("DELETE FROM files")
            rows = [(path, size, mtime) for path, (size, mtime) in current.items()]
            db.executemany("INSERT INTO files (path, size, mtime) VALUES (?, ?, ?)", rows)
            _insert(db, counted())
    finally:
        progress.finish()


def _insert(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    columns = ("file", "place", "length", "line", "whole", *_TOLD)
    marks = ",".join("?" * len(columns))
    db.executemany(f"INSERT INTO groups ({', '.join(columns)}) VALUES ({marks})", rows)


def _forget(db: sqlite3.Connection, path: str, number: int) -> None:
    with db:
        db.execute("DELETE FROM groups WHERE file = ?", (number,))
        db.execute("DELETE FROM files WHERE path = ?", (path,))


def _told(view: GroupView) -> tuple[Any, ...]:
    """What lists and filters need of a group, in the order of the columns."""
    stats, findings = view.stats, view.findings
    rules = list(dict.fromkeys(finding.rule for finding in findings))
    criteria = [c.criterion for part in view.by_rubric if part.criteria for c in part.criteria.rubrics]
    words = (view.uid, view.question or "", *criteria, *rules, view.error or "")
    return (
        view.step,
        view.uid,
        stats.n or len(view.rollouts),
        len(view.criterion_ids),
        _finite(stats.mean),
        _finite(stats.spread),
        _finite(stats.teacher_mean),
        stats.missing if view.verdicts else 0,
        stats.zero_variance,
        stats.teacher_below_student,
        view.error,
        f"|{'|'.join(rules)}|" if rules else "",
        "\n".join(view.faults),
        _first_words(view.question),
        "\n".join(words).casefold(),
    )


def row_of(n: int, view: GroupView) -> Row:
    """The line of a group that is at hand."""
    return _row((n, *_told(view)[:-1]))


def _row(values: Sequence[Any]) -> Row:
    n, step, uid, rollouts, criteria, mean, spread, teacher, missing, dead, below, error, rules, faults, question = (
        values
    )
    return Row(
        n,
        step,
        uid,
        rollouts,
        criteria,
        mean,
        spread,
        teacher,
        missing,
        bool(dead),
        bool(below),
        error,
        tuple(rules.strip("|").split("|")) if rules else (),
        tuple(faults.split("\n")) if faults else (),
        question,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _first_words(question: str | None) -> str:
    lines = [line.strip() for line in (question or "").splitlines() if line.strip()]
    words = lines[-1] if lines else ""  # the task stands at the end of a prompt
    return words if len(words) <= _QUESTION_CHARS else words[: _QUESTION_CHARS - 1] + "…"


def _linter() -> str:
    """Hash of the linter's own files: other rules find other things."""
    folder = Path(ropd_cli.lint.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _packed(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=3).compress(data)


def _unpacked(data: bytes) -> bytes:
    import zstandard

    with closing(zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)) as stream:
        return stream.read()

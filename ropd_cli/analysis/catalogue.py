"""An index over judged groups: what lists and filters need of each, and where the whole of it lies.

Kept as one SQLite file in the cache directory, never beside the user's files. The groups themselves stay in these, and
are read from there. A growing run is gone on with: only files that are new or have changed are read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

import ropd_cli.lint
from ropd_cli.analysis.group_files import iter_groups, load_groups, step_files, views_of
from ropd_cli.analysis.judged_groups import GroupRow, GroupView, common_sentences
from ropd_cli.analysis.query import Query
from ropd_cli.errors import InputError
from ropd_cli.lint import Finding
from ropd_cli.llm.cache import catalogues_folder
from ropd_cli.records.files import is_salvaging
from ropd_cli.records.group_sources import Sources
from ropd_cli.records.json_text import loads
from ropd_cli.util.progress import NoProgress, Progress

LAYOUT = 7
LOCK_WAIT_S = 30.0
KEPT_BYTES = 16 << 20
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY, path TEXT UNIQUE, stamp TEXT);
CREATE TABLE IF NOT EXISTS groups (
  n INTEGER PRIMARY KEY, step INTEGER, uid TEXT, rollouts INTEGER, criteria INTEGER, mean REAL, spread REAL,
  teacher REAL, missing INTEGER, zero_variance INTEGER, below INTEGER, error TEXT, rules TEXT, faults TEXT,
  question TEXT, search TEXT, file INTEGER, place INTEGER, judge_findings BLOB, judge_fault TEXT
);
CREATE INDEX IF NOT EXISTS by_file ON groups (file);
"""
log = logging.getLogger(__name__)

_COLUMNS = [field.name for field in fields(GroupRow)]
_INSERT = [*_COLUMNS, "search", "file", "place"]


@dataclass(frozen=True)
class _Part:
    """Files that are read together; ``stamp`` changes when one of them does."""

    path: Path
    stamp: str
    views: Callable[[], Iterable[GroupView]]

    @property
    def key(self) -> str:
        """The path as text that SQLite takes, where its name is not UTF-8, too."""
        return os.fsencode(self.path).decode(errors="backslashreplace")


class Catalogue:
    """The groups of a path. ``numbers`` says which and in what order, ``rows`` gives lines, ``groups`` all of them."""

    def __init__(self, connection: sqlite3.Connection, path: Path, parts: Sequence[_Part]) -> None:
        self._db, self.path = connection, path
        self._views = {part.key: part.views for part in parts}

    @classmethod
    def open(
        cls,
        path: Path,
        cache_dir: Path,
        sources: Sources = Sources(),
        *,
        judge: str = "",
        progress: Progress | None = None,
    ) -> Catalogue:
        """Open the catalogue of a rubrics file, a verdicts file or a run directory; made or brought up to date first.

        ``judge`` stands for the lint judge that is asked and for its template. Each has a catalogue of its own, so
        that a look without a judge never shows its findings, and another judge's are never taken for them.

        Raises InputError for a path that holds no groups, and for a record that is none (file and line).
        """
        progress = progress or NoProgress()
        files = step_files(path) if path.is_dir() else [path]
        companions = sources.read
        named = [str(file.absolute()) for file in (path, *sources.files)]
        name = hashlib.sha256(
            repr([LAYOUT, _linter(), named, sources.m, sources.seed, judge, is_salvaging()]).encode()
        ).hexdigest()[:24]
        place = catalogues_folder(cache_dir) / f"{name}.db"
        _make_private(place)
        if path.is_dir() and not companions:
            parts = [_Part(file.absolute(), _stamp([file]), partial(views_of, file)) for file in files]
        else:  # groups as they are in none of the files alone
            size = sum(file.stat().st_size for file in [*files, *companions])
            # small files are read once; of large ones no more than one group is held
            load: Callable[..., Iterable[GroupView]] = cache(load_groups) if size <= KEPT_BYTES else iter_groups
            views = partial(load, path, sources)
            parts = [_Part(path.absolute(), _stamp([*files, *companions]), views)]
        with _alone(place):
            connection = _connect(place)
            try:
                _refresh(connection, parts, progress)
            except sqlite3.OperationalError as fault:
                connection.close()
                raise _unusable(place, fault) from fault
            except BaseException:
                connection.close()
                raise
        return cls(connection, path, parts)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._db.execute("SELECT count(*) FROM groups").fetchone()[0]

    def numbers(self, query: Query | None = None) -> list[int]:
        """Return the numbers of the groups that a query asks for, in its order."""
        where, values, order = (query or Query()).sql()
        selected = self._db.execute(f"SELECT n FROM groups WHERE {where} ORDER BY {order}", values)
        return [n for (n,) in selected]

    def uid_of(self, text: str) -> str:
        """Return the uid that a text is or, where it is none, begins; the text itself where none begins so.

        Raises InputError where several do.
        """
        like = "SELECT DISTINCT uid FROM groups WHERE substr(uid, 1, length(?)) = ? ORDER BY uid = ? DESC LIMIT 4"
        uids = [uid for (uid,) in self._db.execute(like, [text] * 3)]
        if len(uids) < 2 or uids[0] == text:
            return uids[0] if uids else text
        raise InputError(f"--uid {text}: several uids begin so", f"{', '.join(uids[:3])} …; --uid '{text}*' lists them")

    def rows(self, numbers: Sequence[int]) -> list[GroupRow]:
        """Return the lines of these groups, in this order."""
        rows = {row.n: row for row in map(_row, self._select(_COLUMNS, numbers))}
        return [rows[n] for n in numbers]

    def group(self, n: int) -> GroupView:
        """Return all of one group."""
        return self.groups([n])[0]

    def groups(self, numbers: Sequence[int]) -> list[GroupView]:
        """Return these groups in full, in this order. Raises InputError where a file has become shorter under us."""
        views: dict[int, GroupView] = {}
        by_file: dict[int, dict[int, int]] = defaultdict(dict)
        judged: dict[int, tuple[bytes | None, str | None]] = {}
        for n, file, place, findings, fault in self._select(
            ["n", "file", "place", "judge_findings", "judge_fault"], numbers
        ):
            judged[n] = (findings, fault)
            by_file[file][place] = n
        for file, places in by_file.items():
            path = self._db.execute("SELECT path FROM files WHERE id = ?", (file,)).fetchone()[0]
            for place, view in enumerate(islice(self._views[path](), max(places) + 1)):
                if place in places:
                    views[places.pop(place)] = view
            if places:
                raise InputError(f"{path}: some of its groups are gone", "run the command again")
        return [_with_judge(views[n], *judged[n]) for n in numbers]

    def unjudged(self, numbers: Iterable[int]) -> list[int]:
        """Return those of these groups whose rubrics the lint judge has not read yet."""
        missing = {n for (n,) in self._db.execute("SELECT n FROM groups WHERE judge_findings IS NULL")}
        return [n for n in numbers if n in missing]

    def book_judge(self, n: int, findings: Sequence[Finding] | None, fault: str | None = None) -> None:
        """Keep what the lint judge found in a group; None with the ``fault`` for which that is not known."""
        kept = None if findings is None else orjson.dumps([finding.to_json() for finding in findings])
        changed = {"judge_findings": kept, "judge_fault": fault}
        values = _values(_with_judge(self.group(n), kept, fault))
        changed |= {name: values[name] for name in ("rules", "faults", "search")}
        with self._db:
            columns = ", ".join(f"{name} = :{name}" for name in changed)
            self._db.execute(f"UPDATE groups SET {columns} WHERE n = :n", changed | {"n": n})

    def _select(self, columns: Sequence[str], numbers: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        """Yield columns of these groups, in any order."""
        wanted = "SELECT value FROM json_each(?)"  # a statement has a limit of places for values, a text has none
        select = f"SELECT {', '.join(columns)} FROM groups WHERE n IN ({wanted})"
        yield from self._db.execute(select, [orjson.dumps(numbers).decode()])

    def summary(self, query: Query | None = None) -> dict[str, Any]:
        """Return counts and means (``Summary``) over the groups that a query asks for."""
        where, values, _ = (query or Query()).sql()
        columns = {
            "groups": "count(*)",
            "failed": "count(error)",
            "mean": "avg(mean)",
            "spread": "avg(spread)",
            "teacher_mean": "avg(teacher)",
            "zero_variance": "count(nullif(zero_variance, 0))",
            "teacher_below_student": "count(nullif(below, 0))",
            "missing_rewards": "coalesce(sum(missing), 0)",
        }
        row = self._db.execute(f"SELECT {', '.join(columns.values())} FROM groups WHERE {where}", values).fetchone()
        return dict(zip(columns, row, strict=True))

    def rules(self) -> dict[str, int]:
        """Return how many groups each rule of the linter has found something in, the most frequent first."""
        counts: Counter[str] = Counter()
        for (rules,) in self._db.execute("SELECT rules FROM groups WHERE rules <> ''"):
            counts.update(rules.strip("|").split("|"))
        return dict(counts.most_common())

    @property
    def has_steps(self) -> bool:
        return self._db.execute("SELECT 1 FROM groups WHERE step IS NOT NULL LIMIT 1").fetchone() is not None


def _with_judge(view: GroupView, findings: bytes | None, fault: str | None) -> GroupView:
    """Return a group with what the lint judge found in it."""
    if findings is None and fault is None and not view.judge_findings and view.judge_fault is None:
        return view
    rows = loads(findings) if findings is not None else []
    kept = tuple(Finding(row["rule"], row["message"], tuple(row["criteria"])) for row in rows)
    return replace(view, judge_findings=kept, judge_fault=fault)


def _make_private(place: Path) -> None:
    """Make the folder of catalogues and the files of this one, which hold texts, the user's alone."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # another user's
        place.parent.chmod(0o700)
        for file in (place, place.with_suffix(".lock")):  # SQLite gives the files beside its own the same mode
            file.touch(mode=0o600)
            file.chmod(0o600)


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Wait until no other process makes this catalogue or brings it up to date. SQLite's own lock is not enough: it
    does not wait for the switch to WAL, and a damaged file is deleted."""
    with place.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("catalogue %s: another process is making it; waiting", place)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unusable(place: Path, fault: sqlite3.OperationalError) -> InputError:
    return InputError(f"catalogue {place}: {fault}", "end the process that holds it, or give another --cache-dir")


def _connect(place: Path) -> sqlite3.Connection:
    """Open the database; one that is damaged is made again. Raises InputError for one that stays locked."""
    connection = sqlite3.connect(place, timeout=LOCK_WAIT_S)
    try:
        connection.executescript(_SCHEMA)
        return connection
    except sqlite3.OperationalError as fault:  # locked, or not to be opened: not damaged, so not ours to delete
        connection.close()
        raise _unusable(place, fault) from fault
    except sqlite3.DatabaseError:
        connection.close()
        for leftover in place.parent.glob(place.name + "*"):
            leftover.unlink()
        return _connect(place)


def _stamp(files: Sequence[Path]) -> str:
    """Return what tells whether one of the files has changed."""
    stats = [(str(file.absolute()), file.stat()) for file in files if file.exists()]
    return repr([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])


def _refresh(db: sqlite3.Connection, parts: Sequence[_Part], progress: Progress) -> None:
    """Read the parts that are new or have changed, and forget those that are gone."""
    known = dict(db.execute("SELECT path, stamp FROM files"))
    changed = [part for part in parts if known.get(part.key) != part.stamp]
    with db:
        for path in known.keys() - {part.key for part in parts}:
            _forget(db, path)
    if not changed:
        return
    common = common_sentences(parts[0].views())  # always the same part: no text depends on when it was read
    progress.start(len(changed), "read")
    columns, marks = ", ".join(_INSERT), ", ".join(f":{name}" for name in _INSERT)
    try:
        for part in changed:
            with db:  # a part is in the catalogue as a whole, or not at all
                _forget(db, part.key)
                stamped = (part.key, part.stamp)
                file = db.execute("INSERT INTO files (path, stamp) VALUES (?, ?)", stamped).lastrowid
                for place, view in enumerate(part.views()):
                    values = _values(view, common) | {"file": file, "place": place}
                    db.execute(f"INSERT INTO groups ({columns}) VALUES ({marks})", values)
            progress.advance()
    finally:
        progress.finish()


def _forget(db: sqlite3.Connection, path: str) -> None:
    db.execute("DELETE FROM groups WHERE file IN (SELECT id FROM files WHERE path = ?)", (path,))
    db.execute("DELETE FROM files WHERE path = ?", (path,))


def _values(view: GroupView, common: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return what lists and filters need of a group, by column; ``_row`` reads it."""
    row = view.row(0, common)
    criteria = [c.criterion for part in view.by_rubric if part.criteria for c in part.criteria.rubrics]
    words = (row.uid, view.question or "", *criteria, *row.rules, row.error or "")
    rules = f"|{'|'.join(row.rules)}|" if row.rules else ""  # so that a rule is found with its bars alone
    lists = {"rules": rules, "faults": "\n".join(row.faults), "search": "\n".join(words).casefold()}
    return asdict(row) | lists | {"n": None}  # SQLite numbers the groups


def _row(values: Sequence[Any]) -> GroupRow:
    row = dict(zip(_COLUMNS, values, strict=True))
    row |= {name: bool(row[name]) for name in ("zero_variance", "below")}
    row |= {name: tuple(filter(None, row[name].split(mark))) for name, mark in (("rules", "|"), ("faults", "\n"))}
    return GroupRow(**row)


def _linter() -> str:
    """Hash of the linter's own files: other rules find other things."""
    folder = Path(ropd_cli.lint.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()

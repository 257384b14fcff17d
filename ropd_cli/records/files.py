"""Files of records: read line by line, written as a whole.

In JSON Lines a record is one line, in ``.jsonl.zst`` some lines are a zstandard frame with a checksum; ``.parquet`` is
read by its row groups. What can't be read is damage: an error, or under ``salvage`` skipped. A torn last record is none
in a journal, which ``journals.RecordWriter`` may be writing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import orjson
import zstandard

from ropd_cli.errors import InputError, file_error
from ropd_cli.records.json_text import BOM, is_begun, is_own, loads, looks_like
from ropd_cli.records.lines import Damage, frames, lines, warn_once
from ropd_cli.records.parquet import parquet_contents, parquet_file

Record = dict[str, Any]
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}
PER_LINE = "one JSON object per line"
_TABLES = dict.fromkeys(
    (".csv", ".tsv"), ("CSV", "ropd data prepare makes prompts of it, ropd index import adds answers to an index")
)
"""By suffix: what tables look like, and what to do with one."""
FRAME = 1 << 20
"""Bytes of lines in a frame of a file that is written as a whole."""
_salvages: ContextVar[bool | None] = ContextVar("salvages", default=None)
"""None: the command at work has no such option."""


def read_records(path: str | Path) -> Iterator[tuple[int, Record]]:
    """Yield (line number from 1, record) of a ``.jsonl``, ``.json``, ``.jsonl.zst`` or ``.parquet`` file.

    Raises InputError with the place for a file that is missing, for a line that is not a JSON object, and for a part
    that can't be read, be it the last; under ``salvage`` such parts are skipped, and counted in a warning.
    """
    return _read(_present(path), None)


def read_journal(path: str | Path) -> Iterator[tuple[int, Record]]:
    """Yield the records of a file that a stage or a run appends to, as ``read_records`` does. A torn last record after
    others is passed over with a warning: its writer was killed, or is at work."""
    return _read(_present(path), 1)


def existing_records(path: str | Path) -> Iterator[tuple[int, Record]]:
    """Yield the records already written to an output file (or its journal); none where there is no file."""
    journal = journal_of(Path(path))
    if journal.is_file():
        yield from _read(journal, 0)
    elif Path(path).is_file():
        yield from read_records(path)


@contextmanager
def salvage(on: bool | None = True) -> Iterator[None]:
    """Skip what is damaged in files that are read, until the context is left."""
    before = _salvages.set(on)
    try:
        yield
    finally:
        _salvages.reset(before)


def is_salvaging() -> bool:
    """Return whether damaged parts of files are skipped."""
    return bool(_salvages.get())


def _read(path: Path, torn_after: int | None) -> Iterator[tuple[int, Record]]:
    """Yield the records of a file. ``torn_after``: after how many records a torn last one is no error (None: it always
    is)."""
    parts = contents(path)
    records = skipped = 0
    for part in parts:
        if not isinstance(part, Damage):
            records += 1
            yield part
        elif part.is_other:
            raise InputError(f"{part.where}: {part.why}", part.hint)
        elif part.is_torn and torn_after is not None and records >= torn_after:
            warn_once(
                path,
                "torn",
                f"{path}: its last record is incomplete, as a kill leaves it, and is left out; "
                f"records read before it: {records}",
            )
        elif _salvages.get():
            skipped += 1
        else:
            behind = sum(not isinstance(other, Damage) for other in parts)
            raise InputError(
                f"{part.where}: {part.why}; records that can be read: {records} before it, {behind} after it",
                part.hint + ("" if _salvages.get() is None else "; with --salvage what can't be read is skipped"),
            )
    if skipped:
        warn_once(path, "salvage", f"{path}: damaged parts skipped: {skipped}; records read: {records}")


def contents(path: Path) -> Iterator[tuple[int, Record] | Damage]:
    """Yield (line number from 1, record) of a file, and in their places the parts that are none."""
    if path.suffix == ".parquet":
        yield from parquet_contents(path)
        return
    number = 0
    last: bytes | None = None
    for part in lines(path):
        if isinstance(part, Damage):
            yield part
            continue
        number += 1
        raw, is_ended = part
        if number == 1:
            raw = raw.removeprefix(BOM)
        if not raw.strip():
            continue
        where = f"{path}:{number}"
        try:
            record, fault = loads(raw), None
        except ValueError as error:
            record, fault = None, error
        if isinstance(record, dict):
            last = raw
            yield number, record
            continue
        if number == 1 and (other := looks_like(raw) or _TABLES.get(path.suffix)):
            kind, hint = other
            yield Damage(where, f"not JSON Lines (it looks like {kind})", hint, is_other=True)
        elif fault is not None:
            # A kill leaves a torn line behind lines as RecordWriter writes them; of another writer's file it is a loss.
            begun = not is_ended and is_begun(raw)
            why = "the last line is cut off" if begun else f"not valid JSON ({fault})"
            is_torn = begun and path.suffix != ".zst" and is_own(last)
            yield Damage(where, why, hint="restore the file" if begun else PER_LINE, is_torn=is_torn)
        else:
            yield Damage(where, f"expected a JSON object, found {type(record).__name__}", hint=PER_LINE)


def count_records(path: str | Path) -> int:
    """Return about how many records a file holds, for a progress bar: its lines, or a Parquet file's rows. Raises
    InputError for a file that is missing."""
    path = _present(path)
    if path.suffix == ".parquet":
        with parquet_file(path) as file:
            return file.metadata.num_rows
    if path.suffix == ".zst":
        with open(path, "rb") as file:
            return sum(chunk.count(b"\n") for chunk in frames(file, path) if not isinstance(chunk, Damage))
    with open(path, "rb", buffering=0) as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def journal_of(path: Path) -> Path:
    """Return the file that records are appended to: the path itself, or the journal of a ``.parquet``."""
    return path.with_name(path.name + ".journal.jsonl") if path.suffix == ".parquet" else path


def failed_path(path: str | Path) -> Path:
    """Return the file that lists the failed records of an output file: ``<out>.failed.jsonl``."""
    path = Path(path)
    return path.with_name(path.name + ".failed.jsonl")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, whose file takes that place at a clean end, so that a reader sees the old
    file or the new one, never a part. Without a file there, nothing is replaced. A link stays; its file is replaced."""
    with disk_errors(path):
        require_kind(path)  # a device would be replaced by a file
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{os.getpid()}.tmp.{target.name}")  # the suffix says what is in it
    try:
        with disk_errors(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if temporary.exists():
                os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a whole file in the place of what was there."""
    with whole_file(Path(path)) as temporary:
        # A page may name a path that is not UTF-8, of which Python makes halves of surrogate pairs.
        temporary.write_bytes(data.encode(errors="backslashreplace") if isinstance(data, str) else data)


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole file of records, a line each, in the place of what was there."""
    with whole_file(path) as temporary:
        write_lines(temporary, (orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records))


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write lines to a new file, compressed where its name ends in ``.zst``: in frames of some lines each, since of a
    damaged frame all lines are lost."""
    with open(path, "wb") as file:
        if path.suffix != ".zst":
            file.writelines(lines)
            return
        compress = compressor()
        batch: list[bytes] = []
        size = 0
        for line in lines:
            batch.append(line)
            size += len(line)
            if size >= FRAME:
                file.write(compress(b"".join(batch)))
                batch, size = [], 0
        if batch:
            file.write(compress(b"".join(batch)))


def compressor() -> Callable[[bytes], bytes]:
    """Return what makes a frame with a checksum."""
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's complaints about ``path`` into errors a user can mend."""
    try:
        yield
    except OSError as fault:
        raise file_error(fault, path) from fault


def require_kind(path: Path, *, directory: bool = False) -> None:
    """Raise InputError where an output that is there is no plain file, or no ``directory``."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISDIR if directory else stat.S_ISREG)(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a device")
        raise InputError(f"{path}: {kind}", "choose another path: " + ("a directory" if directory else "a plain file"))


def _present(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        if path.exists():
            kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode), "a device")
            raise InputError(f"{path}: {kind}, not a file", "name a file; - reads standard input")
        raise InputError(f"no file {path}", "check the path; paths are taken from the current directory")
    return path

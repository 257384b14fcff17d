"""Journals: files that records are appended to, so that a kill at any moment loses no record that was written.

A record is one line, written with one ``write`` to a file opened for appending, so a kill leaves at most one torn
last line; a reader of such a journal passes it over, and the writer cuts it off before it appends. In ``.jsonl.zst``
each record is a zstandard frame with a checksum, and a torn frame is treated likewise. ``.parquet`` is made at the end
from a JSONL journal beside it (``x.parquet.journal.jsonl``).
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import BinaryIO

import orjson

from ropd_cli.errors import InputError
from ropd_cli.records.files import (
    Record,
    compressor,
    contents,
    disk_errors,
    existing_records,
    is_salvaging,
    journal_of,
    require_kind,
    whole_file,
)
from ropd_cli.records.json_text import is_begun, loads
from ropd_cli.records.lines import CHUNK, Damage, frames, log, warn_once
from ropd_cli.records.parquet import write_parquet


class RecordWriter:
    """Appends records to one file; each ``append`` is on disk, whole, when it returns.

    The parent folders are made. A torn last record of a killed writer is cut off first; a file that is damaged, or that
    no RecordWriter wrote, raises InputError and stays as it is. Use as a context manager; for ``.parquet`` a clean
    close turns the journal into the final file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._target = journal_of(self.path)
        with disk_errors(self._target):
            self._target.parent.mkdir(parents=True, exist_ok=True)
            require_kind(self._target)
            if self._target.exists():
                _make_appendable(self._target)
            self._file = open(self._target, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        self._compress = compressor() if self._target.suffix == ".zst" else bytes

    def append(self, record: Record) -> None:
        """Write one record. Raises NoSpace when the disk is full."""
        view = memoryview(self._compress(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)))
        end = self._file.seek(0, os.SEEK_END)
        with disk_errors(self._target):
            try:
                while view:
                    view = view[self._file.write(view) :]
            except OSError:
                self._file.truncate(end)  # a part of a record would be damage once another follows it
                raise

    def close(self, *, finished: bool = True) -> None:
        """Close the file. ``finished`` turns a Parquet journal into the Parquet file."""
        if self._file.closed:
            return
        self._file.close()
        if finished and self._target != self.path:
            _journal_to_parquet(self._target, self.path)

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(finished=kind is None)


def _make_appendable(path: Path) -> None:
    """Cut a torn last record off. Raises InputError for a file that is damaged, or that no RecordWriter wrote; under
    ``salvage`` the readable records of a damaged one take its place."""
    if path.stat().st_size == 0:
        return
    if is_salvaging():
        _mend(path)
    with open(path, "rb+") as file:
        start = _torn_frame(file, path) if path.suffix == ".zst" else _torn_line(file, path)
        if start is not None:
            size = file.seek(0, os.SEEK_END)
            text = f"{path}: an incomplete last record ({size - start} bytes), as a kill leaves it, is cut off"
            if start == 0:  # nothing before it shows that the file is a journal
                text += f" and kept as {_copy_beside(path)}"
            warn_once(path, "cut", text)
            file.truncate(start)


def _torn_frame(file: BinaryIO, path: Path) -> int | None:
    """Return where the torn last frame begins; None where there is none. Raises InputError for damage elsewhere."""
    torn = None
    is_first = ends_a_line = True
    for part in frames(file, path):
        if isinstance(part, Damage) and part.is_torn:
            torn = part.start
        elif isinstance(part, Damage) or (is_first and not part.startswith(b"{")):
            for _ in existing_records(path):  # raises the error that names the place and counts the records
                pass
            raise _foreign(path)
        else:
            ends_a_line = part.endswith(b"\n")
        is_first = False
    if not ends_a_line:
        raise _foreign(path)
    return torn


def _torn_line(file: BinaryIO, path: Path) -> int | None:
    """Return where the torn last line begins; None where there is none. A last record without its line's end gets it.
    Raises InputError where what follows the last line's end is no record, whole or begun."""
    start = file.seek(0, os.SEEK_END)
    newline = -1
    while start > 0 and newline < 0:
        step = min(CHUNK, start)
        file.seek(start - step)
        newline = file.read(step).rfind(b"\n")
        start -= step - (newline + 1)
    file.seek(start)
    tail = file.read()
    file.seek(0)
    if file.read(1) != b"{":
        raise _foreign(path)
    if not tail.strip():
        return None
    try:
        is_record = isinstance(loads(tail), dict)
    except ValueError:
        if is_begun(tail):
            return start
        is_record = False
    if not is_record:
        raise _foreign(path)
    file.seek(0, os.SEEK_END)
    file.write(b"\n")
    return None


def _foreign(path: Path) -> InputError:
    return InputError(
        f"{path}: not a file of records as ropd writes it, so nothing is appended to it",
        "give another --out, or move the file away",
    )


def _mend(path: Path) -> None:
    """Write the readable records of a damaged file in its place, and keep the damaged file beside it."""
    damage = [part for part in contents(path) if isinstance(part, Damage) and not part.is_torn]
    if any(part.is_other for part in damage):
        raise _foreign(path)
    if not damage:
        return
    kept = _copy_beside(path)
    with whole_file(path) as temporary:
        count = 0
        with RecordWriter(temporary) as writer:
            for _, record in existing_records(path):
                writer.append(record)
                count += 1
        if not count:
            kept.unlink()
            raise _foreign(path)
    log.warning(
        "%s: written anew with the %d records that can be read; the damaged file is kept as %s", path, count, kept
    )


def _copy_beside(path: Path) -> Path:
    """Copy a file that is about to lose a part, and return the copy's name."""
    names = (path.with_name(f"{path.name}.damaged-{n}") for n in itertools.count(1))
    return Path(shutil.copy2(path, next(name for name in names if not name.exists())))


def _journal_to_parquet(journal: Path, path: Path) -> None:
    """Write the Parquet file of a finished journal; the journal goes when the file is there."""
    records = [record for _, record in existing_records(journal)]
    with whole_file(path) as temporary:
        write_parquet(temporary, records)
    journal.unlink()

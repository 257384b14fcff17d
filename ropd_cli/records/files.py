"""Files of records: JSON Lines that survive a kill, whole files that appear at once.

A record is one line, written with one ``write`` to a file opened for appending, so a kill leaves at
most one unfinished last line; the reader ignores such a tail and the writer cuts it off before it
appends. ``.jsonl.zst`` holds one zstandard frame a flush and follows the same rule with frames.
``.parquet`` is made at the end from a JSONL journal beside it (``x.parquet.journal.jsonl``).
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.errors import InputError, NoSpace

Record = dict[str, Any]
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
MOST_LINE_BYTES = 1 << 28
_SHALLOW = 200
"""A line with no more brackets is not nested too deeply."""


def read_records(path: str | Path) -> Iterator[tuple[int, Record]]:
    """Yield (line number from 1, record) of a ``.jsonl``, ``.json``, ``.jsonl.zst`` or ``.parquet`` file.

    An unfinished last line (a killed writer's) is passed over. Raises InputError with file and line for
    a file that is missing or a line that is not a JSON object.
    """
    path = _present(path)
    if path.suffix == ".parquet":
        yield from _read_parquet(path)
        return
    with _reader(path) as lines:
        number = 0
        for raw in lines:
            number += 1
            complete = raw.endswith(b"\n")
            if not raw.strip():
                continue
            try:
                record = loads(raw)
            except ValueError as fault:
                if not complete and number > 1:
                    return  # the tail of a killed writer
                raise InputError(f"{path}:{number}: not valid JSON ({fault})", "one JSON object a line") from fault
            if not isinstance(record, dict):
                raise InputError(
                    f"{path}:{number}: expected a JSON object, found {type(record).__name__}", "one JSON object a line"
                )
            yield number, record


def loads(raw: bytes) -> Any:
    """Return the JSON of a line. Half a surrogate pair, which other writers escape and UTF-8 can't hold, becomes
    U+FFFD. Raises ValueError for what is no JSON, or is nested so deeply that it could not be written again."""
    value = _loads(raw)
    if raw.count(b"[") + raw.count(b"{") > _SHALLOW:
        try:
            orjson.dumps([[[[[[[[value]]]]]]]])  # deeper by more than we put records into
        except TypeError as fault:
            raise ValueError("nested too deeply") from fault
    return value


def _loads(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        if _ESCAPED_SURROGATE.search(raw) is None:
            raise
        try:
            text = json.dumps(json.loads(raw), ensure_ascii=False)
        except RecursionError as fault:
            raise ValueError("nested too deeply") from fault
        return orjson.loads(_SURROGATE.sub("\ufffd", text))


def count_records(path: str | Path) -> int:
    """Return about how many records a file holds, for a progress bar: its lines, or a Parquet file's rows. Raises
    InputError for a file that is missing."""
    path = _present(path)
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_metadata(path).num_rows
    if path.suffix == ".zst":
        with _reader(path) as lines:
            return sum(1 for _ in lines)
    with open(path, "rb", buffering=0) as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


class RecordWriter:
    """Appends records to one file; each ``append`` is on disk, whole, when it returns.

    The parent folders are made. An unfinished tail left by a killed writer is cut off first. Use as a
    context manager; for ``.parquet`` a clean close turns the journal into the final file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._target = journal_of(self.path)
        with disk_errors(self._target):
            self._target.parent.mkdir(parents=True, exist_ok=True)
            if self._target.exists():
                _cut_unfinished(self._target)
            self._file = open(self._target, "ab", buffering=0)  # noqa: SIM115 - closed by close()

    def append(self, record: Record) -> None:
        """Write one record. Raises NoSpace when the disk is full."""
        data = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        if self._target.suffix == ".zst":
            import zstandard

            data = zstandard.ZstdCompressor(level=3).compress(data)
        with disk_errors(self._target):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

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


def journal_of(path: Path) -> Path:
    """Return the file that records are appended to: the path itself, or the journal of a ``.parquet``."""
    return path.with_name(path.name + ".journal.jsonl") if path.suffix == ".parquet" else path


def failed_path(path: str | Path) -> Path:
    """Return the file that lists the failed records of an output file: ``<out>.failed.jsonl``."""
    path = Path(path)
    return path.with_name(path.name + ".failed.jsonl")


def existing_records(path: str | Path) -> Iterator[tuple[int, Record]]:
    """Yield the records already written to an output file (or its journal); none where there is no file."""
    journal = journal_of(Path(path))
    if journal.is_file():
        _cut_unfinished(journal)
        yield from read_records(journal)
    elif Path(path).is_file():
        yield from read_records(path)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, whose file takes that place at a clean end, so that a reader sees the old
    file or the new one, never a part. Without a file there, nothing is replaced."""
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")  # the suffix says what is in it
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if temporary.exists():
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a whole file in the place of what was there."""
    with whole_file(Path(path)) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole file of records, a line each, in the place of what was there."""
    with whole_file(path) as temporary:
        write_lines(temporary, (orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records))


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write lines to a new file, compressed as a whole where its name ends in ``.zst``."""
    with open(path, "wb") as file:
        if path.suffix == ".zst":
            import zstandard

            with zstandard.ZstdCompressor(level=3).stream_writer(file) as stream:
                for line in lines:
                    stream.write(line)
        else:
            file.writelines(lines)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's complaints about ``path`` into errors a user can mend."""
    try:
        yield
    except PermissionError as fault:
        raise InputError(f"{path}: permission denied", "choose a place you may write to") from fault
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as fault:
        raise InputError(f"{path}: {fault.strerror}", "choose another path") from fault
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{path}: no space left on the disk", "make room, then run the same command again") from fault
        raise


def _present(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {path}", "check the path; paths are taken from the current directory")
    return path


@contextmanager
def _reader(path: Path) -> Iterator[Iterator[bytes]]:
    with open(path, "rb") as raw:
        if path.suffix == ".zst":
            yield _zst_lines(raw, path)
        else:
            yield _plain_lines(raw, path)


def _plain_lines(raw: io.BufferedReader, path: Path) -> Iterator[bytes]:
    number = 0
    while line := raw.readline(MOST_LINE_BYTES + 1):
        number += 1
        _check_length(line, f"{path}:{number}")
        yield line


def _check_length(line: bytes | bytearray, where: str) -> None:
    if len(line) > MOST_LINE_BYTES:
        raise InputError(f"{where}: a line of more than 256 MB", "one JSON object a line")


def _zst_lines(raw: io.BufferedReader, path: Path) -> Iterator[bytes]:
    """Yield the lines of a file of zstandard frames; a cut-off last frame is no error."""
    import zstandard

    stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    rest, number = bytearray(), 1
    while True:
        try:
            chunk = stream.read(1 << 16)
        except zstandard.ZstdError:
            chunk = b""
        if not chunk:
            break
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            yield bytes(rest) + line + b"\n"
            rest.clear()
            number += 1
        rest += tail
        _check_length(rest, f"{path}:{number}")
    if rest:
        yield bytes(rest)


def _cut_unfinished(path: Path) -> None:
    """Cut what follows the last finished record off, so that appending can't glue two records together."""
    if path.suffix == ".zst":
        _cut_unfinished_frame(path)
        return
    with open(path, "rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            step = min(1 << 16, end)
            file.seek(end - step)
            newline = file.read(step).rfind(b"\n")
            if newline >= 0:
                end = end - step + newline + 1
                break
            end -= step
        if end != size:
            file.truncate(end)


def _cut_unfinished_frame(path: Path) -> None:
    import zstandard

    data = memoryview(path.read_bytes())
    end = 0
    while end < len(data):
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            frame.decompress(data[end:])
        except zstandard.ZstdError:
            break
        if not frame.eof:
            break
        end = len(data) - len(frame.unused_data)
    if end != len(data):
        os.truncate(path, end)


def _read_parquet(path: Path) -> Iterator[tuple[int, Record]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as fault:
        raise InputError(f"{path}: not a readable Parquet file ({fault})", "check how it was written") from fault
    number = 0
    for batch in file.iter_batches(batch_size=256):
        for record in batch.to_pylist():
            number += 1
            yield number, record


def _journal_to_parquet(journal: Path, path: Path) -> None:
    """Write the Parquet file of a finished journal; the journal goes when the file is there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [record for _, record in read_records(journal)]
    names = dict.fromkeys(name for record in records for name in record)  # from_pylist looks at the first alone
    table = pa.table({name: [_without_empty(record.get(name)) for record in records] for name in names})
    with whole_file(path) as temporary:
        pq.write_table(table, temporary)
    journal.unlink()


def _without_empty(value: Any) -> Any:
    """Return the value with null for objects without fields: Parquet has no type for a column of such."""
    if isinstance(value, dict):
        return {name: _without_empty(part) for name, part in value.items()} or None
    return [_without_empty(part) for part in value] if isinstance(value, list) else value

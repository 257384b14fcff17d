"""Rows of a file of the user's own: JSON Lines, a JSON list, CSV, TSV or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropd_cli.datasets.tables import table_records
from ropd_cli.errors import InputError
from ropd_cli.records.files import PER_LINE, read_records
from ropd_cli.records.json_text import BOM, loads
from ropd_cli.records.lines import LONGEST_LINE

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".jsonl.zst")
_PACKED = (".gz", ".zst", ".zip", ".bz2", ".xz", ".tar")
_LIST = "a list of objects, or one object per line"


@dataclass(frozen=True)
class Row:
    """One row as it stands in its source. ``number`` counts from 1 (of CSV the last line of the row), ``where`` is
    what an error names. ``columnar``: it comes from typed columns, where a key that is absent reads as null."""

    number: int
    where: str
    record: dict[str, Any]
    columnar: bool = False


def local_rows(file: Path) -> Iterator[Row]:
    """The rows of a file, by its suffix, one after the other. Raises InputError with file and line."""
    if file.is_dir():
        raise InputError(f"{file}: a folder, not a file", f"name one file; hf:{file} reads a folder as a data set")
    if not file.is_file():
        raise InputError(f"no file {file}", "check the path; paths are taken from the current directory")
    if not file.name.endswith(SUFFIXES):
        kinds = f"these are read: {', '.join(SUFFIXES)}"
        if file.name.endswith(_PACKED):
            raise InputError(f"{file}: compressed in a way that is not read here; decompress it first", kinds)
        raise InputError(f"{file}: not a kind of file that is read here", kinds)
    columnar = file.suffix == ".parquet"
    for number, record in _records(file):
        yield Row(number, f"{file}:{number}", record, columnar)


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if file.suffix in (".csv", ".tsv"):
        return table_records(file)
    if file.suffix == ".json":
        if file.stat().st_size > 4 * LONGEST_LINE:
            raise InputError(f"{file}: a JSON document of more than 1 GB", f"give JSON Lines, {PER_LINE}")
        content = file.read_bytes().removeprefix(BOM)
        try:
            document = loads(content)
        except ValueError as fault:
            if content.strip() and not _begins_with_a_record(content):
                raise _unreadable(file, content, fault) from fault
        else:
            return _entries(file, document if isinstance(document, list) else [document])
    return read_records(file)


def _entries(file: Path, entries: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, record in enumerate(entries, start=1):
        if not isinstance(record, dict):
            raise InputError(f"{file}:{number}: not a JSON object", _LIST)
        yield number, record


def _begins_with_a_record(content: bytes) -> bool:
    """Return whether a document is JSON Lines under another name."""
    try:
        return isinstance(loads(content.lstrip().partition(b"\n")[0]), dict)
    except ValueError:
        return False


def _unreadable(file: Path, content: bytes, fault: ValueError) -> InputError:
    try:
        content.decode()
    except UnicodeDecodeError as other:
        line = content.count(b"\n", 0, other.start) + 1
        return InputError(f"{file}:{line}: not UTF-8 ({other.reason})", "convert it to UTF-8")
    line, end = (fault.lineno, fault.pos) if isinstance(fault, json.JSONDecodeError) else (1, 0)
    if end >= len(content.decode().rstrip()):
        return InputError(f"{file}:{line}: the document is cut off", "restore the file")
    return InputError(f"{file}:{line}: not valid JSON ({fault})", _LIST)

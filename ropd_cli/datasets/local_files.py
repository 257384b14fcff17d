"""Rows of a file of the user's own: JSON Lines, a JSON list, CSV, TSV or Parquet."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import orjson

from ropd_cli.errors import InputError
from ropd_cli.records.files import read_records
from ropd_cli.records.lines import LONGEST_LINE

_MOST_CHARS = 1 << 24
"""Of a line of CSV."""
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".jsonl.zst")


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
        raise InputError(f"{file}: not a kind of file that is read here", f"these are: {', '.join(SUFFIXES)}")
    columnar = file.suffix == ".parquet"
    for number, record in _records(file):
        yield Row(number, f"{file}:{number}", record, columnar)


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if file.suffix in (".csv", ".tsv"):
        return _csv_records(file)
    if file.suffix == ".json":
        if file.stat().st_size > 4 * LONGEST_LINE:
            raise InputError(f"{file}: a JSON document of more than 1 GB", "give JSON Lines, an object a line")
        try:
            document = orjson.loads(file.read_bytes())
        except orjson.JSONDecodeError:
            document = None  # JSON Lines under another name
        if isinstance(document, list):
            return _json_records(file, document)
    return read_records(file)


def _json_records(file: Path, entries: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, record in enumerate(entries, start=1):
        if not isinstance(record, dict):
            raise InputError(f"{file}: entry {number} is not a JSON object", "a list of objects, or one a line")
        yield number, record


def _bounded(lines: TextIO) -> Iterator[str]:
    while line := lines.readline(_MOST_CHARS):
        if len(line) == _MOST_CHARS:
            raise csv.Error(f"a line of more than {_MOST_CHARS:,} characters")
        yield line


def _csv_records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(file, encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(_bounded(lines), delimiter="\t" if file.suffix == ".tsv" else ",", strict=True)
        row: dict[str, Any] = {}
        try:
            for row in reader:
                if None in row:
                    raise InputError(
                        f"{file}:{reader.line_num}: more values than the {len(reader.fieldnames or ())} columns",
                        "put values with a comma or a quote in them between double quotes",
                    )
                yield reader.line_num, row
            if None in row.values() and not _ends_a_line(file):  # elsewhere a short row is one without those values
                raise InputError(f"{file}:{reader.line_num}: the last row is cut off", "restore the file")
        except csv.Error as fault:
            raise InputError(
                f"{file}:{reader.line_num}: not readable as CSV ({fault})", "check its quotes, or give JSON Lines"
            ) from fault
        except UnicodeDecodeError as fault:
            raise InputError(f"{file}:{reader.line_num + 1}: not UTF-8 ({fault})", "convert it to UTF-8") from fault


def _ends_a_line(file: Path) -> bool:
    with open(file, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) in b"\r\n"

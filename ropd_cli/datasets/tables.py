"""Records of CSV and TSV files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ropd_cli.errors import InputError

_MOST_CHARS = 1 << 24
"""Of a line, and of a value."""
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def table_records(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (last line of the row from 1, record). All values are texts, as they are written; names of columns lose the
    blanks around them. Raises InputError with file and line."""
    csv.field_size_limit(_MOST_CHARS)
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            header = lines.readline(_MOST_CHARS)
            lines.seek(0)
            delimiter = "\t" if file.suffix == ".tsv" else next((d for d in ",;\t" if d in header), ",")
            form: dict[str, Any] = {"delimiter": delimiter, "strict": True}
            if delimiter == "\t" and _has_bare_quotes(lines):
                form["quoting"] = csv.QUOTE_NONE
            lines.seek(0)
            yield from _rows(file, lines, form)
    except UnicodeDecodeError as fault:
        raise InputError(f"{file}:{_line_of_bytes(file)}: not UTF-8 ({fault.reason})", "convert it to UTF-8") from fault


def _rows(file: Path, lines: TextIO, form: dict[str, Any]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(_bounded(lines), **form)
    try:
        names = [name.strip() or f"column {number}" for number, name in enumerate(next(reader, ()), start=1)]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise InputError(f"{file}:1: the column {repeated!r} twice", "give each column a name of its own")
        for values in reader:
            if len(values) not in (0, len(names)):
                is_more = len(values) > len(names)
                raise InputError(
                    f"{file}:{reader.line_num}: {'more' if is_more else 'fewer'} values ({len(values)}) than the "
                    f"{len(names)} columns",
                    "put values with a comma, a quote or a line's end in them between double quotes"
                    if is_more
                    else "restore the file where it is cut off, or write the empty values too",
                )
            if values:
                yield reader.line_num, dict(zip(names, values, strict=True))
    except csv.Error as fault:
        raise InputError(
            f"{file}:{reader.line_num}: not readable as CSV ({fault})", "check its quotes, or give JSON Lines"
        ) from fault


def _bounded(lines: TextIO) -> Iterator[str]:
    while line := lines.readline(_MOST_CHARS):
        if len(line) == _MOST_CHARS:
            raise csv.Error(f"a line of more than {_MOST_CHARS:,} characters")
        yield line


def _has_bare_quotes(lines: TextIO) -> bool:
    """Return whether quotes are letters like others: each line has all its values, so none holds a tab or a line's end,
    and a value begins with a quote and is not one between quotes."""
    width = None
    is_bare = False
    for line in iter(lambda: lines.readline(_MOST_CHARS), ""):
        values = line.rstrip("\r\n").split("\t")
        if values == [""]:
            continue
        width = width or len(values)
        if len(values) != width:
            return False
        is_bare = is_bare or any(value.startswith('"') and not _QUOTED.fullmatch(value) for value in values)
    return is_bare


def _line_of_bytes(file: Path) -> int:
    """Return the first line that is not UTF-8."""
    with open(file, "rb") as lines:
        return next((number for number, line in enumerate(lines, start=1) if not _is_utf8(line)), 1)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True

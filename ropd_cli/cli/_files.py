"""The files that a command line names: ``-`` is standard input, and no output is one of the inputs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ropd_cli.errors import InputError, RopdError

OUTPUTS = ("out", "held_out_out", "html", "markdown")
PAGES = ("html", "markdown")
"""Outputs that lie beside what they are made of; they replace no file but another page."""
STDIN = Path("-")
READABLE = ("prompts", "answers", "rollouts", "rubrics", "index", "files", "local", "path", "config")
_FOLDER, _STEM = "ropd-stdin-", "standard-input"
_SUFFIXES = {b"\x28\xb5\x2f\xfd": ".jsonl.zst", b"PAR1": ".parquet"}
"""By the first four bytes; anything else is text."""


@contextmanager
def named_files(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the values of a command's parameters, with a file in the place of standard input: it may be read twice.

    Raises InputError where an output is an input too, before anything is opened, and for a ``-`` that can't be had.
    """
    paths = {name: _paths(value) for name, value in values.items()}
    outs = {name: some for name, some in paths.items() if name in OUTPUTS}
    inputs = [path for name, some in paths.items() if name not in (*OUTPUTS, "cache_dir", "log") for path in some]
    _check_outputs(outs, [path for path in inputs if path != STDIN])
    readers = [name for name in READABLE for path in paths.get(name, ()) if path == STDIN]
    if not readers:
        yield dict(values)
        return
    if len(readers) > 1:
        raise InputError("standard input (-) is named twice", "give the others as files")
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as folder:
        file = _spooled(Path(folder))
        (name,) = readers
        value = values[name]
        ours = file if value == STDIN else [file if path == STDIN else path for path in value]
        try:
            yield {**values, name: ours}
        except RopdError as fault:
            fault.message = fault.message.replace(str(file), "standard input")
            raise


def is_stdin(path: Path | None) -> bool:
    """Return whether a path is what ``named_files`` has put in the place of standard input."""
    return path is not None and path.parent.name.startswith(_FOLDER) and path.name.startswith(_STEM)


def _paths(value: Any) -> list[Path]:
    return [each for each in (value if isinstance(value, list | tuple) else [value]) if isinstance(each, Path)]


def _check_outputs(outs: Mapping[str, list[Path]], inputs: list[Path]) -> None:
    from ropd_cli.records.outputs import refuse_inputs

    for name, some in outs.items():
        if STDIN in some:
            raise InputError(
                f"--{name.replace('_', '-')} -: an output is a file", "name one: the same command again reads it"
            )
        refuse_inputs(some, inputs)
        for page in some if name in PAGES else ():
            place = Path(os.path.realpath(page))
            folder = next((each for each in inputs if each.is_dir() and _is_in(place, each)), None)
            if folder is not None and page.is_file() and page.suffix not in (".html", ".htm", ".md"):
                raise InputError(f"{page}: is a file of {folder}, not a page", "give the page another name")
            if name == "html" and page.is_file() and not _is_html(page):
                raise InputError(f"{page}: is there already, and no HTML page", "give the page another name")


def _is_html(page: Path) -> bool:
    """Return whether a file is an HTML page, or empty."""
    with open(page, encoding="utf-8-sig", errors="replace") as file:
        head = file.read(1000).strip().lower()
    return not head or head.startswith(("<!doctype html", "<html"))


def _is_in(place: Path, folder: Path) -> bool:
    return place.is_relative_to(os.path.realpath(folder))


def _spooled(folder: Path) -> Path:
    head = sys.stdin.buffer.read(4)
    file = folder / f"{_STEM}{_SUFFIXES.get(head, '.jsonl')}"
    with open(file, "wb") as copy:
        copy.write(head)
        shutil.copyfileobj(sys.stdin.buffer, copy, 1 << 20)
    return file

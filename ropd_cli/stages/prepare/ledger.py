"""The rows that were left out, each with why: counted, and listed in a file where there is one."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from ropd_cli.records.files import disk_errors


class Ledger:
    """Counts rows as they are read and left out. With ``path`` each is listed there, in a temporary file beside it
    until ``finish``: the listing is never held in memory, and a kill leaves the old one."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.read = 0
        self.dropped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._file: BinaryIO | None = None

    def leave_out(self, row: int, uid: str | None, why: str, **details: Any) -> None:
        """One row is left out."""
        self.dropped[why] += 1
        self._list({"row": row, "uid": uid, "why": why} | details)

    def mention(self, row: int, uid: str, why: str, **details: Any) -> None:
        """One row is kept, but listed."""
        self.notes[f"{why}, kept"] += 1
        self._list({"row": row, "uid": uid, "why": why, "kept": True} | details)

    def note(self, what: str, count: int = 1) -> None:
        """Something to be said in the summary."""
        if count:
            self.notes[what] += count

    def finish(self) -> Path | None:
        """Put the listing in its place; where nothing is listed there is none, and an older one goes."""
        if self.path is None:
            return None
        if self._file is None:
            self.path.unlink(missing_ok=True)
            return None
        self._file.close()
        with disk_errors(self.path):
            os.replace(self._file.name, self.path)
        self._file = None
        return self.path

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            os.unlink(self._file.name)
            self._file = None

    def _list(self, line: dict[str, Any]) -> None:
        if self.path is None:
            return
        with disk_errors(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
                self._file = open(temporary, "wb")  # noqa: SIM115 - closed by finish or __exit__
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

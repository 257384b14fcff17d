"""The rows that were left out, each with why: counted, and listed in a file where there is one."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from ropd_cli.records.journals import RecordWriter


class Ledger:
    """Counts rows as they are read and left out. With ``path`` each is listed there, in a temporary file beside it
    until ``finish``: the listing is never held in memory, and a kill leaves the old one."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.read = 0
        self.dropped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._writer: RecordWriter | None = None

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
        if self._writer is None:
            self.path.unlink(missing_ok=True)
            return None
        self._writer.close()
        os.replace(self._writer.path, self.path)
        return self.path

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer.path.unlink(missing_ok=True)

    def _list(self, line: dict[str, Any]) -> None:
        if self.path is None:
            return
        if self._writer is None:
            self._writer = RecordWriter(self.path.with_name(f".{os.getpid()}.tmp.{self.path.name}"))
        self._writer.append(line)

"""What a stage says of its progress; who shows it (a bar, log lines, nobody) is not its business."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told by a stage how far it is."""

    def start(self, total: int, what: str) -> None:
        """``total`` pieces of work named ``what`` begin; those already finished are not counted."""

    def advance(self, n: int = 1, failed: int = 0) -> None:
        """``n`` more pieces are over, ``failed`` of them without success."""

    def note(self, text: str) -> None:
        """One line worth reading now."""

    def finish(self) -> None:
        """No more will come."""


class NoProgress:
    """Tells nobody."""

    def start(self, total: int, what: str) -> None: ...

    def advance(self, n: int = 1, failed: int = 0) -> None: ...

    def note(self, text: str) -> None: ...

    def finish(self) -> None: ...

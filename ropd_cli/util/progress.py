"""How a stage reports its progress; the command decides how it is shown (a bar, log lines, not at all)."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Is told by a stage how far it is."""

    def start(self, total: int, what: str, done: int = 0) -> None:
        """Begin ``total`` pieces of work named ``what``, of which ``done`` were finished before."""

    def advance(self, n: int = 1, failed: int = 0, seconds: float | None = None) -> None:
        """Count ``n`` more pieces as over, ``failed`` of them as failed. ``seconds``: what they took, where the time
        since the start says something else."""

    def note(self, text: str) -> None:
        """Show one line now."""

    def state(self, text: str) -> None:
        """Say what is going on, as often as the caller likes: lines show it at once, then each minute, a bar never."""

    def finish(self) -> None:
        """The work is over."""


class NoProgress:
    """Shows nothing."""

    def start(self, total: int, what: str, done: int = 0) -> None: ...

    def advance(self, n: int = 1, failed: int = 0, seconds: float | None = None) -> None: ...

    def note(self, text: str) -> None: ...

    def state(self, text: str) -> None: ...

    def finish(self) -> None: ...

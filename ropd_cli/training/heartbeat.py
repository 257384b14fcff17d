"""Signs of progress that the processes of a run leave for the parent's watchdog.

The log is no such sign: verl writes a line a minute while it waits for a server that hangs, and none during an update.
"""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path


class Phase(StrEnum):
    """What a training is at."""

    STARTING = "starting"
    ROLLOUTS = "sampling and judging"
    UPDATE = "updating the weights"


class Heartbeat:
    """A file with the phase; its time is that of the last sign."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def enter(self, phase: Phase) -> None:
        """A phase begins."""
        self._path.write_text(phase)

    def beat(self) -> None:
        """Something was finished within the phase: a group judged, an answer of a validation graded."""
        self._path.touch()

    def read(self) -> tuple[Phase, float]:
        """Return the phase and the seconds since the last sign (0 where there is none yet)."""
        try:
            phase, at = self._path.read_text(), self._path.stat().st_mtime
        except OSError:
            return Phase.STARTING, 0.0
        known = phase if phase in set(Phase) else Phase.STARTING
        return Phase(known), max(0.0, time.time() - at)

"""The circuit breaker of a server: when it stops answering, everybody waits instead of failing.

It opens where nobody listens any more, or where calls fail one after the other without an answer between,
and lets one call through now and then to see whether the server is back. Only an endpoint that has answered
before is waited for: one that never did is probably a wrong URL, which the user should hear of at once. Where an
endpoint has several servers the others take over (``servers``), and all wait only while none answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ropd_cli.errors import ProviderDown
from ropd_cli.llm.limits import Pause

OPENS_AFTER = 6
"""Failures in a row of an endpoint that is there."""
FIRST_PROBE_S, LONGEST_PROBE_S = 1.0, 30.0
SAY_EVERY_S = 60.0


class Breaker:
    """The state of one server. ``leave`` has to follow every ``admit`` and ``try_it`` that let a call through."""

    def __init__(self, shown: str, max_pause_s: float, say: Callable[[str], None]) -> None:
        self.shown = shown
        self._max_pause_s, self._say = max_pause_s, say
        self.alive = False
        """Whether it has answered anything so far."""
        self.open_since: float | None = None
        """Monotonic time since when calls are held back; None: they are not."""
        self.probe_at = 0.0
        """When it may be tried again."""
        self.probing = False
        self.pauses = 0
        self._failures = 0
        self._failing: set[str] = set()
        self._said_at = 0.0
        self._probe_wait_s = FIRST_PROBE_S

    @property
    def is_open(self) -> bool:
        """Whether calls are held back now."""
        return self.open_since is not None

    @property
    def waits(self) -> bool:
        """Whether it is worth waiting for, where it is alone."""
        return self.alive and self._max_pause_s > 0

    async def admit(self, pause: Pause) -> bool:
        """Return at once while the endpoint answers. Else wait until it does, or until it is this call's turn
        to try (True). Raises ProviderDown when that has taken ``max_pause_s``."""
        while self.open_since is not None and self.waits:
            now = time.monotonic()
            if now - self.open_since >= self._max_pause_s:
                raise waited_in_vain(f"{self.shown}: has", now - self.open_since)
            if self.try_it(now):
                return True
            deadline = self.open_since + self._max_pause_s
            await pause(max(0.01, min(self.next_look(now), deadline) - now))
        return False

    def try_it(self, now: float) -> bool:
        """Whether a call may try a server that is held back; it is the only one then until it leaves."""
        if self.probing or now < self.probe_at:
            return False
        self.probing = True
        return True

    def next_look(self, now: float) -> float:
        """When the one who waits should look again."""
        return self.probe_at if not self.probing else now + 0.25

    def leave(self, probe: bool) -> None:
        """The attempt that was let through is over, whatever came of it."""
        if probe:
            self.probing = False

    def answered(self, probe: bool) -> None:
        """The server has answered something, be it a refusal. While calls are held back only the answer to a
        ``probe`` counts: others were sent before it went away."""
        again = "again " if self.alive else ""
        self.alive = True
        if self.open_since is not None and not probe:
            return
        self._failures = 0
        self._failing.clear()
        if self.open_since is not None:
            self._say(f"{self.shown} answers {again}after {time.monotonic() - self.open_since:.0f} s, going on")
            self.open_since = None
            self._probe_wait_s = FIRST_PROBE_S

    def failed(
        self, call: str, why: str, *, connected: bool, probe: bool, spare: bool = False, last: bool = False
    ) -> bool:
        """An attempt of ``call`` came to nothing; True where calls are held back now.

        ``connected``: the server was there, and this call alone may be what it can't serve; it then takes
        several failures in a row, and of two different calls, to open. Nobody there is enough by itself.
        ``spare``: other servers of the endpoint take over; ``last``: all others are held back already, and the
        endpoint is worth waiting for.
        """
        self._failures += 1
        self._failing.add(call)
        now = time.monotonic()
        holds = spare or last or self.waits
        if self.open_since is not None:
            if probe:  # else it was under way when the server went
                self._still_down(now, spare)
        elif holds and (not connected or (self._failures >= OPENS_AFTER and len(self._failing) > 1)):
            self.open_since = self._said_at = now
            self.probe_at = now + self._probe_wait_s
            self.pauses += not spare
            self._say(f"{why}: {self._what_now(spare, last)}")
        return holds and self.open_since is not None

    def _what_now(self, spare: bool, last: bool) -> str:
        if spare:
            return "left out until it answers, other servers go on"
        until = "no server is left, pausing until one answers" if last else "pausing until it answers again"
        return f"{until}, for {self._max_pause_s:.0f} s at most"

    def _still_down(self, now: float, spare: bool) -> None:
        self._probe_wait_s = min(self._probe_wait_s * 2, LONGEST_PROBE_S)
        self.probe_at = now + self._probe_wait_s
        if not spare and now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            self._say(f"{self.shown}: still no answer after {now - self.open_since:.0f} s")


def waited_in_vain(who: str, seconds: float) -> ProviderDown:
    """The error of a pause that was too long; ``who`` ends in "has" or "have"."""
    return ProviderDown(
        f"{who} stopped answering, and was waited for {seconds:.0f} s",
        "mend the endpoint, then run the same command again: it goes on from here",
    )

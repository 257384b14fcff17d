"""The circuit breaker of an endpoint: while it does not answer, all calls wait instead of failing.

It opens where nobody listens any more, or where calls fail one after the other without an answer between them, and
lets one call through now and then (the probe) to see whether the endpoint is back. Only an endpoint that has answered
before is waited for: one that never did is probably a wrong URL, which the user should hear of at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ropd_cli.errors import ProviderDown
from ropd_cli.llm.limits import Pause

OPENS_AFTER = 6
"""Failures in a row of an endpoint that is there."""
FIRST_PROBE_S, LONGEST_PROBE_S = 1.0, 30.0
BUSY_PROBE_S = 0.25
"""Time until a waiting call looks again while another one probes."""
SAY_EVERY_S = 60.0


class Breaker:
    """The state of one endpoint's URL. ``leave`` has to follow every ``admit`` that let a call through."""

    def __init__(self, shown: str, max_pause_s: float, say: Callable[[str], None]) -> None:
        self.shown = shown
        self.pauses = 0
        """How often it opened."""
        self._max_pause_s, self._say = max_pause_s, say
        self._alive = False
        """Whether the endpoint has answered anything so far."""
        self._open_since: float | None = None
        """Monotonic time since when calls are held back; None: they are not."""
        self._failures = 0
        self._failing: set[str] = set()
        self._probing = False
        self._probe_at = self._said_at = 0.0
        self._probe_wait_s = FIRST_PROBE_S

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._open_since is not None

    async def admit(self, pause: Pause) -> bool:
        """Return at once while the endpoint answers. Else wait until it does, or until it is this call's turn to
        probe, and return whether it is. Raises ProviderDown when that has taken ``max_pause_s``."""
        while self._open_since is not None:
            now = time.monotonic()
            deadline = self._open_since + self._max_pause_s
            if now >= deadline:
                raise ProviderDown(
                    f"{self.shown}: has stopped answering, and was waited for {now - self._open_since:.0f} s",
                    "mend the endpoint, then run the same command again: it goes on from here",
                )
            if not self._probing and now >= self._probe_at:
                self._probing = True
                return True
            look_at = now + BUSY_PROBE_S if self._probing else self._probe_at
            await pause(max(0.01, min(look_at, deadline) - now))
        return False

    def wait_anew(self) -> None:
        """Begin the wait for an endpoint that does not answer anew, with a probe."""
        if self._open_since is not None:
            self._open_since = self._probe_at = time.monotonic()

    def leave(self, probe: bool) -> None:
        """The attempt that was let through is over, whatever came of it."""
        if probe:
            self._probing = False

    def answered(self, probe: bool) -> None:
        """Note that the endpoint has answered something, be it a refusal. While calls are held back only the answer to
        a ``probe`` counts: other requests were sent before it went away."""
        self._alive = True
        if self._open_since is not None and not probe:
            return
        self._failures = 0
        self._failing.clear()
        if self._open_since is not None:
            self._say(f"{self.shown} answers again after {time.monotonic() - self._open_since:.0f} s, going on")
            self._open_since = None
            self._probe_wait_s = FIRST_PROBE_S

    def failed(self, call: str, why: str, *, connected: bool, probe: bool) -> bool:
        """Note that an attempt of ``call`` came to nothing. Returns whether calls are held back now.

        ``connected``: the endpoint was there, and this call alone may be what it can't serve; it then takes
        several failures in a row, and of two different calls, to open. Nobody there is enough by itself.
        """
        self._failures += 1
        self._failing.add(call)
        now = time.monotonic()
        if self._open_since is not None:
            if probe:  # else it was under way when the endpoint went
                self._still_down(now - self._open_since, now)
            return True
        is_down = not connected or (self._failures >= OPENS_AFTER and len(self._failing) > 1)
        if is_down and self._alive and self._max_pause_s > 0:
            self._open_since = self._said_at = now
            self._probe_at = now + self._probe_wait_s
            self.pauses += 1
            self._say(f"{why}: pausing until it answers again, for {self._max_pause_s:.0f} s at most")
        return self._open_since is not None

    def _still_down(self, seconds: float, now: float) -> None:
        self._probe_wait_s = min(self._probe_wait_s * 2, LONGEST_PROBE_S)
        self._probe_at = now + self._probe_wait_s
        if now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            self._say(f"{self.shown}: still no answer after {seconds:.0f} s")

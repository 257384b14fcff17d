"""The circuit breaker of an endpoint: when it stops answering, everybody waits instead of failing.

It opens where nobody listens any more, or where calls fail one after the other without an answer between,
and lets one call through now and then to see whether the endpoint is back. Only an endpoint that has answered
before is waited for: one that never did is probably a wrong URL, which the user should hear of at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ropd_cli.errors import ProviderDown
from ropd_cli.llm.limits import Pause

OPENS_AFTER = 6
"""Failures in a row of an endpoint that is there."""
OPENS_BESIDE_OTHERS = 2
"""… where other servers take its calls."""
FIRST_PROBE_S, LONGEST_PROBE_S = 1.0, 30.0
SAY_EVERY_S = 60.0


class Breaker:
    """The state of one endpoint. ``leave`` has to follow every ``admit`` that returned."""

    def __init__(self, shown: str, max_pause_s: float, say: Callable[[str], None]) -> None:
        self._shown, self._max_pause_s, self._say = shown, max_pause_s, say
        self.is_alive = False
        """It has answered something."""
        self.failures = 0
        """In a row, since it last answered."""
        self.failed_at = 0.0
        """Monotonic time of the last of them."""
        self._failing: set[str] = set()
        self._open_since: float | None = None
        self._said_at = 0.0
        self._probing = False
        self._probe_at = 0.0
        self._probe_wait_s = FIRST_PROBE_S
        self.pauses = 0

    @property
    def is_open(self) -> bool:
        """Whether calls are held back now."""
        return self._open_since is not None

    @property
    def wants_probe(self) -> bool:
        """Whether a call should try now if the endpoint is back."""
        return self._open_since is not None and not self._probing and time.monotonic() >= self._probe_at

    @property
    def probe_in_s(self) -> float:
        """Seconds until it makes sense to look again."""
        return 0.25 if self._probing else max(0.0, self._probe_at - time.monotonic())

    @property
    def open_for_s(self) -> float:
        """Seconds since calls are held back; 0 while they are not."""
        return time.monotonic() - self._open_since if self._open_since is not None else 0.0

    async def admit(self, pause: Pause) -> bool:
        """Return at once while the endpoint answers. Else wait until it does, or until it is this call's turn
        to try (True). Raises ProviderDown when that has taken ``max_pause_s``."""
        while self._open_since is not None:
            now = time.monotonic()
            if now - self._open_since >= self._max_pause_s:
                raise ProviderDown(
                    f"{self._shown}: has stopped answering, and was waited for {now - self._open_since:.0f} s",
                    "mend the endpoint, then run the same command again: it goes on from here",
                )
            if not self._probing and now >= self._probe_at:
                self._probing = True
                return True
            deadline = self._open_since + self._max_pause_s
            await pause(max(0.01, min(self._probe_at if not self._probing else now + 0.25, deadline) - now))
        return False

    def leave(self, probe: bool) -> None:
        """The attempt that ``admit`` let through is over, whatever came of it."""
        if probe:
            self._probing = False

    def answered(self, probe: bool) -> None:
        """The endpoint has answered something, be it a refusal. While calls are held back only the answer to a
        ``probe`` counts: others were sent before it went away."""
        self.is_alive = True
        if self._open_since is not None and not probe:
            return
        self.failures = 0
        self._failing.clear()
        if self._open_since is not None:
            self._say(f"{self._shown} answers again after {time.monotonic() - self._open_since:.0f} s, going on")
            self._open_since = None
            self._probe_wait_s = FIRST_PROBE_S

    def failed(self, call: str, why: str, *, connected: bool, probe: bool, others_answer: bool = False) -> bool:
        """An attempt of ``call`` came to nothing; True where calls are held back now.

        ``connected``: the endpoint was there, and this call alone may be what it can't serve; it then takes
        several failures in a row, and of two different calls, to open. Nobody there is enough by itself.
        ``others_answer``: there are servers beside this one, which take its calls meanwhile.
        """
        self.failures += 1
        self._failing.add(call)
        self.failed_at = now = time.monotonic()
        opens_after = OPENS_BESIDE_OTHERS if others_answer else OPENS_AFTER
        if self._open_since is not None and not probe:
            return True  # it was under way when the endpoint went
        if self._open_since is not None:
            self.not_back()
        elif (
            (self.is_alive or others_answer)
            and self._max_pause_s > 0
            and (not connected or (self.failures >= opens_after and len(self._failing) > 1))
        ):
            self._open_since = self._said_at = now
            self._probe_at = now + self._probe_wait_s
            self.pauses += 1
            told = "the other servers go on" if others_answer else f"for {self._max_pause_s:.0f} s at most"
            self._say(f"{why}: pausing until it answers again, {told}")
        return self._open_since is not None

    def not_back(self) -> None:
        """It was tried while calls were held back, in vain: the next try comes later."""
        if self._open_since is None:
            return
        now = time.monotonic()
        self._probe_wait_s = min(self._probe_wait_s * 2, LONGEST_PROBE_S)
        self._probe_at = now + self._probe_wait_s
        if now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            self._say(f"{self._shown}: still no answer after {now - self._open_since:.0f} s")

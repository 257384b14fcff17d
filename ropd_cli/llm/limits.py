"""How fast an endpoint is asked: requests at once, requests a minute, tokens a minute, and pauses it asks for.

One limiter serves every client of the same endpoint and model in a run, so that two stages together keep
within what the provider allows.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime

from ropd_cli.config.models import LimitsConfig
from ropd_cli.llm.retry import number

Pause = Callable[[float], Awaitable[None]]
"""Waits so many seconds; raises where the one who waits has been closed."""

BURST_S = 0.1
"""Requests that a late wake-up missed are made up for, this many seconds' worth at most."""
TOKEN_BURST_S = 6.0
LONGEST_HOLD_S = 120.0
SHORTEST_WAIT_S = 1e-6
"""Less is a rounding error, and could not be slept."""
_DURATION = re.compile(
    r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])"
)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Bucket:
    """A token bucket: ``per_minute`` units flow in evenly, ``capacity`` stay in it at most.

    ``take`` may drive it below zero; the next one waits until the debt is paid, so that a piece larger than the
    bucket gets through too. In any minute no more than ``per_minute`` + ``capacity`` units are taken.
    """

    def __init__(self, per_minute: float, capacity: float) -> None:
        self.capacity = capacity
        self._rate = per_minute / 60
        self._level = capacity
        self._at = time.monotonic()

    def wait_s(self, units: float) -> float:
        """Return the seconds until ``units`` (or a full bucket) are there."""
        self._flow()
        wait_s = (min(units, self.capacity) - self._level) / self._rate
        return wait_s if wait_s > SHORTEST_WAIT_S else 0.0

    def take(self, units: float) -> None:
        """Take units out; negative ones are given back."""
        self._flow()
        self._level = min(self.capacity, self._level - units)

    def _flow(self) -> None:
        now = time.monotonic()
        self._level = min(self.capacity, self._level + (now - self._at) * self._rate)
        self._at = now


class Limiter:
    """The limits of one endpoint. ``gate`` bounds the requests at once, ``admit`` their pace."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._held_until = 0.0
        self._turn = asyncio.Lock()
        self._keep_within(limits)

    def _keep_within(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self.concurrency = limits.concurrency
        self.gate = asyncio.Semaphore(limits.concurrency)
        self._requests = _request_bucket(limits.rpm)
        self._tokens = Bucket(limits.tpm, limits.tpm * TOKEN_BURST_S / 60) if limits.tpm else None

    def lower(self, limits: LimitsConfig) -> None:
        """Keep within these limits, too, from the next request on: of each two the lower one holds."""
        both = (self._limits, limits)
        lowest = {
            name: min((value for each in both if (value := getattr(each, name)) is not None), default=None)
            for name in ("concurrency", "rpm", "tpm")
        }
        lowered = self._limits.model_copy(update=lowest)
        if lowered != self._limits:
            self._keep_within(lowered)

    @property
    def paces(self) -> bool:
        """Whether anything but the gate holds a request back now."""
        return self._requests is not None or self._tokens is not None or self._held_until > time.monotonic()

    async def admit(self, tokens: float, pause: Pause) -> None:
        """Wait, in the order of asking, until one more request of about ``tokens`` tokens may be sent."""
        if not self.paces:
            return
        async with self._turn:
            while (wait_s := self._wait_s(tokens)) > 0:
                await pause(wait_s)
            if self._requests is not None:
                self._requests.take(1)
            if self._tokens is not None:
                self._tokens.take(tokens)

    def settle(self, estimated: float, used: float) -> None:
        """Put right what ``admit`` took for a request that turned out to have used other tokens."""
        if self._tokens is not None:
            self._tokens.take(used - estimated)

    def hold(self, seconds: float) -> None:
        """Send nothing for so many seconds."""
        self._held_until = max(self._held_until, time.monotonic() + min(seconds, LONGEST_HOLD_S))

    def _wait_s(self, tokens: float) -> float:
        waits = [self._held_until - time.monotonic()]
        if self._requests is not None:
            waits.append(self._requests.wait_s(1))
        if self._tokens is not None:
            waits.append(self._tokens.wait_s(tokens))
        return max(waits)


def _request_bucket(rpm: int | None) -> Bucket | None:
    """Return a bucket that lets no more than ``rpm`` requests through in any minute."""
    if rpm is None:
        return None
    burst = max(1.0, rpm / 60 * BURST_S)
    return Bucket(rpm - (burst - 1), burst)


def nothing_left_s(headers: Mapping[str, str]) -> float:
    """Return the seconds until there is something left again, where a response says that nothing is (``x-ratelimit-*``,
    ``ratelimit-*``); 0 where it does not."""
    return max((wait for left, wait in _resets(headers) if left == 0), default=0.0)


def reset_s(headers: Mapping[str, str]) -> float | None:
    """Return how long a refused request should wait by ``retry-after`` with a unit, or by the reset of a limit that has
    nothing left; None where no header says."""
    names = ("retry-after", "anthropic-ratelimit-requests-reset", "anthropic-ratelimit-tokens-reset")
    waits = [wait for name in names if (wait := duration_s(headers.get(name))) is not None]
    waits += [wait for left, wait in _resets(headers) if not left]
    return max(waits, default=None)


def _resets(headers: Mapping[str, str]) -> Iterator[tuple[float | None, float]]:
    """Yield what is left of each limit that the headers name, and the seconds until it is whole again."""
    for kind in ("-requests", "-tokens", ""):
        for prefix in ("x-ratelimit", "ratelimit"):
            wait = duration_s(headers.get(f"{prefix}-reset{kind}"))
            if wait is not None:
                yield number(headers.get(f"{prefix}-remaining{kind}")), wait


def duration_s(text: str | None) -> float | None:
    """Return the seconds in "20ms", "6m0s", "1.5", "2 minutes" …; None for what is none. A time (Unix in seconds or
    milliseconds, ISO 8601, or as HTTP writes dates) counts from now."""
    plain = number(text)
    if plain is not None:
        seconds = plain / 1000 if plain > 1e11 else plain
        return max(0.0, seconds - time.time()) if seconds > 1e9 else seconds
    text = (text or "").strip()
    date = _date(text)
    if date is not None:
        return max(0.0, date.timestamp() - time.time())
    parts = [
        float(count) * _UNIT_S["ms" if unit.startswith(("ms", "mil")) else unit[0]]
        for count, unit in _DURATION.findall(text.lower())
    ]
    return sum(parts) if parts else None


def _date(text: str) -> datetime | None:
    try:
        date = datetime.fromisoformat(text) if text[:4].isdigit() else email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)

"""When to ask again, and how long to wait first. The client is the only owner of retries."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter.

    One call may be asked again ``max_retries`` times, for whatever reason. ``patience_s`` is the longest
    Retry-After that is waited for; a server that asks for more is not asked again.
    """

    max_retries: int = 5
    first_wait_s: float = 0.5
    max_wait_s: float = 30.0
    patience_s: float = 120.0

    def wait_s(self, attempt: int, retry_after_s: float | None = None) -> float | None:
        """Return the seconds to wait after failed attempt number ``attempt`` (from 0); None: do not ask again.

        What the server asked for is waited in full, and then up to ``first_wait_s`` more, so that
        requests turned away together do not come back together.
        """
        if attempt >= self.max_retries:
            return None
        if retry_after_s is None:
            return random.uniform(0.0, min(self.max_wait_s, self.first_wait_s * 2 ** min(attempt, 30)))
        if retry_after_s > self.patience_s:
            return None
        return retry_after_s + random.uniform(0.0, self.first_wait_s)


NO_WAIT = RetryPolicy(first_wait_s=0.0, max_wait_s=0.0)
"""Retries at once (a server's Retry-After still holds)."""


def retry_after_s(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Return the seconds that ``Retry-After`` (or a date in it) or ``retry-after-ms`` asks for, None without one."""
    milliseconds = number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = number(text)
    if seconds is not None or not text:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))


def number(text: str | None) -> float | None:
    """Return a header's number, not negative and not infinite; None for what is none."""
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < float("inf") else None

"""What a check returns, and what it is told."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ropd_cli.config import RopdConfig
from ropd_cli.errors import RopdError

Status = Literal["ok", "warn", "fail", "skipped"]
_MANY = 2000


class Check(BaseModel):
    """One line: what was looked at, how it is, what was found, and what to do about it (``mend``)."""

    model_config = ConfigDict(frozen=True)

    section: str
    name: str
    status: Status
    found: str
    mend: str | None = None


Lines = list[Check] | Awaitable[list[Check]]


@dataclass(frozen=True)
class Section:
    """Makes the checks of one section."""

    name: str

    def ok(self, name: str, found: str) -> Check:
        return self._check(name, "ok", found, None)

    def warn(self, name: str, found: str, mend: str) -> Check:
        return self._check(name, "warn", found, mend)

    def fail(self, name: str, found: str, mend: str) -> Check:
        return self._check(name, "fail", found, mend)

    def skipped(self, name: str, because: str) -> Check:
        return self._check(name, "skipped", f"skipped, because {because}", None)

    def _check(self, name: str, status: Status, found: str, mend: str | None) -> Check:
        return Check(
            section=self.name, name=name, status=status, found=one_line(found), mend=one_line(mend) if mend else None
        )


def one_line(text: str) -> str:
    """A text on one line, without what would steer a terminal: part of it may be a server's or a file's."""
    shown = "".join(char if char.isprintable() else " " for char in text[:_MANY])
    return " ".join(shown.split())


@dataclass(frozen=True)
class Pace:
    """How fast an endpoint answered: ``calls`` of them in ``seconds``, ``at_once`` under way at a time."""

    calls: int
    seconds: float
    at_once: int

    @property
    def a_second(self) -> float:
        return self.calls / max(self.seconds, 1e-6)

    def __str__(self) -> str:
        rate = self.a_second
        shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        return f"{shown} a second, {self.at_once} at once"


@dataclass
class Learnt:
    """What earlier sections found out and later ones go by."""

    silent: dict[str, str] = field(default_factory=dict)
    """By role ("verifier", …) why its endpoint can't be asked."""
    speaking: set[str] = field(default_factory=set)
    """Labels of the endpoints of which at least one server answered a question."""
    pace: dict[str, Pace] = field(default_factory=dict)
    """By role, of real requests."""
    listed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By the name of the check the models that a server lists."""
    gpus: list[Any] | None = None


@dataclass(frozen=True)
class Case:
    """What is examined. ``named``: a configuration was given; ``offline``: no endpoint and no hub is asked."""

    config: RopdConfig
    environ: Mapping[str, str]
    named: bool = True
    offline: bool = False
    timeout_s: float = 60.0
    debug: bool = False
    learnt: Learnt = field(default_factory=Learnt)


def shown_seconds(seconds: float) -> str:
    """A span of time in its own unit."""
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1g} s"


def shown_bytes(count: float) -> str:
    """A size in GB, or MB below a tenth of one."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def few(items: list[str], shown: int = 5) -> str:
    """The first of several names."""
    return ", ".join(items[:shown]) + (" …" if len(items) > shown else "")


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began


async def guarded(here: Section, name: str, work: Callable[[], Lines], *, debug: bool = False) -> list[Check]:
    """The checks that ``work`` gives; an error of it becomes a line, with the error's own hint. ``debug``: an
    unexpected one is raised instead."""
    try:
        found = work()
        return await found if inspect.isawaitable(found) else found
    except Exception as fault:  # of whatever kind: the other checks go on
        expected = _expected(fault)
        if expected is not None:
            return [here.fail(name, expected.message, expected.hint or "see the line itself")]
        if debug:
            raise
        return [
            here.fail(name, f"{type(fault).__name__}: {fault}", "a fault of ropd doctor itself: run it with --debug")
        ]


def _expected(fault: BaseException) -> RopdError | None:
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault if isinstance(fault, RopdError) else None

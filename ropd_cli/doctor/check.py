"""What a check returns, and what it is given."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict
from typing_extensions import TypedDict

from ropd_cli.config import RopdConfig
from ropd_cli.errors import expected_error
from ropd_cli.llm.money import Budget

Status = Literal["ok", "warn", "fail", "skipped"]
SKIPPED = "skipped, because "


def one_line(text: str) -> str:
    """Return a text on one line, and not without end: part of it may come from a server or a file."""
    return " ".join(text[:2000].split())


OneLine = Annotated[str, AfterValidator(one_line)]


class Check(BaseModel):
    """One line: what was checked, its status, what was found, and what to do about it (``mend``)."""

    model_config = ConfigDict(frozen=True)

    section: str
    name: str
    status: Status
    found: OneLine
    mend: OneLine | None = None


class Checks(TypedDict):
    checks: list[Check]
    ok: bool
    """No check fails."""


@dataclass(frozen=True)
class Section:
    """Makes the checks of one section."""

    name: str

    def ok(self, name: str, found: str) -> Check:
        return Check(section=self.name, name=name, status="ok", found=found)

    def warn(self, name: str, found: str, mend: str) -> Check:
        return Check(section=self.name, name=name, status="warn", found=found, mend=mend)

    def ok_unless(self, is_bad: bool, name: str, found: str, mend: str) -> Check:
        """Return a check that warns where ``is_bad``."""
        return self.warn(name, found, mend) if is_bad else self.ok(name, found)

    def fail(self, name: str, found: str, mend: str) -> Check:
        return Check(section=self.name, name=name, status="fail", found=found, mend=mend)

    def skipped(self, name: str, because: str) -> Check:
        return Check(section=self.name, name=name, status="skipped", found=f"{SKIPPED}{because}")


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
    """What earlier sections learnt and later ones use."""

    silent: dict[str, str] = field(default_factory=dict)
    """By role ("verifier", …) why its endpoint can't be asked."""
    pace: dict[str, Pace] = field(default_factory=dict)
    """By role, of real requests."""


@dataclass(frozen=True)
class Case:
    """What is examined. ``named``: a configuration was given; ``offline``: no endpoint and no hub is asked."""

    config: RopdConfig
    named: bool = True
    offline: bool = False
    timeout_s: float = 60.0
    debug: bool = False
    learnt: Learnt = field(default_factory=Learnt)

    @cached_property
    def budget(self) -> Budget:
        """The money of the whole examination."""
        return Budget(self.config.prices, self.config.max_cost)

    @property
    def trains(self) -> bool:
        """Whether the configuration names a student to train; one of the judges alone needs no training stack."""
        return self.named and self.config.student.model_path is not None


def shown_bytes(count: float) -> str:
    """Return a size in GB, or in MB below a tenth of one."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def shown_time(seconds: float) -> str:
    """Return a span of time in a unit that fits it."""
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1g} s"


def few(items: list[str], shown: int = 5) -> str:
    """Return the first of several names."""
    return ", ".join(items[:shown]) + (" …" if len(items) > shown else "")


async def guarded(
    here: Section, name: str, work: Callable[[], list[Check] | Awaitable[list[Check]]], *, debug: bool = False
) -> list[Check]:
    """Return the checks of ``work``; an error of it becomes a line, with the error's own hint. ``debug``: an
    unexpected one is raised instead."""
    try:
        checks = work()
        return await checks if inspect.isawaitable(checks) else checks
    except Exception as fault:  # of whatever kind: the other checks go on
        expected = expected_error(fault)
        if expected is not None:
            return [here.fail(name, expected.message, expected.hint or "see the line itself")]
        if debug:
            raise
        return [
            here.fail(name, f"{type(fault).__name__}: {fault}", "a fault of ropd doctor itself: run it with --debug")
        ]

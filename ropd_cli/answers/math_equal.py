r"""Whether two final results are mathematically equal, by math-verify, under a time limit that holds.

The result that a text states is read by ``stated``.

Two results are equal where exact.py calls them so, or where math-verify does: ``1/2`` = ``0.5``, ``{1, 2}`` =
``{2, 1}``, ``x < 3`` = ``(-\infty, 3)``, ``x = 5`` = ``5``. Units are not compared (``5 cm`` = ``5``), and
``50%`` is both 50 and 0.5; a number with its base, ``11_2``, is both its digits and its value. Two plain numbers are
compared as such: whole ones exactly, decimals up to 1e-6, of the larger one and absolutely; against anything else
math-verify compares decimals to six places.

math-verify's own limits interrupt with SIGALRM, which needs the main thread and stops no loop in C, such as
that of ``9^{9^9}``. So it runs in worker processes (``math_worker``), which the kernel ends at the limit.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import multiprocessing
import os
import re
from concurrent.futures.process import BrokenProcessPool
from decimal import Decimal, InvalidOperation

from pebble import ProcessExpired, ProcessPool

from ropd_cli.answers.exact_match import normalise
from ropd_cli.answers.final_answer import stated_result
from ropd_cli.answers.math_worker import begin, compare_within
from ropd_cli.errors import MissingPackage, RopdError

__all__ = ["MathGrader", "quick", "stated_result"]

TIME_LIMIT_S = 5.0
MEMORY_MB = 2048
"""Address space of one worker beyond what it starts with."""
TASKS_PER_WORKER = 2000
"""After so many comparisons a worker is replaced: SymPy's caches only grow."""
MAX_CHARS = 10_000
"""A longer result is not parsed: it counts as undecided."""
MAX_WORKERS = 8
DECIMAL_TOLERANCE = Decimal("1e-6")

_WALL_FACTOR, _WALL_EXTRA_S = 4.0, 20.0
"""A worker that has not answered after so much longer than its limit is stopped or swapped out."""

_TIDY = (
    (re.compile(r"\\\$|\\[()\[\]]|\\displaystyle(?![A-Za-z])"), ""),  # a currency's sign, and what encloses a formula
    (re.compile(r"^(?:\s|\\[,;:! ])+|(?:\s|\\[,;:! ]|(?<=\})\.)+$"), ""),
    (re.compile(r",\s*\\!\s*"), ","),  # a separator of thousands set closely
    (re.compile(r"°"), r"^\\circ"),
)
_PERCENT = re.compile(r"(.*?)\s*(?:\\?%|\\text\{\s*percent\s*\}|\bpercent)", re.DOTALL)
_BASED = re.compile(r"(\d+)_(?:\{(\d{1,2})\}|(\d))")


def quick(first: str, second: str) -> bool | None:
    """Whether two results are equal, where that takes no algebra; None where it does."""
    left, right = normalise(first), normalise(second)
    if left == right:
        return True
    try:
        one, other = Decimal(left), Decimal(right)
        if one == other:
            return True
    except InvalidOperation:
        return None if left and right else False
    if not (one.is_finite() and other.is_finite()):
        return None
    if one.as_integer_ratio()[1] == 1 or other.as_integer_ratio()[1] == 1:
        return False
    difference = abs(one - other)
    return difference <= DECIMAL_TOLERANCE and difference <= DECIMAL_TOLERANCE * max(abs(one), abs(other))


class MathGrader:
    """Worker processes that compare results; an async context manager, which leaves none of them behind.

    They start when first needed, each in about a second. ``time_limit_s`` is processor time of one comparison, so
    that a busy machine decides no differently; ``workers`` is how many compare at once (by default one a core, at most
    ``MAX_WORKERS``). One grader serves any number of tasks of one event loop.
    """

    def __init__(
        self, time_limit_s: float = TIME_LIMIT_S, workers: int | None = None, memory_mb: int = MEMORY_MB
    ) -> None:
        self._time_limit_s = time_limit_s
        self._memory_mb = memory_mb
        self._workers = workers or min(MAX_WORKERS, len(os.sched_getaffinity(0)))
        self._pool: ProcessPool | None = None

    async def __aenter__(self) -> MathGrader:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the workers. They start again when they are needed again."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.stop()
            await asyncio.shield(asyncio.to_thread(pool.join))

    async def is_correct(self, text: str, answer: str) -> bool | None:
        """Whether the final result of ``text`` equals ``answer``; False without one, None where that is undecided.

        Undecided: the time or memory limit was reached, or a side can't be parsed. Raises MissingPackage without
        math-verify.
        """
        found = stated_result(text)
        return False if not found else await self._equal(answer, found, either_way=False)

    async def is_answer(self, found: str, answer: str) -> bool | None:
        """Whether a result that was already read equals ``answer``; None where that is undecided."""
        return await self._equal(answer, found, either_way=False)

    async def same(self, first: str, second: str) -> bool | None:
        """Whether two final results are equal, in either order; None where that is undecided."""
        return await self._equal(first, second, either_way=True)

    async def final(self, text: str) -> str | None:
        """``stated_result`` of a text."""
        return stated_result(text)

    async def _equal(self, expected: str, found: str, *, either_way: bool) -> bool | None:
        expected, found = _tidy(expected), _tidy(found)
        if (decided := quick(expected, found)) is not None and not _has_readings(expected, found):
            return decided
        if max(len(expected), len(found)) > MAX_CHARS:
            return None
        left = []
        for pair in _pairs(expected, found):
            decided = quick(*pair)
            if decided:
                return True
            if decided is None:
                left.append(pair)
        undecided = False
        for pair in left:
            decided = await self._ask(*pair, either_way)
            if decided:
                return True
            undecided |= decided is None
        return None if undecided else False

    async def _ask(self, expected: str, found: str, either_way: bool) -> bool | None:
        for _ in range(2):
            pool = self._pool = self._pool or self._start()
            try:
                future = pool.schedule(
                    compare_within,
                    args=(self._time_limit_s, expected, found, either_way),
                    timeout=self._time_limit_s * _WALL_FACTOR + _WALL_EXTRA_S,
                )
                return await asyncio.wrap_future(future)
            except (ProcessExpired, TimeoutError):  # its limit; the pool has another worker already
                return None
            except (BrokenProcessPool, RuntimeError):  # a worker ended between two comparisons, say for want of memory
                if self._pool is pool:  # the first to see it
                    await self.close()
        raise RopdError("workers for comparing results end when they start", 'run: python -c "import math_verify"')

    def _start(self) -> ProcessPool:
        if importlib.util.find_spec("math_verify") is None:
            raise MissingPackage("comparing results needs math-verify", "pip install math-verify")
        return ProcessPool(
            self._workers,
            max_tasks=TASKS_PER_WORKER,
            initializer=begin,
            initargs=(self._memory_mb,),
            context=multiprocessing.get_context("spawn"),  # no copy of a parent with threads, or with torch in it
        )


def _tidy(result: str) -> str:
    for pattern, instead in _TIDY:
        result = pattern.sub(instead, result)
    return result.strip()


def _has_readings(first: str, second: str) -> bool:
    return any(mark in result for result in (first, second) for mark in ("%", "percent", "_"))


def _pairs(expected: str, found: str) -> list[tuple[str, str]]:
    """The readings of two results that are compared: several where a percentage or a base can be read two ways."""
    sides = [" ".join(result.replace("$", "").split()).rstrip(".") for result in (expected, found)]
    for split in (_percentage, _based):
        both = [split(side) for side in sides]
        if both[0] and both[1]:  # the same kind of thing: its value
            return [(both[0][1], both[1][1])]
        if both[0] or both[1]:
            return list(itertools.product(both[0] or sides[:1], both[1] or sides[1:]))
    return [(sides[0], sides[1])]


def _percentage(result: str) -> tuple[str, str] | None:
    """(the number before a percent sign, its value); None for another result."""
    if (found := _PERCENT.fullmatch(result)) is None:
        return None
    number = found[1]
    try:
        return number, str(Decimal(normalise(number)) / 100)
    except InvalidOperation:
        return number, f"\\frac{{{number}}}{{100}}"


def _based(result: str) -> tuple[str, str] | None:
    """(the digits, the value) of a number written with its base; None for another result."""
    if (found := _BASED.fullmatch(result)) is None:
        return None
    try:
        return found[1], str(int(found[1], int(found[2] or found[3])))
    except ValueError:  # no such base, or a digit too large for it
        return None

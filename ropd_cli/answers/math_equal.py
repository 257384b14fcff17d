r"""Whether two final results are mathematically equal, by latex2sympy and math-verify, under a limit that holds.

The result that a text states is read by ``stated_result``. Two results are equal where they are written alike
(``result_text.alike``), or where their formulas have the same value: ``1/2`` = ``0.5``, ``{1, 2}`` = ``{2, 1}``,
``x < 3`` = ``(-\infty, 3)``, ``x = 5`` = ``5``. A formula is the whole result but for units and words that change no
value (``5 cm`` = ``5``); where more is left, only the same text is equal. ``50%`` is both 50 and 0.5; a number with its
base, ``11_2``, is both its digits and its value. Values are compared exactly; where a side is written as a decimal and
neither is whole, up to a millionth of the larger. Two decimals must also be the same where the longer one is rounded or
cut to the digits of the other: ``16386.17`` is not ``16386.16``.

Any result is decided. Where that took no value (a formula that can't be read, or is not computed within its limits)
the two are not equal, and ``Comparison.undecided`` says why: a model must not lose its wrong answers by writing
``9^{9^{9^9}}``. Only a worker that somebody else ended leaves a comparison without an outcome.

A limit within Python stops no loop in C, such as that of ``9^{9^9}``. So values are computed in worker processes
(``math_worker``), which the kernel ends at the limit; here nothing but text and numbers of bounded length is handled.
"""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import os
import re
import signal
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context
from fractions import Fraction

from pebble import ProcessExpired, ProcessPool

from ropd_cli.answers.exact_match import normalise, number_of
from ropd_cli.answers.final_answer import stated_result
from ropd_cli.answers.math_worker import begin, compare_within
from ropd_cli.answers.result_text import alike, formula_of, has_variables, is_words, tidy
from ropd_cli.errors import MissingPackage, RopdError

__all__ = ["Comparison", "MathGrader", "check_installed", "stated_result"]

TIME_LIMIT_S = 5.0
MEMORY_MB = 2048
"""Address space of one worker beyond what it starts with."""
TASKS_PER_WORKER = 2000
"""After so many comparisons a worker is replaced: SymPy's caches only grow."""
MAX_CHARS = 10_000
"""A longer result is compared as text alone."""
MAX_WORKERS = 8

_WALL_FACTOR, _WALL_EXTRA_S = 4.0, 20.0
"""A worker that has not answered after so much longer than its limit is stopped or swapped out."""
_BY_THE_TEXT = (signal.SIGPROF, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
"""Signals that end a worker because of what it computes: its time is over, or its stack. Others come from outside."""

_PERCENT = re.compile(r"\\?%|(?<![A-Za-z])percent(?![A-Za-z])")
_BASED = re.compile(
    r"(?:[A-Za-z] ?= ?)?\(?([0-9][0-9A-Za-z]{0,999})\)? ?"
    r"(?:_ ?(?:\{ ?([0-9]{1,2}) ?\}|([0-9]))|\(?(?:in )?base[ -]([0-9]{1,2})\)?)"
)
_POINT, _SET = re.compile(r"\([^()]*,[^()]*\)"), re.compile(r"\\\{[^()]*\\\}")
_DIGITS = Context(prec=2 * MAX_CHARS)
_THOUSANDS = re.compile(r"-?[0-9]{1,3}(?:,[0-9]{3})+")


def check_installed() -> None:
    """Raise MissingPackage without math-verify."""
    if importlib.util.find_spec("math_verify") is None:
        raise MissingPackage("comparing results needs math-verify", "pip install math-verify")


@dataclass(frozen=True)
class Comparison:
    """``equal`` is None where our own means failed. ``undecided``: why no values were compared; ``equal`` is then
    False, as the two are not written alike."""

    equal: bool | None
    undecided: str | None = None


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
            try:
                await asyncio.shield(asyncio.to_thread(pool.join))
            except RuntimeError:  # the interpreter is ending, and starts no threads
                pool.join()

    async def is_correct(self, text: str, answer: str) -> bool | None:
        """Whether the final result of ``text`` equals ``answer``; False without one, None where our own means failed.

        Raises MissingPackage without math-verify.
        """
        found = stated_result(text)
        return False if not found else (await self.compare(answer, found)).equal

    async def same(self, first: str, second: str) -> bool | None:
        """Whether two final results are equal, in either order; None where our own means failed."""
        return (await self.compare(first, second, either_way=True)).equal

    async def final(self, text: str) -> str | None:
        """``stated_result`` of a text."""
        return stated_result(text)

    async def compare(self, expected: str, found: str, *, either_way: bool = False) -> Comparison:
        """Compare two results; the first is the reference: ``x = 5`` is met by ``5``, ``2x + z = 1`` not by ``1``."""
        if max(len(expected), len(found)) > MAX_CHARS:
            same = expected.split() == found.split()
            return Comparison(same, None if same else f"a result of more than {MAX_CHARS} characters is not read")
        sides = alike(expected), alike(found)
        if sides[0] == sides[1]:
            return Comparison(bool(sides[0]))
        if any(_POINT.fullmatch(one) and _SET.fullmatch(other) for one, other in (sides, sides[::-1])):
            return Comparison(False)
        words = is_words(expected), is_words(found)
        if all(words) or (any(words) and len(sides[words.index(True)]) > 3):  # few letters may be a product
            return Comparison(False)
        variables = has_variables(expected)
        undecided, failed = None, False
        for one, other in _pairs(expected, found):
            left, right = formula_of(one, variables), formula_of(other, variables)
            if left is None or right is None:
                undecided = undecided or "words or signs beside the value"
                continue
            if (equal := _numbers_equal(left, right)) is None:
                outcome = await self._ask(*_as_lists(left, right), either_way)
                equal, failed = outcome.equal, failed or outcome.equal is None
                undecided = undecided or outcome.undecided
            if equal:
                return Comparison(True)
        return Comparison(None if failed else False, undecided)

    async def _ask(self, expected: str, found: str, either_way: bool) -> Comparison:
        for _ in range(2):
            pool = self._pool = self._pool or self._start()
            try:
                future = pool.schedule(
                    compare_within,
                    args=(self._time_limit_s, expected, found, either_way),
                    timeout=self._time_limit_s * _WALL_FACTOR + _WALL_EXTRA_S,
                )
                equal = await asyncio.wrap_future(future)
                return Comparison(equal) if equal is not None else Comparison(False, "a formula that can't be read")
            except ProcessExpired as ended:  # the pool has another worker already
                if -(ended.exitcode or 0) in _BY_THE_TEXT:
                    return Comparison(False, "not computed within the limits")
                return Comparison(None)
            except TimeoutError:  # stopped or swapped out: its own limit is processor time
                return Comparison(None)
            except (BrokenProcessPool, RuntimeError):  # a worker ended between two comparisons, say for want of memory
                if self._pool is pool:  # the first to see it
                    await self.close()
        raise RopdError(
            "processes for comparing results end when they start; each imports your script, whose code has to be below "
            '`if __name__ == "__main__":`',
            'a command without a script of yours: see what this prints: python -c "import math_verify"',
        )

    def _start(self) -> ProcessPool:
        check_installed()
        return ProcessPool(
            self._workers,
            max_tasks=TASKS_PER_WORKER,
            initializer=begin,
            initargs=(self._memory_mb,),
            context=multiprocessing.get_context("spawn"),  # no copy of a parent with threads, or with torch in it
        )


def _numbers_equal(first: str, second: str) -> bool | None:
    """Whether two formulas that are numbers are equal; None where one of them is more than that."""
    one, other = number_of(normalise(first)), number_of(normalise(second))
    if one is None or other is None:
        return None
    if one == other:
        return True
    left, right = Fraction(one), Fraction(other)
    if left.denominator == 1 or right.denominator == 1:
        return False
    coarse, fine = sorted((one, other), key=lambda number: int(number.as_tuple().exponent), reverse=True)
    rounded = {fine.quantize(coarse, rounding, _DIGITS) for rounding in (ROUND_HALF_UP, ROUND_DOWN)}
    return coarse in rounded and abs(left - right) <= Fraction(1, 10**6) * max(abs(left), abs(right))


def _as_lists(expected: str, found: str) -> tuple[str, str]:
    """Two formulas, one that could be a list or a number with separators read as the other is."""
    sides = [expected, found]
    for at, other in ((0, found), (1, expected)):
        if _THOUSANDS.fullmatch(sides[at]):
            instead = ", " if re.search(r"\d, \d", other) else ""
            sides[at] = sides[at].replace(",", instead)
    return sides[0], sides[1]


def _pairs(expected: str, found: str) -> list[tuple[str, str]]:
    """The readings of two results that are compared: several where a percentage or a base can be read two ways."""
    sides = [expected, found]
    for readings in (_percentage, _based):
        both = [readings(side) for side in sides]
        if both[0] and both[1]:  # the same kind of thing: its value
            return [(both[0][1], both[1][1])]
        if both[0] or both[1]:
            return [(one, other) for one in both[0] or sides[:1] for other in both[1] or sides[1:]]
    return [(expected, found)]


def _percentage(result: str) -> tuple[str, str] | None:
    """(the number before a percent sign, its value); None for another result."""
    result = re.sub("[\x01\x02]", "", tidy(result))
    signs = list(_PERCENT.finditer(result))
    if len(signs) != 1:
        return None
    before = result[: signs[0].start()].rstrip()
    after = result[signs[0].end() :].lstrip(" }")
    if re.search(r"[^A-Za-z .,$*)]", after):
        return None
    number = before + " " + after if after.strip(" .,$*)") else before
    formula = formula_of(number, False)
    return None if formula is None else (number, f"\\frac{{{formula}}}{{100}}")


def _based(result: str) -> tuple[str, str] | None:
    """(the digits, the value) of a number written with its base; None for another result."""
    if (found := _BASED.fullmatch(tidy(result))) is None:
        return None
    try:
        return found[1], str(int(found[1], int(found[2] or found[3] or found[4])))
    except ValueError:  # no such base, or a digit too large for it
        return None

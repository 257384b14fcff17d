r"""Whether two final results are mathematically equal, by math-verify, under a time limit that holds.

The final result that a text states (``stated_result``), thinking not looked at, is the first of these that exists:

1. the content of the last complete ``\boxed{…}`` (exact.py's rule);
2. what follows ``Answer:``, ``answer is`` or ``####`` (where no words come after it) on the last line that has one of
   them, or on the next line where that one ends there, as a heading ``Final answer`` does. It ends with its clause ("5,
   since …"); of a sentence it is the number or formula that begins it, else its last number. "Answer is not …" is none;
3. the last number, or fraction of two numbers, of the text.

Two results are equal where exact.py calls them so, or where math-verify does: ``1/2`` = ``0.5``, ``{1, 2}`` =
``{2, 1}``, ``x < 3`` = ``(-\infty, 3)``, ``x = 5`` = ``5``. Units are not compared (``5 cm`` = ``5``), and
``50%`` is both 50 and 0.5; a number with its base, ``11_2``, is both its digits and its value. Two plain numbers are
compared as such: whole ones exactly, decimals up to 1e-6, of the larger one and absolutely; against anything else
math-verify compares decimals to six places.

math-verify's own limits interrupt with SIGALRM, which needs the main thread and stops no loop in C, such as
that of ``9^{9^9}``. So it runs in worker processes (``maths_worker``), which the kernel ends at the limit.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import sys
from decimal import Decimal, InvalidOperation
from types import TracebackType

import orjson

from ropd_cli.errors import MissingPackage, RopdError
from ropd_cli.exact import final_result, normalise
from ropd_cli.thinking import split_thinking

TIME_LIMIT_S = 5.0
MEMORY_MB = 2048
"""Address space of one worker; SymPy itself takes about 200 MB of it."""
MAX_CHARS = 10_000
"""A longer result is not parsed: it counts as undecided."""
MAX_WORKERS = 8
DECIMAL_TOLERANCE = Decimal("1e-6")

_START_S = 120.0
_WALL_FACTOR, _WALL_EXTRA_S = 4.0, 20.0
"""A worker that has not answered after so much longer than its limit is stopped or swapped out."""

_MARKED = re.compile(
    r"\banswer\s*(?:\*\*|__)?\s*(?::|：|=|\bis\b(?!\s+(?:not|in)?correct\b|\s+(?:not|right|wrong)\b))"
    r"|####(?=(?:[^A-Za-z]|\\[A-Za-z]+|\b\d*[A-Za-z]\b)*$)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:(?:therefore|thus|hence|then|simply|just|exactly|clearly|equal\s+to|given\s+by)\b\s*[,:]?\s*)+", re.IGNORECASE
)
_LAST = "####"
"""On the last line whatever follows is the result: a heading is never the last line."""
_AMOUNTS = re.compile(r"percent|hundred|thousand|[mb]illion|dozen|times|[\d=<>+]", re.IGNORECASE)
_ASIDE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_HEADING = re.compile(r"[\s#*_]*(?:(?:the|my|final|correct)\s+)*answer[\s:*_]*", re.IGNORECASE)
_CLAUSE = re.compile(
    r"\.\s+(?=[A-Z])|,\s*(?=(?:or|not|since|because|as|so|where|with|i\.e\.|that is)\b)|\s(?=(?:because|since)\b)|(?<!\\);\s"
)
_FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_TIDY = (
    (re.compile(r"\\\$|\\[()\[\]]|\\displaystyle(?![A-Za-z])"), ""),  # a currency's sign, and what encloses a formula
    (re.compile(r"^(?:\s|\\[,;:! ])+|(?:\s|\\[,;:! ]|(?<=\})\.)+$"), ""),
    (re.compile(r",\s*\\!\s*"), ","),  # a separator of thousands set closely
    (re.compile(r"°"), r"^\\circ"),
)
_SENTENCE_WORDS = 4
"""So many words outside formulas are a sentence about the result, and not the result."""
_NUMBER = re.compile(r"-?(?:\d[\d,]*\.?\d*|\.\d+)(?:\s*/\s*-?\d+)?")
_PERCENT = re.compile(r"(.*?)\s*(?:\\?%|\\text\{\s*percent\s*\}|\bpercent)", re.DOTALL)
_BASED = re.compile(r"(\d+)_(?:\{(\d{1,2})\}|(\d))")


def stated_result(text: str) -> str | None:
    """The final result that a text states by this module's rule; None without one."""
    _, visible = split_thinking(text)
    if visible is None:
        return None
    boxed = final_result(visible)
    if boxed is not None:
        return boxed.strip()
    lines = visible.rstrip().splitlines()
    if lines[-1].lstrip().startswith(_LAST) and (stated := _bare(lines[-1].lstrip().removeprefix(_LAST))):
        return stated
    for at in range(len(lines) - 1, -1, -1):
        marks = list(_MARKED.finditer(lines[at]))
        rest = _bare(lines[at][marks[-1].end() :]) if marks else ""
        if rest:
            stated = _of_line(rest)
        elif marks or _HEADING.fullmatch(lines[at]):
            stated = _of_next(lines[at + 1 :])
        else:
            continue
        if stated:
            return stated
    numbers = _NUMBER.findall(visible)
    return numbers[-1].rstrip(",.") if numbers else None


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
        self._turns = asyncio.Semaphore(workers or min(MAX_WORKERS, len(os.sched_getaffinity(0))))
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()

    async def __aenter__(self) -> MathGrader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._idle.clear()
        for worker in list(self._all):
            worker.kill()
        for worker in list(self._all):
            await self._end(worker)

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
        line = orjson.dumps([expected, found, either_way], option=orjson.OPT_APPEND_NEWLINE)
        async with self._turns:
            worker = await self._take()
            answered = False
            try:
                decided = await worker.ask(line, self._time_limit_s * _WALL_FACTOR + _WALL_EXTRA_S)
                answered = True
            except _Ended:
                return None
            finally:
                if answered:
                    self._idle.append(worker)
                else:
                    worker.kill()
                    await asyncio.shield(self._end(worker))
            return decided

    async def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await self._end(worker)
        options = (str(self._time_limit_s), str(self._memory_mb))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ropd_cli.maths_worker", *options,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to the command, which ends its workers
        )  # fmt: skip
        worker = _Worker(process)
        self._all.add(worker)
        try:
            await worker.ready()
        except BaseException:
            worker.kill()
            await asyncio.shield(self._end(worker))
            raise
        return worker

    async def _end(self, worker: _Worker) -> None:
        await worker.process.wait()
        self._all.discard(worker)


class _Ended(Exception):
    """A worker has ended, or does not answer."""


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def kill(self) -> None:
        try:
            self.process.kill()
        except ProcessLookupError:
            pass

    async def ready(self) -> None:
        """Wait until the worker has imported what it needs."""
        try:
            said = orjson.loads(await self._line(_START_S))
        except (_Ended, orjson.JSONDecodeError) as fault:
            raise RopdError(
                "a worker for comparing results did not start",
                "run python -m ropd_cli.maths_worker 5 2048 to see why",
            ) from fault
        if said != "ready":
            raise MissingPackage(f"comparing results needs math-verify ({said})", "pip install math-verify")

    async def ask(self, line: bytes, wall_s: float) -> bool | None:
        try:
            self.process.stdin.write(line)
            await self.process.stdin.drain()
            return orjson.loads(await self._line(wall_s))
        except (ConnectionError, orjson.JSONDecodeError) as fault:
            raise _Ended from fault

    async def _line(self, limit_s: float) -> bytes:
        try:
            async with asyncio.timeout(limit_s):
                line = await self.process.stdout.readline()
        except TimeoutError as fault:
            raise _Ended from fault
        if not line.endswith(b"\n"):
            raise _Ended
        return line


def _of_line(rest: str) -> str | None:
    """The result in what follows "the answer is" on a line."""
    rest = _LEAD.sub("", rest, count=1) if _LEAD.match(rest) else rest
    clause = _bare(_clause(rest))
    if (formula := _formula_among_words(clause)) is not None:
        return formula
    if not _is_sentence(clause):
        return clause
    begun = _FORMULA.match(rest) or _NUMBER.match(rest.removeprefix("\\$"))
    if begun:
        return begun[0].rstrip(",.")
    formulas = _FORMULA.findall(clause)
    if formulas:
        return formulas[-1]
    numbers = _NUMBER.findall(rest)
    return numbers[-1].rstrip(",.") if numbers else None


def _formula_among_words(clause: str) -> str | None:
    """The only formula of a clause whose other parts are words that change no value, as a unit or "(see above)"."""
    formulas = _FORMULA.findall(clause)
    around = _ASIDE.sub(" ", _FORMULA.sub(" ", clause)).strip()
    if len(formulas) != 1 or _AMOUNTS.search(around) or not (around == "" or _WORD.search(around)):
        return None
    return formulas[0]


def _of_next(lines: list[str]) -> str | None:
    """The result on the first line that is not empty, a displayed formula being one line; None for a sentence."""
    text = "\n".join(lines).strip()
    displayed = _FORMULA.match(text) if text.startswith(("$$", "\\[")) else None
    stated = displayed[0].strip("$").removeprefix("\\[").removesuffix("\\]") if displayed else text.partition("\n")[0]
    stated = _bare(stated if displayed else _clause(stated))
    return None if not displayed and _is_sentence(stated) else stated


def _clause(text: str) -> str:
    """A text up to the end of its first clause outside formulas."""
    hidden = _FORMULA.sub(lambda found: "0" * len(found[0]), text)
    end = _CLAUSE.search(hidden)
    return text[: end.start()] if end else text


def _is_sentence(text: str) -> bool:
    return len(_WORD.findall(_FORMULA.sub("", text))) >= _SENTENCE_WORDS


def _bare(stated: str) -> str:
    """What a line states, without Markdown's marks and the full stop after it."""
    return stated.strip().lstrip("*_`: ").rstrip("*_`: .").strip()


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

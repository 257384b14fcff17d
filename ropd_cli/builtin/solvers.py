"""Questions this provider can solve: found in a text by their wording, worked out exactly.

Three kinds, all of whole numbers: sums and differences (``What is 5 + 12?``, ``5 + 12 =``, reasoning-gym's
``chain_sum``), products (``What is 6 * 7?``, ``products``), and greatest common divisors (``gcd``, templates of
version 0.1.25). A question counts as understood only where nothing else in the text asks for more: the provider
refuses rather than guesses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ropd_cli.builtin.numbers import MINUS, canonical

MAX_DIGITS = 400
MAX_NUMBERS = 400


class Unsolvable(ValueError):
    """No question of a known kind, or one whose answer is not a single exact result."""


@dataclass(frozen=True)
class Solution:
    """A question, solved. ``start`` and ``end`` tell where it stands in the text it was found in."""

    start: int
    end: int
    result: str = ""
    """As it is written in an answer: ``17``."""
    calculation: str | None = None
    """``5 + 12``; None for what is no plain calculation."""
    given: tuple[str, ...] = ()
    """Canonical forms of the numbers that the question names."""
    steps: tuple[str, ...] = ()
    """Sentences that lead to the result."""
    fault: str | None = None
    """Why a question of a known kind has no answer here."""


def solve(text: str) -> Solution:
    """Return the last question of ``text``, solved. Raises Unsolvable, saying why.

    A question that the text itself answers (a worked example) is passed over.
    """
    found = _apart([*_after_a_lead(text), *_on_a_line(text), *_divisors(text)])
    if not found:
        raise Unsolvable("no question of a kind it can work out")
    open_ones = [one for n, one in enumerate(found) if not _answered(text, one, found[n + 1 :])]
    last = (open_ones or found[-1:])[-1]
    if last.fault is not None:
        raise Unsolvable(last.fault)
    rest = _without(text, last.end, [one for one in found if one.start > last.start and one not in open_ones])
    if _ASKS_MORE.search(_OWN_END.sub("", rest, count=1)):
        raise Unsolvable("the text asks for something else after the question that it understands")
    return last


def _apart(found: list[Solution]) -> list[Solution]:
    """In order, one of those that overlap: a solution rather than a fault, the longer rather than the shorter."""
    kept: list[Solution] = []
    for one in sorted(found, key=lambda one: (one.fault is not None, one.start - one.end)):
        if all(one.end <= other.start or one.start >= other.end for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda one: one.start)


_OWN_END = re.compile(r"^[\s\"'`*)$\]\\?.!=;,]*")
_ASKS_MORE = re.compile(
    r"\?"
    r"|\b(?:what\s+is|what's|how\s+many|how\s+much|calculate|compute|evaluate)\b[^.\n]{0,40}\d"
    r"|\b(?:add|subtract|multiply|divide)\w*\s+(?:(?:it|that|this|the\s+result)\s+)?(?:by\s+|from\s+|to\s+)?\d"
    r"|\b(?:modulo|mod|rounded|nearest|hexadecimal|octal|roman|remainder|squared|cubed|double|twice|halve)\b"
    r"|\bin\s+(?:binary|words)\b|\bround\s+(?:it|the|your|to|up|down)\b",
    re.IGNORECASE,
)
_ANSWER_AHEAD = re.compile(
    r"[\s?.!=)$:]*(?:(?:a|ans|answer|output|assistant|result)\b[\s:=]*)?(?:[-=]?>\s*)?[\s$=]*-?\d", re.IGNORECASE
)
_FILLED_BOX = re.compile(r"\\boxed\{\s*[^\s}]")
_INSTRUCTS = re.compile(
    r"\b(?:give|write|put|place|state|reply|respond|inside|in|like|such|form|format|e\.g|example)\b", re.IGNORECASE
)


def _answered(text: str, question: Solution, later: list[Solution]) -> bool:
    """Return whether the text goes on with an answer to the question, as a worked example does."""
    end = next((one.start for one in later if one.start >= question.end), len(text))
    ahead = text[question.end : min(end, question.end + 200)]
    box = _FILLED_BOX.search(ahead)
    return bool(_ANSWER_AHEAD.match(ahead)) or (box is not None and not _INSTRUCTS.search(ahead[: box.start()]))


def _without(text: str, start: int, examples: list[Solution]) -> str:
    """Return the text from ``start`` on without the worked examples in it, each to its end, with its question mark."""
    parts = []
    for one in examples:
        parts.append(text[start : one.start])
        start = max(start, one.end)
        start += text.startswith("?", start)
    return " ".join([*parts, text[start:]])


# Plain calculations

_LEAD = re.compile(
    r"(?:\bwhat\s+is|\bwhat's|\bhow\s+much\s+is|\bcalculate|\bcompute|\bevaluate|\bsolve|\bwork\s+out|\bproblem"
    r"|\bmultiplication|\bcalculation|\bsum|\bquestion)\b"
    r"(?:\s+(?:the|following|result|value|of|sum|calculation|problem|multiplication)\b){0,6}"
    r"[\s:$`*\"']*(?:\\\(|\\\[)?",
    re.IGNORECASE,
)
_WHOLE = rf"[{MINUS}]?(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+)"
_TERM = re.compile(rf"\s*(?P<operator>[{MINUS}+*×]|x(?=\s*\d)|\\times|\\cdot)\s*(?P<number>{_WHOLE})")
_FIRST = re.compile(_WHOLE)
_AFTER = re.compile(
    r"[\s`*\"']*(?:\\\)|\\\]|\$)?[\s`*\"']*"
    r"(?:[?=!;]|\.(?!\d)|,(?!\s*(?:in|as|mod|rounded)\b)|\n|$|(?=,?\s*and\s+(?:give|put|write|box|state|reply)\b))",
    re.IGNORECASE,
)
_LINE = re.compile(r"^[ \t>$`]*(?=[-−–\d])", re.MULTILINE)
_LINE_END = re.compile(r"[ \t$`]*(?:=|\?)")


def _after_a_lead(text: str) -> Iterator[Solution]:
    """Calculations behind words that ask for one."""
    done = -1
    for lead in _LEAD.finditer(text):
        chain = _chain(text, lead.end()) if lead.end() >= done else None
        if chain is None:
            continue
        terms, done = chain
        after = _AFTER.match(text, done)
        if after is not None and len(terms) > 1:
            yield _calculation(lead.start(), after.end(), terms)
        else:
            yield Solution(lead.start(), done, fault="a calculation with words or signs in it that it does not know")


def _on_a_line(text: str) -> Iterator[Solution]:
    """Calculations that a line begins with, and ``=`` or ``?`` behind them."""
    for line in _LINE.finditer(text):
        chain = _chain(text, line.end())
        end = _LINE_END.match(text, chain[1]) if chain is not None and len(chain[0]) > 1 else None
        if chain is not None and end is not None:
            yield _calculation(line.end(), end.end(), chain[0])


def _chain(text: str, start: int) -> tuple[list[tuple[str, str]], int] | None:
    """Return (operator and number of each term, where the chain ends); the first one's operator is ``+``."""
    first = _FIRST.match(text, start)
    if first is None:
        return None
    terms, at = [("+", _whole(first.group()))], first.end()
    while len(terms) < MAX_NUMBERS and (term := _TERM.match(text, at)) is not None:
        operator = term["operator"]
        terms.append(("-" if operator in MINUS else "+" if operator == "+" else "*", _whole(term["number"])))
        at = term.end()
    return terms, at


def _whole(written: str) -> str:
    return canonical(f"-{written[1:]}" if written[0] in MINUS else written)


def _calculation(start: int, end: int, terms: list[tuple[str, str]]) -> Solution:
    if any(len(number) > MAX_DIGITS for _, number in terms):
        return Solution(start, end, fault="a number too long")
    summands: list[int] = []
    for operator, number in terms:
        if operator == "*":
            summands[-1] *= int(number)
        else:
            summands.append(-int(number) if operator == "-" else int(number))
    if sum(summands).bit_length() > 4 * MAX_DIGITS:
        return Solution(start, end, fault="a result too long")
    result = str(sum(summands))
    calculation = " ".join([terms[0][1], *(f"{operator} {number}" for operator, number in terms[1:])])
    steps = [f"{calculation} = {result}"]
    if len(terms) > 2 and not any(operator == "*" for operator, _ in terms):  # running totals
        steps, total = [], summands[0]
        for (operator, number), summand in zip(terms[1:], summands[1:], strict=True):
            steps.append(f"{total} {operator} {number} = {total + summand}")
            total += summand
    return Solution(start, end, result, calculation, tuple(number for _, number in terms), tuple(steps))


# Greatest common divisors

_GCD = re.compile(
    r"\b(?:greatest\s+common\s+divisor|GCD)\b[^:\d\n]{0,40}(?::|\bof\b)\s*(?P<list>\d+(?:\s*(?:,\s*and|,|and)\s*\d+)+)",
    re.IGNORECASE,
)


def _divisors(text: str) -> Iterator[Solution]:
    for match in _GCD.finditer(text):
        given = re.findall(r"\d+", match["list"])
        if len(given) > MAX_NUMBERS or any(len(number) > MAX_DIGITS for number in given):
            yield Solution(match.start(), match.end(), fault="numbers too long to work with")
            continue
        steps, value = [], int(given[0])
        for number in given[1:]:
            divisor = math.gcd(value, int(number))
            steps.append(f"the greatest common divisor of {value} and {int(number)} is {divisor}")
            value = divisor
        yield Solution(match.start(), match.end(), str(value), given=tuple(map(canonical, given)), steps=tuple(steps))

"""Questions this provider can solve: found in a text by their wording, worked out exactly.

Three kinds, all of whole numbers: sums and differences (``What is 5 + 12?``, ``5 + 12 =``, reasoning-gym's
``chain_sum``), products (``What is 6 * 7?``, ``products``), and greatest common divisors (``gcd``, templates of
version 0.1.25). A question counts as understood only where it is the only one of its message and nothing else is asked:
the provider refuses rather than guesses.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ropd_cli.builtin.numbers import MINUS, canonical

MAX_DIGITS = 400
MAX_NUMBERS = 400


class Unsolvable(ValueError):
    """No question of a known kind, or one whose answer is not a single exact result."""


@dataclass(frozen=True)
class Solution:
    """A question, solved."""

    result: str
    """As it is written in an answer: ``17``."""
    calculation: str | None
    """``5 + 12``; None for what is no plain calculation."""
    given: tuple[str, ...]
    """Canonical forms of the numbers that the question names."""
    steps: tuple[str, ...]
    """Sentences that lead to the result."""


_LEAD = (
    r"(?:\bwhat\s+is|\bwhat's|\bhow\s+much\s+is|\bcalculate|\bcompute|\bevaluate|\bsolve|\bwork\s+out|\bproblem"
    r"|\bmultiplication|\bcalculation|\bsum|\bquestion)\b"
    r"(?:\s+(?:the|following|result|value|of|sum|calculation|problem|multiplication)\b){0,6}[\s:$`*\"']*(?:\\\(|\\\[)?"
)
_END = (
    r"[\s`*\"']*(?:\\\)|\\\]|\$)?[\s`*\"']*"
    r"(?:[?=!;]|\.(?!\d)|,(?!\s*(?:in|as|mod|rounded)\b)|\n|\Z|(?=,?\s*and\s+(?:give|put|write|box|state|reply)\b))"
)
_WHOLE = rf"[{MINUS}]?(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+)"
_OPERATOR = rf"[{MINUS}+*×]|x(?=\s*\d)|\\times|\\cdot"
_CHAIN = rf"{_WHOLE}(?:\s*(?:{_OPERATOR})\s*{_WHOLE})+"
_CALCULATION = re.compile(
    rf"{_LEAD}(?P<asked>{_CHAIN}){_END}|^[ \t>$`]*(?P<line>{_CHAIN})[ \t$`]*[=?]", re.IGNORECASE | re.MULTILINE
)
_TERM = re.compile(rf"\s*(?P<operator>{_OPERATOR})\s*(?P<number>{_WHOLE})")
_GCD = re.compile(
    r"\b(?:greatest\s+common\s+divisor|GCD)\b[^:\d\n]{0,40}(?::|\bof\b)\s*(?P<list>\d+(?:\s*(?:,\s*and|,|and)\s*\d+)+)",
    re.IGNORECASE,
)
_LAST_TURN = "[user]\n"
_OWN_END = re.compile(r"^[\s\"'`*)$\]\\?.!=;,]*")
_ASKS_MORE = re.compile(
    r"\?"
    r"|\b(?:what\s+is|what's|how\s+many|how\s+much|calculate|compute|evaluate)\b[^.\n]{0,40}\d"
    r"|\b(?:add|subtract|multiply|divide)\w*\s+(?:(?:it|that|this|the\s+result)\s+)?(?:by\s+|from\s+|to\s+)?\d"
    r"|\b(?:modulo|mod|rounded|nearest|hexadecimal|octal|roman|remainder|squared|cubed|double|twice|halve)\b"
    r"|\bin\s+(?:binary|words)\b|\bround\s+(?:it|the|your|to|up|down)\b",
    re.IGNORECASE,
)


def solve(text: str) -> Solution:
    """Return the question of ``text``, solved; of a conversation that of its last message, before which worked examples
    may stand. Raises Unsolvable, saying why."""
    message = text.rpartition(_LAST_TURN)[2]
    questions = [*_CALCULATION.finditer(message), *_GCD.finditer(message)]
    if not questions:
        raise Unsolvable("no question of a kind it can work out")
    if len(questions) > 1:
        raise Unsolvable("more than one question")
    (question,) = questions
    if _ASKS_MORE.search(_OWN_END.sub("", message[question.end() :], count=1)):
        raise Unsolvable("the text asks for something else after the question that it understands")
    numbers = re.findall(_WHOLE, question.group())
    if len(numbers) > MAX_NUMBERS or any(len(number) > MAX_DIGITS for number in numbers):
        raise Unsolvable("numbers too long to work with")
    if question.re is _GCD:
        return _divisor(re.findall(r"\d+", question["list"]))
    return _calculation(question["asked"] or question["line"])


def _calculation(chain: str) -> Solution:
    terms = []
    for term in _TERM.finditer(f"+{chain}"):  # so that the first number has an operator too
        operator = "-" if term["operator"] in MINUS else "+" if term["operator"] == "+" else "*"
        terms.append((operator, _whole(term["number"])))
    summands: list[int] = []
    for operator, number in terms:
        if operator == "*":
            summands[-1] *= int(number)
        else:
            summands.append(-int(number) if operator == "-" else int(number))
    if sum(summands).bit_length() > 4 * MAX_DIGITS:
        raise Unsolvable("a result too long")
    result = str(sum(summands))
    calculation = " ".join([terms[0][1], *(f"{operator} {number}" for operator, number in terms[1:])])
    steps = [f"{calculation} = {result}"]
    if len(terms) > 2 and not any(operator == "*" for operator, _ in terms):  # running totals
        steps, total = [], summands[0]
        for (operator, number), summand in zip(terms[1:], summands[1:], strict=True):
            steps.append(f"{total} {operator} {number} = {total + summand}")
            total += summand
    return Solution(result, calculation, tuple(number for _, number in terms), tuple(steps))


def _divisor(numbers: list[str]) -> Solution:
    steps, value = [], int(numbers[0])
    for number in numbers[1:]:
        divisor = math.gcd(value, int(number))
        steps.append(f"the greatest common divisor of {value} and {int(number)} is {divisor}")
        value = divisor
    return Solution(str(value), None, tuple(map(canonical, numbers)), tuple(steps))


def _whole(written: str) -> str:
    return canonical(f"-{written[1:]}" if written[0] in MINUS else written)

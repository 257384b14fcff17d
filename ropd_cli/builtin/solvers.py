"""Questions this provider can solve: found in a text by their wording, worked out exactly.

Sums and other plain calculations (``What is 5 + 12?``, ``What is the sum of 5 and 12?``, reasoning-gym's
``chain_sum``, ``basic_arithmetic``, ``products`` and ``decimal_chain_sum``) and reasoning-gym's ``gcd``,
``lcm``, ``count_bits``, ``letter_counting``, ``spell_backward`` and ``number_sorting`` (templates of
version 0.1.25). A question counts as understood only where nothing else in the text asks for more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ropd_cli.builtin.numbers import (
    MAX_DIGITS,
    NotExact,
    Token,
    canonical,
    evaluate,
    from_fraction,
    read_tokens,
    tidy,
)

Kind = Literal["number", "word", "list"]


class Unsolvable(ValueError):
    """No question of a known kind, or one whose answer is not a single exact result."""


@dataclass(frozen=True)
class Solution:
    """A question, solved. ``start`` and ``end`` tell where it stands in the text it was found in."""

    start: int
    end: int
    kind: Kind
    result: str
    """As it is written in an answer: ``17``, ``nus``, ``['1', '2']``."""
    calculation: str | None = None
    """``5 + 12`` for a plain calculation."""
    given: tuple[str, ...] = ()
    """Canonical forms of the numbers that the question names."""
    steps: tuple[str, ...] = ()
    """Sentences that lead to the result."""


def solve(text: str) -> Solution:
    """The last question of ``text``, solved. Raises Unsolvable, saying why.

    A question that the text itself answers (a worked example) is passed over.
    """
    found: list[Solution | _Fault] = []
    for family in _FAMILIES:
        found.extend(family(text))
    found = _apart(found)
    if not found:
        raise Unsolvable("no question of a kind it can work out")
    open_ones = [one for n, one in enumerate(found) if not _answered(text, one, found[n + 1 :])]
    last = (open_ones or found[-1:])[-1]
    if isinstance(last, _Fault):
        raise Unsolvable(last.reason)
    after = _OWN_END.match(text, last.end).end()  # type: ignore[union-attr]
    rest = _without(text, after, [one for one in found if one.start > last.start and one not in open_ones])
    if _ASKS_MORE.search(rest):
        raise Unsolvable("the text asks for something else after the question that it understands")
    return last


@dataclass(frozen=True)
class _Fault:
    """A question of a known kind that has no exact answer."""

    start: int
    end: int
    reason: str


def _apart(found: list[Solution | _Fault]) -> list[Solution | _Fault]:
    """In order, one of those that overlap: a solution rather than a fault, the longer rather than the shorter."""
    kept: list[Solution | _Fault] = []
    for one in sorted(found, key=lambda one: (isinstance(one, _Fault), one.start - one.end)):
        if all(one.end <= other.start or one.start >= other.end for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda one: one.start)


_OWN_END = re.compile(r"[\s\"'`*)$\]\\?.!=;,]*")
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


def _answered(text: str, question: Solution | _Fault, later: list[Solution | _Fault]) -> bool:
    """Whether the text goes on with an answer to the question, as a worked example does."""
    end = next((one.start for one in later if one.start >= question.end), len(text))
    ahead = text[question.end : min(end, question.end + 200)]
    if _ANSWER_AHEAD.match(ahead):
        return True
    box = _FILLED_BOX.search(ahead)
    return bool(box) and not _INSTRUCTS.search(ahead[: box.start()])  # type: ignore[union-attr]


def _without(text: str, start: int, spans: list[Solution | _Fault]) -> str:
    """The text from ``start`` on, without the worked examples in it (each to its end, with its question mark)."""
    parts = []
    for span in spans:
        parts.append(text[start : span.start])
        start = max(start, span.end)
        start += text.startswith("?", start)
    return " ".join([*parts, text[start:]])


# Plain calculations

_LEAD = re.compile(
    r"(?:\bwhat\s+(?:is|are)|\bwhat's|\bwhat\s+do(?:es)?|\bhow\s+much\s+(?:is|are)|\bcalculate|\bcompute|\bevaluate"
    r"|\bsolve|\bsimplify|\bwork\s+out|\bfind|\badd\s+up|\bproblem|\bmultiplication|\baddition|\bsubtraction|\bcalculation"
    r"|\bsum|\bexpression|\bquestion|\btask|\bq)\b"
    r"(?:\s+(?:the|following|result|value|answer|of|to|sum|expression|calculation|problem|addition|now)\b){0,6}"
    r"[\s:$`*\"']*(?:\\\(|\\\[)?",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"[\s`*\"']*(?:\\\)|\\\]|\$)?[\s`*\"']*"
    r"(?:(?:is\s+)?(?:equal(?:\s+to)?|equals|to|make|makes|give|exactly|altogether|in\s+total|please|now)\b[\s:]*)*"
    r"(?:[?=!;]|\.(?!\d)|,(?!\s*(?:in|as|mod|rounded)\b)|\n|$|(?=,?\s*and\s+(?:give|put|write|box|state|reply|show|return|answer)\b))",
    re.IGNORECASE,
)
_BARE = re.compile(r"^[ \t>$`]*(?=[-−(\d])", re.MULTILINE)
_BARE_END = re.compile(r"[ \t$`]*(?:=|\?)")


def _calculations(text: str) -> Iterator[Solution | _Fault]:
    done = -1
    for lead in _LEAD.finditer(text):
        if lead.end() < done:
            continue
        tokens = read_tokens(text, lead.end())
        if not tokens or not any(token.kind == "n" for token in tokens):
            continue
        done = tokens[-1].end
        after = _AFTER.match(text, done)
        if after:
            yield _calculation(lead.start(), after.end(), tokens)
        else:
            yield _Fault(lead.start(), done, "a calculation with words or signs in it that it does not know")


def _bare(text: str) -> Iterator[Solution | _Fault]:
    """A line that begins with a calculation and ``=`` or ``?``."""
    for line in _BARE.finditer(text):
        tokens = read_tokens(text, line.end())
        end = tokens and _BARE_END.match(text, tokens[-1].end)
        if end and len(tokens) > 2:
            yield _calculation(line.end(), end.end(), tokens)


_LISTED = r"(?P<list>-?\d[\d.,]*(?:\s*(?:,|,?\s*and)\s*-?\d[\d.,]*)+)"
_IN_WORDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(?:sum|total)\s+of\s+(?:the\s+numbers?\s+)?" + _LISTED, re.IGNORECASE), "+"),
    (re.compile(r"\badd(?:\s+up)?\s+(?:the\s+numbers?\s+)?" + _LISTED, re.IGNORECASE), "+"),
    (re.compile(r"\bproduct\s+of\s+(?:the\s+numbers?\s+)?" + _LISTED, re.IGNORECASE), "*"),
    (re.compile(r"\bmultiply\s+(?P<list>-?\d[\d.,]*\s*(?:by|and)\s*-?\d[\d.,]*)", re.IGNORECASE), "*"),
)
_SUBTRACT = re.compile(r"\bsubtract\s+(?P<b>-?\d+(?:\.\d+)?)\s+from\s+(?P<a>-?\d+(?:\.\d+)?)", re.IGNORECASE)
_ITEM = re.compile(r"-?\d+(?:,\d{3})*(?!\d)(?:\.\d+)?")


def _in_words(text: str) -> Iterator[Solution | _Fault]:
    for pattern, operator in _IN_WORDS:
        for match in pattern.finditer(text):
            numbers = _ITEM.findall(match["list"])
            yield _worded(text, match, f" {operator} ".join(numbers))
    for match in _SUBTRACT.finditer(text):
        yield _worded(text, match, f"{match['a']} - {match['b']}")


def _worded(text: str, match: re.Match[str], calculation: str) -> Solution | _Fault:
    end = match.end() - (match.group()[-1] in ".,")  # the pattern of a number takes a full stop along
    after = _AFTER.match(text, end)
    if not after:
        return _Fault(match.start(), end, "a calculation with words or signs in it that it does not know")
    return _calculation(match.start(), after.end(), read_tokens(calculation, 0))


def _calculation(start: int, end: int, tokens: list[Token]) -> Solution | _Fault:
    try:
        result = from_fraction(evaluate(tokens))
    except NotExact as fault:
        return _Fault(start, end, str(fault))
    except (ValueError, OverflowError, RecursionError):
        return _Fault(start, end, "a calculation that it can't read")
    if len(result) > MAX_DIGITS:
        return _Fault(start, end, "a result too long")
    calculation = tidy(tokens)
    given = tuple(token.text for token in tokens if token.kind == "n")
    return Solution(start, end, "number", result, calculation, given, _running_steps(tokens, calculation, result))


def _running_steps(tokens: list[Token], calculation: str, result: str) -> tuple[str, ...]:
    """Running totals of a chain of + and -; one equation for anything else."""
    kinds = [token.kind for token in tokens]
    chain = len(tokens) > 3 and kinds[0::2] == ["n"] * len(kinds[0::2]) and set(kinds[1::2]) <= {"+", "-"}
    if not chain:
        return (f"{calculation} = {result}",)
    steps, total = [], tokens[0].text
    for operator, term in zip(tokens[1::2], tokens[2::2], strict=True):
        value = from_fraction(evaluate([*read_tokens(total, 0), operator, term]))
        steps.append(f"{total} {operator.kind} {term.text} = {value}")
        total = value
    return tuple(steps)


# reasoning-gym tasks

_GCD = re.compile(
    r"\b(?:greatest\s+common\s+divisor|GCD)\b[^:\d\n]{0,40}(?::|\bof\b)\s*(?P<list>\d+(?:\s*(?:,\s*and|,|and)\s*\d+)+)",
    re.IGNORECASE,
)
_LCM = re.compile(
    r"\b(?:least\s+common\s+multiple|LCM)\b[^:\d\n]{0,40}(?::|\bof\b)\s*(?P<list>\d+(?:\s*(?:,\s*and|,|and)\s*\d+)+)",
    re.IGNORECASE,
)
_BITS = re.compile(
    r"\bhow\s+many\s+1\s+bits\s+are\s+(?:there\s+)?in\s+the\s+binary\s+representation\s+of\s+(?:the\s+number\s+)?(?P<n>\d+)",
    re.IGNORECASE,
)
_LETTERS = re.compile(
    r'\bhow\s+many\s+times\s+does\s+the\s+letter\s+"(?P<letter>[^"\s])"\s+appear\s+in\s+the\s+(?:text|word):\s*"(?P<text>[^"]*)"',
    re.IGNORECASE,
)
_SPELL = re.compile(
    r"\bspell\s+(?:this|the)\s+word\s+backwards?\s*(?:\(example:[^()]*\))?\s*:\s*(?P<word>[^\W_]+)", re.IGNORECASE
)
_SORT = re.compile(
    r"\bsort\s+these\s+numbers\s+in\s+(?P<way>ascending|descending)\s+order:\s*(?P<list>-?\d+(?:\.\d+)?(?:\s*,\s*-?\d+(?:\.\d+)?)*)",
    re.IGNORECASE,
)
MAX_LISTED = 1000


def _small(numbers: list[str]) -> list[int]:
    """Whole numbers of a list. Raises ValueError where it is too long to work with."""
    if len(numbers) > MAX_LISTED or any(len(number) > MAX_DIGITS for number in numbers):
        raise ValueError("too long")
    return [int(number) for number in numbers]


def _gcd(match: re.Match[str]) -> Solution:
    numbers = _small(re.findall(r"\d+", match["list"]))
    steps, value = [], numbers[0]
    for number in numbers[1:]:
        steps.append(f"the greatest common divisor of {value} and {number} is {math.gcd(value, number)}")
        value = math.gcd(value, number)
    return _counted(match, value, numbers, steps)


def _lcm(match: re.Match[str]) -> Solution:
    numbers = _small(re.findall(r"\d+", match["list"]))
    steps, value = [], numbers[0]
    for number in numbers[1:]:
        steps.append(f"the least common multiple of {value} and {number} is {math.lcm(value, number)}")
        value = math.lcm(value, number)
    return _counted(match, value, numbers, steps)


def _bits(match: re.Match[str]) -> Solution:
    (number,) = _small([match["n"]])
    return _counted(match, number.bit_count(), [number], [f"in binary {number} is {number:b}"])


def _letters(match: re.Match[str]) -> Solution:
    letter, words = match["letter"].lower(), match["text"].lower().split()
    steps = [f'"{word}" has {word.count(letter)}' for word in words if letter in word][:40]
    return _counted(match, sum(word.count(letter) for word in words), [], steps or [f'no word has an "{letter}"'])


def _spell(match: re.Match[str]) -> Solution:
    word = match["word"]
    steps = (f"the letters from the last to the first are {', '.join(word[::-1])}",)
    return Solution(match.start(), match.end(), "word", word[::-1], steps=steps)


def _sort(match: re.Match[str]) -> Solution:
    numbers = re.findall(r"-?\d+(?:\.\d+)?", match["list"])
    if len(numbers) > MAX_LISTED or any(len(number) > MAX_DIGITS for number in numbers):
        raise ValueError("too long")
    down = match["way"].lower() == "descending"
    ordered = sorted(numbers, key=Fraction, reverse=down)
    first = "largest" if down else "smallest"
    result = str(ordered)
    given = tuple(canonical(number) for number in numbers)
    steps = (f"the {first} of these {len(numbers)} numbers is {ordered[0]}",)
    return Solution(match.start(), match.end(), "list", result, given=given, steps=steps)


def _counted(match: re.Match[str], value: int, given: list[int], steps: list[str]) -> Solution:
    if len(str(value)) > MAX_DIGITS:
        raise ValueError("too long")
    return Solution(match.start(), match.end(), "number", str(value), None, tuple(map(str, given)), tuple(steps))


def _by_pattern(
    pattern: re.Pattern[str], work: Callable[[re.Match[str]], Solution]
) -> Callable[[str], Iterator[Solution | _Fault]]:
    def find(text: str) -> Iterator[Solution | _Fault]:
        for match in pattern.finditer(text):
            try:
                yield work(match)
            except ValueError:
                yield _Fault(match.start(), match.end(), "numbers too long to work with")

    return find


_FAMILIES: tuple[Callable[[str], Iterator[Solution | _Fault]], ...] = (
    _calculations,
    _bare,
    _in_words,
    _by_pattern(_GCD, _gcd),
    _by_pattern(_LCM, _lcm),
    _by_pattern(_BITS, _bits),
    _by_pattern(_LETTERS, _letters),
    _by_pattern(_SPELL, _spell),
    _by_pattern(_SORT, _sort),
)

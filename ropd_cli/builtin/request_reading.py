"""What an answer states: its final result, any other result beside it, what follows after it, its steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ropd_cli.builtin.numbers import Found, canonical, numbers_in
from ropd_cli.builtin.solvers import Solution

_BOX = "\\boxed{"
_CALLED = re.compile(
    r"\b(?:answer|result|sum|total|product|difference|solution|count)\b[^.\n=:]{0,40}?(?:\bis\b|:|=)[\s$*`\"'(\\]*(?:boxed\{)?",
    re.IGNORECASE,
)
_NUMBER_ALONE = re.compile(r"-?[\d.,]*\d")
_WORD = re.compile(r"[^\W_]+")
_CLOSING = re.compile(r"[\s.!$*`\"')}\]]*|\\[)\]]")


@dataclass(frozen=True)
class Result:
    """A result as an answer states it: comparable ``value`` and the position behind it."""

    value: str
    end: int


def comparable(result: str) -> str:
    """Return a result in the form in which two are compared: number, or words, case and marks aside."""
    text = result.strip().strip("$*`\"' ").rstrip(".").strip()
    bare = text.replace("\\,", "").replace("{,}", "").replace("−", "-")
    return canonical(bare) if _NUMBER_ALONE.fullmatch(bare) else " ".join(text.casefold().split())


def final_result(text: str) -> Result | None:
    """Return the result that an answer ends up with.

    The last ``\\boxed{…}``; without one the number after the last "the answer is" or "="; without one the last number
    of the text. None where there is nothing of the kind.
    """
    results = boxed(text) or called_results(text)
    if results:
        return results[-1]
    after = text.rfind("=") + 1
    number = next(numbers_in(text, after), None) if after else None
    if number is None:
        *_, number = None, *numbers_in(text)
    return _result_of(number) if number is not None else None


def boxed(text: str) -> list[Result]:
    """Return the contents of all complete ``\\boxed{…}``, braces balanced, in order."""
    found, at = [], text.find(_BOX)
    while at >= 0:
        depth, start = 1, at + len(_BOX)
        end = start
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if depth:
            break
        found.append(Result(comparable(text[start : end - 1]), end))
        at = text.find(_BOX, end)
    return found


def called_results(text: str) -> list[Result]:
    """Return the numbers right behind each "the answer is", "result:" and the like."""
    results = []
    for lead in _CALLED.finditer(text):
        number = next(numbers_in(text[: lead.end() + 200], lead.end()), None)
        if number is not None and not text[lead.end() : number.start].strip(" $*`\"'([{\\"):
            results.append(_result_of(number))
    return results


def results_agree(text: str) -> bool:
    """Return whether all results that a text states as such are the same one; False where it states none."""
    final = final_result(text)
    return final is not None and {one.value for one in (*boxed(text), *called_results(text))} <= {final.value}


def ends_with_result(text: str) -> bool:
    """Return whether nothing but punctuation follows the first box, or without a box the final result."""
    boxes = boxed(text)
    result = boxes[0] if boxes else final_result(text)
    return result is not None and not _CLOSING.sub("", text[result.end :]).strip()


def holds_value(text: str, value: str) -> bool:
    """Return whether a value stands anywhere in a text, as a number of its own."""
    return any(number.value == comparable(value) for number in numbers_in(text))


def shows_work(text: str, question: Solution) -> bool:
    """Return whether an answer shows more than its result: the numbers of the calculation beside it, or for other
    questions some words."""
    if question.calculation is not None:
        left = [found.value.lstrip("-") for found in numbers_in(text)]
        for number in question.given:
            if number.lstrip("-") not in left:
                return False
            left.remove(number.lstrip("-"))
        return bool(left)  # the result stands beside the numbers that were given
    return len(_WORD.findall(text)) >= len(_WORD.findall(question.result)) + 3


def _result_of(number: Found) -> Result:
    return Result(number.value, number.end)

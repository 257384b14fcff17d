"""What an answer states: its final result, any other result beside it, what follows after it, its steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ropd_cli.builtin.numbers import canonical, numbers_in
from ropd_cli.builtin.solvers import Solution

_BOX = "\\boxed{"
_SAID = re.compile(
    r"\b(?:answer|result|sum|total|product|difference|solution|count)\b[^.\n=:]{0,40}?(?:\bis\b|:|=)[\s$*`\"'(\\]*(?:boxed\{)?",
    re.IGNORECASE,
)
_LIST = re.compile(r"\[[^\[\]]*\]")
_WORD = re.compile(r"[^\W_]+")
_ITEM = re.compile(r"[^\s,\[\]'\"]+")
_CLOSING = re.compile(r"[\s.!$*`\"')}\]]*|\\[)\]]")


@dataclass(frozen=True)
class Stated:
    """A result as an answer states it: comparable ``value`` and the position behind it."""

    value: str
    end: int


def comparable(result: str) -> str:
    """A result in the form in which two are compared: number, list of items, or words, case and marks aside."""
    text = result.strip().strip("$*`\"' ").rstrip(".").strip()
    if text.startswith("[") and text.endswith("]"):
        return "[" + ",".join(_number_or_text(item) for item in _ITEM.findall(text)) + "]"
    return _number_or_text(text)


def final_result(text: str, like: str) -> Stated | None:
    """The result that an answer ends up with; ``like`` is a result of the kind that is looked for.

    The last ``\\boxed{…}``; without one what stands after the last "the answer is" or "="; without one the
    last number, list or word of the text. None where there is nothing of the kind.
    """
    boxes = boxed(text)
    if boxes:
        return boxes[-1]
    said = said_results(text, like)
    if said:
        return said[-1]
    for start in (text.rfind("=") + 1, 0):
        found = _of_kind(text, start, like)
        if found:
            return found[-1] if start == 0 else found[0]
    return None


def boxed(text: str) -> list[Stated]:
    """The contents of all complete ``\\boxed{…}``, braces balanced, in order."""
    found, at = [], text.find(_BOX)
    while at >= 0:
        depth, start = 1, at + len(_BOX)
        end = start
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if depth:
            break
        found.append(Stated(comparable(text[start : end - 1]), end))
        at = text.find(_BOX, end)
    return found


def said_results(text: str, like: str) -> list[Stated]:
    """What follows each "the answer is", "result:" and the like, where it is of the kind looked for."""
    results = []
    for lead in _SAID.finditer(text):
        found = _of_kind(text[: lead.end() + 200], lead.end(), like)
        if found and not text[lead.end() : _start_of(found[0], text, lead.end())].strip(" $*`\"'([{\\"):
            results.append(found[0])
    return results


def results_agree(text: str, like: str) -> bool:
    """Whether all results that a text states as such are the same one; False where it states none."""
    stated = {one.value for one in (*boxed(text), *said_results(text, like))}
    final = final_result(text, like)
    return final is not None and stated <= {final.value}


def ends_with_result(text: str, like: str) -> bool:
    """Whether nothing but punctuation follows the first box, or without a box the final result."""
    boxes = boxed(text)
    result = boxes[0] if boxes else final_result(text, like)
    return result is not None and not _rest(text[result.end :])


def holds_value(text: str, value: str) -> bool:
    """Whether a value stands anywhere in a text, as a number, list or word of its own."""
    return any(one.value == comparable(value) for one in _of_kind(text, 0, value))


def shows_work(text: str, question: Solution) -> bool:
    """Whether an answer shows more than its result: the numbers of the calculation and an equals sign, or
    for other questions some words beside the result."""
    if question.calculation is not None:
        left = [found.value.lstrip("-") for found in numbers_in(text)]
        for number in question.given:
            if number.lstrip("-") not in left:
                return False
            left.remove(number.lstrip("-"))
        return bool(left)  # the result stands beside the numbers that were given
    return len(_WORD.findall(text)) >= len(_WORD.findall(question.result)) + 3


def _of_kind(text: str, start: int, like: str) -> list[Stated]:
    """Numbers, lists or words of a text from ``start`` on, whichever ``like`` is."""
    value = comparable(like)
    if value.startswith("["):
        return [Stated(comparable(match.group()), match.end()) for match in _LIST.finditer(text, start)]
    if _is_number(value):
        return [Stated(found.value, found.end) for found in numbers_in(text) if found.start >= start]
    return [Stated(comparable(match.group()), match.end()) for match in _WORD.finditer(text, start)]


def _start_of(stated: Stated, text: str, at: int) -> int:
    """Where the text of a result begins, as near as its length tells."""
    return max(at, min(stated.end - 1, stated.end - len(stated.value)))


def _rest(text: str) -> str:
    return _CLOSING.sub("", text).strip()


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[\d.,]*\d", text) is not None


def _number_or_text(text: str) -> str:
    bare = text.strip().replace("\\,", "").replace("{,}", "").replace("−", "-")
    return canonical(bare) if _is_number(bare) else " ".join(text.casefold().split())

"""The checks that rubrics of the built-in provider are made of: a sentence each, and the rule behind it.

Besides the right result there are checks that a wrong answer can still meet in part (a result nearby, its last
digit): a weak student that is never right yet would else get the same reward for everything it tries.

A criterion is its sentence and nothing else: the verifier reads the sentence back, so it applies the rubrics
of the built-in rubricator, and any that a user writes with the same sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ropd_cli.builtin.request_reading import (
    boxed,
    comparable,
    ends_with_result,
    final_result,
    holds_value,
    results_agree,
    shows_work,
)
from ropd_cli.builtin.solvers import Solution

MAX_WORDS = 60
NEAR_PART = 10
BOX_FORM = "\\boxed{…}"


@dataclass(frozen=True)
class Check:
    """One kind of criterion. ``sentence`` may hold ``{result}``; ``points`` is its weight where it separates well."""

    name: str
    category: str
    sentence: str
    points: int
    holds: Callable[[str, str, Solution], bool]
    """(answer, the result the criterion names, the solved question) -> met or not."""

    def criterion(self, question: Solution) -> str:
        """Return the sentence for a question."""
        return self.sentence.replace("{result}", question.result)

    def read(self, criterion: str, question: Solution) -> str | None:
        """Return the result that a sentence of this kind names (the question's where it names none); None for
        another sentence."""
        before, names_result, after = self.sentence.partition("{result}")
        text = criterion.strip()
        if not names_result:
            return question.result if text == self.sentence else None
        if text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after):
            return text[len(before) : len(text) - len(after)]
        return None


def _right(answer: str, result: str, _question: Solution) -> bool:
    final = final_result(answer)
    return final is not None and final.value == comparable(result)


def _box(answer: str, _result: str, _question: Solution) -> bool:
    return any(one.value for one in boxed(answer))


def _alone(answer: str, result: str, _question: Solution) -> bool:
    final = final_result(answer)
    return final is not None and len(answer.split()) <= len(result.split()) + 1 and ends_with_result(answer)


def _contains(answer: str, result: str, _question: Solution) -> bool:
    return holds_value(answer, result)


def _near(answer: str, result: str, _question: Solution) -> bool:
    final, value = final_result(answer), _fraction(comparable(result))
    number = _fraction(final.value) if final is not None else None
    return value is not None and number is not None and abs(number - value) <= max(Fraction(2), abs(value) / NEAR_PART)


def _last_digit(answer: str, result: str, _question: Solution) -> bool:
    final = final_result(answer)
    return final is not None and _fraction(final.value) is not None and final.value[-1] == comparable(result)[-1]


def _fraction(value: str) -> Fraction | None:
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError):
        return None


def _single(answer: str, _result: str, _question: Solution) -> bool:
    return results_agree(answer)


def _stops(answer: str, _result: str, _question: Solution) -> bool:
    return ends_with_result(answer)


def _work(answer: str, _result: str, question: Solution) -> bool:
    return shows_work(answer, question)


def _short(answer: str, _result: str, _question: Solution) -> bool:
    return len(answer.split()) <= MAX_WORDS


RIGHT = Check("right", "Task Completion", "The final result that the answer states is {result}.", 5, _right)
BOXED = Check("boxed", "Task Completion", f"The result stands in {BOX_FORM}, the form that the task asks for.", 3, _box)
ALONE = Check("alone", "Task Completion", "The answer is the result alone, as the task asks.", 3, _alone)
CONTAINS = Check("contains", "General Reasoning", "The value {result} appears in the answer.", 2, _contains)
NEAR = Check(
    "near",
    "General Reasoning",
    f"The final result is a number near {{result}}: off by at most 2 or one part in {NEAR_PART}.",
    2,
    _near,
)
LAST_DIGIT = Check(
    "last digit",
    "General Reasoning",
    "The final result ends in the same digit as {result}.",
    1,
    _last_digit,
)
SINGLE = Check(
    "single", "General Reasoning", "The answer states one result and no other that contradicts it.", 1, _single
)
STOPS = Check(
    "stops", "Observable Quality", "The answer ends once its result is stated: nothing comes after it.", 1, _stops
)
WORK = Check(
    "work",
    "General Reasoning",
    "The answer shows its work: the numbers of the calculation or, where the task has none, words.",
    1,
    _work,
)
SHORT = Check("short", "Observable Quality", f"The answer has at most {MAX_WORDS} words.", 1, _short)

CHECKS = (RIGHT, BOXED, ALONE, CONTAINS, NEAR, LAST_DIGIT, SINGLE, STOPS, WORK, SHORT)

_ALONE_ASKED = re.compile(
    r"\b(?:only|just)\s+(?:with\s+|give\s+|write\s+|the\s+|your\s+|a\s+)*(?:final\s+)?(?:number|result|answer|word|value|integer)\b"
    r"|\b(?:number|result|answer|word|value)\s+(?:only|alone)\b|\bnothing\s+else\b",
    re.IGNORECASE,
)


def form_asked(question_text: str) -> Check | None:
    """Return the form in which a task asks for its result: in a box, alone, or (None) as the writer likes."""
    if "\\boxed" in question_text:
        return BOXED
    return ALONE if _ALONE_ASKED.search(question_text) else None

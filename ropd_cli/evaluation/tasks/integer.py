r"""AIME: the final result is an integer from 0 to 999.

The final result is what maths.py reads from the text. It counts as an integer in these forms, and in no other: digits
with leading zeros (``073``), a decimal point with zeros alone behind it (``73.0``), thousands separators, ``$…$``,
``\text{…}``, bold; behind an equation's last ``=`` (``m + n = 73``); a plain unit or a degree sign behind it. Anything
else, and an integer outside of 0 to 999, is a result that is wrong.
"""

from __future__ import annotations

import re

from ropd_cli.errors import InputError
from ropd_cli.evaluation.records import Grade, Sample
from ropd_cli.evaluation.tasks.base import Result, graded, visible_text
from ropd_cli.evaluation.tasks.maths import INSTRUCTION, LONGEST
from ropd_cli.exact import normalise
from ropd_cli.maths import stated_result
from ropd_cli.tasks.evalsets import EvalQuestion

MOST = 999
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boldsymbol|bm|boxed|displaystyle)\s*\{([^{}]*)\}")
_INTEGER = re.compile(r"\+?([0-9]+)(?:\.0*)?")
_UNIT = re.compile(r"(?:\^\s*\{?\\circ\}?|°|\\(?:text|mathrm)\{[^{}]*\}|\s+[A-Za-z]+|[A-Za-z]{2,})+$")


class IntegerTask(Result):
    """Graded by the integer itself; nothing is undecided."""

    def __init__(self, instruction: str | None = INSTRUCTION) -> None:
        super().__init__("integer from 0 to 999", instruction)

    def check(self, question: EvalQuestion) -> None:
        super().check(question)
        if integer_of(str(question.answer)) is None:
            raise InputError(
                f"question {question.id}: its answer is no integer from 0 to {MOST}", "grade the set by math instead"
            )

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        text = visible_text(sample)
        found = stated_result(text) if text is not None else None
        if not found:
            return graded(sample, 0.0, None)
        value = integer_of(found)
        if value is None:
            return graded(sample, 0.0, found.strip()[:LONGEST])
        return graded(sample, float(value == integer_of(str(question.answer))), str(value))


def integer_of(result: str) -> int | None:
    """The integer from 0 to 999 that a result is; None for anything else."""
    for _ in range(3):
        result = _WRAPPED.sub(r"\1", result)
    result = (
        normalise(result.replace("\\$", "").replace("\\(", "").replace("\\)", "").strip("*_ "))
        .replace("\\,", "")
        .strip("*_ {}")
    )
    result = result.rpartition("=")[2].strip()
    result = _UNIT.sub("", result).strip()
    found = _INTEGER.fullmatch(result)
    if found is None or len(found[1]) > 12:
        return None
    value = int(found[1])
    return value if value <= MOST else None

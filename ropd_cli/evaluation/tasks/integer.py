r"""Competition problems whose answers are integers from 0 to 999 (AIME): ``073`` is 73.

The result is stated and made plain as for other maths (``stated_result``, ``formula_of``). It counts where it is
written out as an integer of one to three digits, with ``.0`` or a unit, or after the last equals sign (``m + n = 73``).
Anything else (``1,073``, ``-73``, ``73.5``, ``\frac{146}{2}``, ``2^6+9``, ``m = 7, n = 3``) is no result: the answer
sheet has no room for it.
"""

from __future__ import annotations

import re

from ropd_cli.answers.final_answer import stated_result
from ropd_cli.answers.result_text import formula_of
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Grade, Query, Sample
from ropd_cli.evaluation.tasks.single_result import (
    BOX_INSTRUCTION,
    ResultTask,
    accuracy,
    gold_answer,
    grade_of,
    messages_with,
)

_MODULO = re.compile(r"\\pmod\s*(?:\{\d+\}|\d)|\(?(?:\\[bp]?mod|\bmod|\bmodulo)\s*\{?\d+\}?\)?")
_EQUALS = re.compile(r"=|\\equiv|≡")
_SEVERAL = re.compile(r"(?:,|;|\band\b|\bor\b)[\s$\\{}]*[A-Za-z]\s*=")
_INTEGER = re.compile(r"\+?(?:\((\d{1,3})\)|\{(\d{1,3})\}|(\d{1,3})(?:\.0*)?)(?:\\?%)?")


class IntegerTask(ResultTask):
    """Asks for a boxed integer and compares integers; no worker processes are needed."""

    metrics = (accuracy("integer from 0 to 999"),)

    def check(self, question: EvalQuestion) -> None:
        """Raises InputError where the answer is no integer from 0 to 999."""
        if _integer(gold_answer(question)) is None:
            raise InputError(
                f"question {question.id}: its answer is no integer from 0 to 999", "the math grader takes other results"
            )

    def ask(self, question: EvalQuestion, sample: int) -> Query:
        """The question with the instruction; the same for all samples."""
        return Query(messages_with(question, BOX_INSTRUCTION))

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        """1 where the integer stated is the answer, else 0."""
        found = read_integer(sample.text)
        return grade_of(
            sample,
            found is not None and found == _integer(gold_answer(question)),
            None if found is None else str(found),
        )


def read_integer(text: str) -> int | None:
    """The integer from 0 to 999 that a reply states as its result; None without one."""
    stated = stated_result(_MODULO.sub("", text))
    return None if stated is None else _integer(stated)


def _integer(result: str) -> int | None:
    formula = None if _SEVERAL.search(result) else formula_of(_EQUALS.split(result)[-1], False)
    found = _INTEGER.fullmatch(formula) if formula else None
    return int(found[found.lastindex or 0]) if found else None

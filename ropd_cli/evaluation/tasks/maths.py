r"""Maths problems whose answers are expressions: equal where ``MathGrader`` says so.

The result of a reply is what ``stated_result`` reads: the last box, else what is stated as the answer, else the
last number. A reply that ran into its token limit is graded by what it says; one cut off inside its thinking has no
result.
"""

from __future__ import annotations

import re

from ropd_cli.answers.exact_match import canonical
from ropd_cli.answers.math_equal import MathGrader, stated_result
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.evaluation.samples import Grade, Query, Sample
from ropd_cli.evaluation.tasks.single_result import (
    BOX_INSTRUCTION,
    ResultTask,
    accuracy,
    gold_answer,
    grade_of,
    messages_with,
)

_SHORT_FRACTION = re.compile(r"\\frac\s*(?:(\d)|\{([^{}]*)\})\s*(?:(\d)|\{([^{}]*)\})")
_SIZE = re.compile(r"\\(?:left|right|displaystyle|[,;:! ])(?![A-Za-z])|\\q?quad(?![A-Za-z])|\s+")


class MathTask(ResultTask):
    """Asks for a boxed answer and compares it by algebra.

    ``extracted`` of all right results is the gold answer; of others a form in which those written alike up to spaces,
    ``\\dfrac`` and the like are equal, so wrong results that are equal only by algebra count apart in a majority. The
    grader is closed with the task.
    """

    metrics = (accuracy("math-verify"),)

    def __init__(self, grader: MathGrader) -> None:
        self._grader = grader

    async def __aexit__(self, *exc: object) -> None:
        await self._grader.close()

    def check(self, question: EvalQuestion) -> None:
        """Raises InputError for a question without an answer."""
        gold_answer(question)

    def ask(self, question: EvalQuestion, sample: int) -> Query:
        """The question with the instruction; the same for all samples."""
        return Query(messages_with(question, BOX_INSTRUCTION))

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        """1 where the result equals the answer, 0 where not, None only where a worker was ended from outside."""
        gold, found = gold_answer(question), stated_result(sample.text)
        if not found or not found.strip():
            return grade_of(sample, False, None)
        outcome = await self._grader.compare(gold, found)
        extracted = written_alike(gold if outcome.equal else found)
        why_missing = "a process that compares results was ended from outside" if outcome.equal is None else None
        return grade_of(sample, outcome.equal, extracted, why_missing, outcome.undecided)


def written_alike(result: str) -> str:
    """A result in a form in which those that are written alike are the same string. It is no algebra."""
    plain = _SIZE.sub("", canonical(result.replace("\\$", "").replace("\\mbox", "\\text")))
    plain = plain.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("{,}", "")
    return canonical(_SHORT_FRACTION.sub(lambda f: f"\\frac{{{f[1] or f[2]}}}{{{f[3] or f[4]}}}", plain))

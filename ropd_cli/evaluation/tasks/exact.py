"""Exact match: the whole answer, or its last box, equals the gold answer but for case of neither."""

from __future__ import annotations

from ropd_cli.evaluation.records import Grade, Sample
from ropd_cli.evaluation.tasks.base import Result, graded, visible_text
from ropd_cli.evaluation.tasks.maths import LONGEST
from ropd_cli.exact import final_result, normalise
from ropd_cli.tasks.evalsets import EvalQuestion


class ExactTask(Result):
    r"""Right where the last ``\boxed{…}``, or without one the whole visible text, equals the gold answer by exact.py's
    rule. Nothing is said to the model besides the question."""

    def __init__(self, instruction: str | None = None) -> None:
        super().__init__("exact match", instruction)

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        text = visible_text(sample)
        if text is None:
            return graded(sample, 0.0, None)
        found = normalise(final_result(text) or text)
        return graded(sample, float(found == normalise(str(question.answer))), found[:LONGEST])

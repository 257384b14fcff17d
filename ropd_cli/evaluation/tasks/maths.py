r"""Mathematics: the final result that an answer states, compared with the gold answer by math-verify."""

from __future__ import annotations

from ropd_cli.evaluation.records import Grade, Sample
from ropd_cli.evaluation.tasks.base import Result, graded, visible_text
from ropd_cli.exact import normalise
from ropd_cli.maths import MathGrader, stated_result
from ropd_cli.tasks.evalsets import EvalQuestion

INSTRUCTION = "Reason step by step, and put your final answer within \\boxed{}."
LONGEST = 200
"""A longer extracted result is stored cut; it is never the gold answer."""


class MathTask(Result):
    """Graded by maths.py: the last box, else the last stated answer, else the last number; equal by math-verify.

    An answer that was cut off is graded by what it says. Where a comparison reaches its limit the grade is missing.
    """

    def __init__(self, maths: MathGrader, instruction: str | None = INSTRUCTION) -> None:
        super().__init__("math-verify", instruction)
        self._maths = maths

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        text = visible_text(sample)
        found = stated_result(text) if text is not None else None
        if text is None or not found:
            return graded(sample, 0.0, None)
        gold = str(question.answer)
        right = await self._maths.is_correct(text, gold)
        if right is None:
            return graded(sample, None, _shown(found), "the comparison with the gold answer was not decided")
        return graded(sample, float(right), _shown(gold if right else found))


def _shown(result: str) -> str:
    """A result in a form in which equal ones are mostly equal: enough for a vote among wrong ones; right ones all have
    the gold answer's."""
    return "".join(normalise(result).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").split())[:LONGEST]

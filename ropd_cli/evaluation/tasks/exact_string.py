r"""Results that are compared as strings, after what does not change them is gone (``exact_match.normalise``).

The result is the content of the last ``\boxed{…}``, else the whole reply after its thinking. Case counts; ``$``,
``\text{…}``, thousands separators, space around and a final full stop do not, and numbers are equal by value.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from ropd_cli.answers.exact_match import normalise
from ropd_cli.answers.final_answer import final_result
from ropd_cli.answers.thinking import answer_of
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.evaluation.samples import Grade, Sample
from ropd_cli.evaluation.tasks.single_result import ResultTask, gold_answer, grade_of


class ExactTask(ResultTask):
    """Asks as the question stands."""

    def check(self, question: EvalQuestion) -> None:
        """Raises InputError for a question without an answer."""
        gold_answer(question)

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        """1 where the result is the answer, else 0."""
        visible = answer_of(sample.text)
        if visible is None:
            return grade_of(sample, False, None)
        boxed = final_result(visible)
        found = _same(visible if boxed is None else boxed)
        return grade_of(sample, found == _same(gold_answer(question)), found or None)


def _same(result: str) -> str:
    """A form in which equal results are equal strings."""
    plain = normalise(result)
    try:
        number = Decimal(plain)
    except InvalidOperation:
        return plain
    if not number.is_finite():
        return plain
    return "0" if number == 0 else f"{number.normalize():f}" if abs(number.adjusted()) < 30 else str(number.normalize())

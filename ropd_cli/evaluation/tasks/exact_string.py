r"""Results that are compared as strings, after what does not change them is gone (``exact_match.canonical``).

The result is the content of the last ``\boxed{…}``, else the whole reply after its thinking. Case counts; ``$``,
``\text{…}``, thousands separators, space around and a final full stop do not, and numbers are equal by value.
"""

from __future__ import annotations

from ropd_cli.answers.exact_match import canonical
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
        found = canonical(visible if boxed is None else boxed)
        return grade_of(sample, found == canonical(gold_answer(question)), found or None)

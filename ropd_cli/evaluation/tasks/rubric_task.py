"""Grade questions that bring their own rubric, as ``ropd verify`` grades rollouts: the weighted share passed.

The rubric stands in ``rubric`` or ``rubrics``, in any of the forms that ``method.dataset_rubrics`` reads; a criterion
with a negative weight is turned round there. Of several answers to a question each is judged by itself, and by this
rubric alone, so a score does not depend on what else was sampled. An answer that is empty or cut off inside its
thinking scores 0 without a call.
"""

from __future__ import annotations

from functools import partial

from ropd_cli.config import JudgeConfig
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError, RopdError
from ropd_cli.evaluation.samples import Grade, Metric, Sample, Task
from ropd_cli.evaluation.tasks.judge_calls import Judging, group_of, kinds_of
from ropd_cli.llm.client import ChatClient
from ropd_cli.method.dataset_rubrics import dataset_rubric
from ropd_cli.method.groups import given_rubric
from ropd_cli.method.prompts import Templates
from ropd_cli.records.schemas import Prompt, Rubric
from ropd_cli.stages.verifier import Verifier

NAME = "rubric_score"


class RubricTask(Task):
    """The verifier is asked through ``client``, which stays the caller's to close and whose stats count the cost."""

    def __init__(
        self, client: ChatClient, *, settings: JudgeConfig | None = None, templates: Templates | None = None
    ) -> None:
        settings = settings or JudgeConfig()
        # An evaluation that leaves out what a model did not answer would flatter it.
        settings = settings.model_copy(update={"on_no_answer": "zero", "rubric_per": "group"})
        self._verifier = Verifier(client, settings, templates)
        self._judging = Judging()
        title = f"rubric score: weight of the criteria passed, judged by {client.endpoint.model or '?'}"
        self.metrics: tuple[Metric, ...] = (Metric(NAME, title, binary=False),)

    def check(self, question: EvalQuestion) -> None:
        """Raises InputError for a question without a rubric, or with one that can't be read."""
        rubric_of(question)

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        """``detail``: ``met`` and ``points`` by index, the share of the rubric's weight that was judged, the judge."""
        rubric, group = rubric_of(question), group_of(question, sample)
        call = partial(self._verifier.verdicts, group, given_rubric(group, rubric))
        [verdicts] = await self._judging.outcomes([call])
        met: list[bool | None] = [None] * len(rubric.rubrics)
        score = coverage = why = None
        if isinstance(verdicts, RopdError):
            why = f"not judged ({kinds_of([verdicts])})"
        else:
            [verdict] = verdicts.answers
            score, coverage = verdict.score, verdicts.coverage
            met = list(verdict.judgement) or [False] * len(rubric.rubrics)
        return Grade.to(
            sample,
            {NAME: score},
            why_missing=why,
            detail={
                "met": met,
                "points": list(rubric.weights_K),
                "coverage": coverage,
                "judge": self._verifier.endpoint.model or "",
            },
        )


def rubric_of(question: EvalQuestion) -> Rubric:
    """The rubric that a question brings. Raises InputError, which names the question's id."""
    extra = question.model_extra or {}
    raw = extra.get("rubric")
    prompt = Prompt(uid=question.id, prompt=question.prompt, rubric=extra.get("rubrics") if raw is None else raw)
    rubric = dataset_rubric(prompt)
    if rubric is None:
        raise InputError(f"question {question.id}: no rubric", "give it in the field rubric, as a list of criteria")
    return rubric

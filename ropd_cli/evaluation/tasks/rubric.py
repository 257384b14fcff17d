"""Rubrics of the user's own: each answer judged as `ropd verify` judges a rollout, by its question's rubric."""

from __future__ import annotations

from ropd_cli.brought import brought_rubric
from ropd_cli.config import JudgeConfig
from ropd_cli.errors import InputError, JudgeError, ProviderError
from ropd_cli.evaluation.records import Asked, Grade, Metric, Sample
from ropd_cli.evaluation.tasks.base import Plain, visible_text, with_instruction
from ropd_cli.groups import group_of
from ropd_cli.llm.client import ChatClient
from ropd_cli.schemas import Answer, Prompt
from ropd_cli.stage_run import STOPS
from ropd_cli.stages.rubricate import rubricate_group
from ropd_cli.stages.verify import verify_group
from ropd_cli.tasks.evalsets import EvalQuestion
from ropd_cli.templates import Templates

RUBRIC = "rubric"


class RubricTask(Plain):
    """The share of a rubric's points that an answer earns, in [0, 1]. ``settings`` say how the judge is asked; the
    rubric is always the question's own. An answer without text scores 0 and is shown to nobody."""

    extracts = False

    def __init__(self, judge: ChatClient, settings: JudgeConfig) -> None:
        self._judge = judge
        self._settings = settings.model_copy(
            update={"rubrics": "dataset", "rubric_per": "group", "teacher_in_pool": False, "on_no_answer": "zero"}
        )
        self._templates = Templates.load(self._settings)
        self.metrics = (Metric(RUBRIC, f"rubric score (judge {judge.endpoint.model})", binary=False),)

    def check(self, question: EvalQuestion) -> None:
        if brought_rubric(_prompt(question)) is None:
            raise InputError(f"question {question.id}: no rubric", "give each question a rubric (docs/rewards.md)")

    def ask(self, question: EvalQuestion, sample: int) -> Asked:
        return Asked(with_instruction(question, None))

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        value: float | None = 0.0
        why, judgement = None, None
        if visible_text(sample) is not None:
            rollout = Answer(text=sample.text, finish_reason=sample.finish_reason)
            group = group_of(_prompt(question), (rollout,), with_rubric=True)
            try:
                rubric = await rubricate_group(group, self._judge, self._settings, templates=self._templates)
                verdicts = await verify_group(group, rubric, self._judge, self._settings, templates=self._templates)
                value, judgement = verdicts.answers[0].score, list(verdicts.answers[0].judgement)
                why = None if value is not None else "too little of the rubric was judged"
            except STOPS:
                raise
            except (JudgeError, ProviderError) as fault:
                value, why = None, fault.message
        return Grade(
            benchmark=sample.benchmark,
            id=sample.id,
            sample=sample.sample,
            scores={RUBRIC: value},
            why_missing=why,
            detail={} if judgement is None else {"met": judgement},
        )


def _prompt(question: EvalQuestion) -> Prompt:
    """The question as the judges' stages know it. ``rubrics`` and ``rubric_list`` are other names of ``rubric``."""
    fields = question.model_extra or {}
    rubric = next((fields[name] for name in ("rubric", "rubrics", "rubric_list") if fields.get(name) is not None), None)
    return Prompt(uid=question.id, prompt=question.prompt, answer=question.answer, rubric=rubric)

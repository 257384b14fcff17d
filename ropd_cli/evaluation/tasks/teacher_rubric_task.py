"""Score samples as in training: a rubric written from the teacher's answers and the sample, judged blind.

Each sample is a group of its own: the rubricator contrasts it with the m teacher answers of the index, and the verifier
judges all of them by that rubric. So a score says how far the sample is from the teacher, on a rubric of its own; it is
not comparable with scores on a fixed rubric. The teacher's own score, on the same rubrics, stands beside it.
"""

from __future__ import annotations

import statistics

from ropd_cli.config import JudgeConfig
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError, RopdError
from ropd_cli.evaluation.samples import Grade, Metric, Sample, Task
from ropd_cli.evaluation.tasks.judge_calls import Judging, kinds_of
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.client import ChatClient
from ropd_cli.method.groups import group_of
from ropd_cli.method.prompts import Templates
from ropd_cli.records.schemas import Answer, Prompt, VerdictRecord
from ropd_cli.stages.groups import with_teacher
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.verifier import Verifier

SCORE, TEACHER = "rubric_score", "teacher_score"


class TeacherTask(Task):
    """The clients and the index stay the caller's to close. A sample without text scores 0 and is shown to nobody."""

    def __init__(
        self, rubricator: ChatClient, verifier: ChatClient, index: TeacherIndex, settings: JudgeConfig, seed: int
    ) -> None:
        self._index, self._seed, self._m = index, seed, settings.m
        settings = settings.model_copy(
            update={"rubrics": "induced", "rubric_per": "group", "on_no_answer": "zero", "teacher_in_pool": True}
        )
        templates = Templates.load(settings)
        self._rubricator = Rubricator(rubricator, settings, templates)
        self._verifier = Verifier(verifier, settings, templates)
        self._judging = Judging()
        judge = verifier.endpoint.model or "?"
        self.metrics: tuple[Metric, ...] = (
            Metric(SCORE, f"rubric score against {settings.m} teacher answers, judged by {judge}", binary=False),
            Metric(TEACHER, "score of the teacher's answers on the same rubrics", binary=False),
        )

    def check(self, question: EvalQuestion) -> None:
        """Raises InputError for a question with fewer than m teacher answers in the index."""
        prompt, wanted = _prompt(question), self._m
        count = self._index.count(prompt.uid, prompt.raw_prompt_hash)
        if count < wanted:
            raise InputError(
                f"question {question.id}: {count} distinct teacher answers in the index, not {wanted}",
                "run ropd teacher-gen and ropd index build for these questions, or lower judge.m",
            )

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        """``detail``: the rubric's hash, and what was met by the sample."""
        rollout = Answer(text=sample.text, finish_reason=sample.finish_reason)
        group = with_teacher(group_of(_prompt(question), (rollout,)), self._index, self._m, seed=self._seed)

        async def judge() -> VerdictRecord:
            return await self._verifier.verdicts(group, await self._rubricator.rubric(group))

        [found] = await self._judging.outcomes([judge])
        scores: dict[str, float | None] = {SCORE: None, TEACHER: None}
        if isinstance(found, RopdError):
            return Grade.to(sample, scores, why_missing=f"not judged ({kinds_of([found])})")
        own = next(answer for answer in found.answers if answer.source == "student")
        teachers = found.teacher_scores
        scores = {SCORE: own.score, TEACHER: statistics.fmean(teachers) if teachers else None}
        why = "too little of the rubric was judged" if own.score is None else None
        detail = {"rubric_hash": found.rubric_hash, "met": list(own.judgement)}
        return Grade.to(sample, scores, why_missing=why, detail=detail)


def _prompt(question: EvalQuestion) -> Prompt:
    return Prompt(uid=question.id, prompt=question.prompt, answer=question.answer)

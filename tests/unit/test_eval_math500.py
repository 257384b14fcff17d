"""MATH-500: its reference solutions, its answers rewritten by rule, and wrong answers made from them."""

from __future__ import annotations

import asyncio

import pytest
from rewrites import FORMS, equivalent, wrong

from ropd_cli.answers.math_equal import MathGrader
from ropd_cli.datasets.eval_sets import load_eval_set
from ropd_cli.evaluation.samples import Sample
from ropd_cli.evaluation.tasks.maths import MathTask

pytestmark = pytest.mark.slow


def misjudged(make, expected):
    """(count, [(answer, reply, score)] of those that were not scored ``expected``); undecided ones are among them."""

    async def grade():
        jobs = [(question, reply) for question in load_eval_set("math500").questions for reply in make(question)]
        async with MathTask(MathGrader(time_limit_s=20)) as task:
            samples = [
                Sample(benchmark="math500", id=question.id, sample=0, text=reply, finish_reason="stop")
                for question, reply in jobs
            ]
            grades = await asyncio.gather(*(task.grade(job[0], one) for job, one in zip(jobs, samples, strict=True)))
        scored = [(job[0].answer, job[1], g.scores["accuracy"]) for job, g in zip(jobs, grades, strict=True)]
        return len(jobs), [one for one in scored if one[2] != expected]

    return asyncio.run(grade())


def test_all_reference_solutions_meet_their_answers():
    assert misjudged(lambda question: [question.solution], 1.0) == (500, [])


@pytest.mark.long
def test_at_most_a_two_hundredth_of_equivalent_forms_is_misjudged():
    count, bad = misjudged(lambda question: equivalent(question.answer), 1.0)
    assert count == 500 * FORMS
    assert len(bad) <= 0.005 * count, bad


@pytest.mark.long
def test_at_most_a_five_hundredth_of_wrong_answers_is_misjudged():
    count, bad = misjudged(lambda question: wrong(question.answer), 0.0)
    assert count > 2500
    assert len(bad) <= 0.002 * count, bad

"""The mathematics grader over all of MATH-500: its own solutions, gold answers in other words, and wrong answers."""

import asyncio
import random
from collections import Counter

import pytest
from rewritten import equivalent, wrong

from ropd_cli.evaluation.records import Sample
from ropd_cli.evaluation.tasks.maths import MathTask
from ropd_cli.maths import MathGrader
from ropd_cli.tasks.evalsets import load_eval_set

pytestmark = pytest.mark.slow
QUESTIONS = load_eval_set("math500").questions


async def scores(pairs):
    """How many of (question, text) are right, wrong and missing, and those of another score than wanted."""
    async with MathGrader() as grader:
        task = MathTask(grader)
        grades = await asyncio.gather(
            *(
                task.grade(q, Sample(benchmark="m", id=q.id, sample=0, text=text, finish_reason="stop"))
                for q, text in pairs
            )
        )
    return Counter(grade.scores["accuracy"] for grade in grades)


async def test_the_reference_solutions_are_all_right():
    assert await scores([(q, q.model_extra["solution"]) for q in QUESTIONS]) == {1.0: 500}


async def test_six_equivalent_forms_of_each_answer():
    pairs = [(q, text) for q in QUESTIONS for text in equivalent(q.answer)]
    found = await scores(pairs)
    assert len(pairs) == 3000 and len(set(pairs)) == 3000
    assert (len(pairs) - found[1.0]) / len(pairs) <= 0.005, found


async def test_wrong_answers():
    draw = random.Random(0)
    pairs = [(q, text) for q in QUESTIONS for text in wrong(q.answer, draw)]
    found = await scores(pairs)
    assert len(pairs) > 1800
    assert (len(pairs) - found[0.0]) / len(pairs) <= 0.002, found

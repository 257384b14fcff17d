"""Questions with a rubric of their own, judged by a verifier on loopback."""

import json

import pytest
from servers import Reply, Status

from ropd_cli.config import EndpointConfig, JudgeConfig, RopdConfig
from ropd_cli.datasets.eval_sets import EvalQuestion, EvalSet
from ropd_cli.errors import InputError
from ropd_cli.evaluation.benchmarks import open_benchmarks
from ropd_cli.evaluation.graders import Tools
from ropd_cli.evaluation.samples import Sample
from ropd_cli.evaluation.tasks.rubric_task import RubricTask, rubric_of
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.shared import Shared
from ropd_cli.method.block import read_block

RAR = [
    {"title": "Result", "description": "Essential Criteria: States that it is 4.", "weight": 5},
    {"title": "Reason", "description": "Important Criteria: Gives a reason.", "weight": 3},
    {"title": "Wrong", "description": "Pitfall Criteria: Says that it is 5.", "weight": -1},
]


def question(**more):
    return EvalQuestion(id="q1", prompt="2 + 2?", **more)


def sample(text):
    return Sample(benchmark="mine", id="q1", sample=0, text=text, finish_reason="stop")


def verifier(server):
    endpoint = EndpointConfig(base_url=server.url, model="judge-9")
    return ChatClient.open(endpoint, cache=None, retry=RetryPolicy(max_retries=0), environ={})


def verdicts(*judgement):
    return Reply(json.dumps({"answers": [{"answer_index": 1, "judgement": judgement, "final_score": 80}]}))


async def test_the_weighted_share_of_criteria_passed(server):
    server.default = verdicts(True, False, True)
    async with verifier(server) as client, RubricTask(client) as task:
        task.check(question(rubric=RAR))
        grade = await task.grade(question(rubric=RAR), sample("<think>x</think>It is 4."))
    assert grade.scores == {"rubric_score": pytest.approx(6 / 9)}
    assert grade.detail == {"met": [True, False, True], "points": [5, 3, 1], "coverage": 1.0, "judge": "judge-9"}
    said = server.bodies[0]["messages"][-1]["content"]
    assert read_block(said) == ("2 + 2?", ["It is 4."])
    assert "The answer avoids this mistake: Says that it is 5." in said
    [metric] = task.metrics
    assert "judge-9" in metric.title and "rubric score" in metric.title and not metric.clipped


@pytest.mark.parametrize(
    "fields",
    [
        {"rubric": RAR},
        {"rubrics": RAR},
        {"rubric": json.dumps(RAR)},
        {"rubrics": [{"criterion": each["description"], "points": each["weight"]} for each in RAR]},
        {"rubric": {"rubrics": RAR}},
    ],
)
def test_the_forms_a_rubric_comes_in(fields):
    assert rubric_of(question(**fields)).weights_K == (5, 3, 1)


@pytest.mark.parametrize("fields", [{}, {"rubric": []}, {"rubrics": "no JSON"}, {"rubric": [{"title": "x"}]}])
def test_questions_without_a_rubric_that_can_be_read(fields):
    with pytest.raises(InputError, match="q1"):
        rubric_of(question(**fields))


@pytest.mark.parametrize("text", ["", "<think>no end"])
@pytest.mark.parametrize("on_no_answer", ["zero", "drop"])
async def test_no_answer_is_zero_whatever_training_does_with_it(server, text, on_no_answer):
    async with verifier(server) as client:
        task = RubricTask(client, settings=JudgeConfig(on_no_answer=on_no_answer))
        grade = await task.grade(question(rubric=RAR), sample(text))
    assert grade.scores == {"rubric_score": 0.0} and grade.detail["met"] == [False] * 3 and not server.bodies


@pytest.mark.parametrize("step", [Status(500), Reply("no"), verdicts(True), verdicts(None, None, None)])
async def test_what_was_not_judged_is_missing(server, step):
    server.default = step
    async with verifier(server) as client:
        grade = await RubricTask(client).grade(question(rubric=RAR), sample("It is 4."))
    assert grade.scores == {"rubric_score": None} and grade.why_missing.startswith("not judged (")
    assert grade.detail["met"] == [None] * 3


async def test_a_criterion_without_a_verdict_is_left_out_while_most_is_judged(server):
    server.default = verdicts(True, False, None)
    async with verifier(server) as client:
        loose = await RubricTask(client).grade(question(rubric=RAR), sample("It is 4."))
        strict = RubricTask(client, settings=JudgeConfig(min_coverage=1.0))
        missing = await strict.grade(question(rubric=RAR), sample("It is 4."))
    assert loose.scores == {"rubric_score": pytest.approx(5 / 8)} and loose.detail["coverage"] == pytest.approx(8 / 9)
    assert missing.scores == {"rubric_score": None}


@pytest.mark.parametrize(("field", "kind"), [("rubric", "rubric"), ("rubrics", "rubric"), ("rubric_list", "math")])
def test_only_fields_that_are_read_as_a_rubric_choose_the_grader(field, kind):
    place = {"base_url": "builtin://checkable"}
    tools = Tools(RopdConfig.model_validate({"verifier": place}), None, Shared(), {})
    own = EvalSet("own", (question(answer="4", **{field: RAR}),), True)
    [choice] = open_benchmarks(["own"], {"own": "own.jsonl"}, {}, tools, n=1, load=lambda _: own)
    assert choice.kind == kind and choice.why == f"its questions have {field if kind == 'rubric' else 'answer'}"

"""HealthBench: the formula, the reading of the judge, and what becomes of a judge that fails."""

import json

import pytest
from servers import Drop, FromRequest, Reply, Status

from ropd_cli.config import EndpointConfig
from ropd_cli.config.models import LimitsConfig
from ropd_cli.errors import InputError, ReplyInvalid
from ropd_cli.evaluation.records import Sample
from ropd_cli.evaluation.tasks.healthbench import HealthBenchTask, read_met, score
from ropd_cli.llm.chat import ChatReply
from ropd_cli.llm.client import ChatClient
from ropd_cli.tasks.evalsets import EvalQuestion

Y, N = True, False

SCORES = [
    # points, met, score
    ([5], [Y], 1.0),
    ([5], [N], 0.0),
    ([5, 5], [Y, N], 0.5),
    ([5, 5], [Y, Y], 1.0),
    ([10, 5], [N, Y], 1 / 3),
    ([10, 5], [Y, N], 2 / 3),
    ([1, 2, 3, 4], [Y, Y, Y, Y], 1.0),
    ([1, 2, 3, 4], [Y, N, N, Y], 0.5),
    ([1, 2, 3, 4], [N, N, N, N], 0.0),
    ([5, -5], [N, N], 0.0),
    ([5, -5], [Y, N], 1.0),
    ([5, -5], [Y, Y], 0.0),
    ([5, -5], [N, Y], -1.0),
    ([5, -10], [N, Y], -2.0),
    ([5, -10], [Y, Y], -1.0),
    ([10, -1], [Y, Y], 0.9),
    ([7, 3, -2], [Y, N, Y], 0.5),
    ([7, 3, -2], [N, N, Y], -0.2),
    ([2, -2, -2, -2], [Y, Y, Y, Y], -2.0),
    ([0.5, 0.5], [Y, N], 0.5),
    ([1e-3], [Y], 1.0),
    ([5, 0], [Y, Y], 1.0),
    ([5, 0], [N, Y], 0.0),
    ([8, -8, 2], [N, N, Y], 0.2),
    ([8, -8, 2], [Y, Y, Y], 0.2),
    ([1] * 20, [Y] * 5 + [N] * 15, 0.25),
    ([1] * 20 + [-1] * 20, [Y] * 20 + [Y] * 20, 0.0),
    ([10, 9, 8, -7], [Y, Y, N, Y], 12 / 27),
]

READ = [
    # what the judge says, what is read (None: it is asked again)
    ('{"explanation": "x", "criterion_met": true}', Y),
    ('{"explanation": "x", "criterion_met": false}', N),
    ('{"criterion_met": true}', Y),
    ('{"criterion_met": false, "explanation": "y", "more": 1}', N),
    ('```json\n{"explanation": "x", "criterion_met": true}\n```', Y),
    ('Here it is: {"explanation": "x", "criterion_met": false}', N),
    ('<think>{"criterion_met": true}</think>{"explanation": "x", "criterion_met": false}', N),
    ('{"explanation": "says {braces}", "criterion_met": true}', Y),
    ('{"explanation": "\\"criterion_met\\": false", "criterion_met": true}', Y),
    ('  \n{"explanation": "x",\n "criterion_met":true}\n', Y),
    ('{"explanation": "é — 漢", "criterion_met": true}', Y),
    ('{"explanation": "x", "criterion_met": true} That is my decision.', Y),
    ('{"explanation": "x", "criterion_met": "true"}', None),
    ('{"explanation": "x", "criterion_met": "yes"}', None),
    ('{"explanation": "x", "criterion_met": 1}', None),
    ('{"explanation": "x", "criterion_met": 0}', None),
    ('{"explanation": "x", "criterion_met": null}', None),
    ('{"explanation": "x", "criterion_met": [true]}', None),
    ('{"explanation": "x", "criterion_met": {}}', None),
    ('{"explanation": "x", "criteria_met": true}', None),
    ('{"explanation": "x"}', None),
    ("{}", None),
    ("[true]", None),
    ("true", None),
    ("yes", None),
    ("The criterion is met.", None),
    ("I can't help with health questions.", None),
    ("", None),
    ('{"explanation": "x", "criterion_met": tru', None),
    ('{"explanation": "x", "criterion_met"', None),
    ("<think>never ends", None),
    ("null", None),
    ("42", None),
]


@pytest.mark.parametrize(("points", "met", "expected"), SCORES)
def test_the_formula(points, met, expected):
    assert score(points, met) == pytest.approx(expected)


@pytest.mark.parametrize(("said", "expected"), READ)
def test_what_the_judge_says(said, expected):
    reply = ChatReply(text=said, finish_reason="stop")
    if expected is None:
        with pytest.raises(ReplyInvalid):
            read_met(reply)
    else:
        assert read_met(reply) is expected


def test_the_tables_are_large_enough():
    assert len(SCORES) + len(READ) >= 60


CRITERIA = [
    {"criterion": "Names the dose", "points": 7, "tags": []},
    {"criterion": "Recommends a danger", "points": -4, "tags": ["x"]},
    {"criterion": "Is kind", "points": 3},
]
QUESTION = EvalQuestion(
    id="h1",
    prompt=({"role": "user", "content": "an invented question"}, {"role": "assistant", "content": "and more"}),
    rubrics=CRITERIA,
    canary="kept",
)


def client(server):
    limits = LimitsConfig(max_retries=1, timeout_s=5)
    endpoint = EndpointConfig(base_url=server.url, model="judge", api_key_env="NONE", limits=limits)
    return ChatClient.open(endpoint, cache=None, environ={})


def sample(text, reason="stop"):
    return Sample(benchmark="healthbench", id="h1", sample=0, text=text, finish_reason=reason)


def by(judge):
    """The judge of a criterion's text."""

    def reply(request):
        content = request.body["messages"][-1]["content"]
        shown = content.split("<criterion>\n")[1].split("\n</criterion>")[0]
        said = judge(shown)
        return said if not isinstance(said, bool) else Reply(json.dumps({"explanation": "x", "criterion_met": said}))

    return FromRequest(reply)


async def test_each_criterion_is_a_call_and_the_thinking_is_not_shown(server):
    server.default = by(lambda criterion: criterion != "Is kind")
    async with client(server) as judge:
        task = HealthBenchTask(judge)
        task.check(QUESTION)
        assert [m.content for m in task.ask(QUESTION, 0).messages] == ["an invented question", "and more"]
        grade = await task.grade(QUESTION, sample("<think>secret plan</think>Take two."))
    assert grade.scores == {"healthbench": pytest.approx((7 - 4) / 10)} and grade.detail == {"met": [True, True, False]}
    assert len(server.bodies) == 3 and "judge judge" in task.metrics[0].title and task.metrics[0].clipped
    for body in server.bodies:
        text = body["messages"][-1]["content"]
        assert "Take two." in text and "secret plan" not in text and "user: an invented question" in text
        assert body["response_format"]["json_schema"]["name"] == "ropd_criterion"


async def test_an_answer_without_text_meets_nothing_and_is_shown_to_nobody(server):
    async with client(server) as judge:
        for text in ("", "  \n", "<think>never ends"):
            grade = await HealthBenchTask(judge).grade(QUESTION, sample(text, "length"))
            assert grade.scores == {"healthbench": 0.0} and grade.why_missing is None
    assert not server.bodies


@pytest.mark.parametrize("fault", ["refusal", "drop", "status"])
async def test_a_criterion_that_could_not_be_judged_makes_the_score_missing_and_never_zero(server, fault):
    broken = {
        "refusal": Reply("I can't judge this."),
        "drop": Drop(),
        "status": Status(400),
    }[fault]
    server.default = by(lambda criterion: broken if criterion == "Is kind" else True)
    async with client(server) as judge:
        grade = await HealthBenchTask(judge).grade(QUESTION, sample("Take two."))
    assert grade.scores == {"healthbench": None} and grade.why_missing.startswith("1 of 3 criteria were not judged: ")
    assert grade.detail == {"met": [True, True, None]}


@pytest.mark.parametrize(
    ("rubrics", "says"),
    [
        (None, "no rubrics"),
        ([], "no rubrics"),
        ([{"criterion": "x"}], "criterion 1 has no text"),
        ([{"criterion": "", "points": 1}], "criterion 1"),
        ([{"criterion": "x", "points": "5"}], "criterion 1"),
        ([{"criterion": "x", "points": True}], "criterion 1"),
        ([{"criterion": "x", "points": float("nan")}], "criterion 1"),
        ([{"criterion": "x", "points": 5}, "y"], "criterion 2"),
        ([{"criterion": "secret words", "points": -5}], "no criterion has positive points"),
    ],
)
def test_what_is_no_healthbench_is_said_without_its_text(server, rubrics, says):
    asked = EvalQuestion(id="h9", prompt="secret words", **({} if rubrics is None else {"rubrics": rubrics}))
    with pytest.raises(InputError, match=f"question h9: .*{says}") as caught:
        HealthBenchTask(client(server)).check(asked)
    assert "secret" not in str(caught.value)

"""Verdicts with gaps, from the judge's reply to the reward: missing is never 0."""

import json

import pytest
from servers import Reply

from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.errors import JudgeError
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import NO_WAIT
from ropd_cli.method.block import build_block
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer, Criterion, Group, Message, Rubric, RubricRecord, prompt_hash
from ropd_cli.stages.verifier import Verifier

WEIGHTS = (5, 2, 2, 1)
TEXTS = {"student": ("right", "half", "wrong"), "teacher": ("best",)}
VERDICTS = {
    "right": [True, True, True, True],
    "half": [True, False, True, False],
    "wrong": [False, False, False, True],
    "best": [True, True, False, True],
}


def make_group():
    prompt = (Message(role="user", content="?"),)
    return Group(
        uid="u",
        prompt=prompt,
        raw_prompt_hash=prompt_hash(prompt),
        teacher_answers=TEXTS["teacher"],
        rollouts=tuple(Answer(text=text) for text in TEXTS["student"]),
    )


def make_rubric():
    criteria = [
        Criterion(criterion_id=f"c{k}", category="x", criterion=f"is {k}", points=w) for k, w in enumerate(WEIGHTS)
    ]
    rubric = Rubric(rubrics=tuple(criteria), maximum_score=10)
    return RubricRecord(
        uid="u", raw_prompt_hash="h", rubric=rubric, rubric_hash=rubric.hash, model="m", template_hash="t"
    )


def reply(verdicts):
    rows = [
        {"answer_index": k, "judgement": verdicts[answer.text], "final_score": 80}
        for k, answer in enumerate(build_block(make_group()).answers, start=1)
    ]
    return Reply(json.dumps({"schema_version": "ropd.batch_verifier.v2", "answers": rows}))


async def judged(server, gaps, **settings):
    """The record of a group whose judge gives no verdict on these criteria of these answers."""
    verdicts = {
        text: [None if k in gaps.get(text, ()) else v for k, v in enumerate(row)] for text, row in VERDICTS.items()
    }
    server.default = reply(verdicts)
    async with ChatClient.open(EndpointConfig(model="m", base_url=server.url), cache=None, environ={}) as client:
        return await Verifier(client, JudgeConfig(**settings)).verdicts(make_group(), make_rubric())


async def test_without_gaps(server):
    record = await judged(server, {})
    assert record.coverage == 1.0 and record.rewards == pytest.approx((1.0, 0.7, 0.1))
    assert record.teacher_scores == pytest.approx((0.8,))


async def test_a_criterion_that_one_rollout_lacks_counts_for_none(server):
    record = await judged(server, {"half": [1], "wrong": [3]})
    assert record.coverage == pytest.approx(0.7)
    assert record.rewards == pytest.approx((7 / 7, 7 / 7, 0 / 7), abs=1e-6)
    assert record.teacher_scores == pytest.approx((5 / 7,))
    half = record.answers[1]
    assert half.judgement == (True, None, True, False) and half.score is not None


async def test_a_teacher_s_gap_is_the_teacher_s_own(server):
    record = await judged(server, {"best": [0]})
    assert record.coverage == 1.0 and record.rewards == pytest.approx((1.0, 0.7, 0.1))
    assert record.teacher_scores == () and record.answers[3].score is None


@pytest.mark.parametrize(("gap", "enough"), [(0, True), (1, True)])
async def test_the_limit_itself_is_enough(server, gap, enough):
    record = await judged(server, {"wrong": [gap]}, min_coverage=0.5 if gap == 0 else 0.8)
    assert record.coverage == pytest.approx(0.5 if gap == 0 else 0.8) and None not in record.rewards


@pytest.mark.parametrize(
    ("gaps", "settings"),
    [({"wrong": [0, 3]}, {}), ({"wrong": [0], "half": [3]}, {}), ({"wrong": [3]}, {"min_coverage": 1.0})],
)
async def test_with_too_little_judged_the_group_is_missing(server, gaps, settings):
    with pytest.raises(JudgeError, match="of the rubric's weight was judged for all rollouts"):
        await judged(server, gaps, **settings)
    assert len(server.requests) == 1  # the judge has answered; asking again is not what is missing


async def test_a_rollout_without_any_verdict_makes_the_group_missing(server):
    with pytest.raises(JudgeError, match="only 0%"):
        await judged(server, {"wrong": [0, 1, 2, 3]})


async def test_an_answerless_rollout_needs_no_verdict(server):
    group = make_group()
    group = group.model_copy(update={"rollouts": (*group.rollouts[:1], Answer(text=" "))})
    shown = build_block(group).answers
    rows = [{"answer_index": k, "judgement": [True] * 4, "final_score": 0} for k in range(1, len(shown) + 1)]
    server.default = Reply(json.dumps({"answers": rows}))
    endpoint = EndpointConfig(model="m", base_url=server.url)
    async with ChatClient.open(endpoint, cache=None, retry=NO_WAIT, environ={}) as client:
        record = await Verifier(client, JudgeConfig()).verdicts(group, make_rubric())
    assert record.coverage == 1.0 and record.rewards == (1.0, 0.0)


async def test_the_gap_is_in_the_file_as_null(server, tmp_path):
    from ropd_cli.records.journals import RecordWriter

    record = await judged(server, {"half": [1]})
    with RecordWriter(tmp_path / "v.jsonl") as out:
        out.append(record.to_json())
    ((_, written),) = read_records(tmp_path / "v.jsonl")
    assert written["answers"][1]["judgement"] == [True, None, True, False] and written["coverage"] == 0.8

"""Reading verdicts from a reply."""

import copy

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ropd_cli.errors import ReplyInvalid
from ropd_cli.method.replies import parse_verdicts, verdicts_schema


def document(answers=3, criteria=4, **fields):
    rows = [
        {"answer_index": n, "judgement": [(n + k) % 2 == 0 for k in range(criteria)], "final_score": 80}
        for n in range(1, answers + 1)
    ]
    return {"schema_version": "ropd.batch_verifier.v2", "answers": rows} | fields


def broken(row=1, **change):
    doc = copy.deepcopy(document())
    doc["answers"][row] |= change
    return doc


def test_judgements_in_shown_order():
    assert parse_verdicts(document(2, 4), 2, 4) == ((False, True, False, True), (True, False, True, False))


def test_no_verdict_is_none_and_not_false():
    assert parse_verdicts(broken(judgement=[True, None, False, None]), 3, 4)[1] == (True, None, False, None)


@pytest.mark.parametrize("final_score", [80, -1, "ten", None, float("nan")])
def test_the_judge_s_arithmetic_is_not_looked_at(final_score):
    assert parse_verdicts(broken(final_score=final_score), 3, 4) == parse_verdicts(document(), 3, 4)


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (None, "no list 'answers'"),
        ({"answers": "all true"}, "no list 'answers'"),
        (document(2), "verdicts on 2 answers, not 3"),
        (document(4), "verdicts on 4 answers, not 3"),
        (document(schema_version="v1"), "schema_version is 'v1'"),
        (document(3, 3), r"answers\[0\].judgement has 3 values, the rubric has 4 criteria"),
        (broken(judgement=None), "judgement has no list"),
        (broken(judgement=[1, 0, 1, 0]), "something else than true, false and null"),
        (broken(judgement=["true"] * 4), "something else than true, false and null"),
        (broken(answer_index=1), r"answers\[1\].answer_index is 1, not 2"),
        (broken(answer_index=3), "answer_index is 3, not 2"),
        (broken(0, answer_index=True), "answer_index is True, not 1"),
        ({"answers": [[], [], []]}, r"answers\[0\] is not an object"),
    ],
)
def test_what_does_not_fit(reply, complaint):
    with pytest.raises(ReplyInvalid, match=complaint):
        parse_verdicts(reply, 3, 4)


@given(
    st.recursive(
        st.booleans() | st.integers() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
        max_leaves=9,
    )
)
def test_only_our_error(value):
    assume(not isinstance(value, list) or len(value) != 4 or any(type(each) is not bool for each in value))
    for reply in (value, {"answers": value}, {"answers": [value] * 3}, broken(judgement=value)):
        with pytest.raises(ReplyInvalid):
            parse_verdicts(reply, 3, 4)


@pytest.mark.parametrize("field", ["schema_version", "answers", "answer_index", "judgement"])
@pytest.mark.parametrize("depth", [10, 1000])  # orjson reads 1024 levels, more than Python's stack lets repr() write
def test_only_our_error_however_deep_it_is_nested(field, depth):
    deep = "[" * depth + "]" * depth
    answer = {"answer_index": "1", "judgement": "[true]"} | {field: deep}
    row = f'{{"answer_index": {answer["answer_index"]}, "judgement": {answer["judgement"]}}}'
    whole = {"schema_version": '"ropd.batch_verifier.v2"', "answers": f"[{row}]"}
    whole |= {field: deep} if field in whole else {}
    reply = orjson.loads(f'{{"schema_version": {whole["schema_version"]}, "answers": {whole["answers"]}}}')
    with pytest.raises(ReplyInvalid) as caught:
        parse_verdicts(reply, 1, 1)
    assert len(caught.value.message) < 400


def test_the_schema_asks_for_exactly_the_matrix():
    answers = verdicts_schema(12, 7)["properties"]["answers"]
    judgement = answers["items"]["properties"]["judgement"]
    assert (answers["minItems"], answers["maxItems"], judgement["minItems"], judgement["maxItems"]) == (12, 12, 7, 7)
    assert answers["items"]["properties"]["final_score"]["maximum"] == 35  # all seven met, five points each

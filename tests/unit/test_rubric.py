"""Reading a rubric from a reply."""

import copy
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.errors import ReplyInvalid
from ropd_cli.method.replies import MAX_CRITERION_CHARS, parse_rubric, parse_verdicts, rubric_schema, verdicts_schema
from ropd_cli.records.schemas import digest


def document(k=4, **fields):
    criteria = [
        {"criterion_id": f"c{i}", "category": "Task Completion", "criterion": f"is {i}", "points": i % 5 + 1}
        for i in range(k)
    ]
    return {"schema_version": "ropd.rubric.v1", "rubrics": criteria, "maximum_score": 99} | fields


@pytest.mark.parametrize("k", [4, 8, 12])
def test_the_sum_of_the_points_is_ours(k):
    rubric, mended = parse_rubric(document(k))
    assert "maximum_score" in mended
    assert rubric.maximum_score == sum(rubric.weights_K) != 99
    assert len(rubric.weights_K) == k


def test_fields_of_its_own_are_dropped_and_missing_sums_do_not_matter():
    plain, chatty = document(), document(note="x")
    del plain["maximum_score"], plain["schema_version"]
    chatty["rubrics"][0]["why"] = "because"
    assert parse_rubric(plain) == parse_rubric(chatty)
    assert parse_rubric(plain)[0].hash == parse_rubric(chatty)[0].hash


def broken(**change):
    doc = copy.deepcopy(document())
    doc["rubrics"][1] |= change
    return doc


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (None, "no list 'rubrics'"),
        ([], "no list 'rubrics'"),
        ({"rubrics": {}}, "no list 'rubrics'"),
        (document(3), "3 criteria, not 4 to 12"),
        (document(13), "13 criteria"),
        (document(schema_version="ropd.rubric.v2"), "schema_version is 'ropd.rubric.v2'"),
        (document(rubrics=["a", "b", "c", "d"]), r"rubrics\[0\] is not an object"),
        (broken(criterion_id=7), r"rubrics\[1\].criterion_id is not a text"),
        (broken(criterion=" \n"), r"rubrics\[1\].criterion is not a text"),
        (broken(criterion=None), r"criterion is not a text"),
        (broken(criterion="x" * (MAX_CRITERION_CHARS + 1)), "1001 characters"),
        (broken(criterion="right \ud800"), "criterion holds a lone surrogate"),
        (broken(points=0), "points is 0"),
        (broken(points=6), "points is 6"),
        (broken(points=True), "points is True"),
        (broken(points="3"), "points is '3'"),
        (broken(points=2.5), "points is 2.5"),
        (broken(points=None), "points is None"),
    ],
)
def test_what_does_not_fit(reply, complaint):
    with pytest.raises(ReplyInvalid, match=complaint):
        parse_rubric(reply)


def ids(*names):
    doc = document(len(names), maximum_score=sum(i % 5 + 1 for i in range(len(names))))
    for item, name in zip(doc["rubrics"], names, strict=True):
        item["criterion_id"] = name
    return doc


@pytest.mark.parametrize(
    ("reply", "kept", "mended"),
    [
        (ids("c1", "c2", "c3", "c4"), ["c1", "c2", "c3", "c4"], ()),
        (ids("c2", "c1", "c4", "c3"), ["c1", "c2", "c3", "c4"], ("criterion_id",)),
        (ids("c0", "c1", "c2", "c3"), ["c1", "c2", "c3", "c4"], ("criterion_id",)),
        (ids("c1", "", "c3", " "), ["c1", "c2", "c3", "c4"], ("criterion_id",)),
        (ids("c1", None, "c3", "c4"), ["c1", "c2", "c3", "c4"], ("criterion_id",)),
        (ids("c1", "c1", "c3", "c4"), ["c1", "c2", "c3", "c4"], ("criterion_id",)),
        (ids("right", "short", "right", "box"), ["c1", "c2", "c3", "c4"], ("criterion_id",)),
        (ids("right", "short", "c1", "box"), ["right", "short", "c1", "box"], ()),
        (ids("c1", "c2", "c3", "c4") | {"maximum_score": 11}, ["c1", "c2", "c3", "c4"], ("maximum_score",)),
        (ids("c1", "c2", "c3", "c4") | {"maximum_score": None}, ["c1", "c2", "c3", "c4"], ("maximum_score",)),
    ],
)
def test_what_is_only_a_little_off_is_mended_and_said(reply, kept, mended):
    rubric, said = parse_rubric(reply)
    assert [criterion.criterion_id for criterion in rubric.rubrics] == kept and said == mended
    assert [criterion.criterion for criterion in rubric.rubrics] == [f"is {i}" for i in range(4)]  # order is the list's
    assert rubric.maximum_score == 10


def test_a_whole_number_may_be_written_with_a_point():
    rubric, said = parse_rubric(broken(points=2.0))
    assert rubric.weights_K[1] == 2 and type(rubric.weights_K[1]) is int and "points" in said


@pytest.mark.parametrize(
    "reply",
    [
        {"rubric": document()},
        {"result": json.dumps(document())},
        document() | {"rubrics": json.dumps(document()["rubrics"])},
        {"schemaVersion": "ropd.rubric.v1", "Rubrics": document()["rubrics"], "Maximum Score": 10},
        document()
        | {"rubrics": [{key.title(): value for key, value in each.items()} for each in document()["rubrics"]]},
    ],
)
def test_another_wrapping_has_the_same_meaning(reply):
    rubric, mended = parse_rubric(reply)
    assert rubric == parse_rubric(document())[0] and "json" in mended


def test_verdicts_with_other_keys():
    rows = [{"answerIndex": 1, "Judgement": [True, None]}]
    assert parse_verdicts({"verdicts": {"answers": rows}}, 1, 2) == ((True, None),)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["rubrics", "schema_version", "points"]), inner)
    ),
    max_leaves=20,
)


@given(json_values)
def test_only_our_error(value):
    for reply in (value, {"rubrics": value}, document(rubrics=[value] * 4)):
        with pytest.raises(ReplyInvalid):
            parse_rubric(reply)


@pytest.mark.parametrize("schema", [rubric_schema(), verdicts_schema(12, 7)])
def test_the_schema_bounds_every_text_list_and_number_and_is_strict(schema):
    def walk(node):
        assert node["type"] in ("string", "array", "object", "integer", "boolean")  # a number has endless digits
        if node["type"] == "integer":
            assert node["minimum"] <= node["maximum"]
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node
            assert "pattern" not in node  # xgrammar reads one as the whole text, and then has no bound
        if node["type"] == "array":
            assert node["maxItems"] >= node["minItems"]
            walk(node["items"])
        if node["type"] == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])
            for inner in node["properties"].values():
                walk(inner)

    walk(schema)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=6))
def test_the_hash_is_that_of_plain_canonical_json(value):
    """Whichever way it is written: hashes stand in files."""
    whole = {"ü": value, "a": [value, "\x7f\x1f\u2028"]}
    text = json.dumps(whole, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert digest(whole) == hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

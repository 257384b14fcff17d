"""Rubrics that data sets bring."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.config import RopdConfig
from ropd_cli.errors import InputError
from ropd_cli.llm.shared import Shared
from ropd_cli.method.dataset_rubrics import AVOIDS, dataset_rubric, merged
from ropd_cli.methods import method_of
from ropd_cli.methods.base import Resources
from ropd_cli.records.schemas import Criterion, Prompt, Rubric, parse_prompt

RAR = [
    {"title": "Formula", "description": "Essential Criteria: Names the formula.", "weight": 5},
    {"title": "Units", "description": "Important Criteria: Gives units.", "weight": 3},
    {"title": "Style", "description": "Optional Criteria: Is short.", "weight": 1},
    {"title": "Sign", "description": "Pitfall Criteria: Gets the sign wrong.", "weight": -2},
]
REFERENCE = {
    "schema_version": "ropd.rubric.v1",
    "rubrics": [{"criterion_id": "c7", "category": "General Reasoning", "criterion": "Is sound.", "points": 4}],
    "maximum_score": 99,
}


def rubric_of(raw, **more):
    return dataset_rubric(Prompt(uid="u7", prompt="?", rubric=raw, **more))


def test_rar():
    for rubric in (rubric_of(RAR), rubric_of(json.dumps(RAR)), rubric_of(None, extra_info={"rubric": RAR})):
        assert rubric.weights_K == (5, 3, 1, 2) and rubric.maximum_score == 11
        assert [c.criterion_id for c in rubric.rubrics] == ["d1", "d2", "d3", "d4"]
        assert rubric.rubrics[0].criterion == "Names the formula."
        assert rubric.rubrics[3].criterion == f"{AVOIDS}Gets the sign wrong."


@pytest.mark.parametrize(
    ("text", "kept"),
    [  # RaR-Medicine names the mistake, RaR-Science mostly what to do instead
        ("Pitfall Criteria: Does not mention the dose.", False),
        ("Pitfall Criteria: Recommends surgery at once.", False),
        ("Pitfall Criteria: The response should not omit that losses are neglected.", True),
        ("Pitfall Criteria: The final answer must avoid mixing units.", True),
        ("Pitfall Criteria: Avoids confusing work with heat.", True),
        ("pitfall: Avoid rounding early.", True),
        ("Avoids answering the question.", False),  # no label: not RaR, a mistake as it stands
        ("Suggests it should be given twice.", False),
        ("Never names the source.", False),
    ],
)
def test_what_reads_as_a_demand_is_not_turned_round(text, kept):
    (criterion,) = rubric_of([{"title": "t", "description": text, "weight": -1}]).rubrics
    bare = text.partition(": ")[2] if text.lower().startswith("pitfall") else text
    assert criterion.criterion == (bare if kept else f"{AVOIDS}{bare}")


def test_an_empty_field_gives_way_to_the_other():
    (criterion,) = rubric_of([{"points": None, "weight": 2, "criterion": None, "description": "Is so."}]).rubrics
    assert (criterion.points, criterion.criterion) == (2, "Is so.")


def test_the_reference_s_form():
    (criterion,) = rubric_of(REFERENCE).rubrics
    assert (criterion.category, criterion.criterion, criterion.points) == ("General Reasoning", "Is sound.", 4)


def test_none_brings_none_and_a_prompts_file_passes_it_on():
    assert rubric_of(None) is None and rubric_of(None, extra_info={"index": 3}) is None
    record = parse_prompt({"prompt": "?", "rubric": RAR}, "p:1")
    assert dataset_rubric(record).weights_K == (5, 3, 1, 2)


@given(
    st.lists(
        (st.floats(-50, 50) | st.floats(allow_nan=False, allow_infinity=False)).filter(bool), min_size=1, max_size=100
    )
)
def test_weights_become_whole_and_keep_their_order(weights):
    rubric = rubric_of([{"text": f"is {k}", "weight": w} for k, w in enumerate(weights)])
    assert all(1 <= points <= 5 for points in rubric.weights_K)
    pairs = sorted(zip(map(abs, weights), rubric.weights_K, strict=True))
    assert [p for _, p in pairs] == sorted(p for _, p in pairs)
    assert [c.criterion.startswith(AVOIDS) for c in rubric.rubrics] == [w < 0 for w in weights]
    assert rubric.maximum_score == sum(rubric.weights_K)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], "0 criteria"),
        ([RAR[0]] * 101, "101 criteria"),
        ("no json", "nor JSON"),
        (7, "neither a list"),
        ({"other": []}, "neither a list"),
        ([{"text": "x", "weight": 10**400}], "criterion 1 has no `points`"),
        (["words"], "criterion 1 has no `points`"),
        ([{"text": "x", "weight": 0}], "criterion 1 has no `points`"),
        ([{"text": "x", "weight": True}], "criterion 1 has no `points`"),
        ([{"text": "x", "weight": float("nan")}], "criterion 1 has no `points`"),
        ([RAR[0], {"text": " ", "weight": 1}], "criterion 2 has no text"),
        ([{"text": "x" * 1001, "weight": 1}], "1001 characters"),
    ],
)
def test_what_can_not_be_read_names_the_prompt(raw, said):
    with pytest.raises(InputError, match=f"uid u7: .*{said}"):
        rubric_of(raw)


@pytest.mark.parametrize("ids", [["c1", "c2", "c3", "c4"], ["d1", "d2", "dd1", "x"]])
def test_both_together_keep_all_criteria_and_weights(ids):
    criteria = [Criterion(criterion_id=i, category="x", criterion="right", points=k + 1) for k, i in enumerate(ids)]
    induced = Rubric(rubrics=tuple(criteria), maximum_score=10)
    both = merged(rubric_of(RAR), induced)
    assert both.weights_K == (5, 3, 1, 2, 1, 2, 3, 4) and both.maximum_score == 21
    assert both.rubrics[4:] == induced.rubrics and len({c.criterion_id for c in both.rubrics}) == 8


async def test_a_rubricator_that_is_never_asked_does_not_slow_the_verifier():
    place = {"base_url": "http://a/v1", "model": "m"}
    judges = {"rubricator": place | {"limits": {"concurrency": 2}}, "verifier": place | {"limits": {"concurrency": 64}}}
    for rubrics, concurrency in (("dataset", 64), ("induced", 2)):
        config = RopdConfig.model_validate({"judge": {"rubrics": rubrics}} | judges)
        shared = Shared()
        rewarder = method_of(config).rewarder(Resources(config, None, shared, None))
        assert shared.limiter(config.verifier).concurrency == concurrency
        await rewarder.close()

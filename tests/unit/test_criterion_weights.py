"""Weights of criteria in the update: worked by hand, and the laws of the mask."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.config import RewardConfig, load_config
from ropd_cli.errors import ConfigError
from ropd_cli.method.criterion_weights import discriminating, kept, mask_seed, weighted_scores
from ropd_cli.method.rewards import RewardMixer
from ropd_cli.records.schemas import Answer, AnswerVerdict, Criterion, Group, Message, Rubric

POINTS = (5, 2, 1)
ROWS = [(True, True, False), (True, False, False), (False, False, False), (True, False, False)]


def make_group(*texts):
    return Group(
        uid="u",
        prompt=(Message(role="user", content="?"),),
        raw_prompt_hash="h",
        rollouts=tuple(Answer(text=text) for text in texts),
    )


def make_rubric(points=POINTS):
    criteria = [
        Criterion(criterion_id=f"c{k}", category="Task Completion", criterion=f"It is {k}.", points=p)
        for k, p in enumerate(points)
    ]
    return Rubric(rubrics=tuple(criteria), maximum_score=sum(points))


def verdict(index, row, score):
    return AnswerVerdict(source="student", index=index, judgement=row, score=score)


def mix(rows, scores, seed=0, points=POINTS, **settings):
    answers = [verdict(k, row, score) for k, (row, score) in enumerate(zip(rows, scores, strict=True))]
    group = make_group(*(f"rollout {k}" for k in range(len(rows))))
    mixer = RewardMixer.load(RewardConfig(**settings), seed)
    return asyncio.run(mixer.mix(group, scores, make_rubric(points), answers))


def test_a_criterion_counts_by_how_it_separates_the_rollouts():
    """3, 1 and 0 of 4 rollouts meet the criteria, so 4p(1 - p) is 3/4, 3/4 and 0: 15 : 6 : 0."""
    assert discriminating(ROWS, POINTS) == (15, 6, 0)
    scores = (7 / 8, 5 / 8, 0.0, 5 / 8)
    assert (mix(ROWS, scores).shaped_G, mix(ROWS, scores).weights_K) == ((), ()), "off by default"
    mixed = mix(ROWS, scores, criterion_weights="discriminating")
    assert mixed.rewards_G == scores == mixed.parts["rubric"], "the score by the rubric stays what it is"
    assert mixed.shaped_G == pytest.approx((1.0, 15 / 21, 0.0, 15 / 21))
    assert mixed.weights_K == pytest.approx((8 * 15 / 21, 8 * 6 / 21, 0.0))
    # the other parts are added to it, and normalised apart where that is wanted
    mixed = mix(ROWS, scores, criterion_weights="discriminating", format=0.5, format_pattern="[01]$")
    assert mixed.rewards_G == pytest.approx([r + f for r, f in zip(scores, (0.5, 0.5, 0, 0), strict=True)])
    assert mixed.shaped_G == pytest.approx((1.5, 15 / 21 + 0.5, 0.0, 15 / 21))
    mixed = mix(
        ROWS, scores, criterion_weights="discriminating", format=1.0, format_pattern="[01]$", combine="separate"
    )
    # (1, 15/21, 0, 15/21): mean 17/28, std 0.426583; (1, 1, 0, 0): mean 1/2, std 0.577350
    own, format_part = (0.920940, 0.251166, -1.423270, 0.251166), (0.866025, 0.866025, -0.866025, -0.866025)
    assert mixed.shaped_G == pytest.approx([a + b for a, b in zip(own, format_part, strict=True)], abs=1e-5)


def test_where_no_criterion_separates_the_points_count():
    same = [(True, False, True)] * 3
    mixed = mix(same, (0.75,) * 3, criterion_weights="discriminating")
    assert mixed.shaped_G == pytest.approx((0.75,) * 3) and mixed.weights_K == (5, 2, 1)


def test_rollouts_that_were_not_judged_have_no_say():
    rows, scores = [*ROWS, (), (None,) * 3], (7 / 8, 5 / 8, 0.0, 5 / 8, 0.0, None)
    mixed = mix(rows, scores, criterion_weights="discriminating")
    assert mixed.shaped_G == pytest.approx((1.0, 15 / 21, 0.0, 15 / 21, 0.0, None))
    nobody = mix([(), ()], (0.0, 0.0), criterion_weights="discriminating")
    assert (nobody.rewards_G, nobody.shaped_G, nobody.weights_K) == ((0.0, 0.0), (), ())


def test_a_criterion_that_was_not_judged_for_all_does_not_count():
    rows = [(True, None, False), (False, True, False)]
    mixed = mix(rows, (5 / 6, 0.0), criterion_weights="discriminating")
    assert mixed.shaped_G == pytest.approx((1.0, 0.0)) and mixed.weights_K == (8, 0, 0)
    for seed in range(20):
        assert mix(rows, (5 / 6, 0.0), seed, criterion_dropout=0.5).weights_K[1] == 0


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.floats(0, 0.5), st.text(max_size=8))
def test_a_mask_keeps_some_of_what_counts(counted, rate, seed):
    mask = kept(counted, rate, seed)
    assert mask == kept(counted, rate, seed) and len(mask) == len(counted)
    assert all(counted[k] for k, kept_one in enumerate(mask) if kept_one)
    assert any(mask) == any(counted)
    assert rate > 0 or mask == tuple(counted)


def test_masks_drop_as_often_as_they_are_told_and_differ_by_seed_and_rollouts():
    masks = [kept((True,) * 8, 0.25, str(seed)) for seed in range(1000)]
    assert sum(map(sum, masks)) / 8000 == pytest.approx(0.75, abs=0.02)
    assert {sum(kept((True, True), 0.5, str(seed))) for seed in range(50)} == {1, 2}
    group = make_group("a", "b")
    seeds = {mask_seed(0, group), mask_seed(1, group), mask_seed(0, make_group("a", "c")), mask_seed(0, group)}
    assert len(seeds) == 3


def test_scores_under_a_mask():
    seen = set()
    for seed in range(40):
        mixed = mix(ROWS, (7 / 8, 5 / 8, 0.0, 5 / 8), seed, criterion_dropout=0.5)
        mask = [weight > 0 for weight in mixed.weights_K]
        points = [p for p, counts in zip(POINTS, mask, strict=True) if counts]
        assert sum(mixed.weights_K) == pytest.approx(8)
        want = [sum(p for p, v, c in zip(POINTS, row, mask, strict=True) if v and c) / sum(points) for row in ROWS]
        assert mixed.shaped_G == pytest.approx(want)
        seen.add(tuple(mask))
    assert len(seen) == 7, "every subset but the empty one"


def test_scores_that_are_equal_stay_equal():
    """Two criteria of one weight, each met by one rollout of three."""
    rows = [(True, False), (False, True), (False, False)]
    answers = [verdict(k, row, 0.5) for k, row in enumerate(rows)]
    first, second, third = weighted_scores(answers, discriminating(rows, (3, 3)))
    assert first == second > third == 0.0


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["reward.criterion_weights=discriminating", "reward.rubric=0", "reward.exact=1"], "reward.rubric is 0"),
        (["reward.criterion_dropout=0.1", "reward.rubric=0"], "criterion_dropout is about the rubric's score"),
        (["reward.criterion_dropout=0.6"], "less than or equal to 0.5"),
        (["reward.combine=separate"], "two parts"),
        (["reward.combine=separate", "reward.rubric=0", "reward.exact=1"], "two parts"),
        (["reward.criterion_dropout=0.1", "judge.rubric_per=rollout"], "judge.rubric_per is rollout"),
        (["reward.criterion_weights=discriminating", "method=t-judge"], "criterion_weights: method t-judge"),
        (["reward.combine=separate", "reward.exact=1", "method=ovd-reward"], "reward.combine: method ovd-reward"),
        (["judge.reuse=epoch", "method=grpo-verifiable"], "judge.reuse: method grpo-verifiable"),
    ],
)
def test_what_can_not_work_is_refused(keys, said):
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(overrides=keys, environ={})
    assert len(caught.value.problems) == 1 and not caught.value.problems[0].startswith(":")

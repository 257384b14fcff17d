"""Laws of scores, group statistics and advantages."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.method.scoring import advantages, coverage, group_stats, judged_for_all, score

weights = st.lists(st.integers(1, 5), min_size=1, max_size=12)
judged = weights.flatmap(
    lambda w: st.tuples(
        st.lists(st.booleans(), min_size=len(w), max_size=len(w)), st.just(w), st.integers(0, len(w) - 1)
    )
)


def test_the_equation():
    assert score([True, False, True], [5, 2, 1]) == pytest.approx(6 / 8)
    assert score([False, False], [5, 1]) == 0.0


@given(judged)
def test_in_the_unit_interval_and_monotone_in_each_verdict(case):
    judgement, weights_K, k = case
    low = score([*judgement[:k], False, *judgement[k + 1 :]], weights_K)
    high = score([*judgement[:k], True, *judgement[k + 1 :]], weights_K)
    assert 0.0 <= low < high <= 1.0


@given(judged)
def test_a_missing_judgement_makes_the_score_missing_never_zero(case):
    judgement, weights_K, k = case
    assert score([*judgement[:k], None, *judgement[k + 1 :]], weights_K) is None


matrices = weights.flatmap(
    lambda w: st.tuples(
        st.lists(
            st.lists(st.sampled_from([True, False, None]), min_size=len(w), max_size=len(w)), min_size=1, max_size=8
        ),
        st.just(w),
    )
)


@given(matrices)
def test_scores_over_the_criteria_judged_for_all(case):
    judgements_GK, weights_K = case
    counted_K = judged_for_all(judgements_GK)
    assert counted_K == tuple(all(row[k] is not None for row in judgements_GK) for k in range(len(weights_K)))
    share = coverage(counted_K, weights_K)
    assert 0 <= share <= 1 and (share == 1) == all(counted_K)
    if not any(counted_K):
        return
    kept = [w for w, counted in zip(weights_K, counted_K, strict=True) if counted]
    for row in judgements_GK:
        found = score(row, weights_K, counted_K)
        assert found is not None and 0 <= found <= 1  # every rollout has one, by the same criteria
        assert found == score([v for v, counted in zip(row, counted_K, strict=True) if counted], kept)


@given(judged)
def test_with_all_judged_the_plain_score(case):
    judgement, weights_K, _ = case
    assert score(judgement, weights_K, judged_for_all([judgement, judgement])) == score(judgement, weights_K)


def test_a_criterion_missing_for_one_rollout_counts_for_none():
    rows = [[True, None, False], [True, True, True]]
    counted_K = judged_for_all(rows)
    assert counted_K == (True, False, True) and coverage(counted_K, [3, 4, 1]) == 0.5
    assert [score(row, [3, 4, 1], counted_K) for row in rows] == pytest.approx([3 / 4, 1.0])
    assert score([None, True, None], [3, 4, 1], counted_K) is None  # a teacher answer that lacks a counted one


@pytest.mark.parametrize(("judgement", "weights_K"), [([True], [1, 2]), ([], [])])
def test_shapes_that_do_not_match(judgement, weights_K):
    with pytest.raises(ValueError, match="judgements for"):
        score(judgement, weights_K)


def test_stats_leave_out_what_is_missing():
    stats = group_stats([0.2, None, 0.6], [0.9, None, 0.7])
    assert (stats.n, stats.missing) == (3, 1)
    assert stats.mean == pytest.approx(0.4)
    assert stats.spread == pytest.approx(0.2)
    assert stats.teacher_mean == pytest.approx(0.8)
    assert not stats.zero_variance
    assert not stats.teacher_below_student


def test_stats_say_what_is_wrong():
    assert group_stats([0.1, 0.1, 0.1]).zero_variance
    assert group_stats([0.1, 0.1, 0.1]).spread == 0.0
    assert not group_stats([0.1]).zero_variance  # one reward says nothing of a spread
    assert group_stats([0.9, 0.8], [0.5]).teacher_below_student
    assert not group_stats([0.9], []).teacher_below_student
    nothing = group_stats([None, None], [0.5])
    assert (nothing.mean, nothing.spread, nothing.missing, nothing.zero_variance) == (None, None, 2, False)


def test_whether_there_is_anything_to_learn_is_said_by_what_grpo_is_given():
    assert group_stats([0.5, 0.7], shaped_G=[0.5, 0.5]).zero_variance
    assert not group_stats([0.5, 0.5], shaped_G=[0.4, 0.6]).zero_variance
    assert group_stats([0.5, 0.7], shaped_G=[0.5, 0.5]).mean == pytest.approx(0.6)


rewards = st.lists(st.one_of(st.none(), st.integers(0, 20).map(lambda n: n / 20)), max_size=12)


@given(rewards, st.booleans())
def test_advantages_sum_to_nothing_and_keep_the_order(rewards_G, by_std):
    found = advantages(rewards_G, by_std=by_std)
    pairs = [(r, a) for r, a in zip(rewards_G, found, strict=True) if r is not None]
    assert [a is None for a in found] == [r is None for r in rewards_G]
    assert math.fsum(a for _, a in pairs) == pytest.approx(0.0, abs=1e-6)
    for r, a in pairs:
        assert all(a <= other_a + 1e-6 for other_r, other_a in pairs if r <= other_r)


def test_advantages_as_grpo_computes_them():
    assert advantages([0.0, 1.0], by_std=False) == (-0.5, 0.5)
    low, high = advantages([0.0, 1.0])
    assert high == pytest.approx(0.5 / math.sqrt(0.5), rel=1e-6)
    assert low == -high
    assert advantages([0.3, 0.3, 0.3]) == pytest.approx((0, 0, 0), abs=1e-6)
    assert advantages([None, 0.3]) == (None, 0.0)

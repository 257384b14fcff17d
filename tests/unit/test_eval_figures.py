"""Figures of an evaluation and their intervals: by hand, by brute force, and by simulation."""

import itertools
import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropd_cli.analysis.intervals import (
    paired_difference,
    paired_p_value,
    problem_mean,
    problem_ratio,
    student_quantile,
    unbounded_mean,
)
from ropd_cli.evaluation.compare import _difference
from ropd_cli.evaluation.samples import Grade, Metric, Sample
from ropd_cli.evaluation.statistics import (
    Lengths,
    benchmark_figures,
    lengths_of,
    majority_score,
    pass_at_k,
    problem_values,
)
from ropd_cli.records.schemas import Usage

ACCURACY = Metric("accuracy", "accuracy")


def grade(id, sample, score, extracted="x", **more):
    return Grade(benchmark="b", id=id, sample=sample, scores={"accuracy": score}, extracted=extracted, **more)


def keyed(*grades):
    return {(each.id, each.sample): each for each in grades}


NO_SAMPLES = lengths_of([], [], 1)


@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_what_counting_says(n, data):
    correct = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    drawn = list(itertools.combinations([True] * correct + [False] * (n - correct), k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, drawn)) / len(drawn))


def test_pass_at_k_wants_enough_samples():
    with pytest.raises(ValueError, match="k <= n"):
        pass_at_k(4, 2, 5)


@pytest.mark.parametrize(
    ("votes", "score"),
    [
        ([("a", 1.0), ("a", 1.0), ("b", 0.0)], 1.0),
        ([("a", 1.0), ("b", 0.0), ("b", 0.0)], 0.0),
        ([("a", 1.0), ("b", 0.0)], 0.5),
        ([("a", 1.0), ("b", 0.0), ("c", 0.0)], pytest.approx(1 / 3)),
        ([(None, 0.0), (None, 0.0), ("a", 1.0)], 1.0),
        ([(None, 0.0), (None, 0.0)], 0.0),
        ([("b", 0.0), ("b", 0.0), ("a", 1.0), ("a", 1.0), ("c", 0.0)], 0.5),
    ],
)
def test_majority(votes, score):
    grades = [grade("q", k, right, said) for k, (said, right) in enumerate(votes)]
    assert majority_score(grades, "accuracy") == score


def test_figures_by_hand():
    grades = keyed(
        *(grade("p1", k, float(k < 3), "a" if k < 3 else "b") for k in range(4)),  # 3 of 4
        *(grade("p2", k, float(k == 0), "c" if k else "d") for k in range(4)),  # 1 of 4, the others agree
        grade("p3", 0, 1.0),
        grade("p3", 1, None, why_missing="judge"),
        grade("p3", 2, 0.0, None),  # p3: 1 of 2; sample 3 was never drawn
        grade("p4", 0, None),
        grade("elsewhere", 0, 1.0),
        grade("p1", 4, 1.0),  # beyond n
    )
    found = benchmark_figures(["p1", "p2", "p3", "p4"], 4, [ACCURACY], grades, NO_SAMPLES, extracts=True)
    assert (found.problems, found.graded_problems, found.graded, found.missing) == (4, 3, 10, 6)
    assert found.metrics["accuracy"].value == pytest.approx((3 / 4 + 1 / 4 + 1 / 2) / 3)
    assert found.pass_at[1].value == pytest.approx(found.metrics["accuracy"].value)
    assert found.pass_at[2].value == pytest.approx((1 + 1 / 2 + 1) / 3) and found.pass_at[2].problems == 3
    assert found.pass_at[4].value == pytest.approx((1 + 1) / 2) and found.pass_at[4].problems == 2
    assert found.majority.value == pytest.approx((1 + 0 + 1) / 3)
    assert found.no_result == 1 and found.document()["no_result_share"] == pytest.approx(0.1)
    json.dumps(found.document(), allow_nan=False)


def test_counts_and_clipping():
    instructions = Metric("inst", "instructions", binary=False, from_counts=True)
    grades = keyed(
        grade("a", 0, 1.0, counts={"inst": (2, 2)}),
        grade("b", 0, 0.0, counts={"inst": (1, 4)}),
        grade("c", 0, 0.0, counts={"inst": (0, 1)}),
    )
    found = benchmark_figures(["a", "b", "c"], 1, [ACCURACY, instructions], grades, NO_SAMPLES, extracts=False)
    assert found.metrics["inst"].value == pytest.approx(3 / 7) and found.no_result is None and found.majority is None
    assert problem_values(instructions, grades.values()) == {"a": 1.0, "b": 0.25, "c": 0.0}
    points = Metric("accuracy", "points", binary=False, clipped=True)
    below = keyed(grade("a", 0, -0.5), grade("b", 0, 0.2), grade("c", 0, 0.1))
    found = benchmark_figures(["a", "b", "c"], 1, [points], below, NO_SAMPLES, extracts=False).metrics["accuracy"]
    assert found.value == 0.0 and found.low == 0.0 and 0 < found.high <= 1.0  # the mean is clipped, not each
    above = keyed(grade("a", 0, -0.5), grade("b", 0, 1.0), grade("c", 0, 0.7))
    found = benchmark_figures(["a", "b", "c"], 1, [points], above, NO_SAMPLES, extracts=False).metrics["accuracy"]
    assert found.value == pytest.approx(0.4)


def test_the_document():
    grades = keyed(grade("a", 0, 1.0, "7"), grade("a", 1, 0.0, None), grade("b", 0, None))
    lengths = Lengths(samples=3, truncated=1, mean_tokens=20.0, median_tokens=10.0, mean_chars=2.0)
    figure = {"value": 0.5, "low": 0.0, "high": 1.0, "problems": 1}
    found = benchmark_figures(["a", "b"], 2, [ACCURACY], grades, lengths, extracts=True)
    assert found.document() == {
        "problems": 2,
        "graded_problems": 1,
        "samples": 3,
        "graded": 2,
        "missing": 2,
        "no_result": 1,
        "no_result_share": 0.5,
        "undecided": 0,
        "undecided_share": 0.0,
        "truncated": 1,
        "truncated_share": 1 / 3,
        "mean_tokens": 20.0,
        "median_tokens": 10.0,
        "mean_chars": 2.0,
        "metrics": {"accuracy": figure},
        "pass_at": {"1": figure, "2": figure | {"value": 1.0}},
        "majority": figure | {"value": 1.0},
    }
    many = keyed(*(grade("a", number, 1.0) for number in range(9)))
    assert list(benchmark_figures(["a"], 9, [ACCURACY], many, lengths, extracts=True).pass_at) == [1, 2, 4, 8, 9]
    alone = benchmark_figures(["a", "b"], 1, [ACCURACY], grades, lengths, extracts=True).document()
    assert alone["pass_at"] == {} and alone["majority"] is None and alone["metrics"]["accuracy"]["value"] == 1.0


def test_nothing_graded_is_no_zero():
    instructions = Metric("inst", "instructions", binary=False, from_counts=True)
    metrics = [ACCURACY, instructions]
    found = benchmark_figures(["a"], 2, metrics, keyed(grade("a", 0, None)), NO_SAMPLES, extracts=True)
    assert problem_values(ACCURACY, [grade("a", 0, None)]) == problem_values(instructions, [grade("a", 0, 1.0)]) == {}
    counted = keyed(grade("a", 0, 1.0, counts={"inst": (0, 0)}))
    assert "inst" not in benchmark_figures(["a"], 1, metrics, counted, NO_SAMPLES, extracts=True).metrics
    assert not found.metrics and not found.pass_at and found.majority is None and found.missing == 2
    document = found.document()
    assert document["no_result_share"] is None and document["truncated_share"] is None


def test_lengths():
    def sample(id, number, text, reason, tokens):
        usage = Usage(prompt_tokens=1, completion_tokens=tokens) if tokens else None
        return Sample(benchmark="b", id=id, sample=number, text=text, finish_reason=reason, usage=usage)

    samples = [sample("a", 0, "xx", "stop", 10), sample("a", 1, "xxxx", "length", 30), sample("b", 0, "", "stop", 0)]
    samples += [sample("a", 2, "beyond", "length", 99), sample("c", 0, "not asked", "length", 99)]
    found = lengths_of(samples, ["a", "b"], 2)
    assert (found.samples, found.truncated, found.mean_tokens, found.mean_chars) == (3, 1, 20.0, 2.0)
    assert lengths_of([*samples, sample("b", 1, "", "stop", 90)], ["a", "b"], 2).median_tokens == 30
    thought = sample("b", 1, "four", "stop", 0).model_copy(update={"reasoning": "and ten more"})
    assert lengths_of([thought], ["b"], 2).mean_chars == 16
    assert (NO_SAMPLES.mean_tokens, NO_SAMPLES.median_tokens, NO_SAMPLES.mean_chars) == (None, None, None)


def test_the_order_of_the_grades_says_nothing():
    grades = [grade(f"p{k}", s, float((k * s) % 3 == 0), str(s % 2)) for k in range(5) for s in range(4)]
    ids = [f"p{k}" for k in range(5)]
    one = benchmark_figures(ids, 4, [ACCURACY], keyed(*grades), NO_SAMPLES, extracts=True)
    other = benchmark_figures(ids, 4, [ACCURACY], keyed(*reversed(grades)), NO_SAMPLES, extracts=True)
    assert one == other


def test_student_is_as_in_the_tables():
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 29: 2.045, 120: 1.980}
    assert {degrees: round(student_quantile(degrees), 3) for degrees in table} == table


@settings(max_examples=200)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40))
def test_an_interval_holds_its_mean_stays_in_bounds_and_has_a_width(values):
    found = problem_mean(values)
    assert 0 <= found.low <= found.mean <= found.high <= 1 and found.high - found.low > 1e-3
    mirrored = problem_mean([1 - value for value in values])
    assert mirrored.low == pytest.approx(1 - found.high, abs=1e-9)


def test_the_interval_is_wilson_s_where_each_problem_has_one_sample():
    found = problem_mean([1.0] * 30 + [0.0] * 70)
    assert (found.low, found.high) == (pytest.approx(0.219, abs=3e-3), pytest.approx(0.396, abs=3e-3))


def test_more_samples_of_a_problem_are_no_more_problems():
    few, many = [0.0, 1.0] * 15, [0.0] * 15 + [1.0] * 15  # each problem always solved, or never
    assert problem_mean(few) == problem_mean(many)
    assert problem_mean(few).high - problem_mean(few).low > 0.3


def test_ratios_and_unbounded_means():
    assert problem_ratio([1, 1], [2, 2]).mean == 0.5
    with pytest.raises(ValueError, match="nothing"):
        problem_ratio([0], [0])
    found = unbounded_mean([-1.0, 0.0, 2.0, 3.0])
    assert found.low < -1 and found.high > 3 and math.isinf(unbounded_mean([1.0]).high)


def test_paired_differences():
    found = paired_difference([0.1] * 50 + [-0.1] * 50, 16)
    assert found.mean == pytest.approx(0) and found.low < 0 < found.high and paired_p_value([0.1, -0.1] * 50, 16) > 0.9
    clear = paired_difference([0.5, 0.4, 0.6, 0.5] * 10, 16)
    assert clear.low > 0.4 and paired_p_value([0.5, 0.4, 0.6, 0.5] * 10, 16) < 1e-6
    same = paired_difference([0.0] * 30)
    assert same.low < 0 < same.high  # no difference seen is not none there


@pytest.mark.parametrize("n", [1, 16])
def test_the_paired_interval_keeps_its_word(n, monkeypatch):
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from eval_coverage import coverage

    found = coverage(200, n, (0.0, 2.0, 0.5), repeats=1000, seed=1, draws=0)
    assert 0.93 <= found["ours"] <= 0.97 and 0.05 < found["true"] < 0.1


@pytest.mark.parametrize("clipped", [True, False])
@pytest.mark.parametrize("changes", [[0.10, 0.12, 0.11, 0.09], [0.1, -0.2, 0.3, 0.1], [0.25] * 4, [0.0] * 4])
def test_an_interval_and_its_p_value_say_the_same(clipped, changes):
    first, other = ({str(k): 0.25 + n * change for k, change in enumerate(changes)} for n in (0, 1))
    runs = [SimpleNamespace(values=lambda _name, _metric, values=values: values) for values in (first, other)]
    metric = Metric("points", "points", binary=False, clipped=clipped)
    found = _difference([metric], "b", *runs, "first", "other", (1, 1))["metrics"]["points"]
    assert (found["p_value"] < 0.05) == (not found["low"] <= 0 <= found["high"])


def test_figures_beside_a_change_are_of_the_same_problems():
    values = {"a": 0.0, "b": 1.0}, {"b": 0.0, "c": 1.0}
    runs = [SimpleNamespace(values=lambda _name, _metric, values=each: values) for each in values]
    found = _difference([ACCURACY], "b", *runs, "first", "other", (1, 1))["metrics"]["accuracy"]
    assert (found["first"], found["other"], found["difference"], found["only_in_one"]) == (1.0, 0.0, -1.0, 2)

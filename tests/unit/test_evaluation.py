"""Exact match and the interval of a difference."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.analysis.intervals import paired_bootstrap
from ropd_cli.answers.exact_match import is_exact
from ropd_cli.answers.final_answer import final_result


@pytest.mark.parametrize(
    "text, answer, right",
    [
        (r"\boxed{17}", "17", True),
        (r"So it is $\boxed{ 17 }$.", "17", True),
        (r"\boxed{16} no, \boxed{17}", "17", True),
        (r"\boxed{17} no, \boxed{16}", "17", False),
        ("The result is 17", "17", False),
        (r"\boxed{1,234}", "1234", True),
        (r"\boxed{-3}", "-3", True),
        (r"\boxed{3}", "-3", False),
        (r"\boxed{7.0}", "7", True),
        (r"\boxed{07}", "7", True),
        (r"\boxed{7}", "7.00.", True),
        (r"\boxed{seven}", "7", False),
        (r"\boxed{1{,}234}", "1234", True),
        (r"\boxed{1,\!234}", "1234", True),
        (r"\boxed{1,23}", "123", False),
        (r"\boxed{$\mathbf{x}.$}", "x", True),
        (r"\boxed{\text{olleh}}", "olleh", True),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", True),
        (r"\boxed{17", "17", False),
        (r"\boxed{17} and \boxed{18", "17", True),
        (r"\boxed{}", "17", False),
        (r"<think>\boxed{17}</think>", "17", False),
        (r"<think>\boxed{17}", "17", False),
        (r"<think>12?</think>\boxed{17}", "17", True),
        ("", "17", False),
    ],
)
def test_exact_match(text, answer, right):
    assert is_exact(text, answer) is right


@given(st.text())
def test_any_text_is_graded(text):
    is_exact(text, "1")
    found = final_result(f"{text} \\boxed{{5}}")
    assert found == "5"


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = random.Random(0)
    covered = 0
    for trial in range(200):
        before = [float(rng.random() < 0.3) for _ in range(100)]
        after = [max(b, float(rng.random() < 0.2)) for b in before]  # true difference 0.7 * 0.2
        interval = paired_bootstrap(before, after, draws=300, seed=trial)
        covered += interval.low <= 0.14 <= interval.high
    assert 180 <= covered <= 200


def test_bootstrap_of_no_change_is_nothing():
    interval = paired_bootstrap([1, 0, 1], [1, 0, 1], draws=100)
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)
    with pytest.raises(ValueError):
        paired_bootstrap([1], [])

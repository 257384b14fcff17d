"""The figures of two judgings beside each other, against hand counts."""

from __future__ import annotations

from collections import Counter

import pytest

from ropd_cli.analysis.agreement import Pair, figures, kappa, kendall, pearson, spearman
from ropd_cli.records.schemas import AnswerVerdict, Criterion, Rubric, RubricRecord, VerdictRecord

RUBRIC = Rubric(
    rubrics=(
        Criterion(criterion_id="c1", category="Task Completion", criterion="Is right.", points=3),
        Criterion(criterion_id="c2", category="General Reasoning", criterion="Shows the 2 steps.", points=1),
    ),
    maximum_score=4,
)


def rubric_record(rubric=RUBRIC):
    return RubricRecord(
        uid="u", raw_prompt_hash="h", rubric=rubric, rubric_hash=rubric.hash, model="m", template_hash="t"
    )


def record(students, teachers=(), model="m"):
    answers = [
        AnswerVerdict(
            source=source,
            index=k,
            judgement=tuple(marks),
            score=None
            if None in marks or not marks
            else sum(p for p, mark in zip((3, 1), marks, strict=True) if mark) / 4,
        )
        for source, rows in (("student", students), ("teacher", teachers))
        for k, marks in enumerate(rows)
    ]
    return VerdictRecord(
        uid="u",
        raw_prompt_hash="h",
        rubric_hash=RUBRIC.hash,
        answers=tuple(answers),
        rewards=tuple(a.score for a in answers if a.source == "student"),
        model=model,
        template_hash="t",
    )


def pair(first, *repeats, step=1):
    return Pair(step, "u", first, rubric_record(), repeats, rubric_record())


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({(True, True): 20, (True, False): 5, (False, True): 10, (False, False): 15}, 0.4),  # p_o 0.7, p_e 0.5
        ({(True, True): 3, (False, False): 5}, 1.0),
        ({(True, False): 5, (False, True): 5}, -1.0),
        ({(True, True): 5}, 1.0),  # not defined; they agree in everything
        ({(True, True): 8, (True, False): 2}, 0.0),  # the first says one thing only
        ({}, None),
    ],
)
def test_kappa_by_hand(cells, expected):
    assert kappa(Counter(cells)) == (None if expected is None else pytest.approx(expected))


def test_correlations_by_hand():
    x, y = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]
    assert pearson(x, y) == pytest.approx(0.8) and spearman(x, y) == pytest.approx(0.8)
    assert kendall(x, y) == pytest.approx(4 / 6)
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / (2 * 3) ** 0.5)
    assert pearson([1, 1], [1, 2]) is spearman([1, 1], [1, 2]) is kendall([1, 1], [1, 2]) is None


def test_scores_that_differ_by_rounding_are_ties():
    x, y = [0.5, 0.5 + 1e-9, 1.0], [1.0, 2.0, 3.0]
    assert kendall(x, y) == pytest.approx(2 / (2 * 3) ** 0.5)
    assert spearman(x, y) == pytest.approx(pearson([1.5, 1.5, 3], y))
    assert kendall([0.5, 0.5 + 1e-9], [1, 2]) is None


def test_a_group_by_hand():
    first = record([(True, True), (True, False), (False, None), ()], [(True, True)])
    second = record([(True, False), (False, False), (False, True), ()], [(True, True)])
    found = figures([pair(first, second), pair(first, first, step=2)])
    judgements = found["judgements"]
    # step 1: of 4 + 1 student marks that both have 2 differ, both teacher marks agree; step 2: all 7 agree
    assert judgements["n"] == 14 and judgements["agreement"]["value"] == pytest.approx(12 / 14)
    assert judgements["missing"] == {"saved": 2, "new": 1}
    assert judgements["sources"]["student"]["n"] == 10 and judgements["sources"]["teacher"]["agreement"] == 1.0
    assert judgements["categories"]["Task Completion"]["agreement"] == pytest.approx(7 / 8)
    scores = found["scores"]
    assert scores["n"] == 4  # the third has no first score; the fourth was shown to no judge
    assert scores["mean_saved"] == pytest.approx((1 + 0.75 + 1 + 0.75) / 4)
    assert scores["mean_new"] == pytest.approx((0.75 + 0 + 1 + 0.75) / 4)
    assert found["advantages"]["sign_changes"]["value"] == 0.0 and found["advantages"]["n"] == 4
    assert found["teacher"]["saved"]["above"]["value"] == 1.0 and found["flips"] is None


def test_a_rollout_without_an_answer_is_trained_on_as_it_was_scored():
    """Rewards (1, 0) of which the second had no answer lose their spread where the first becomes 0."""
    unanswered = AnswerVerdict(source="student", index=1, judgement=(), score=0.0)

    def with_unanswered(marks):
        made = record([marks])
        return made.model_copy(update={"answers": (*made.answers, unanswered)})

    found = figures([pair(with_unanswered((True, True)), with_unanswered((False, False)))])
    assert found["advantages"]["groups"] == 1 and found["advantages"]["died"] == 1 and found["scores"]["n"] == 1


def test_kappa_has_limits_only_where_groups_tell_them():
    same = record([(True, True), (False, True)])
    apart = record([(True, False), (False, True)])
    one = figures([pair(same, same), pair(same, apart, step=2), pair(same, same, step=3)])
    assert one["judgements"]["kappa"]["low"] is None and one["judgements"]["kappa"]["value"] < 1
    all_of_them = figures([pair(same, same), pair(same, same, step=2)])
    assert all_of_them["judgements"]["kappa"] == {"value": 1.0, "low": None, "high": None}
    some = figures([pair(same, apart if k % 3 else same, step=k) for k in range(1, 8)])["judgements"]["kappa"]
    assert -1 <= some["low"] < some["value"] < some["high"] <= 1


def test_means_and_their_difference_weigh_groups_alike():
    long, short = record([(True, True)] * 4), record([(False, False)])
    found = figures([pair(long, long), pair(short, record([(True, True)]), step=2)])["scores"]
    assert found["mean_new"] - found["mean_saved"] == pytest.approx(found["difference"]["value"]) == 0.5


def test_signs_that_change_and_groups_that_die():
    even, uneven, turned = (
        record([(True, True), (True, True)]),
        record([(True, True), (False, True)]),
        record([(False, True), (True, True)]),
    )
    found = figures([pair(uneven, turned), pair(uneven, even, step=2), pair(even, uneven, step=3)])
    advantages = found["advantages"]
    assert advantages["sign_changes"]["value"] == 1.0  # 0 is a sign of its own
    assert (advantages["died"], advantages["revived"]) == (1, 1)
    teacher = figures([pair(record([(False, True)], [(True, False)]), record([(True, True)], [(True, False)]))])
    assert teacher["teacher"]["saved"]["above"]["value"] == 1.0 and teacher["teacher"]["new"]["above"]["value"] == 0.0
    assert teacher["teacher"]["new"]["wins"]["value"] == 0.0


def test_flips_count_repeats_against_the_first():
    a, b = record([(True, True), (False, False)]), record([(True, False), (False, False)])
    found = figures([pair(a, a, b, a)])["flips"]
    assert found["n"] == 8 and found["rate"]["value"] == pytest.approx(1 / 8) and found["repeats"] == 3
    assert found["categories"]["General Reasoning"]["rate"] == pytest.approx(1 / 4)


def test_other_rubrics_leave_the_scores():
    other = Rubric(rubrics=RUBRIC.rubrics[::-1], maximum_score=4)
    found = figures(
        [
            Pair(
                1,
                "u",
                record([(True, True), (False, True)]),
                rubric_record(),
                (record([(True, True), (False, True)]),),
                rubric_record(other),
            )
        ]
    )
    assert found["judgements"] is None and found["same_rubric"] == 0 and found["scores"]["n"] == 2
    with pytest.raises(ValueError):
        figures([])

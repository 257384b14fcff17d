"""Rules about how a rubric's criteria came out, and how they are weighed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ropd_cli.lint.records import Finding, Linted
from ropd_cli.method.scoring import group_stats, score

FEWEST = 2
"""Judged rollouts from which on "all" and "none" say something."""


def met_by_all(linted: Linted) -> Iterator[Finding]:
    """Every rollout that was judged by the criterion meets it."""
    yield from _constant(linted, True, "met-by-all", "all {} rollouts meet it")


def met_by_none(linted: Linted) -> Iterator[Finding]:
    """No rollout that was judged by the criterion meets it."""
    yield from _constant(linted, False, "met-by-none", "none of {} rollouts meets it")


def _constant(linted: Linted, value: bool, rule: str, message: str) -> Iterator[Finding]:
    for k, criterion in enumerate(linted.rubric.rubrics):
        marks = [mark for row in linted.student_JK if k < len(row) and (mark := row[k]) is not None]
        if len(marks) >= FEWEST and all(mark is value for mark in marks):
            yield Finding(rule, message.format(len(marks)), (criterion.criterion_id,))


def flat_weights(linted: Linted) -> Iterator[Finding]:
    """All criteria weigh the same."""
    weights = linted.rubric.weights_K
    if len(weights) > 2 and len(set(weights)) == 1:
        yield Finding("flat-weights", f"all {len(weights)} criteria have {weights[0]} points")


def dominated(linted: Linted) -> Iterator[Finding]:
    """One criterion weighs as much as all others together, or more."""
    total = sum(linted.rubric.weights_K)
    for criterion in linted.rubric.rubrics:
        if len(linted.rubric.rubrics) > 1 and 2 * criterion.points >= total:
            yield Finding("dominated", f"{criterion.points} of {total} points", (criterion.criterion_id,))


def teacher_below_student(linted: Linted) -> Iterator[Finding]:
    """The teacher's mean score lies below the rollouts'; of the judgements where no scores are given."""
    students = linted.student_scores or _scores(linted, linted.student_JK)
    teachers = linted.teacher_scores or _scores(linted, linted.teacher_JK)
    stats = group_stats(students, teachers)
    if stats.teacher_below_student:
        yield Finding("teacher-below-student", f"teacher {stats.teacher_mean:.2f}, rollouts {stats.mean:.2f}")


def _scores(linted: Linted, rows: Sequence[Sequence[bool | None]]) -> tuple[float, ...]:
    weights = linted.rubric.weights_K
    return tuple(found for row in rows if len(row) == len(weights) and (found := score(row, weights)) is not None)

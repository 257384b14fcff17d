"""What the linter reads of a judged group."""

from __future__ import annotations

from collections.abc import Sequence

from ropd_cli.lint.records import Linted
from ropd_cli.schemas import Rubric, VerdictRecord


def linted(
    rubric: Rubric,
    verdicts: VerdictRecord | None,
    *,
    question: str | None = None,
    answer: str | None = None,
    teacher_answers: Sequence[str] = (),
    of_rollout: int | None = None,
) -> Linted:
    """A rubric with the verdicts that were given by it; ``of_rollout``: those by the rubric of that rollout alone."""
    given = [a for a in verdicts.answers if a.whose_rubric == of_rollout and a.judgement] if verdicts else []

    def rows(source: str) -> tuple[tuple[bool | None, ...], ...]:
        return tuple(a.judgement for a in given if a.source == source)

    return Linted(
        rubric=rubric,
        question=question,
        answer=answer,
        teacher_answers=tuple(teacher_answers),
        student_JK=rows("student"),
        teacher_JK=rows("teacher"),
        rewards=verdicts.rewards if verdicts and of_rollout is None else (),
        teacher_scores=verdicts.teacher_scores if verdicts and of_rollout is None else (),
    )

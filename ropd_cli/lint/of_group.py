"""What the linter reads of a judged group."""

from __future__ import annotations

import logging

from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.rules import lint
from ropd_cli.method.block import render_question
from ropd_cli.records.schemas import Group, Rubric, RubricRecord, VerdictRecord

log = logging.getLogger(__name__)


def lint_group(group: Group, record: RubricRecord, verdicts: VerdictRecord | None) -> list[Finding] | None:
    """Return what the linter finds in the rubric of a group, or in those of its rollouts; None where it failed itself:
    a rule that stumbles over a rubric is logged, and is no reason to lose a group."""
    question = render_question([message.model_dump(mode="json") for message in group.prompt])
    found: list[Finding] = []
    try:
        for rollout, rubric in record.by_rollout.items():
            found += lint(linted(rubric, verdicts, question=question, answer=group.answer, of_rollout=rollout))
    except Exception as fault:
        log.warning("the linter failed on uid %s: %r", group.uid, fault)
        return None
    return found


def linted(
    rubric: Rubric,
    verdicts: VerdictRecord | None,
    *,
    question: str | None = None,
    answer: str | None = None,
    of_rollout: int | None = None,
) -> Linted:
    """Put a rubric beside its verdicts; ``of_rollout``: those by the rubric of that rollout alone."""
    given = [a for a in verdicts.answers if a.whose_rubric == of_rollout and a.judgement] if verdicts else []

    def rows(source: str) -> tuple[tuple[bool | None, ...], ...]:
        return tuple(a.judgement for a in given if a.source == source)

    return Linted(
        rubric=rubric,
        question=question,
        answer=answer,
        student_JK=rows("student"),
        teacher_JK=rows("teacher"),
        student_scores=verdicts.student_scores if verdicts and of_rollout is None else (),
        teacher_scores=verdicts.teacher_scores if verdicts and of_rollout is None else (),
    )

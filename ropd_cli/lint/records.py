"""What the linter reads and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ropd_cli.records.schemas import Rubric, RubricRecord, VerdictRecord

BY_RULES = "checkable"
"""The model name of the built-in provider. Its rubrics name the answer and hold checks that all rollouts meet on
purpose."""


@dataclass(frozen=True)
class Linted:
    """A rubric with what is known around it. All but the rubric may be missing; rules that need it then find nothing.

    ``student_JK`` and ``teacher_JK`` are the judgements, one row per answer that was judged and one entry per
    criterion, None where there is no verdict. ``student_scores`` is of shape (n,), ``teacher_scores`` of shape (m,) at
    most.
    """

    rubric: Rubric
    by_rules: bool = False
    """The built-in provider wrote it."""
    question: str | None = None
    answer: str | None = None
    """The prompt's checkable final answer."""
    student_JK: tuple[tuple[bool | None, ...], ...] = ()
    teacher_JK: tuple[tuple[bool | None, ...], ...] = ()
    student_scores: tuple[float | None, ...] = ()
    teacher_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Rule:
    """A rule of the linter. ``severity``: "error" spoils the signal, "warning" weakens it."""

    name: str
    title: str
    why: str
    severity: str = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found; ``criteria`` are ids of the criteria it is about (none: the rubric as a whole)."""

    rule: str
    message: str
    criteria: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For files and ``--json``."""
        return {"rule": self.rule, "message": self.message, "criteria": list(self.criteria)}


def linted(
    record: RubricRecord, verdicts: VerdictRecord | None, question: str | None, answer: str | None
) -> list[Linted]:
    """Return what the linter reads of a group: each of its rubrics beside the verdicts by it."""
    some = []
    for rollout, rubric in record.by_rollout.items():
        judged = [a for a in verdicts.answers if a.whose_rubric == rollout and a.judgement] if verdicts else []
        some.append(
            Linted(
                rubric,
                record.model == BY_RULES,
                question,
                answer,
                student_JK=tuple(a.judgement for a in judged if a.source == "student"),
                teacher_JK=tuple(a.judgement for a in judged if a.source == "teacher"),
                student_scores=verdicts.student_scores if verdicts and rollout is None else (),
                teacher_scores=verdicts.teacher_scores if verdicts and rollout is None else (),
            )
        )
    return some

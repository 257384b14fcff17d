"""What the linter reads and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ropd_cli.records.schemas import Rubric, RubricRecord, VerdictRecord


@dataclass(frozen=True)
class Linted:
    """A rubric with what is known around it. All but the rubric may be missing; rules that need it then find nothing.

    ``student_JK`` and ``teacher_JK`` are the judgements, one row per answer that was judged and one entry per
    criterion, None where there is no verdict. ``student_scores`` is of shape (n,), ``teacher_scores`` of shape (m,) at
    most.
    """

    rubric: Rubric
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


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("met-by-all", "criterion that all rollouts meet", "It pays every rollout the same and separates none."),
        Rule("met-by-none", "criterion that no rollout meets", "It separates no two rollouts."),
        Rule("near-duplicate", "criteria that ask the same", "One thing is paid twice."),
        Rule("compound", "several claims in one criterion", "A rollout that does one of two gets nothing for it."),
        Rule(
            "mentions-reference",
            "refers to a reference or a teacher",
            "The verifier does not know which answer that is, and the student is taught to imitate.",
            "error",
        ),
        Rule(
            "gives-answer-away",
            "states the final answer",
            "The verifier matches a string that may be wrong, in place of judging the work.",
        ),
        Rule("vague", "a word of praise without an object", "Two judges read it in two ways."),
        Rule("flat-weights", "all criteria weigh the same", "What is decisive counts no more than what is routine."),
        Rule("dominated", "one criterion outweighs all others", "The reward is that one verdict."),
        Rule("format-heavy", "format is worth more than 1", "The student learns the looks first."),
        Rule(
            "teacher-below-student",
            "the teacher's answers score below the rollouts",
            "The rubric rewards something that the better answers lack, or the student has caught up.",
            "error",
        ),
        Rule("language", "written in another language than the prompt", "Judges obey it less well."),
    )
}
"""By name, in the order in which findings are listed."""
JUDGE_KINDS = ("near-duplicate", "compound", "mentions-reference", "gives-answer-away", "vague", "format-heavy")
"""The rules that the lint judge looks for; "compound" and "vague" nobody else finds."""
FORMAT_WORTH = 1
"""So many points a matter of surface format is worth, where the task does not demand it."""


def in_order(findings: list[Finding]) -> list[Finding]:
    """Findings in the order of the rules, without those that say the same of the same criteria again."""
    first: dict[tuple[str, frozenset[str]], Finding] = {}
    for finding in findings:
        first.setdefault((finding.rule, frozenset(finding.criteria)), finding)
    return sorted(first.values(), key=lambda finding: list(RULES).index(finding.rule))


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
                question,
                answer,
                student_JK=tuple(a.judgement for a in judged if a.source == "student"),
                teacher_JK=tuple(a.judgement for a in judged if a.source == "teacher"),
                student_scores=verdicts.student_scores if verdicts and rollout is None else (),
                teacher_scores=verdicts.teacher_scores if verdicts and rollout is None else (),
            )
        )
    return some

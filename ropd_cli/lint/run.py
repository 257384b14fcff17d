"""All rules on one rubric."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ropd_cli.lint import alike, claims, judged, language, likeness, praise, result, surface
from ropd_cli.lint.records import RULES, Finding, Linted

CHECKS: dict[str, Callable[[Linted], Iterable[Finding]]] = {
    "met-by-all": judged.met_by_all,
    "met-by-none": judged.met_by_none,
    "near-duplicate": alike.near_duplicate,
    "compound": claims.compound,
    "mentions-reference": likeness.mentions_reference,
    "gives-answer-away": result.gives_answer_away,
    "vague": praise.vague,
    "flat-weights": judged.flat_weights,
    "dominated": judged.dominated,
    "format-heavy": surface.format_heavy,
    "teacher-below-student": judged.teacher_below_student,
    "language": language.language,
}


def lint(linted: Linted, rules: Iterable[str] = RULES) -> list[Finding]:
    """What the rules of these names find, in their order; of one rule in the order of the criteria."""
    return [finding for name in rules for finding in CHECKS[name](linted)]

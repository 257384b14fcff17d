"""All rules on one rubric."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ropd_cli.lint import alike, claims, judged, language, likeness, praise, result, surface
from ropd_cli.lint.records import RULES, Finding, Linted
from ropd_cli.records.schemas import Rubric

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


_READ = 2_000
"""Characters of a criterion that are read; patterns may take quadratic time in them."""


def lint(linted: Linted, rules: Iterable[str] = RULES) -> list[Finding]:
    """What the rules of these names find, in their order; of one rule in the order of the criteria."""
    linted = replace(linted, rubric=_readable(linted.rubric))
    return [finding for name in rules for finding in CHECKS[name](linted)]


def _readable(rubric: Rubric) -> Rubric:
    """A rubric whose criteria are no longer than what is read, and have no runs of spaces."""
    texts = [" ".join(criterion.criterion.split())[:_READ] for criterion in rubric.rubrics]
    criteria = [each.model_copy(update={"criterion": text}) for each, text in zip(rubric.rubrics, texts, strict=True)]
    return rubric.model_copy(update={"rubrics": tuple(criteria)})

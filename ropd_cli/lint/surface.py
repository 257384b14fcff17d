"""Criteria about surface format that weigh more than it is worth."""

from __future__ import annotations

from collections.abc import Iterator

from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.vocabulary import either, section

WORTH = 1
"""So many points a matter of surface format is worth, where the task does not demand it."""
_FORMATS = {name: (either(known["shown"]), either(known["demanded"])) for name, known in section("format").items()}
"""By kind of format: how a criterion speaks of it, how a question demands it."""


def format_heavy(linted: Linted) -> Iterator[Finding]:
    """A criterion about surface format of more than 1 point, where the question demands no such format."""
    question = linted.question or ""
    for criterion in linted.rubric.rubrics:
        demands = [demanded for shown, demanded in _FORMATS.values() if shown.search(criterion.criterion)]
        if criterion.points > WORTH and demands and not any(demanded.search(question) for demanded in demands):
            yield Finding("format-heavy", f"{criterion.points} points for format", (criterion.criterion_id,))

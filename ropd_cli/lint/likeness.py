"""Criteria that need another answer to be judged, or ask for likeness to one."""

from __future__ import annotations

from collections.abc import Iterator

from ropd_cli.lint.quotes import unquoted
from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.vocabulary import either, section
from ropd_cli.lint.words import plain

_REFERENCE = either(section("reference")["patterns"])
_ASKED = either(section("reference")["asked"])


def mentions_reference(linted: Linted) -> Iterator[Finding]:
    """A criterion that speaks of a reference, a teacher or another answer, unless the question is about such a one: a
    letter to a teacher, a regression model, the text that is given."""
    question = plain(linted.question or "")
    for criterion in linted.rubric.rubrics:
        for found in _REFERENCE.finditer(plain(unquoted(criterion.criterion))):
            subject = _ASKED.search(found[0])
            if found[0] not in question and (subject is None or subject[0] not in question):
                yield Finding("mentions-reference", f"“{found[0].strip()}”", (criterion.criterion_id,))
                break

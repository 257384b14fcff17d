"""Criteria that need another answer to be judged, or ask for likeness to one."""

from __future__ import annotations

from collections.abc import Iterator

from ropd_cli.lint.quotes import unquoted
from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.vocabulary import either, section
from ropd_cli.lint.words import plain

_REFERENCE = either(section("reference")["patterns"])
_ASKED = either(section("reference")["asked"])
_ANSWER = either(
    [r"(?:\S+\s+){0,2}(?:answer|solution|response|repl(?:y|ie)|derivation|proof)s?\b", r"\S{0,4}(?:答案|解答|回答)"]
)


def mentions_reference(linted: Linted) -> Iterator[Finding]:
    """A criterion that speaks of a reference, a teacher or another answer, unless the question is about such a one: a
    letter to a teacher, a regression model, the text that is given."""
    question = plain(linted.question or "")
    for criterion in linted.rubric.rubrics:
        text = plain(unquoted(criterion.criterion))
        for found in _REFERENCE.finditer(text):
            answer = _ANSWER.match(text, found.start())  # "the reference solution" is not the question's own subject
            phrase = answer[0] if answer else found[0]
            subject = None if answer else _ASKED.search(phrase)
            if phrase not in question and (subject is None or subject[0] not in question):
                yield Finding("mentions-reference", f"“{phrase.strip()}”", (criterion.criterion_id,))
                break

"""Criteria that praise without saying of what."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.vocabulary import either, section, words
from ropd_cli.lint.words import plain

_SPACED = {
    language: (words(known["words"]), words(known["generic"]))
    for language, known in section("praise").items()
    if language not in ("zh", "ja")
}
"""By language, words of praise and words that fit any answer."""
_ZH_PRAISE, _ZH_GENERIC = (either(section("praise.zh")[name]) for name in ("words", "generic"))
_JA_WHOLE = re.compile(section("praise.ja")["whole"])
_WORD = re.compile(r"[^\W\d_]+")


def vague(linted: Linted) -> Iterator[Finding]:
    """A criterion of which nothing is left without words of praise and words that fit any answer."""
    for criterion in linted.rubric.rubrics:
        if _is_vague(plain(criterion.criterion)):
            yield Finding("vague", "praise without saying of what", (criterion.criterion_id,))


def _is_vague(text: str) -> bool:
    if re.search(r"\d", text):
        return False
    if re.search(r"[\u3040-\u30ff]", text):
        return _JA_WHOLE.match(text.rstrip("。. ")) is not None
    if re.search(r"[\u4e00-\u9fff]", text):
        rest = _ZH_GENERIC.sub("", _ZH_PRAISE.sub("", text))
        return _ZH_PRAISE.search(text) is not None and len(re.findall(r"\w", rest)) <= 1
    found = set(_WORD.findall(text))
    return any(found & praise and found <= praise | generic for praise, generic in _SPACED.values())

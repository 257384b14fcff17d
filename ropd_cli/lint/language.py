"""Criteria in another language than the prompt's.

Criteria are sentences of ten words, on which guessers of language are often wrong. So nothing is said of a short text,
of a language that langdetect takes for its neighbours, or where the prompt's own language is not plain.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from ropd_cli.lint.records import Finding, Linted
from ropd_cli.util.detect_language import detected

_NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[A-Za-z]+|https?://\S+"
    r"|\"[^\"]*\"|“[^”]*”|«[^»]*»|„[^“”]*[“”]|「[^」]*」|『[^』]*』|《[^》]*》|‘[^’]*’|(?<!\w)'[^'\n]*'(?!\w)",
    re.DOTALL,
)
"""Code, formulas, links and quoted words: they are in the language of what is quoted."""
_TOLD_APART = {"en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "tr", "vi"}
"""Languages that langdetect knows at the length of a criterion; short English is Afrikaans or Catalan to it."""
_NAMES = re.compile(
    r"english|german|french|spanish|italian|portuguese|russian|chinese|mandarin|japanese|korean|arabic|dutch|polish"
    r"|deutsch|englisch|französisch|anglais|français|allemand|inglés|español|francés|inglês|português"
    r"|translat|übersetz|tradu|перев|翻译|英文|英语|中文|日语|法语|德语|英語|日本語",
    re.IGNORECASE,
)
"""A prompt with one of these may want another language than its own."""
_LETTERS = {"latin": 30, "cyrillic": 30}
"""So many letters a text needs for its language to be told; of other scripts, whose letters say it, a few will do."""
_FEW_LETTERS = 5
_SURE = 0.99
_READ = 2_000
"""Characters of a text's beginning that are read."""


def language(linted: Linted) -> Iterator[Finding]:
    """Find criteria that are surely in another language than the prompt, and than any part of it.

    Where the prompt names a language, the language of most of the rubric is right as well.
    """
    question = linted.question or ""
    own = language_of(question)
    if own is None:
        return
    written = [language_of(criterion.criterion, own) for criterion in linted.rubric.rubrics]
    right = {own, None} | {language_of(part) for part in re.split(r"[.:?!\n。：？！]+", question[:_READ])}
    if _NAMES.search(question):
        usual, count = Counter(written).most_common(1)[0]
        if usual is None or 2 * count <= len(written):
            return
        right.add(usual)
    for criterion, found in zip(linted.rubric.rubrics, written, strict=True):
        if found not in right:
            yield Finding("language", f"in {found}, the prompt in {own}", (criterion.criterion_id,))


@lru_cache(maxsize=4096)
def language_of(text: str, likely: str | None = None) -> str | None:
    """Return a text's language (ISO 639-1), None where that is not sure. Code, formulas and quotes are not read.

    ``likely`` is taken for it where a first look, which costs a quarter, says so.
    """
    prose = _NOT_PROSE.sub(" ", text[:_READ])
    scripts = Counter(map(_script, filter(str.isalpha, prose)))
    if scripts["ja"] > 1:
        scripts["ja"] += scripts.pop("zh", 0)
    script, count = max(scripts.items(), key=lambda item: item[1], default=("", 0))
    if count <= scripts.total() * 2 / 3 or count < _LETTERS.get(script, _FEW_LETTERS):
        return None
    if script not in _LETTERS:
        return script
    if likely is not None and detected(prose, trials=1)[0] == likely:
        return likely
    found, probability = detected(prose)
    return found if probability >= _SURE and found in _TOLD_APART else None


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "").partition(" ")[0].lower()
    return {"hiragana": "ja", "katakana": "ja", "cjk": "zh", "hangul": "ko"}.get(name, name)

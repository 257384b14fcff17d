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
from pathlib import Path
from typing import Any

from ropd_cli.lint.records import Finding, Linted

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
_WORD = re.compile(r"\b[^\W\d_A-Z]{2,}\b")
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
    question, texts = linted.question or "", [criterion.criterion for criterion in linted.rubric.rubrics]
    odd = _odd([question, *texts])
    if 0 not in odd:  # the rubric as a whole speaks as the question does
        texts = [text if k in odd else "" for k, text in enumerate(texts, start=1)]
    own = language_of(question) if any(texts) else None
    written = [language_of(text, own) for text in texts] if own else []
    if {own, None}.issuperset(written):
        return
    right = {own} | {found for part in re.split(r"[.:?!\n。：？！]+", question[:_READ]) if (found := language_of(part))}
    if _NAMES.search(question):
        usual, count = Counter(
            language_of(criterion.criterion, own) for criterion in linted.rubric.rubrics
        ).most_common(1)[0]
        if usual is None or 2 * count <= len(written):
            return
        right.add(usual)
    for criterion, found in zip(linted.rubric.rubrics, written, strict=True):
        if found is not None and found not in right:
            yield Finding("language", f"in {found}, the prompt in {own}", (criterion.criterion_id,))


def _odd(texts: list[str]) -> set[int]:
    """Return which of the texts have fewer than two uncapitalised words in common with the others.

    Two of those are seldom loanwords, and to look for them is a hundred times cheaper than to detect a language.
    """
    words = [set(_WORD.findall(text)) for text in texts]
    counts = Counter(word for some in words for word in some)
    return {k for k, some in enumerate(words) if sum(counts[word] > 1 for word in some) < 2}


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
    if likely is not None and _detected(prose, trials=1)[0] == likely:
        return likely
    found, probability = _detected(prose)
    return found if probability >= _SURE and found in _TOLD_APART else None


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "").partition(" ")[0].lower()
    return {"hiragana": "ja", "katakana": "ja", "cjk": "zh", "hangul": "ko"}.get(name, name)


def _detected(prose: str, trials: int = 7) -> tuple[str | None, float]:
    """Return what langdetect takes a text for, and how sure it is."""
    from langdetect.lang_detect_exception import LangDetectException

    detector = _factory().create()
    detector.n_trial = trials
    detector.append(prose)
    try:
        found = detector.get_probabilities()
    except LangDetectException:  # capitals alone
        return None, 0.0
    return (found[0].lang, found[0].prob) if found else (None, 0.0)


@lru_cache(maxsize=1)
def _factory() -> Any:
    """Return a factory of our own with a fixed seed: langdetect draws at random, and its usual one is everybody's."""
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    profiles = sorted(file for file in Path(PROFILES_DIRECTORY).iterdir() if file.name[0] != ".")
    factory = DetectorFactory()
    factory.load_json_profile([file.read_text(encoding="utf-8") for file in profiles])
    factory.seed = 0
    return factory

"""The language of a short text: by its script, and of Latin letters by its commonest words.

Whole documents are not what is looked at but sentences of ten words, on which statistical guessers of language are
mostly wrong; so this says nothing where the commonest words do not say it plainly.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.vocabulary import either, section, words

_IGNORED = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[A-Za-z]+|https?://\S+"
    r"|\"[^\"]*\"|“[^”]*”|«[^»]*»|„[^“”]*[“”]|「[^」]*」|『[^』]*』|《[^》]*》|‘[^’]*’|(?<!\w)'[^'\n]*'(?!\w)",
    re.DOTALL,
)
"""Code, formulas, links and quoted words: they are in the language of what is quoted."""
_SCRIPTS = {
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "zh": re.compile(r"[\u4e00-\u9fff]"),
    "ko": re.compile(r"[\uac00-\ud7af\u1100-\u11ff]"),
    "ru": re.compile(r"[\u0400-\u04ff]"),
    "el": re.compile(r"[\u0370-\u03ff]"),
    "ar": re.compile(r"[\u0600-\u06ff]"),
    "he": re.compile(r"[\u0590-\u05ff]"),
    "hi": re.compile(r"[\u0900-\u097f]"),
    "th": re.compile(r"[\u0e00-\u0e7f]"),
}
_READ = 2_000
"""Characters of a text's beginning and of its end that its language is read from."""
_COMMON = {language: words(common) for language, common in section("language.common").items()}
_ENGLISH_VERB = re.compile("|".join(section("compound")["verbs"].split()))
"""What English criteria begin with; foreign words in them are as short and as common as their own."""
_LETTERS = {language: frozenset(letters) for language, letters in section("language.letters").items()}
"""Letters that hardly another of these languages has."""
_NAMES = {language: either(names) for language, names in section("language.names").items()}
_WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str | None:
    """The language as its two-letter code; None where that is not plain. Not looked at: code, formulas, quotes, and the
    middle of a long text."""
    bare = _IGNORED.sub(" ", text if len(text) <= 2 * _READ else f"{text[:_READ]} {text[-_READ:]}")
    letters = sum(map(str.isalpha, bare))
    counts = {language: len(script.findall(bare)) for language, script in _SCRIPTS.items()}
    if counts["ja"] and counts["ja"] + counts["zh"] > letters / 3:
        return "ja"
    for language, count in counts.items():
        if language != "ja" and count > letters / 3:
            return language
    (first, most), (_, second) = _latin(bare).most_common(2)
    return first if most >= 2 and most >= 1.5 * second else None


def _latin(bare: str) -> Counter[str]:
    """How much of a text is of each language in Latin letters: its commonest words and its own letters."""
    said = set(_WORD.findall(bare.lower()))
    hits = Counter({language: len(common & said) for language, common in _COMMON.items()})
    hits["en"] += sum(_ENGLISH_VERB.fullmatch(word) is not None for word in said - _COMMON["en"])
    letters = set("".join(said))
    for language, own in _LETTERS.items():
        hits[language] += len(own & letters)
    return hits


def is_latin(text: str) -> bool:
    """Whether the text, without what is quoted, holds words of Latin letters and hardly anything else."""
    bare = _IGNORED.sub(" ", text)
    words = [word for word in _WORD.findall(bare) if len(word) > 2 and word.isascii()]
    other = sum(len(script.findall(bare)) for script in _SCRIPTS.values())
    return len(words) >= 3 and other * 10 < sum(map(len, words))


def languages_around(question: str) -> set[str]:
    """Languages in which a criterion about a question may be: its own, those that it names, those it is partly in."""
    found = {language for language, names in _NAMES.items() if names.search(question)}
    if own := language_of(question):
        found.add(own)
    letters = max(1, sum(map(str.isalpha, question)))
    found |= {language for language, script in _SCRIPTS.items() if len(script.findall(question)) > 0.15 * letters}
    return found


def _is_partly_in(right: set[str], text: str, found: str) -> bool:
    """Whether words of a right language stand among the others: foreign terms in it, not a foreign sentence."""
    if found not in _COMMON:
        return False
    hits = _latin(_IGNORED.sub(" ", text))
    return any(3 * hits[language] > hits[found] for language in right & _COMMON.keys())


def language(linted: Linted) -> Iterator[Finding]:
    """A criterion in another language than the prompt; than most of the rubric, where the prompt's is not plain.

    A rubric that is in a language that the prompt names is in the right one.
    """
    question = linted.question or ""
    written = [language_of(criterion.criterion) for criterion in linted.rubric.rubrics]
    counts = Counter(found for found in written if found is not None)
    usual = next((found for found, count in counts.most_common(1) if 2 * count > len(written)), None)
    own = language_of(question) or usual
    if own is None:
        return
    right = {own} | (languages_around(question) & ({usual} if usual else counts.keys()))
    for criterion, found in zip(linted.rubric.rubrics, written, strict=True):
        if found is None and own in _SCRIPTS and is_latin(criterion.criterion):
            found = "Latin letters"
        if found is not None and found not in right and not _is_partly_in(right, criterion.criterion, found):
            yield Finding("language", f"in {found}, the prompt in {own}", (criterion.criterion_id,))

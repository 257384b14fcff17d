"""Criteria that praise without saying of what.

Three kinds of words are told apart: praise ("clear", "well", "insight"), words that fit any answer ("explanation",
"tone", "provides"), and the rest. Of the rest, what the question says too is only its topic. A criterion is vague
where it praises and nothing else is left, or so little that it is but a name for the answer ("the dialogue is natural
and engaging").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.vocabulary import either, section, words
from ropd_cli.lint.words import plain, stem

_SPACED = {
    language: (words(known["words"]), words(known.get("factual", "")), words(known["generic"]))
    for language, known in section("praise").items()
    if language not in ("zh", "ja")
}
"""By language: words of praise, those of them that may state a fact ("correct"), words that fit any answer."""
_UNSPACED = {
    language: (either(known["words"]), either(known["generic"]))
    for language, known in section("praise").items()
    if language in ("zh", "ja")
}
_MANNER = re.compile(
    rf"(?:the \w+ |it )?(?:{'|'.join(section('praise.en')['treating'].split())})\b.*"
    rf"\b(?:{'|'.join(section('praise.en')['manner'].split())}|to an? \w+ (?:standard|level|degree))"
)
_IDIOMS = either(section("praise.en")["idioms"])
_RIGHT = re.compile(r"\b(?:answer|result|solution|conclusion|value|outcome)s?\b.*\b(?:correct|right|accurate|valid)\b")
"""That the answer is right is for the judge to find out, and no praise."""
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SAYS_WHAT = re.compile(r"\d|[\"“„«「『`$=:]|\b(?:e\.g\.|such as|for example|i\.e\.|namely|for instance)")


def vague(linted: Linted) -> Iterator[Finding]:
    """A criterion of which nothing is left without words of praise and words that fit any answer."""
    question = plain(linted.question or "")
    for criterion in linted.rubric.rubrics:
        if _is_vague(plain(criterion.criterion), question):
            yield Finding("vague", "praise without saying of what", (criterion.criterion_id,))


def _is_vague(text: str, question: str) -> bool:
    if _SAYS_WHAT.search(text) or _RIGHT.search(text):
        return False
    if re.search(r"[\u3040-\u30ff]", text):
        return _is_vague_unspaced(text, question, "ja")
    if re.search(r"[\u4e00-\u9fff]", text):
        return _is_vague_unspaced(text, question, "zh")
    is_manner = _MANNER.fullmatch(text.rstrip(". "))
    text = _IDIOMS.sub(" good ", text)
    found = [word.split("'")[0].split("’")[-1] for word in _WORD.findall(text)]
    asked = {_root(word) for word in _WORD.findall(question)}
    more = 1 if is_manner else 0
    return any(_is_praise_alone(found, asked, more, *known) for known in _SPACED.values())


def _is_praise_alone(
    found: list[str],
    asked: set[str],
    more: int,
    praise: frozenset[str],
    factual: frozenset[str],
    generic: frozenset[str],
) -> bool:
    said = {word for word in found if word in praise}
    if not said:
        return False
    rest = {word for word in found if len(word) > 1} - praise - generic
    if not rest:
        return True
    opinions = len(said - factual)
    beyond = {word for word in rest if _root(word) not in asked}
    return opinions + more > 0 and len(beyond) <= min(2, max(0, opinions - 1) + more)


def _is_vague_unspaced(text: str, question: str, language: str) -> bool:
    praise, generic = _UNSPACED[language]
    said = len(praise.findall(text))
    rest = generic.sub("", praise.sub("", text))
    rest = "".join(re.findall(r"\w", rest))
    beyond = "".join(letter for letter in rest if letter not in question)
    return said > 0 and (len(rest) <= 1 or len(beyond) <= min(2, said - 1))


def _root(word: str) -> str:
    return stem(word)[:6]

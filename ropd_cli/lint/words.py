"""Words of criteria, made comparable: lower case, without the commonest ones, stems, and one word for its synonyms.

English has most of it; of Chinese and Japanese the pairs of neighbouring characters are compared.
"""

from __future__ import annotations

import re
import unicodedata

from ropd_cli.lint.vocabulary import section, words

_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+(?:[.,]\d+)*")
_HAN = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]+")
_KNOWN = section("words")
_STOP = words(_KNOWN["stop"])
_SYNONYMS = {word: line.split()[0] for line in _KNOWN["synonyms"].strip().splitlines() for word in line.split()}
_SUFFIXES = (
    "ications",
    "ication",
    "ations",
    "ation",
    "ively",
    "ingly",
    "edly",
    "ments",
    "ment",
    "ness",
    "ing",
    "ies",
    "ied",
)
_ENDINGS = ("ly", "ed", "es", "s", "e")


def stem(word: str) -> str:
    """A crude stem of an English word."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word.removesuffix(suffix) + ("y" if suffix in ("ies", "ied") else "")
            break
    else:
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word.removesuffix(ending)
                break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


_STEMMED_SYNONYMS = {stem(word): stem(first) for word, first in _SYNONYMS.items()}
_EMPTY = words(_KNOWN["subject"]) | words(_KNOWN["saying"])
_EMPTY |= frozenset(map(stem, _EMPTY))
"""What every criterion is about, and that something is said."""


def plain(text: str) -> str:
    """Lower case, compatibility forms made one."""
    return unicodedata.normalize("NFKC", text).lower()


def tokens(text: str) -> frozenset[str]:
    """The words and numbers of a text as they are written, but in lower case."""
    return frozenset(_TOKEN.findall(plain(text)))


def content(text: str) -> frozenset[str]:
    """What a criterion is about, as comparable tokens; empty where it has no words."""
    text = plain(text)
    found = set()
    for token in _TOKEN.findall(text):
        if _HAN.match(token) or token in _STOP:
            continue
        if token[0].isdigit():
            found.add(token.replace(",", ""))
            continue
        root = stem(token.split("'")[0].split("’")[0])
        if root not in _EMPTY and token not in _EMPTY:
            found.add(_STEMMED_SYNONYMS.get(root, root))
    for run in _HAN.findall(text):
        found |= {run[at : at + 2] for at in range(max(1, len(run) - 1))}
    return frozenset(found)

"""A group's teacher answers and rollouts side by side: which words the other side's most similar answer lacks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ropd_cli.analysis.judged_groups import GroupView, ShownAnswer

Part = tuple[str, bool]

_WORD = re.compile(r"\s*(?:\w+|[^\w\s])|\s+$")
_MOST = 5_000
"""Words and signs of a text that is compared: the time grows with their square."""
_SHARED = 0.3
"""Share of words that two texts have in common, from which on their wording is compared."""


@dataclass(frozen=True)
class Side:
    """The answers of one source, each with its parts; those marked are not in the answer that ``compared_with`` names
    (None: nothing is marked)."""

    name: str
    answers: list[tuple[ShownAnswer, str | None, list[Part]]]


def sides(view: GroupView, longest: int | None = None) -> list[Side]:
    """Return the teacher's side and the student's, without empty ones. A text of more than ``longest`` characters loses
    its middle."""
    of = {source: [a for a in view.texts if a.source == source] for source in ("teacher", "student")}
    cut = {source: [shortened(a.answer or "", longest) for a in answers] for source, answers in of.items()}
    found = []
    for source, other, name in (("teacher", "student", "Teacher's answers"), ("student", "teacher", "Rollouts")):
        answers = []
        for answer, text in zip(of[source], cut[source], strict=True):
            nearest, parts = differing(text, cut[other])
            answers.append((answer, None if nearest is None else f"{other[0]}{nearest}", parts))
        if answers:
            found.append(Side(name, answers))
    return found


def differing(text: str, others: Sequence[str]) -> tuple[int | None, list[Part]]:
    """Return the number of the most similar of ``others``, and the text in parts: (part, whether that one lacks it).
    The number is None, and no part marked, where no other text is similar, or the text is too long."""
    words = _split(text)
    whole: list[Part] = [(text, False)]
    bags = [Counter(_split(other)) for other in others]
    shares = [2 * (Counter(words) & bag).total() / max(1, len(words) + bag.total()) for bag in bags]
    if not shares or max(shares) < _SHARED or len(words) > _MOST:
        return None, whole
    nearest = max(range(len(shares)), key=shares.__getitem__)
    return nearest, list(_parts(text, words, _split(others[nearest])[:_MOST]))


def shortened(text: str, longest: int | None) -> str:
    """Return a text without its middle where it has more than ``longest`` characters."""
    if longest is None or len(text) <= longest:
        return text
    left_out = len(text) - longest
    return f"{text[: longest // 2]}\n[… {left_out:,} characters left out …]\n{text[-(longest - longest // 2) :]}"


def _parts(text: str, words: list[str], other: list[str]) -> Iterator[Part]:
    pieces = _WORD.findall(text)
    for kind, _, _, start, end in SequenceMatcher(None, other, words).get_opcodes():
        if start < end:
            yield "".join(pieces[start:end]), kind != "equal"


def _split(text: str) -> list[str]:
    return [piece.strip() for piece in _WORD.findall(text)]

"""Criteria that ask the same.

The verdicts say it best: two criteria that every answer meets both or neither pay one thing twice, in whatever words.
Where they differ on one answer, or there are none, the words have to be alike: by Dice's coefficient, a word weighing
the more the fewer of the rubric's other criteria have it, and less where the question has it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.words import content, tokens

ALIKE = 0.6
"""Likeness of words from which on two criteria ask the same, where verdicts do not say otherwise."""
ALIKE_JUDGED = 0.4
"""The same where no answer was judged differently by the two, but of too few to tell by that alone: one that was cut
off fails everything."""
ALIKE_BUT_ONE = 0.35
"""The same where one answer of many was judged differently."""
ALIKE_THOUGH = 0.85
"""The same where more than one was judged differently."""
_FEWEST_JUDGED = 5
"""Rollouts whose verdicts by two criteria say something."""
_FEWEST_OF_A_MARK = 2
"""Of these, so many have to meet a criterion, and so many not to."""
_IN_QUESTION = 0.6


def near_duplicate(linted: Linted) -> Iterator[Finding]:
    """Criteria that every answer meets all or none of, then pairs whose words are nearly the same."""
    criteria = linted.rubric.rubrics
    words = [content(criterion.criterion) for criterion in criteria]
    asked = content(linted.question or "")
    counts = Counter(word for of in words for word in of)
    together: list[list[int]] = []
    pairs: list[tuple[int, int]] = []
    for j, k in combinations(range(len(criteria)), 2):
        needed = _needed(linted, j, k)
        if needed == 0:
            group = next((each for each in together if j in each), None)
            if group is None:
                together.append([j, k])
            elif k not in group:
                group.append(k)
            continue
        alike = _likeness(words[j], words[k], counts, len(criteria), asked)
        if alike >= needed and not _tell_apart(criteria[j].criterion, criteria[k].criterion, linted.question or ""):
            pairs.append((j, k))
    for group in together:
        ids = tuple(criteria[k].criterion_id for k in group)
        how = "both" if len(ids) == 2 else "all of"
        none = "neither" if len(ids) == 2 else "none"
        yield Finding("near-duplicate", f"every answer meets {how} {' and '.join(ids)}, or {none}", ids)
    for pair in pairs:
        ids = tuple(criteria[k].criterion_id for k in pair)
        yield Finding("near-duplicate", f"{' and '.join(ids)} ask nearly the same", ids)


def _needed(linted: Linted, j: int, k: int) -> float:
    """The likeness of words from which on two criteria ask the same, by how many answers meet one and not the other."""

    def pairs(rows: Sequence[Sequence[bool | None]]) -> list[tuple[bool | None, bool | None]]:
        found = [(row[j], row[k]) for row in rows if max(j, k) < len(row)]
        return [pair for pair in found if None not in pair]

    student = pairs(linted.student_JK)
    differing = sum(a != b for a, b in [*student, *pairs(linted.teacher_JK)])
    if len(student) < _FEWEST_JUDGED:
        return ALIKE if differing or not student else ALIKE_JUDGED
    if differing:
        return ALIKE_BUT_ONE if differing == 1 else ALIKE_THOUGH
    met = sum(a is True for a, _ in student)
    rarer = min(met, len(student) - met)
    return 0.0 if rarer >= _FEWEST_OF_A_MARK else ALIKE_JUDGED if rarer else ALIKE


def _likeness(
    one: frozenset[str], other: frozenset[str], counts: Counter[str], criteria: int, asked: frozenset[str]
) -> float:
    """How alike the words of two criteria are, in [0, 1]; ``counts``: in how many of the rubric's criteria each is."""
    common = one & other
    if not common or min(len(one), len(other)) < 2:
        return 0.0

    def weight(of: frozenset[str]) -> float:
        total = 0.0
        for word in of:
            elsewhere = counts[word] - (word in one) - (word in other)
            rare = math.log((criteria - 1) / (elsewhere + 1)) + 0.2
            total += rare * (_IN_QUESTION if word in asked else 1.0)
        return total

    alike = 2 * weight(common) / (weight(one) + weight(other))
    if _numbers(one) != _numbers(other) or _negated(one) != _negated(other):
        alike /= 2
    return alike


def _tell_apart(one: str, other: str, question: str) -> bool:
    """Whether two criteria say the same of two things that the question has ("of France", "of Spain")."""
    mine, yours, asked = tokens(one) - tokens(other), tokens(other) - tokens(one), tokens(question)
    return 0 < len(mine) <= 2 and 0 < len(yours) <= 2 and bool(mine & asked) and bool(yours & asked)


def _numbers(words: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in words if word[0].isdigit())


def _negated(words: frozenset[str]) -> bool:
    return bool(words & {"not", "no", "without"})

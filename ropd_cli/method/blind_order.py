"""Draw the order in which a group's answers are shown to the judges: whose text it is plays no part in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Hashed(Protocol):
    """An answer, for what is needed of it here."""

    @property
    def hash(self) -> bytes:
        """SHA-256 of its text."""


T = TypeVar("T", bound=Hashed)


def blind_order(seed: bytes, answers: Sequence[T]) -> list[T]:
    """Return the answers shuffled by content: sorted by a hash of ``seed``, of all their hashes and of their own.

    The same prompt and texts always come in the same order, whoever wrote them.
    """
    # with the other answers in it, no text has a place of its own that a student could learn to take
    seed = hashlib.sha256(seed + b"".join(sorted([each.hash for each in answers]))).digest()
    count: Counter[bytes] = Counter()
    drawn = []
    for each in answers:
        # equal texts are numbered, so that they need not stand together
        drawn.append((hashlib.sha256(seed + each.hash + count[each.hash].to_bytes(4, "big")).digest(), each))
        count[each.hash] += 1
    drawn.sort(key=lambda one: one[0])
    return [each for _, each in drawn]

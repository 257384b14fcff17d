"""A judge and a student that are wrong on purpose: ``builtin://checkable?flip=0.1&skill=0.5&seed=0``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qsl

from ropd_cli.errors import InputError

_KEYS = ("flip", "skill", "seed")


@dataclass(frozen=True)
class Noise:
    """A share of verdicts that are flipped, and one of answers that are right. What is drawn depends on the seed and on
    the question alone, so the same question is always answered alike."""

    flip: float = 0.0
    skill: float = 1.0
    seed: str = "0"

    def verdict(self, holds: bool, answer: str, criterion: str) -> bool:
        """Return a verdict, flipped or not."""
        return holds != (self._drawn(criterion, answer) < self.flip)

    def slip(self, question: str, number: int) -> int:
        """Return the kind of mistake in an answer, from 1 on; 0 for none."""
        drawn = self._drawn(question, str(number))
        return 0 if drawn < self.skill else 1 + int((drawn - self.skill) * 1e6)

    def _drawn(self, *parts: str) -> float:
        text = "\0".join((self.seed, *parts))
        return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big") / 2**64


def read_noise(query: str) -> Noise:
    """Read what stands behind the question mark of a provider's name. Raises InputError."""
    settings = dict(parse_qsl(query, keep_blank_values=True))
    try:
        flip, skill = float(settings.get("flip", 0)), float(settings.get("skill", 1))
    except ValueError:
        flip = skill = -1.0
    if set(settings) - set(_KEYS) or not (0 <= flip <= 1 and 0 <= skill <= 1):
        raise InputError(
            f"base_url: ?{query} is not understood",
            "flip and skill are shares from 0 to 1, seed any text: ?flip=0.1&skill=0.5&seed=0",
        )
    return Noise(flip, skill, settings.get("seed", "0"))

"""A judge that is wrong on purpose: ``builtin://checkable?flip=0.1&seed=0`` turns each tenth verdict round."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qsl

from ropd_cli.errors import InputError

_KEYS = ("flip", "seed")


@dataclass(frozen=True)
class Flips:
    """Which verdicts are turned round: a share of them, drawn by a seed, the answer and the criterion. The same
    question is always answered alike."""

    share: float = 0.0
    seed: str = "0"

    def __call__(self, holds: bool, answer: str, criterion: str) -> bool:
        if not self.share:
            return holds
        drawn = hashlib.sha256(f"{self.seed}\0{criterion}\0{answer}".encode(errors="surrogatepass")).digest()[:8]
        return holds != (int.from_bytes(drawn, "big") < self.share * 2**64)


def read_flips(query: str) -> Flips:
    """Read what stands behind the question mark of a provider's name. Raises InputError."""
    settings = dict(parse_qsl(query, keep_blank_values=True))
    try:
        share = float(settings.get("flip", 0))
    except ValueError:
        share = -1.0
    if set(settings) - set(_KEYS) or not 0 <= share <= 1:
        raise InputError(
            f"base_url: ?{query} is not understood", "flip is a share from 0 to 1, seed any text: ?flip=0.1&seed=0"
        )
    return Flips(share, settings.get("seed", "0"))

"""Numbers as they stand in text, in a form in which two can be compared.

A number's *canonical form* is a string (no separators, no needless zeros, ``-`` where negative), so that two
are compared without arithmetic and a megabyte of digits costs no more than reading it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_GROUPED = r"\d{1,3}(?:(?:,|\\,|\{,\})\d{3})+(?!\d)"
_NUMBER = re.compile(rf"{_GROUPED}(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+")
_SEPARATOR = re.compile(r"\\,|\{,\}|,")
_MINUS_WORD = re.compile(r"(?:minus|negative)\s+$", re.IGNORECASE)
# What makes the minus behind it an operator or a hyphen: a number, a bracket, a lone letter, a word without a space
_BEFORE_SIGN = re.compile(r"(?:[\d)\]}]\s*|[^\W\d_]|(?<![^\W\d_])[^\W\d_]\s*)$")
MINUS = "-−–"


class Found(NamedTuple):
    """A number in a text: canonical form, and where it (with its sign) begins and ends."""

    value: str
    start: int
    end: int


def canonical(digits: str) -> str:
    """Return the canonical form of one unsigned or ``-`` signed number, thousands separators allowed."""
    negative = digits.startswith("-")
    whole, _, part = _SEPARATOR.sub("", digits.lstrip("-+")).partition(".")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    text = f"{whole}.{part}" if part else whole
    return f"-{text}" if negative and text != "0" else text


def numbers_in(text: str, start: int = 0) -> Iterator[Found]:
    """Yield every number of a text from ``start`` on, in order. A minus is a sign unless it stands behind an operand,
    as in ``5 - 3``."""
    for match in _NUMBER.finditer(text, start):
        at, value = match.start(), canonical(match.group())
        sign = _sign_before(text, at)
        if sign is not None:
            at, value = sign, canonical("-" + value)
        yield Found(value, at, match.end())


def _sign_before(text: str, start: int) -> int | None:
    """Return where the sign of the number at ``start`` stands, None for a number without one."""
    if start and text[start - 1] in MINUS:
        return None if _BEFORE_SIGN.search(text, max(0, start - 4), start - 1) else start - 1
    word = _MINUS_WORD.search(text, max(0, start - 12), start)
    if word and not re.search(r"[\d)]\s*$", text[max(0, word.start() - 3) : word.start()]):
        return word.start()
    return None

"""Quoted words, formulas and asides: what a criterion cites is not what it says itself."""

from __future__ import annotations

import re

_QUOTED = re.compile(
    r"\"[^\"]*\"|“[^”]*”|«[^»]*»|„[^“”]*[“”]|「[^」]*」|『[^』]*』|《[^》]*》|`[^`]*`|\$[^$]*\$|(?<!\w)'[^'\n]{2,}'(?!\w)"
    r"|\([^()]*\)"
)


def unquoted(text: str) -> str:
    """The text with a mark in the place of what is quoted."""
    return _QUOTED.sub(" § ", text)

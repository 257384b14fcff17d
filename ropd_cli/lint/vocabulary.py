"""The linter's words and patterns, from ``vocabulary.toml`` beside this file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Any


@lru_cache(maxsize=1)
def _document() -> dict[str, Any]:
    return tomllib.loads((files("ropd_cli.lint") / "vocabulary.toml").read_text(encoding="utf-8"))


def section(name: str) -> dict[str, Any]:
    """What stands under a dotted name."""
    found: Any = _document()
    for part in name.split("."):
        found = found[part]
    return found


def words(text: str) -> frozenset[str]:
    """The words of a list that is written as text."""
    return frozenset(text.split())


def either(patterns: Iterable[str]) -> re.Pattern[str]:
    """A pattern for each of these; letters of any case."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)

"""Changed settings in words."""

from collections.abc import Mapping
from textwrap import shorten


def changes(was: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return in words which values changed."""
    changed = (key for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key))
    return [f"{key} {_shown(was.get(key))}, now {_shown(now.get(key))}" for key in changed]


def _shown(value: object) -> str:
    return "unset" if value is None else shorten(str(value), 60)

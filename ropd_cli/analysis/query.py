"""Which groups of a catalogue are asked for, and in what order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SORTS: dict[str, tuple[str, ...]] = {
    "step": ("step", "n"),
    "uid": ("uid", "step", "n"),
    "mean": ("mean IS NULL", "mean", "n"),
    "spread": ("spread IS NULL", "spread", "n"),
    "teacher": ("teacher IS NULL", "teacher", "n"),
    "missing": ("missing", "n"),
    "lint": ("length(rules) - length(replace(rules, '|', ''))", "n"),
}
"""By name the order, the smallest first; groups without a value last."""


@dataclass(frozen=True)
class Query:
    """Filters that all have to fit. ``uid`` may have ``*`` and ``?``; ``lint`` is a rule, or "" for any."""

    step: int | None = None
    uid: str | None = None
    search: str | None = None
    below: bool = False
    missing: bool = False
    zero_variance: bool = False
    failed: bool = False
    lint: str | None = None
    min_spread: float | None = None
    max_spread: float | None = None
    sort: str = "step"
    reverse: bool = False

    @property
    def is_pattern(self) -> bool:
        """Whether the uid has wildcards."""
        return self.uid is not None and ("*" in self.uid or "?" in self.uid)

    def sql(self) -> tuple[str, list[Any], str]:
        """Return (condition, its values, order). Raises KeyError for an unknown order."""
        parts, values = ["1"], list[Any]()
        for value, condition in (
            (self.step, "step = ?"),
            (self.uid, "uid GLOB ?" if self.is_pattern else "uid = ?"),
            (self.search.casefold() if self.search else None, "instr(search, ?) > 0"),
            (f"|{self.lint}|" if self.lint else None, "instr(rules, ?) > 0"),
            (self.min_spread, "spread >= ?"),
            (self.max_spread, "spread <= ?"),
        ):
            if value is not None:
                parts.append(condition)
                values.append(value)
        for wanted, condition in (
            (self.below, "below"),
            (self.missing, "missing > 0"),
            (self.zero_variance, "zero_variance"),
            (self.failed, "error IS NOT NULL"),
            (self.lint == "", "rules <> ''"),
        ):
            if wanted:
                parts.append(condition)
        keys = SORTS[self.sort]
        if self.reverse:  # groups without a value stay last
            keys = tuple(key if key.endswith("IS NULL") or key == "n" else f"{key} DESC" for key in keys)
        return " AND ".join(parts), values, ", ".join(keys)

    @property
    def words(self) -> str:
        """What is asked for, in short; empty where everything is."""
        words = (
            self.step is not None and f"step {self.step}",
            self.uid and f"uid {self.uid}",
            self.search and f"“{self.search}”",
            self.below and "teacher below student",
            self.missing and "rewards missing",
            self.zero_variance and "without spread",
            self.failed and "failed",
            self.lint is not None and (f"lint {self.lint}" if self.lint else "lint findings"),
            self.min_spread is not None and f"spread ≥ {self.min_spread:g}",
            self.max_spread is not None and f"spread ≤ {self.max_spread:g}",
        )
        return ", ".join(word for word in words if word)

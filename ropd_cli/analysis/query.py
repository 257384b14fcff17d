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
    dead: bool = False
    failed: bool = False
    lint: str | None = None
    min_spread: float | None = None
    max_spread: float | None = None
    sort: str = "step"
    reverse: bool = False

    def sql(self) -> tuple[str, list[Any], str]:
        """(condition, its values, order). Raises KeyError for an unknown order."""
        parts, values = ["1"], []
        if self.step is not None:
            parts.append("step = ?")
            values.append(self.step)
        if self.uid is not None:
            parts.append("uid GLOB ?" if "*" in self.uid or "?" in self.uid else "uid = ?")
            values.append(self.uid)
        if self.search:
            parts.append("instr(search, ?) > 0")
            values.append(self.search.casefold())
        for wanted, condition in (
            (self.below, "below"),
            (self.missing, "missing > 0"),
            (self.dead, "dead"),
            (self.failed, "error IS NOT NULL"),
        ):
            if wanted:
                parts.append(condition)
        if self.lint is not None:
            parts.append("rules <> ''" if self.lint == "" else "instr(rules, ?) > 0")
            values += [f"|{self.lint}|"] if self.lint else []
        for bound, condition in ((self.min_spread, "spread >= ?"), (self.max_spread, "spread <= ?")):
            if bound is not None:
                parts.append(condition)
                values.append(bound)
        keys = SORTS[self.sort]
        if self.reverse:  # groups without a value stay last
            keys = tuple(key if key.endswith("IS NULL") or key == "n" else f"{key} DESC" for key in keys)
        return " AND ".join(parts), values, ", ".join(keys)

    @property
    def words(self) -> str:
        """What is asked for, in short; empty where everything is."""
        said = [f"step {self.step}" if self.step is not None else "", f"uid {self.uid}" if self.uid else ""]
        said += [f"“{self.search}”" if self.search else ""]
        flags = ((self.below, "teacher below student"), (self.missing, "rewards missing"), (self.dead, "no spread"))
        said += [name for wanted, name in (*flags, (self.failed, "failed")) if wanted]
        if self.lint is not None:
            said.append(f"lint {self.lint}".strip() if self.lint else "lint findings")
        said += [f"spread ≥ {self.min_spread:g}" if self.min_spread is not None else ""]
        said += [f"spread ≤ {self.max_spread:g}" if self.max_spread is not None else ""]
        return ", ".join(filter(None, said))

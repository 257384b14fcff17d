"""What is to be prepared, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ropd_cli.datasets.columns import Chosen, Wording
from ropd_cli.datasets.known_sets import RECIPES
from ropd_cli.datasets.sums import SUM_TASKS
from ropd_cli.errors import InputError
from ropd_cli.records.schemas import Prompt
from ropd_cli.stages.prepare.filters import Filters

GYM = "reasoning-gym:"
HUB = "hf:"
TRAIN = "train"
MADE_SIZE = 100


@dataclass(frozen=True)
class Source:
    """Where prompts come from: a made task, a known data set, ``hf:`` and a set of the hub, or a local file."""

    name: str
    local: Path | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of a reasoning-gym task."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field -> column, as the user named them."""
    dropped_columns: frozenset[str] = frozenset()
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    @property
    def main_split(self) -> str:
        """What the prompts that are in no part say of their split: that of a known set, else "train"."""
        known = RECIPES.get(self.name) if self.local is None else None
        return self.split or (known.split if known is not None else "train")

    @property
    def is_made(self) -> bool:
        """Whether the prompts are made by program, by a seed, and not read."""
        return self.local is None and (self.name in SUM_TASKS or self.name.startswith(GYM))

    def __str__(self) -> str:
        return str(self.local or self.name)


@dataclass(frozen=True)
class Part:
    """Prompts that are kept apart from those to train on: a number of them, or a share in (0, 1) of all."""

    name: str
    size: int | float

    def count(self, prompts: int) -> int:
        """How many of so many prompts."""
        return self.size if isinstance(self.size, int) else round(self.size * prompts)


@dataclass(frozen=True)
class Plan:
    """One preparation. ``size``: exactly so many prompts to train on, ``limit``: at most so many; None: all that is
    left. ``shuffle``: parts and a limited number are drawn by ``seed``, else taken in the order of the rows."""

    source: Source
    wording: Wording = field(default_factory=Wording)
    filters: Filters = field(default_factory=Filters)
    parts: tuple[Part, ...] = ()
    size: int | None = None
    limit: int | None = None
    seed: int = 0
    shuffle: bool = True

    @property
    def made_count(self) -> int:
        """How many prompts a made task has to make, for the parts too."""
        size = self.size if self.size is not None else MADE_SIZE
        shares = sum(part.size for part in self.parts if isinstance(part.size, float))
        fixed = sum(part.size for part in self.parts if isinstance(part.size, int))
        return round((size + fixed) / (1 - shares)) if shares < 1 else size + fixed


@dataclass(frozen=True)
class Prepared:
    """The prompts by part (``train`` last), and the counts: ``read`` is the sum of all parts and of ``dropped``."""

    parts: dict[str, list[Prompt]]
    read: int
    dropped: dict[str, int]
    """Rows that were left out, by why."""
    notes: dict[str, int]
    """What else is worth knowing, and how often."""
    tokens: dict[str, int] | None
    """Lengths of the kept prompts: min, median, p95 and max; None without a tokenizer."""
    rubrics: int = 0
    """Kept prompts that bring a rubric."""
    columns: Mapping[str, Chosen] = field(default_factory=dict)
    """Where the fields were read; empty for a made task."""
    further: tuple[str, ...] = ()
    """Columns that are kept as they are."""
    not_found: tuple[str, ...] = ()
    """Fields for which no column was found, though ``further`` may hold it."""

    @property
    def train(self) -> list[Prompt]:
        return self.parts[TRAIN]

    @property
    def kept(self) -> int:
        return sum(map(len, self.parts.values()))

    @property
    def with_answer(self) -> int:
        return sum(prompt.answer is not None for prompts in self.parts.values() for prompt in prompts)


def parse_part(name: str, size: str, option: str) -> Part:
    """A part from what the user wrote: ``50``, ``0.1`` or ``10%``. Raises InputError that names the option."""
    hint = "a number of prompts (50), or a share of all (0.1 or 10%)"
    try:
        value = float(size.rstrip("%")) / 100 if size.endswith("%") else float(size)
        is_share = size.endswith("%") or "." in size
        if is_share and 0 < value < 1:
            return Part(name, value)
        if not is_share and value >= 1 and value == int(value):
            return Part(name, int(value))
    except (ValueError, OverflowError):
        pass
    raise InputError(f"{option} {size!r}: not a number of prompts", hint)

"""What a rubrics or verdicts file was made from, kept beside it in ``<file>.sources.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ropd_cli.records.files import write_atomic

STEPS = "groups/step-*.jsonl*"
"""The group files of a run directory."""
_PATHS = ("prompts", "rubrics", "rollouts", "index", "groups")


@dataclass(frozen=True)
class Sources:
    """The files that the groups of a file are made of; None for what is not known. ``m`` and ``seed`` say which
    teacher answers of the index, ``settings`` what else the records depend on, by key. ``groups`` is the run, or the
    group file of one step, whose groups were judged again."""

    prompts: Path | None = None
    rubrics: Path | None = None
    rollouts: Path | None = None
    index: Path | None = None
    groups: Path | None = None
    m: int = 0
    seed: int = 0
    settings: Mapping[str, object] = field(default_factory=dict, hash=False)
    gone: tuple[tuple[str, Path], ...] = ()
    """What is written down and not there any more, by name."""

    @classmethod
    def of(cls, path: Path, **named: Path | None) -> Sources:
        """Return what stands beside a file, as far as it is still there, and in its place what is ``named``."""
        try:
            document = json.loads(_beside(path).read_bytes())
        except (OSError, ValueError):
            document = {}
        found: dict[str, Any] = {name: path.parent / document[name] for name in _PATHS if document.get(name)}
        gone = tuple((name, file) for name, file in found.items() if named.get(name) is None and not file.exists())
        found = {name: file for name, file in found.items() if file.exists()}
        found |= {name: file for name, file in named.items() if file is not None}
        return cls(
            **found,
            m=int(document.get("m", 0)),
            seed=int(document.get("seed", 0)),
            settings=document.get("settings", {}),
            gone=gone,
        )

    def write(self, path: Path) -> None:
        """Write them down beside a file, by paths from its folder, so that both can be moved together."""
        paths = {name: getattr(self, name) for name in _PATHS}
        relative = {name: os.path.relpath(file, path.parent) for name, file in paths.items() if file is not None}
        document = relative | {"m": self.m, "seed": self.seed, "settings": self.settings}
        write_atomic(_beside(path), json.dumps(document, indent=2))  # a name need not be UTF-8

    @property
    def files(self) -> list[Path]:
        """Those that are known."""
        return list(self.by_name.values())

    @property
    def by_name(self) -> dict[str, Path]:
        """The same by what they hold."""
        return {name: file for name in _PATHS if (file := getattr(self, name)) is not None}

    @property
    def read(self) -> list[Path]:
        """The files in which the texts lie: of a run its group files."""
        return [each for file in self.files for each in (sorted(file.glob(STEPS)) if file.is_dir() else [file])]


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".sources.json")

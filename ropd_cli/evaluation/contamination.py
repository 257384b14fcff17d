"""Whether a checkpoint was chosen, or a run watched, by a benchmark that it is measured on."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import orjson
import yaml

from ropd_cli.util.yaml_text import load_yaml

_LEVELS = 6
"""So far above the weights a run directory may be."""


def selection_warnings(model: str, benchmarks: Collection[str]) -> list[str]:
    """A line for each benchmark by which the run of a checkpoint was watched (its ``validate.benchmarks``), or which
    chose the checkpoint (``best.json``); nothing for a model that lies in no run directory."""
    folder = Path(os.path.expanduser(model)).absolute()
    for run in [folder, *folder.parents][:_LEVELS]:
        config = _read(run / "config.yaml")
        if isinstance(config, dict) and isinstance(config.get("validate"), dict):
            return _warnings(run, folder, config["validate"], benchmarks)
    return []


def _warnings(run: Path, folder: Path, validate: dict[str, Any], benchmarks: Collection[str]) -> list[str]:
    best = _read(run / "best.json") or {}
    is_best = folder == run / "best" or f"global_step_{best.get('step')}" in folder.parts
    found = []
    for name in validate.get("benchmarks") or ():
        if name not in benchmarks:
            continue
        if is_best and best.get("benchmark") == name:
            found.append(
                f"{name}: this checkpoint was chosen by its score on this set (step {best['step']} of {run}), "
                "so the score is too high"
            )
        else:
            found.append(f"{name}: the run of this checkpoint was validated on this set ({run}): it is not unseen")
    return found


def _read(file: Path) -> Any:
    if not file.is_file():
        return None
    try:
        return (
            load_yaml(file.read_text(encoding="utf-8")) if file.suffix == ".yaml" else orjson.loads(file.read_bytes())
        )
    except (OSError, ValueError, yaml.YAMLError):
        return None

"""The ``verl:`` section of a configuration: keys that verl does not know, and settings that would break the method."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ropd_cli.errors import ConfigError

OPEN_SECTIONS = ("override_config", "engine_kwargs", "ray_init", "apply_chat_template_kwargs", "env_vars", "config")


class Effect(NamedTuple):
    """A setting that breaks a run without a word: where it stands, which values do, what happens, what to set."""

    key: str
    breaks: Callable[[Any], bool]
    reason: str
    instead: str


FILE_LOGGER = Effect(
    "trainer.logger",
    lambda value: "file" not in ([value] if isinstance(value, str) else list(value or ())),
    "metrics.jsonl is copied from verl's file logger, and would stay empty",
    "leave it out; train.trackers names others beside it",
)
EFFECTS = (
    Effect(
        "algorithm.filter_groups.enable",
        bool,
        "verl replaces groups without a bound, behind the back of the counts and the money",
        "leave it out; train.refill does it within bounds",
    ),
    Effect(
        "trainer.v1.trainer_mode",
        lambda value: value not in ("ropd", "ropd_async", "ropd_gad"),
        "groups would be neither counted nor limited",
        "leave it out; train.async: one_step samples one step ahead",
    ),
    FILE_LOGGER,
    Effect(
        "actor_rollout_ref.actor.loss_agg_mode",
        lambda value: str(value).startswith("seq-mean"),
        "verl divides by the rows it asked for, so that each missing group makes the step smaller",
        "token-mean",
    ),
)


def check_effects(tree: Any, effects: Sequence[Effect]) -> None:
    """Raise ConfigError for settings in verl's whole configuration that have one of these effects."""
    from omegaconf import OmegaConf

    problems = [
        f"{effect.key} {value!r}: {effect.reason} (set: {effect.instead})"
        for effect in effects
        if effect.breaks(value := OmegaConf.select(tree, effect.key))
    ]
    if problems:
        raise ConfigError(problems, "configuration")


def check_names(raw: dict[str, Any], known: dict[str, Any], name: str) -> None:
    """Hydra's own check of unknown keys, which merging skips; ``name`` is that of verl's configuration. Raises
    ConfigError with all of them."""
    problems = list(_unknown(raw, known, "verl"))
    if problems:
        raise ConfigError(problems, "configuration", f"the keys are verl 0.9.1's (verl/trainer/config/{name}.yaml)")


def _unknown(raw: dict[str, Any], known: dict[str, Any], path: str) -> Iterator[str]:
    for key, value in raw.items():
        here = f"{path}.{key}"
        if key not in known:
            if key in _fields_of(known.get("_target_")):
                continue  # of verl's dataclass; its YAML leaves it out
            near = difflib.get_close_matches(str(key), [str(k) for k in known], n=1)
            yield f"{here}: unknown key" + (f", did you mean {near[0]}?" if near else "")
        elif isinstance(known[key], dict) and known[key]:
            if not isinstance(value, dict):
                yield f"{here}: a section of verl's, and no single value ({value!r})"
            elif key not in OPEN_SECTIONS:
                yield from _unknown(value, known[key], here)


def _fields_of(target: str | None) -> set[str]:
    """Names of the fields of the dataclass that verl makes of a section."""
    if not target:
        return set()
    module, _, name = target.rpartition(".")
    return {field.name for field in dataclasses.fields(getattr(importlib.import_module(module), name))}

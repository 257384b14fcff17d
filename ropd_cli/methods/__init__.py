"""The methods of ``ropd train``, each in a file of its own: what it needs, asks, and sets in verl.

Nothing here imports torch, ray or verl.
"""

from __future__ import annotations

from importlib import import_module

from ropd_cli.config import RopdConfig
from ropd_cli.config.load import differing
from ropd_cli.errors import ConfigError, InputError
from ropd_cli.methods.base import Method

METHODS = {
    "ropd": "ropd_cli.methods.ropd:Ropd",
    "t-judge": "ropd_cli.methods.scored:TJudge",
    "ovd-reward": "ropd_cli.methods.scored:OvdReward",
    "ovd-filter": "ropd_cli.methods.scored:OvdFilter",
    "grpo-verifiable": "ropd_cli.methods.verifiable:Verifiable",
    "sft": "ropd_cli.methods.sft:Sft",
    "gad": "ropd_cli.methods.adversarial:Gad",
    "lopd": "ropd_cli.methods.distilled:Lopd",
    "exopd": "ropd_cli.methods.distilled:ExOpd",
}
"""By the value of ``method``: where its class is."""


def method_of(config: RopdConfig) -> Method:
    """Return the method that a configuration names."""
    return _class_of(config.method)()


def method_of_rewards(config: RopdConfig) -> Method:
    """Return the method that a configuration names, for a trainer that gets the rewards alone. Raises InputError for
    methods that train on more."""
    method = method_of(config)
    if not method.rewards_suffice:
        fit = ", ".join(name for name in METHODS if _class_of(name).rewards_suffice)
        raise InputError(f"method {config.method} trains on more than rewards", f"set method to one of {fit}")
    return method


def check_sections(config: RopdConfig) -> None:
    """Raise ConfigError for keys, other than at their defaults, in sections that other methods read."""
    own = method_of(config).sections
    others = frozenset[str]().union(*(_class_of(name).sections for name in METHODS)) - own
    problems = [
        f"{key}: method {config.method} reads no {section} section"
        for section in sorted(others)
        for key in differing(
            getattr(RopdConfig(), section).model_dump(), getattr(config, section).model_dump(), section
        )
    ]
    if problems:
        raise ConfigError(problems, "configuration", "leave it out, or choose the method that reads it")


def _class_of(name: str) -> type[Method]:
    module, _, class_name = METHODS[name].partition(":")
    found: type[Method] = getattr(import_module(module), class_name)
    return found

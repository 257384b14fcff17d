"""The methods of ``ropd train``, each in a file of its own: what it needs, asks, and sets in verl.

Nothing here imports torch, ray or verl.
"""

from __future__ import annotations

from importlib import import_module

from ropd_cli.config import RopdConfig
from ropd_cli.methods.base import Method

METHODS = {
    "ropd": "ropd_cli.methods.ropd:Ropd",
    "t-judge": "ropd_cli.methods.scored:TJudge",
    "ovd-reward": "ropd_cli.methods.scored:OvdReward",
    "grpo-verifiable": "ropd_cli.methods.verifiable:Verifiable",
    "sft": "ropd_cli.methods.sft:Sft",
}
"""By the value of ``method``: where its class is."""


def method_of(config: RopdConfig) -> Method:
    """Return the method that a configuration names."""
    module, _, name = METHODS[config.method].partition(":")
    method: Method = getattr(import_module(module), name)()
    return method

"""Supervised fine-tuning on the teacher's answers: no rollouts, no judge."""

from __future__ import annotations

from collections.abc import Sequence

from ropd_cli.config import RopdConfig
from ropd_cli.errors import InputError
from ropd_cli.methods.base import Method, Needs
from ropd_cli.records.schemas import Prompt


class Sft(Method):
    """``method: sft``."""

    name = "sft"
    samples = False
    program = "ropd_cli.training.verl.supervised"
    fixed = ("judge.m",)  # and so the rows of a step

    def needs(self, config: RopdConfig) -> Needs:
        return Needs(config.judge.m, why_no_judge="method is sft")

    def check(self, config: RopdConfig, prompts: Sequence[Prompt]) -> None:
        train, answers = config.train, config.train.prompts_per_step * answers_per_prompt(config)
        if config.validate.benchmarks:
            raise InputError(
                "method sft has no validation, and validate.benchmarks names some",
                "leave validate out, and measure the checkpoints by ropd eval",
            )
        if config.monitor.share:
            raise InputError("method sft judges nothing, and monitor.share is set", "leave monitor out")
        if train.nodes > 1:
            raise InputError(f"method sft trains on one node, and train.nodes is {train.nodes}", "set train.nodes to 1")
        if answers % train.devices_per_node:
            raise InputError(
                f"{answers} answers per step (train.prompts_per_step {train.prompts_per_step} x "
                f"{answers_per_prompt(config)}) do not divide by {train.devices_per_node} devices",
                "change train.prompts_per_step or train.devices_per_node",
            )


def answers_per_prompt(config: RopdConfig) -> int:
    """Return how many teacher answers of a prompt are trained on in an epoch: as many as other methods have rollouts,
    or as many as they show the judges."""
    return min(config.rollout.n, config.judge.m)

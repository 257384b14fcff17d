"""Generative adversarial distillation (GAD, arXiv 2511.10643): a discriminator learns to tell the teacher's answers
from the student's, and what it says of a rollout is the rollout's reward.

Nobody is asked. The discriminator is trained beside the student, so the rewards are known only after a step has been
sampled; ``training/verl/discriminator`` has the losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ropd_cli.config import RopdConfig
from ropd_cli.errors import ConfigError
from ropd_cli.methods.base import Method, Needs, Resources, Rewarder, optimizer
from ropd_cli.methods.distilled import NoReward
from ropd_cli.records.schemas import Prompt

_ACTOR = "actor_rollout_ref.actor"


class Gad(Method):
    """``method: gad``."""

    name = "gad"
    trainer = "ropd_gad"
    sections = frozenset({"discriminator"})

    def needs(self, config: RopdConfig) -> Needs:
        return Needs(teacher_answers=1, why_no_judge="method gad asks no judge")

    def check(self, config: RopdConfig, prompts: Sequence[Prompt]) -> None:
        problems = []
        if config.train.is_async:
            problems.append("train.async one_step: the rewards of a step are known only when the discriminator has it")
        if config.train.refill.zero_variance:
            problems.append("train.refill.zero_variance: when a group could be replaced its rewards are not known")
        if config.monitor.share:
            problems.append(f"monitor.share is {config.monitor.share:g}, and there are no verdicts to compare")
        if problems:
            raise ConfigError(problems, "method gad", "ropd config explain KEY describes a key")

    def verl_settings(self, config: RopdConfig) -> dict[str, Any]:
        train, settings = config.train, config.discriminator
        fsdp = f"{_ACTOR}.fsdp_config"
        return {
            "critic": {
                "enable": True,
                "strategy": train.strategy,
                "use_dynamic_bsz": True,  # also where the actor takes one sequence at once: of so many tokens at most
                "ppo_max_token_len_per_gpu": f"${{{_ACTOR}.ppo_max_token_len_per_gpu}}",
                "ppo_infer_max_token_len_per_gpu": f"${{{_ACTOR}.ppo_max_token_len_per_gpu}}",
                "optim": optimizer(train, settings.lr),
                "fsdp": {
                    name: f"${{{fsdp}.{name}}}"
                    for name in ("mixed_precision", "param_offload", "optimizer_offload", "use_torch_compile")
                },
                "model": {
                    "path": config.student.model_path,
                    "use_remove_padding": True,
                    "enable_gradient_checkpointing": "${actor_rollout_ref.model.enable_gradient_checkpointing}",
                    "override_config": {
                        "attn_implementation": "${actor_rollout_ref.model.override_config.attn_implementation}"
                    },
                },
            },
            "trainer": {"v1": {"sampler": {"sampler_kwargs": {"deferred": True}}}},
            "ropd": {"discriminator": settings.model_dump(exclude={"lr"})},
        }

    def rewarder(self, resources: Resources) -> Rewarder:
        return NoReward(None)

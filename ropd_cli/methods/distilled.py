"""On-policy distillation from a teacher whose weights are there, token by token: LOPD and ExOPD (arXiv 2602.12125).

Nobody is asked for rewards. The teacher reads each rollout in verl's own distillation (a vLLM on devices of its own),
or on a vLLM server that runs already (``distil.endpoint``); the advantage of a token is computed from its
log-probabilities inside the actor's loss.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from ropd_cli.config import EndpointConfig, LimitsConfig, RopdConfig
from ropd_cli.engines.vllm_sampling import check_model
from ropd_cli.errors import ConfigError
from ropd_cli.llm.prompt_logprobs import PromptLogProbs
from ropd_cli.method.rewards import PARTS, RewardMixer
from ropd_cli.methods.base import Method, Needs, Resources, Rewarded, Rewarder
from ropd_cli.records.schemas import Group, Prompt, VerdictRecord

_TOKENS_AT_ONCE = 2048
"""That the teacher reads; the log-probabilities of each are as wide as the vocabulary."""
_SEQUENCES_AT_ONCE = 64


class Distilled(Method):
    """The loss is verl's clipped policy gradient, with the negative distillation loss of a token as its advantage."""

    sections = frozenset({"distil", "reward"})
    loss: ClassVar[str]
    """The name of verl's distillation loss."""

    def needs(self, config: RopdConfig) -> Needs:
        return Needs(
            answers=bool(config.reward.exact), checkpoint=True, why_no_judge=f"method {self.name} asks no judge"
        )

    def check(self, config: RopdConfig, prompts: Sequence[Prompt]) -> None:
        distil, rollout = config.distil, config.rollout
        problems = []
        if distil.teacher_path is None:
            problems.append("distil.teacher_path is not set: the checkpoint of the teacher (folder or hub name)")
        for key, value in (("temperature", rollout.temperature), ("top_p", rollout.top_p)):
            if value != 1:
                problems.append(
                    f"rollout.{key} is {value:g}: the teacher's log-probabilities are those at temperature 1 and top_p "
                    "1, and have to be compared with the student's at the same"
                )
        if config.train.kl_coef:
            problems.append(f"train.kl_coef is {config.train.kl_coef:g}, and the loss of {self.name} has no such term")
        if config.train.refill.zero_variance:
            problems.append("train.refill.zero_variance: rewards are equal in all groups, and play no part")
        if config.monitor.share:
            problems.append(f"monitor.share is {config.monitor.share:g}, and there are no verdicts to compare")
        if distil.devices % distil.tensor_parallel_size:
            problems.append(
                f"distil.devices {distil.devices} is no multiple of distil.tensor_parallel_size "
                f"{distil.tensor_parallel_size}"
            )
        if problems:
            raise ConfigError(problems, f"method {self.name}", "ropd config explain KEY describes a key")
        check_model(os.path.expanduser(str(distil.teacher_path)))
        if mixer := _mixer(config):
            mixer.check(prompts)

    def verl_settings(self, config: RopdConfig) -> dict[str, Any]:
        clip = config.train.clip_ratio
        settings: dict[str, Any] = {
            # imported in every process of verl's that makes something of this configuration
            "actor_rollout_ref": {"model": {"external_lib": "ropd_cli.training.verl.losses"}},
            "distillation": {
                "distillation_loss": {
                    "loss_mode": self.loss,
                    "use_task_rewards": False,
                    "use_policy_gradient": True,
                    "loss_max_clamp": None,
                    **dict.fromkeys(("clip_ratio", "clip_ratio_low", "clip_ratio_high"), clip),
                }
            },
        }
        if config.distil.endpoint.base_url is not None:
            return settings | {"ropd": {"has_teacher_server": True}}
        return settings | _own_server(config, settings["distillation"])

    def rewarder(self, resources: Resources) -> Rewarder:
        return NoReward(_mixer(resources.config))


class Lopd(Distilled):
    """``method: lopd``: the advantage of a token is log pi_T - log pi_theta."""

    name = "lopd"
    loss = "k1"


class ExOpd(Distilled):
    """``method: exopd``: the advantage of a token is ``distil.strength`` x (log pi_T - log pi_ref) -
    (log pi_theta - log pi_ref), pi_ref the student as it began."""

    name = "exopd"
    loss = "exopd"

    def verl_settings(self, config: RopdConfig) -> dict[str, Any]:
        settings = super().verl_settings(config)
        # a KL term of no weight brings the reference's log-probabilities into the batch
        settings["actor_rollout_ref"]["actor"] = {"use_kl_loss": True, "kl_loss_coef": 0.0}
        # without task rewards verl itself leaves the coefficient alone
        settings["distillation"]["distillation_loss"]["distillation_loss_coef"] = config.distil.strength
        return settings


def _own_server(config: RopdConfig, distillation: dict[str, Any]) -> dict[str, Any]:
    """Return verl's settings of a vLLM for the teacher, on devices of its own."""
    distil = config.distil
    length = config.data.max_prompt_tokens + config.data.max_response_tokens + 1  # verl has it sample one token
    inference: dict[str, Any] = {
        "name": "vllm",
        "tensor_model_parallel_size": distil.tensor_parallel_size,
        "gpu_memory_utilization": distil.gpu_memory_utilization,
        "max_model_len": length,
        "max_num_batched_tokens": _TOKENS_AT_ONCE,
        "max_num_seqs": _SEQUENCES_AT_ONCE,
        "enforce_eager": True,
    }
    settings: dict[str, Any] = {}
    if config.device == "cpu":
        inference |= {"free_cache_engine": False, "enable_sleep_mode": False}
        devices = config.train.devices_per_node + distil.devices
        settings["ray_kwargs"] = {"ray_init": {"num_gpus": devices, "num_cpus": 8 * devices}}
    teacher = {"teacher_model": {"model_path": distil.teacher_path, "inference": inference}}
    pool = {"enabled": True, "n_gpus_per_node": distil.devices, "nnodes": 1, "teacher_models": teacher}
    return settings | {"distillation": distillation | pool}


def teacher_server(config: RopdConfig) -> PromptLogProbs:
    """Return the client of ``distil.endpoint``. Raises InputError for a URL that is none."""
    server = config.distil.endpoint
    limits = LimitsConfig(timeout_s=server.timeout_s, concurrency=server.concurrency)
    return PromptLogProbs(
        EndpointConfig(
            base_url=server.base_url,
            model=server.model or config.distil.teacher_path,
            api_key_env=server.api_key_env,
            limits=limits,
        )
    )


class NoReward(Rewarder):
    """Gives each rollout 0, which plays no part in the loss; the parts of ``reward`` that have a weight, other than
    the rubric, are there for the curves."""

    def __init__(self, mixer: RewardMixer | None) -> None:
        self.clients = {}
        self._mixer = mixer

    async def reward(self, group: Group) -> Rewarded:
        n = len(group.rollouts)
        parts = dict((await self._mixer.mix(group, [None] * n)).parts) if self._mixer else {}
        parts.pop("rubric", None)
        return Rewarded(
            VerdictRecord(
                uid=group.uid,
                raw_prompt_hash=group.raw_prompt_hash,
                rubric_hash=None,
                answers=(),
                rewards=(0.0,) * n,
                parts=parts,
                model="",
                template_hash="",
            )
        )


def _mixer(config: RopdConfig) -> RewardMixer | None:
    """Return what computes the parts of ``reward``; None where none has a weight."""
    settings = config.reward.model_copy(update={"rubric": 0.0})
    return RewardMixer.load(settings) if any(getattr(settings, part) for part in PARTS) else None

"""The loss of ExOPD, registered with verl; and verl's distillation loss where the teacher is on a server of another.

Imported in each of verl's processes (``actor_rollout_ref.model.external_lib``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from verl.trainer.distillation.losses import (
    DistillationLossSettings,
    distillation_ppo_loss,
    register_distillation_loss,
)
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.padding import no_padding_2_padding


@register_distillation_loss(DistillationLossSettings(names=["exopd"], use_estimator=True))
def exopd(config: Any, distillation_config: Any, model_output: Any, data: Any) -> tuple[Any, dict[str, Any]]:
    """Return (log pi_theta - log pi_ref) - strength (log pi_T - log pi_ref), shape (rows, response length), whose
    negative is the advantage (arXiv 2602.12125), and metrics."""
    log_prob = no_padding_2_padding(model_output["log_probs"], data)
    teacher = no_padding_2_padding(data["teacher_logprobs"], data).squeeze(-1)
    reference, mask = data["ref_log_prob"], data["response_mask"]
    reference = reference.to_padded_tensor(0.0) if reference.is_nested else reference
    mask = (mask.to_padded_tensor(0) if mask.is_nested else mask).bool()
    strength = distillation_config.distillation_loss.distillation_loss_coef
    losses = (log_prob - reference) - strength * (teacher - reference)
    metrics = {
        "distillation/abs_loss": Metric(AggregationType.MEAN, losses[mask].abs().mean()),
        "distillation/k1": Metric(AggregationType.MEAN, (log_prob - teacher)[mask].mean()),
    }
    return losses, metrics


def distillation_loss_of(config: Any) -> Any:
    """Return verl's distillation loss for a whole configuration in which verl's own distillation, and with it a server
    for the teacher, is off."""
    return partial(
        distillation_ppo_loss,
        config=omega_conf_to_dataclass(config.actor_rollout_ref.actor),
        distillation_config=omega_conf_to_dataclass(config.distillation),
    )

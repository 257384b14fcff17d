"""GAD on verl's critic worker: a discriminator with the student's weights and one number per answer.

D of an answer is the value at its last token. For the N rollouts of a step, each paired with the teacher answer to
its prompt, L_D = mean -log sigmoid(D(teacher) - D(rollout)) (arXiv 2511.10643). A rollout's reward is its D before the
discriminator's update. In the warm-up the student learns the teacher answers by cross-entropy, the discriminator as
ever; which phase a step is in follows from its number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import ray
import torch
import torch.nn.functional as F
import transfer_queue as tq
from tensordict import TensorDict
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.engine_workers import TrainingWorker
from verl.workers.utils.losses import ppo_loss, sft_loss

from ropd_cli.methods.demonstrations import demonstration_ids
from ropd_cli.training.judge_owner import OWNER
from ropd_cli.training.verl.trainer import RopdTrainer


def last_values(nested: Any) -> torch.Tensor:
    """Return the value at the last token of each row, shape (rows,)."""
    values: torch.Tensor = nested.values()[nested.offsets()[1:] - 1]
    return values


def pairwise_loss(
    teacher_P: torch.Tensor, rollouts_N: torch.Tensor, pair_N: torch.Tensor
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Return L_D, and its derivatives by the scores of the teacher answers, shape (P,), and of the rollouts, shape
    (N,). ``pair_N`` says which teacher answer a rollout is paired with."""
    margins = teacher_P[pair_N] - rollouts_N
    by_rollout = torch.sigmoid(-margins) / len(rollouts_N)
    by_teacher = torch.zeros_like(teacher_P).index_add_(0, pair_N, -by_rollout)
    return F.softplus(-margins).mean().item(), by_teacher, by_rollout


def coefficient_loss(model_output: Any, data: Any, dp_group: Any = None) -> tuple[torch.Tensor, dict[str, Any]]:
    """Return the sum of c_j D_j over the rows of a micro-batch, c_j = dL_D / dD_j taken beforehand: its gradient over
    all micro-batches is L_D's own, though verl parts the two of a pair."""
    return (data["coefficient"] * last_values(model_output["values"])).sum() * data["dp_size"], {}


def rows_of(
    sequences: Sequence[torch.Tensor],
    prompt_lengths: Sequence[int],
    ranks: int,
    coefficients: torch.Tensor | None = None,
) -> Any:
    """Return token rows as verl's workers take them, a multiple of ``ranks`` of them: what fills up is the last row
    again, which counts nothing."""
    spare = -len(sequences) % ranks
    ids = [*sequences, *[sequences[-1]] * spare]
    starts = [*prompt_lengths, *[len(sequences[-1])] * spare]
    columns = {
        "input_ids": ids,
        "position_ids": [torch.arange(len(row)) for row in ids],
        "loss_mask": [(torch.arange(len(row)) >= start).long() for row, start in zip(ids, starts, strict=True)],
    }
    fields = {name: torch.nested.as_nested_tensor(rows, layout=torch.jagged) for name, rows in columns.items()}
    if coefficients is not None:
        fields["coefficient"] = F.pad(coefficients, (0, spare))
    return tu.get_tensordict(fields, {"temperature": 1.0})


class Discriminator(TrainingWorker):
    """verl's critic worker, on any attention: verl 0.9.1 loads a value head by flash_attention_2 alone (issue 5210)."""

    def __init__(self, config: Any) -> None:
        import verl.utils.model as model
        from transformers import AutoModelForTokenClassification

        def load_valuehead_model(local_path: str, torch_dtype: Any, model_config: Any, trust_remote_code: bool) -> Any:
            return AutoModelForTokenClassification.from_pretrained(
                local_path,
                dtype=torch_dtype,
                config=model_config,
                attn_implementation=model_config._attn_implementation,
                trust_remote_code=trust_remote_code,
            )

        model.load_valuehead_model = load_valuehead_model
        super().__init__(config)


@register_trainer("ropd_gad")
class GadTrainer(RopdTrainer):
    """Trains the discriminator and, after the warm-up, the student by its scores."""

    critic_wg: Any
    _is_warm_up: bool | None = None
    """What the actor's loss is for; None before the first update."""

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        self.role_worker_mapping[Role.Critic] = ray.remote(Discriminator)

    def _setup(self) -> None:
        super()._setup()
        self.critic_wg.set_loss_fn(coefficient_loss)
        settings = self.config.ropd.discriminator
        by_epochs = math.ceil(settings.warmup_epochs * self.steps_per_epoch)
        self._warmup_steps = by_epochs if settings.warmup_steps is None else settings.warmup_steps
        self._updates = settings.updates_per_step

    def _compute_values(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Score the step's answers; the scores of the rollouts are written as verl's rewards, and told to the owner of
        judging, who closes the step."""
        fields = ["prompts", "responses", "uid"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        prompts, responses = data["prompts"].unbind(), data["responses"].unbind()
        uids = [str(uid) for uid in list(data["uid"])]
        real = [row for row, tag in enumerate(batch.tags) if not tag.get("is_padding", False)]
        prompt_by_group = {uids[row]: prompts[row] for row in real}
        answers = ray.get(ray.get_actor(OWNER).demonstrations.remote(list(prompt_by_group)))
        longest = self.config.data.max_response_length  # a longer answer is cut off there, as rollouts are
        taught = [
            torch.cat([prompt, torch.tensor(demonstration_ids(self.tokenizer, answers[group])[:longest])])
            for group, prompt in prompt_by_group.items()
        ]
        place = {group: number for number, group in enumerate(prompt_by_group)}
        self._pair = torch.tensor([place[uids[row]] for row in real])
        self._sequences = [*taught, *(torch.cat([prompts[row], responses[row]]) for row in real)]
        self._prompt_lengths = [len(prompt) for prompt in prompt_by_group.values()]
        self._teachers = len(taught)
        self._prompt_lengths += [len(prompts[row]) for row in real]
        self._scores = self._score()
        scores = self._scores[self._teachers :]
        accuracy = (self._scores[self._pair] > scores).float().mean().item()
        metrics["discriminator/accuracy"] = accuracy
        metrics["discriminator/teacher"] = self._scores[: self._teachers].mean().item()
        metrics["discriminator/student"] = scores.mean().item()

        # equal rollouts of a group are worth the same, whatever the rounding of their micro-batches
        worth: dict[tuple[str, ...], float] = {}
        rewards: dict[str, list[float | None]] = {
            group: [None] * self.config.actor_rollout_ref.rollout.n for group in place
        }
        by_token = [torch.zeros(len(response)) for response in responses]
        for row, score in zip(real, scores.tolist(), strict=True):
            value = worth.setdefault((uids[row], *map(str, responses[row].tolist())), score)
            rewards[uids[row]][int(batch.keys[row].split("_")[1])] = value
            by_token[row][-1] = value
        nested = torch.nested.as_nested_tensor(by_token, layout=torch.jagged)
        # verl's own figures of a critic read `values`
        written = TensorDict({"rm_scores": nested, "values": nested.clone()}, batch_size=len(batch))
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=written)
        metrics.update(self.replay_buffer.close_deferred(rewards))
        return batch

    def _update_critic(self, batch: Any, metrics: dict[str, Any]) -> Any:
        for update in range(self._updates):
            scores = self._score() if update else self._scores
            loss, *derivatives = pairwise_loss(scores[: self._teachers], scores[self._teachers :], self._pair)
            if not update:
                metrics["discriminator/loss"] = loss
            rows = rows_of(self._sequences, self._prompt_lengths, self._ranks, torch.cat(derivatives))
            tu.assign_non_tensor(rows, update_lr_scheduler=update == self._updates - 1)
            output = self.critic_wg.train_batch(rows).get()
        metrics.update(_figures(output, "discriminator", "grad_norm", "lr"))
        return batch

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        is_warm_up = self.global_steps <= self._warmup_steps
        if is_warm_up != self._is_warm_up:
            actor = omega_conf_to_dataclass(self.config.actor_rollout_ref.actor)
            loss = partial(sft_loss, config=None) if is_warm_up else partial(ppo_loss, config=actor)
            self.actor_rollout_wg.set_loss_fn(loss)
            self._is_warm_up = is_warm_up
        if not is_warm_up:
            return super()._update_actor(batch, metrics)
        rows = rows_of(self._sequences[: self._teachers], self._prompt_lengths[: self._teachers], self._ranks)
        tu.assign_non_tensor(
            rows,
            mini_batch_size=len(rows),
            epochs=1,
            seed=self.config.actor_rollout_ref.actor.data_loader_seed,
            dataloader_kwargs={"shuffle": False},
            calculate_entropy=False,
        )
        output = self.actor_rollout_wg.update_actor(rows)
        metrics.update(_figures(output, "actor", "grad_norm", "lr") | _figures(output, "warmup", "loss"))
        return batch

    def _score(self) -> torch.Tensor:
        """Return D of the teacher answers and the rollouts, in this order, shape (P + N,)."""
        rows = rows_of(self._sequences, self._prompt_lengths, self._ranks)
        tu.assign_non_tensor(rows, compute_loss=False)
        output = self.critic_wg.infer_batch(rows).get()
        return last_values(output["values"].float())[: len(self._sequences)]

    @property
    def _ranks(self) -> int:
        return int(max(self.actor_rollout_wg._dispatch_info["actor"])) + 1


def _figures(output: Any, name: str, *figures: str) -> dict[str, float]:
    """Return figures of a worker's update as metrics."""
    metrics = tu.get(output, "metrics")
    return {f"{name}/{figure}": float(np.mean(metrics[figure])) for figure in figures if figure in metrics}

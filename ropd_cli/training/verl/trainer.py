"""Extend verl's trainers: real rows in every update, figures of our own, the finished steps kept.

verl 0.9.1 saves every ``save_freq`` steps. A run that stops in step k + 1, because no group can be judged any
more, has step k's weights in memory: they are saved, with the data as it was before the step, so that
``--resume`` makes exactly the step that was not finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import transfer_queue as tq
from verl.trainer.ppo.v1.trainer_base import _count_tq_prompt_groups, register_trainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from ropd_cli.training.judge_owner import OWNER
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.verl.losses import distillation_loss_of
from ropd_cli.training.verl.sampler import RunStopped
from ropd_cli.training.verl.saved_model import finish_folder
from ropd_cli.training.verl_config import ASYNC_TRAINER, TRAINER

_Mixed: Any = object  # a mixin, laid over one of verl's classes


class _Ropd(_Mixed):
    """What both trainers do otherwise than verl's. Laid over one of them."""

    config: Any
    global_steps: int
    train_dataloader: Any
    actor_rollout_wg: Any
    _first_step: int | None = None

    def _setup(self) -> None:
        super()._setup()
        if self.config.ropd.get("has_teacher_server", False):
            self.actor_rollout_wg.set_loss_fn(distillation_loss_of(self.config))

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, Any]) -> Any:
        if self._first_step is None:
            self._first_step = self.global_steps
        is_first = self.global_steps == self._first_step  # what was saved before this process need not be saved again
        data_state = None if is_first else self.train_dataloader.state_dict()
        try:
            batch = super().step(metrics, timing_raw)
        except RunStopped:
            step, save_freq = self.global_steps - 1, self.config.trainer.save_freq
            has_saved = save_freq > 0 and step % save_freq == 0  # verl itself
            if data_state is not None and not has_saved:
                self.on_sample_end()  # as in every step, the rollout engine makes room
                self.global_steps = step
                self._save_step_before(data_state)
            raise
        if self.config.ropd.get("replaces", False):  # a demonstration has no log-probabilities of a rollout
            for name in [name for name in metrics if name.startswith(("training/rollout_", "rollout_corr/"))]:
                del metrics[name]
        return batch

    def _save_step_before(self, data_state: Any) -> None:
        """Save the step before a stopped one, with the data loader as it was then."""
        self.train_dataloader.state_dict = lambda: data_state
        self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        super()._save_checkpoint()
        worker = self.config.actor_rollout_ref
        folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}/actor/huggingface"
        finish_folder(folder, worker.rollout.dtype, worker.model.lora_rank, worker.model.lora_alpha)

    def _validate(self, *args: Any, **kwargs: Any) -> Any:
        """Give the figures of ``ropd eval``'s graders in the place of verl's means, which know of nothing missing."""
        super()._validate(*args, **kwargs)
        return ray.get(ray.get_actor(OWNER).validated.remote(self.global_steps))

    def _balance_batch(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Deal the rows that stand for missing groups evenly to a step's updates: verl puts them all into the last
        one, whose few real rows would get a whole update of their own."""
        batch = super()._balance_batch(batch, *args, **kwargs)
        config = self.config.actor_rollout_ref
        updates = max(1, len(batch) // (config.actor.ppo_mini_batch_size * config.rollout.n))
        ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
        if updates > 1:
            batch.reorder(dealt([not tag.get("is_padding", False) for tag in batch.tags], ranks, updates))
        return batch


@register_trainer(TRAINER)
class RopdTrainer(_Ropd, PPOTrainerSync):
    """As verl's synchronous trainer, under a name of its own (``trainer.v1.trainer_mode``)."""

    def _build_replay_buffer(self) -> Any:
        self.trainer_mode = "sync"  # any other name would make verl take the ways of its asynchronous trainers
        return super()._build_replay_buffer()


@register_trainer(ASYNC_TRAINER)
class RopdAsyncTrainer(_Ropd, PPOTrainerColocateAsync):
    """As verl's colocated asynchronous trainer, one step ahead at most: the next step's groups are sampled while this
    one's are judged, and judged while this one is learnt from.

    A checkpoint holds the groups in flight: verl saves their prompts and rollouts, the owner of judging what they were
    judged.
    """

    def on_train_begin(self) -> None:
        """Submit nothing: each step fills the window."""

    def prepare_step(self) -> dict[str, Any]:
        """Submit so many prompts that this step and the next one have theirs; none that no step would take."""
        steps = min(2, self.total_training_steps - self.global_steps + 1)
        lacking = steps * self.config.data.train_batch_size - _count_tq_prompt_groups()
        if lacking > 0:
            self._add_prompts_to_generate(lacking)
        return {}

    def _save_checkpoint(self, *, with_last_step: bool = False) -> None:
        super()._save_checkpoint()
        # after verl's own: a group that is judged meanwhile is sampled again at a resume, and none is there unjudged
        books = RunDir(Path(self.config.ropd.run_dir)).saved.books(self.global_steps)
        ray.get(ray.get_actor(OWNER).keep_open.remote(books, with_last_step=with_last_step))

    def _save_step_before(self, data_state: Any) -> None:
        """Save with the groups in flight, those of the stopped step included; failed ones are sampled again."""
        tags = tq.kv_list("train").get("train", {})
        failed = [key for key, tag in tags.items() if tag.get("is_prompt") and tag.get("status") == "failure"]
        if failed:
            tq.kv_batch_put(
                keys=failed, partition_id="train", tags=[{**tags[key], "status": "pending"} for key in failed]
            )
        self._save_checkpoint(with_last_step=True)


def dealt(is_real: Sequence[bool], ranks: int, updates: int) -> list[int]:
    """Return an order of rows in which each update of each rank has as many real rows as the others, or one less.

    Rows are parted evenly to the ranks, and those of a rank evenly to its updates, as they stand.
    """
    per_rank = len(is_real) // ranks
    size = per_rank // updates
    order = []
    for rank in range(ranks):
        rows = range(rank * per_rank, (rank + 1) * per_rank)
        real = [row for row in rows if is_real[row]]
        padding = iter([row for row in rows if not is_real[row]])
        for update in range(updates):
            own = real[update::updates]
            order += [*own, *(next(padding) for _ in range(size - len(own)))]
    return order

"""Extend verl's synchronous trainer: real rows in every update, figures of our own, the finished steps kept.

verl 0.9.1 saves every ``save_freq`` steps. A run that stops in step k + 1, because no group can be judged any
more, has step k's weights in memory: they are saved, with the data loader as it was before the step, so that
``--resume`` makes exactly the step that was not finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from ropd_cli.training.judge_owner import OWNER
from ropd_cli.training.verl.sampler import RunStopped
from ropd_cli.training.verl.saved_model import finish_folder
from ropd_cli.training.verl_config import TRAINER


@register_trainer(TRAINER)
class RopdTrainer(PPOTrainerSync):
    """As verl's, under a name of its own (``trainer.v1.trainer_mode``)."""

    global_steps: int
    _first_step: int | None = None

    def _build_replay_buffer(self) -> Any:
        self.trainer_mode = "sync"  # any other name would make verl take the ways of its asynchronous trainers
        return super()._build_replay_buffer()

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, Any]) -> Any:
        if self._first_step is None:
            self._first_step = self.global_steps
        is_first = self.global_steps == self._first_step  # what was saved before this process need not be saved again
        data_state = None if is_first else self.train_dataloader.state_dict()
        try:
            return super().step(metrics, timing_raw)
        except RunStopped:
            if data_state is not None:
                self._save_step_before(data_state)
            raise

    def _save_step_before(self, data_state: Any) -> None:
        step, save_freq = self.global_steps - 1, self.config.trainer.save_freq
        if save_freq > 0 and step % save_freq == 0:
            return  # verl has done it
        self.on_sample_end()  # as in every step, the rollout engine makes room first
        self.global_steps = step
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

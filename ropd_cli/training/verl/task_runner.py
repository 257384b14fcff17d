"""Extend verl's task runner: it keeps the finished steps when a run stops for a reason of ours.

verl 0.9.1 saves every ``save_freq`` steps. A run that stops in step k + 1, because no group can be judged any
more, has step k's weights in memory: they are saved, with the data loader as it was before the step, so that
``--resume`` makes exactly the step that was not finished.
"""

from __future__ import annotations

from typing import Any

import ray
from verl.trainer.main_ppo import TaskRunnerV1

from ropd_cli.training.judge_owner import OWNER
from ropd_cli.training.verl.sampler import RunStopped

_Runner: Any = TaskRunnerV1.__ray_metadata__.modified_class  # verl has made it an actor class already


@ray.remote
class JudgedTaskRunner(_Runner):
    """As verl's, with ``save_when_stopped``."""

    def init_agent_loop_manager(self) -> None:
        """Called by verl when the trainer is ready and before its first step."""
        super().init_agent_loop_manager()
        save_when_stopped(self.trainer)
        own_validation(self.trainer)


def save_when_stopped(trainer: Any) -> None:
    """Make ``trainer.step`` save the step before, where it raises RunStopped."""
    plain_step = trainer.step
    first = trainer.global_steps + 1  # what was saved before this process began need not be saved again

    def step(*args: Any, **kwargs: Any) -> Any:
        data_state = trainer.train_dataloader.state_dict() if trainer.global_steps > first else None
        try:
            return plain_step(*args, **kwargs)
        except RunStopped:
            if data_state is not None:
                _save(trainer, trainer.global_steps - 1, data_state)
            raise

    trainer.step = step


def own_validation(trainer: Any) -> None:
    """Give the figures of ``ropd eval``'s graders in the place of verl's means, which know of nothing missing."""
    plain = trainer._validate

    def validate(*args: Any, **kwargs: Any) -> Any:
        plain(*args, **kwargs)
        return ray.get(ray.get_actor(OWNER).validated.remote(trainer.global_steps))

    trainer._validate = validate


def _save(trainer: Any, step: int, data_state: Any) -> None:
    save_freq = trainer.config.trainer.save_freq
    if save_freq > 0 and step % save_freq == 0:
        return  # verl has done it
    trainer.on_sample_end()  # as in every step, the rollout engine makes room first
    trainer.global_steps = step
    trainer.train_dataloader.state_dict = lambda: data_state
    trainer._save_checkpoint()

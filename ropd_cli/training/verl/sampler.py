"""Extend verl's replay buffer by this project's metrics and its limit on groups that could not be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from ropd_cli.training.heartbeat import Heartbeat, Phase
from ropd_cli.training.judge_owner import OWNER
from ropd_cli.training.run_dir import RunDir, Stop

POLL_S = 0.1  # verl's own 2 s are most of a short step


class RunStopped(Exception):
    """More groups of a step than the configuration allows could not be judged, or no more can be at all."""


class JudgedSampler(ReplayBuffer):
    """Waits for a step's groups, adds their metrics, and stops the run when too many are missing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, poll_interval=POLL_S, **kwargs)
        self._run = RunDir(Path(self.sampler_kwargs["run_dir"]))
        self._heartbeat = Heartbeat(self._run.heartbeat)
        self._limit = float(self.sampler_kwargs["max_failed_fraction"])

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """As ``ReplayBuffer.sample``; the returned metrics hold the step's rewards and groups as well."""
        self._heartbeat.enter(Phase.ROLLOUTS)
        try:
            batch, metrics = super().sample(global_steps, partition_id, batch_size)
        except RuntimeError as fault:
            if "no materializable trajectories" not in str(fault):
                raise
            self._stop(global_steps, batch_size, batch_size)
        self._heartbeat.enter(Phase.UPDATE)
        if partition_id == "val":
            return batch, metrics
        if ray.get(self._owner.stopped.remote()) is not None:
            self._stop(global_steps, 0, batch_size)
        own = ray.get(self._owner.step_metrics.remote(global_steps, batch_size))
        if own["groups/missing"] > self._limit * batch_size:
            self._stop(global_steps, int(own["groups/missing"]), batch_size)
        if ray.get(self._owner.stopped.remote()) is not None:  # a threshold of the monitor: the step is not learnt from
            self._stop(global_steps, 0, batch_size)
        return batch, metrics | own

    @property
    def _owner(self) -> Any:
        return ray.get_actor(OWNER)

    def _stop(self, step: int, missing: int, groups: int) -> None:
        """Leave word for the parent process, and raise. The step is made again when the run is resumed."""
        resume = f"then go on with: ropd train --config {self._run.config} --resume"
        stop: Stop | None = ray.get(self._owner.stopped.remote())
        if stop is not None:
            hints = {"ProviderDown": (stop.hint or "").partition(",")[0], "CostLimit": "raise max_cost"}
            hint = hints.get(stop.kind, stop.hint)
            stop = Stop(stop.kind, f"step {step}: {stop.message}", f"{hint}, {resume}")
        else:
            fault = ray.get(self._owner.last_fault.remote(step)) or f"see {self._run.log}"
            message = (
                f"step {step}: {missing} of {groups} groups could not be judged, more than judge.max_failed_fraction "
                f"{self._limit:g} allows; the last: {fault}"
            )
            stop = Stop("TrainingError", message, f"mend the judge, {resume}")
        self._run.keep_stop(stop)
        raise RunStopped(stop.message)

"""Extend verl's replay buffers by this project's metrics, its limit on groups that could not be judged, and refill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from ropd_cli.training.heartbeat import Heartbeat, Phase
from ropd_cli.training.judge_owner import OWNER
from ropd_cli.training.run_dir import RunDir, Stop

POLL_S = 0.1  # verl's own 2 s are most of a short step
_Mixed: Any = object  # a mixin, laid over one of verl's classes


class RunStopped(Exception):
    """More groups of a step than the configuration allows could not be judged, none has anything to teach, or no more
    can be judged at all."""


class _Judged(_Mixed):
    """Waits for a step's groups, adds their metrics, and stops the run when too many are missing. Laid over one of
    verl's replay buffers.

    Refill: verl evicts groups whose rewards are all equal, and failed ones, and asks for further prompts, without a
    bound and, in synchronous training, for twice as many as it evicts. Here each evicted group is replaced once, up to
    ``train.refill.max_batches`` batches per step; what is beyond that stays in the step.
    """

    def __init__(self, *args: Any, refill_fn: Any, **kwargs: Any) -> None:
        settings = kwargs["sampler_kwargs"]
        self._run = RunDir(Path(settings["run_dir"]))
        self._heartbeat = Heartbeat(self._run.heartbeat)
        self._groups = int(settings["prompts_per_step"])
        self._limit = float(settings["max_failed_fraction"]) * self._groups
        self._refill = settings["refill"]
        self._is_deferred = bool(settings.get("deferred", False))
        self._add_prompts = refill_fn
        self._begin(0)
        super().__init__(
            *args,
            poll_interval=POLL_S,
            refill_fn=self._replace,
            filter_groups_metric="reward" if self._refill["zero_variance"] else None,
            train_batch_size=self._groups,
            gen_batch_size=1,
            sync_refill_failed_groups=self._refill["missing"],
            **kwargs,
        )

    def _begin(self, step: int) -> None:
        self._step = step
        self._own: dict[str, Any] = {}
        self._left_out: dict[str, str] = {}
        """Groups that were evicted in this step, and why."""
        self._owed = 0
        """Of these, those without a prompt in their place so far."""

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """As verl's; the returned metrics hold the step's rewards and groups as well."""
        self._begin(global_steps)
        self._heartbeat.enter(Phase.ROLLOUTS)
        batch, metrics = super().sample(global_steps, partition_id, batch_size)
        self._heartbeat.enter(Phase.UPDATE)
        return batch, metrics | self._own

    def _select_prompt_uids(self, partition_id: str, *args: Any) -> Any:
        """As verl's: the groups that the step takes. Nothing has been taken out of verl's queue when this raises."""
        selected = super()._select_prompt_uids(partition_id, *args)
        if partition_id != "val":
            self._close(selected[0])
        return selected

    def close_deferred(self, rewards: dict[str, list[float | None]]) -> dict[str, float]:
        """Close a step whose rewards, by group, the trainer knows after sampling, and return its metrics. Raises
        RunStopped, before any update, where one of them passes a threshold of ``monitor.stop``."""
        metrics: dict[str, float] = ray.get(
            self._owner.close_step.remote(self._step, self._taken, self._replaced, deferred=rewards)
        )
        if ray.get(self._owner.stopped.remote()) is not None:
            self._stop(int(metrics["groups/missing"]))
        return metrics

    def _close(self, taken: list[str]) -> None:
        if self._is_deferred:
            self._taken = taken
            missing = ray.get(self._owner.missing.remote(taken))
        else:
            self._own = ray.get(self._owner.close_step.remote(self._step, taken, self._replaced))
            missing = int(self._own["groups/missing"])
        if ray.get(self._owner.stopped.remote()) is not None:
            self._stop(missing)
        self._check_missing(missing + self._evicted("missing"))
        if missing == self._groups:
            self._stop(missing)
        if self._refill["zero_variance"] and self._own["groups/zero_variance"] == self._own["groups/judged"]:
            self._stop_flat()

    @property
    def _replaced(self) -> dict[str, str] | None:
        """The groups that were evicted, and why; None without refill."""
        return self._left_out if self._refill["zero_variance"] or self._refill["missing"] else None

    def _check_missing(self, missing: int) -> None:
        if missing > self._limit:
            self._stop(missing)

    def _evicted(self, why: str) -> int:
        return sum(reason == why for reason in self._left_out.values())

    def _terminal_eviction_reasons(self, global_steps: int, partition_id: str) -> Any:
        stale, tied, failed, counts = super()._terminal_eviction_reasons(global_steps, partition_id)
        if not self._refill["missing"]:  # the asynchronous buffer evicts them unasked
            failed = set()
        room = int(self._refill["max_batches"]) * self._groups - len(self._left_out)
        chosen = set(sorted(tied | failed)[: max(0, room)])
        return stale, tied & chosen, failed & chosen, counts

    def _evict_terminal_groups(self, global_steps: int, partition_id: str, reasons: Any) -> Any:
        _, tied, failed, _ = reasons
        self._left_out |= dict.fromkeys(tied, "tied") | dict.fromkeys(failed, "missing")
        self._owed += len(tied | failed)
        return super()._evict_terminal_groups(global_steps, partition_id, reasons)

    def _replace(self, wanted: int) -> None:
        """Submit prompts in the place of evicted groups."""
        if ray.get(self._owner.stopped.remote()) is not None:
            self._stop(self._evicted("missing"))
        self._check_missing(self._evicted("missing"))
        count = min(wanted, self._owed)
        if count:
            self._add_prompts(count)
            self._owed -= count

    @property
    def _owner(self) -> Any:
        return ray.get_actor(OWNER)

    def _stop_flat(self) -> None:
        """Stop a run whose student has nothing to learn from any more."""
        self._leave(
            Stop(
                "TrainingError",
                f"step {self._step}: no group has rewards that differ, nor had the {self._evicted('tied')} that were "
                "replaced (train.refill)",
                f"look at the groups by: ropd inspect-rubrics {self._run.path} --step {self._step}; give prompts that "
                f"are neither too easy nor too hard for the student, then go on with: {self._run.resume_command}",
            )
        )

    def _stop(self, missing: int) -> None:
        """Leave word for the parent process, and raise. The step is made again when the run is resumed."""
        resume = f"then go on with: {self._run.resume_command}"
        stop: Stop | None = ray.get(self._owner.stopped.remote())
        if stop is not None:
            hints = {"ProviderDown": (stop.hint or "").partition(",")[0], "CostLimit": "raise max_cost"}
            hint = hints.get(stop.kind, stop.hint)
            stop = Stop(stop.kind, f"step {self._step}: {stop.message}", f"{hint}, {resume}")
        else:
            fault = ray.get(self._owner.last_fault.remote()) or f"see {self._run.log}"
            total, share = self._groups + len(self._left_out), self._limit / self._groups
            message = (
                f"step {self._step}: {missing} of {total} groups could not be judged, more than "
                f"judge.max_failed_fraction {share:g} allows; the last: {fault}"
            )
            stop = Stop("TrainingError", message, f"mend the judge, {resume}")
        self._leave(stop)

    def _leave(self, stop: Stop) -> None:
        self._run.keep_stop(stop)
        raise RunStopped(stop.message)


class JudgedSampler(_Judged, ReplayBuffer):
    """For synchronous training."""


class JudgedAsyncSampler(_Judged, ReplayBufferAsync):
    """For training that samples one step ahead: a step takes its groups when the next step's are sampled.

    The update needs the engine's memory. A rollout that it broke off would end under other weights, and its group would
    be judged together with the one after it: no judge would work during that update.
    """

    def _has_enough_samples(self, global_steps: int, partition_id: str, *args: Any) -> bool:
        if not super()._has_enough_samples(global_steps, partition_id, *args):
            return False
        in_flight = self.pending_keys[partition_id] | self.running_keys[partition_id]
        return partition_id == "val" or bool(ray.get(self._owner.sampled.remote(list(in_flight))))

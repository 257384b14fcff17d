"""Extend verl's rollout workers: a prompt's rollouts are rewarded together.

verl 0.9.1 runs all n sessions of a prompt inside one call of ``AgentLoopWorkerTQ._run_prompt``. Each session
waits here until its siblings have their answers too; the last one has the whole group judged, while other
prompts still generate. A group that could not be judged raises in all of its sessions: verl then marks the
prompt as failed and no row of it enters the batch (neither the mean nor the loss's denominator sees it).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import torch
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from ropd_cli.answers.thinking import Tags, sampled
from ropd_cli.config import RopdConfig
from ropd_cli.errors import RopdError
from ropd_cli.method.rewards import on_grid
from ropd_cli.methods.demonstrations import demonstration_ids
from ropd_cli.methods.distilled import teacher_server
from ropd_cli.records.schemas import Answer, Usage
from ropd_cli.training.judge_owner import OWNER, GroupRewards, RunJudge
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.validation import validation_sample
from ropd_cli.training.verl.cluster import on_this_node, take_environment
from ropd_cli.util.yaml_text import load_yaml

_Worker: Any = AgentLoopWorkerTQ.__ray_metadata__.modified_class  # verl has made it an actor class already


class GroupNotJudged(Exception):
    """The group has no rewards; raised in every session of its prompt."""


@dataclass
class Barrier:
    """The sessions of one prompt: their rollouts, and the rewards they wait for, both by session."""

    n: int
    rewards: asyncio.Future[Mapping[int, float | None]]
    rollouts: dict[int, Answer] = field(default_factory=dict)
    replaced: dict[int, str] = field(default_factory=dict)
    """Teacher answers that take the place of rollouts; there when the rewards are."""


class GroupAgentLoopWorker(_Worker):
    """An agent loop worker whose sessions wait for their group's rewards, which ``_judged`` gives."""

    thinking_tags: Tags | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._barriers: dict[str, Barrier] = {}

    async def _run_prompt(self, prompt: dict, sampling_params: dict, trajectory: dict, trace: bool = False) -> None:
        if trajectory["validate"]:
            return await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        n = prompt.get("__rollout_n__", self.config.actor_rollout_ref.rollout.n)
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda f: f.cancelled() or f.exception())  # never "was not retrieved"
        self._barriers[prompt["uid"]] = Barrier(n, future)
        try:
            await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        finally:
            self._barriers.pop(prompt["uid"], None)

    async def _run_agent_loop(self, sampling_params: dict, trajectory: dict, *, agent_name: str, **kwargs: Any) -> Any:
        try:
            return await super()._run_agent_loop(sampling_params, trajectory, agent_name=agent_name, **kwargs)
        except BaseException as fault:
            barrier = self._barriers.get(kwargs["uid"])
            if barrier is not None and not barrier.rewards.done():  # siblings must not wait for this one
                barrier.rewards.set_exception(GroupNotJudged(f"a rollout failed: {fault!r}"))
            raise

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        outputs = output if isinstance(output, list) else [output]
        barrier = self._barriers.get(kwargs["uid"])
        if barrier is not None and not outputs and not barrier.rewards.done():
            barrier.rewards.set_exception(GroupNotJudged("a rollout came to nothing"))  # siblings must not wait for it
        if barrier is None or not outputs:
            return await super()._agent_loop_postprocess(output, validate, **kwargs)
        session = int(kwargs["session_id"])
        barrier.rollouts[session] = self._rollout(outputs[-1])
        if len(barrier.rollouts) == barrier.n:
            await self._reward_group(barrier, kwargs)
        reward = (await asyncio.shield(barrier.rewards))[session]
        if reward is None:
            return  # dropped (on_no_answer: drop): this rollout alone puts no row
        if session in barrier.replaced:
            self._replace(outputs[-1], barrier.replaced[session])
        outputs[-1].reward_score = reward  # set, so verl's own scoring passes it over
        outputs[-1].extra_fields["reward_extra_info"] = {"score": reward}
        await super()._agent_loop_postprocess(output, validate, **kwargs)

    def _replace(self, output: Any, demonstration: str) -> None:
        """Put a teacher answer in a rollout's place. It has no log-probability of the policy that sampled."""
        output.response_ids = demonstration_ids(self.tokenizer, demonstration)
        output.response_mask = [1] * len(output.response_ids)
        if output.response_logprobs is not None:
            output.response_logprobs = [0.0] * len(output.response_ids)

    def _rollout(self, output: Any) -> Answer:
        """Text of an output; cut off by its length limit where it does not end in an end-of-turn token."""
        ids = output.response_ids
        limit = self.config.actor_rollout_ref.rollout.response_length
        ended = bool(ids) and ids[-1] == self.tokenizer.eos_token_id
        shown = self.tokenizer.decode(ids, skip_special_tokens=True)
        text = sampled(shown, ids, output.prompt_ids, self.tokenizer, self.thinking_tags)
        reason = "stop" if ended or len(ids) < limit else "length"
        return Answer(text=text, finish_reason=reason, usage=Usage(completion_tokens=len(ids)))

    async def _reward_group(self, barrier: Barrier, kwargs: dict[str, Any]) -> None:
        rollouts = [barrier.rollouts[i] for i in sorted(barrier.rollouts)]
        try:
            judged = await self._judged(rollouts, kwargs)
        except Exception as fault:
            judged = GroupRewards(None, repr(fault))
        if barrier.rewards.done():
            return
        if judged.rewards is None:
            barrier.rewards.set_exception(GroupNotJudged(judged.error))
        else:
            sessions = sorted(barrier.rollouts)
            barrier.replaced = {sessions[k]: text for k, text in judged.replaced.items()}
            rewards = (None if reward is None else on_grid(reward) for reward in judged.rewards)
            barrier.rewards.set_result(dict(zip(sessions, rewards, strict=True)))

    async def _judged(self, rollouts: Sequence[Answer], kwargs: Mapping[str, Any]) -> GroupRewards:
        """Return the rewards of a prompt's rollouts; ``kwargs`` is verl's row of the data set."""
        raise NotImplementedError


class JudgedAgentLoopWorker(GroupAgentLoopWorker):
    """As that, for a run of ours: the run's owner of judging gives the rewards, and grades validations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._judge = ray.get_actor(OWNER)
        self.thinking_tags = self.config.ropd.thinking_tags
        self._teacher = None
        if self.config.ropd.get("has_teacher_server", False):
            run = RunDir(Path(self.config.ropd.run_dir))
            ours = RopdConfig.model_validate(load_yaml(run.config.read_text(encoding="utf-8")))
            self._teacher = teacher_server(ours)

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        outputs = output if isinstance(output, list) else [output]
        if outputs and validate:
            await self._grade(outputs[-1], kwargs)
        elif outputs and self._teacher is not None:
            await self._read_by_teacher(outputs[-1])
        await super()._agent_loop_postprocess(output, validate, **kwargs)

    async def _judged(self, rollouts: Sequence[Answer], kwargs: Mapping[str, Any]) -> GroupRewards:
        uid = kwargs["extra_info"]["ropd_uid"]
        judged: GroupRewards = await self._judge.judge.remote(kwargs["uid"], int(kwargs["global_steps"]), uid, rollouts)
        return judged if judged.error is None else judged._replace(error=f"uid {uid}: {judged.error}")

    async def _read_by_teacher(self, output: Any) -> None:
        """Add the teacher's log-probabilities where verl's own distillation puts them: that of a token stands at the
        place before it, and the last place is empty. Shape (prompt + response, 1)."""
        assert self._teacher is not None
        try:
            values = await self._teacher.of([*output.prompt_ids, *output.response_ids])
        except RopdError as fault:
            await self._judge.unjudged.remote(f"the teacher: {fault.message}")
            raise
        output.extra_fields["teacher_logprobs"] = torch.tensor([*values, 0.0]).unsqueeze(-1)

    async def _grade(self, output: Any, kwargs: dict[str, Any]) -> None:
        """Have an answer of the validation graded. verl wants a number of each; the figures are the owner's, who knows
        what is missing."""
        sample = validation_sample(kwargs["extra_info"], int(kwargs["session_id"]), self._rollout(output))
        score = await self._judge.grade.remote(int(kwargs["global_steps"]), sample)
        output.reward_score = 0.0 if score is None else score
        output.extra_fields["reward_extra_info"] = {"score": output.reward_score}


class _Owner(RunJudge):
    """The owner of judging, in the environment of the task runner: it alone holds the keys of the endpoints."""

    def __init__(self, environment: Mapping[str, str], run_dir: str) -> None:
        take_environment(environment)
        super().__init__(run_dir)


class JudgedAgentLoopManager(AgentLoopManagerTQ):
    """Starts the owner of judging on this node, then the workers that call it."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        owner = ray.remote(_Owner).options(name=OWNER, max_concurrency=10_000, **on_this_node())
        self._owner = owner.remote(dict(os.environ), config.ropd.run_dir)
        ray.get(self._owner.__ray_ready__.remote())
        super().__init__(config, *args, **kwargs)
        self.agent_loop_workers_class = ray.remote(JudgedAgentLoopWorker)

"""Rewards of ``ropd serve-reward`` for a verl configuration of the user's own: its agent-loop manager.

    actor_rollout_ref.rollout.agent.agent_loop_manager_class: ropd_cli.verl_reward

verl's reward managers see one rollout at a time and can leave none out; here a prompt's rollouts are sent together,
and one that is missing puts no row into the batch. The server is at ROPD_REWARD_URL, its token in ROPD_REWARD_TOKEN.
Validations are verl's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import ray
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ

from ropd_cli.records.schemas import Answer
from ropd_cli.training.judge_owner import GroupRewards
from ropd_cli.training.verl.agent_loop import GroupAgentLoopWorker

DEFAULT_URL = "http://127.0.0.1:8711"


class ServedAgentLoopWorker(GroupAgentLoopWorker):
    """An agent loop worker whose groups a reward server judges."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._url = os.environ.get("ROPD_REWARD_URL", DEFAULT_URL).rstrip("/") + "/rewards"
        token = os.environ.get("ROPD_REWARD_TOKEN")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def _judged(self, rollouts: Sequence[Answer], kwargs: Mapping[str, Any]) -> GroupRewards:
        known = kwargs.get("extra_info") or {}
        truth = (kwargs.get("reward_model") or {}).get("ground_truth")
        body = {
            "prompt": [dict(message) for message in kwargs["raw_prompt"]],
            "uid": known.get("uid") or known.get("ropd_uid"),
            "answer": None if truth is None else str(truth),
            "step": int(kwargs["global_steps"]),
            "n": len(rollouts),
            "completions": [rollout.text for rollout in rollouts],
            "finish_reasons": [rollout.finish_reason for rollout in rollouts],
        }
        # judging takes as long as it takes: the server says when it gives up
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session,
            session.post(self._url, json=body) as response,
        ):
            document = await response.json()
        if response.status != 200:
            return GroupRewards(None, f"{self._url}: {document['error']}")
        rewards = document["rewards"]
        return GroupRewards(tuple(rewards) if document["error"] is None else None, document["error"])


class VerlReward(AgentLoopManagerTQ):
    """Starts the workers that ask the reward server."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(ServedAgentLoopWorker)

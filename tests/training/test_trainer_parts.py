"""Parts of the training core on verl's own functions, without a training: rewards, updates, settings, versions."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")


@given(st.integers(2, 16), st.floats(0, 2), st.booleans())
def test_equal_rewards_have_no_advantage(n, reward, by_std):
    import torch
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    from ropd_cli.method.rewards import on_grid

    rewards = torch.zeros(n, 3)
    rewards[:, -1] = on_grid(reward)
    advantages, _ = compute_grpo_outcome_advantage(
        rewards, torch.ones(n, 3), np.array(["a"] * n), norm_adv_by_std_in_grpo=by_std
    )
    assert not advantages.any()


def test_rounding_alone_gives_an_advantage_without_the_grid():
    import torch
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    def largest(reward):
        rewards = torch.full((8, 1), reward)
        return compute_grpo_outcome_advantage(rewards, torch.ones(8, 1), np.array(["a"] * 8))[0].abs().max()

    assert max(largest(k / 459) for k in range(460)) > 0.01


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.data())
def test_every_update_has_its_share_of_real_rows(ranks, updates, size, data):
    from ropd_cli.training.verl.trainer import dealt

    rows = ranks * updates * size
    is_real = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    order = dealt(is_real, ranks, updates)
    assert sorted(order) == list(range(rows))
    for rank in range(ranks):
        own = order[rank * updates * size : (rank + 1) * updates * size]
        assert {row // (updates * size) for row in own} == {rank}
        counts = [sum(is_real[row] for row in own[k * size : (k + 1) * size]) for k in range(updates)]
        assert max(counts) - min(counts) <= 1


def test_a_rollout_without_outputs_frees_its_siblings(monkeypatch):
    from ropd_cli.training.verl import agent_loop

    async def nothing(*_, **__): ...

    monkeypatch.setattr(agent_loop._Worker, "_agent_loop_postprocess", nothing)
    worker = object.__new__(agent_loop.JudgedAgentLoopWorker)

    async def run():
        barrier = agent_loop.Barrier(2, asyncio.get_running_loop().create_future())
        worker._barriers = {"u": barrier}
        await worker._agent_loop_postprocess([], False, uid="u", session_id=0)
        with pytest.raises(agent_loop.GroupNotJudged):
            await asyncio.wait_for(barrier.rewards, 1)

    asyncio.run(run())


def test_settings_for_all_nodes_hold_no_secret():
    from ropd_cli.training.verl.cluster import SETTINGS, settings

    secrets = ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "VLLM_API_KEY", "RAY_AUTH_TOKEN", "HTTPS_PROXY")
    assert settings(dict.fromkeys((*secrets, "HF_HUB_OFFLINE", "ROPD_RUN_MARK"), "x")) == {
        "HF_HUB_OFFLINE": "x",
        "ROPD_RUN_MARK": "x",
    }
    assert not [name for name in SETTINGS if name.endswith(("KEY", "TOKEN", "SECRET", "PASSWORD"))]


def test_a_process_takes_the_program_s_environment_without_what_ray_sets_itself(monkeypatch):
    import os

    from ropd_cli.training.verl.cluster import take_environment

    own = {"RAY_JOB_ID": "02", "CUDA_VISIBLE_DEVICES": "", "OPENAI_API_KEY": "of the node"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    theirs = {"RAY_JOB_ID": "01", "CUDA_VISIBLE_DEVICES": "0,1", "OPENAI_API_KEY": "of the program"}
    take_environment(theirs)
    assert {name: os.environ[name] for name in own} == own | {"OPENAI_API_KEY": "of the program"}

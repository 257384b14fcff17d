"""Parts of the training core on verl's own functions, without a training: rewards, updates, settings, versions."""

from __future__ import annotations

import asyncio
import json

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


@pytest.fixture(params=["JudgedSampler", "JudgedAsyncSampler"])
def sampler(request, tmp_path, monkeypatch):
    """A sampler of two groups a step that may replace four, without a queue or an owner; it notes what it submits."""
    from types import SimpleNamespace

    from ropd_cli.training.verl import sampler as module

    monkeypatch.setattr(module.ray, "get", lambda value: value)
    kind = getattr(module, request.param)
    owner = SimpleNamespace(
        stopped=SimpleNamespace(remote=lambda: None), last_fault=SimpleNamespace(remote=lambda: "x")
    )
    monkeypatch.setattr(module._Judged, "_owner", owner)
    submitted = []
    made = kind(
        trainer_mode="sync",
        trainer_config={},
        max_off_policy_threshold=2,
        max_off_policy_strategy="wait",
        sampler_kwargs={
            "run_dir": str(tmp_path),
            "prompts_per_step": 2,
            "max_failed_fraction": 0.5,
            "refill": {"zero_variance": True, "missing": True, "max_batches": 2},
        },
        refill_fn=submitted.append,
    )
    made.submitted = submitted
    monkeypatch.setattr(module.ReplayBuffer, "_clear_groups", lambda self, partition, uids: None)
    tied = set()
    monkeypatch.setattr(module.ReplayBuffer, "_dapo_filtered_keys", lambda self, partition: (set(tied), {}))
    made.tied = tied
    made._begin(1)
    return made


def evicted(sampler, tied=(), failed=()):
    """What a poll leaves out, when verl then asks for as many prompts as it does."""
    sampler.tied.clear()
    sampler.tied.update(tied)
    sampler.failure_keys["train"] = set(failed)
    reasons = sampler._terminal_eviction_reasons(1, "train")
    gone, *_ = sampler._evict_terminal_groups(1, "train", reasons)
    sampler._replace(2 * len(gone))
    return gone


def test_each_group_that_is_left_out_is_replaced_once_and_not_without_end(sampler):
    assert evicted(sampler, tied=["a", "b"]) == {"a", "b"} and sampler.submitted == [2]
    assert evicted(sampler) == set() and sampler.submitted == [2]
    assert evicted(sampler, tied=["c"], failed=["d"]) == {"c", "d"} and sampler.submitted == [2, 2]
    assert evicted(sampler, tied=["e"], failed=["f"]) == set() and sampler.submitted == [2, 2]  # the bound: they stay
    assert sampler._left_out == {"a": "tied", "b": "tied", "c": "tied", "d": "missing"}
    sampler._begin(2)
    assert evicted(sampler, tied=["e"]) == {"e"} and sampler.submitted == [2, 2, 1]
    assert sampler._terminal_eviction_reasons(2, "val")[1] == set()


def test_failures_count_for_the_limit_whether_they_are_replaced_or_not(sampler):
    from ropd_cli.training.verl.sampler import RunStopped

    evicted(sampler, failed=["a"])
    with pytest.raises(RunStopped, match=r"2 of 4 groups could not be judged, more than judge\.max_failed"):
        evicted(sampler, failed=["b"])
    assert sampler._run.stop().kind == "TrainingError" and sampler.submitted == [1]


@pytest.mark.parametrize("sampler", ["JudgedSampler"], indirect=True)
def test_an_alarm_stops_the_step_that_raised_it_also_where_rewards_come_late(sampler, monkeypatch):
    from types import SimpleNamespace

    from ropd_cli.training.run_dir import Stop
    from ropd_cli.training.verl.sampler import RunStopped

    stops, alarm = [], Stop("TrainingError", "rollouts are 3 times as long", "look")

    def close_step(*_, deferred):
        stops.extend([alarm] if deferred["a"] == [1.0, 2.0] else [])
        return {"groups/missing": 0}

    owner = type(sampler)._owner
    monkeypatch.setattr(owner, "close_step", SimpleNamespace(remote=close_step), raising=False)
    monkeypatch.setattr(owner, "missing", SimpleNamespace(remote=lambda taken: 0), raising=False)
    monkeypatch.setattr(owner, "stopped", SimpleNamespace(remote=lambda: stops[0] if stops else None))
    sampler._is_deferred, sampler._refill = True, {"zero_variance": False, "missing": False}
    sampler._close(["a", "b"])
    assert sampler.close_deferred({"a": [0.5, 0.25]}) == {"groups/missing": 0}
    with pytest.raises(RunStopped, match="step 1: rollouts are 3 times as long"):
        sampler.close_deferred({"a": [1.0, 2.0]})
    assert sampler._run.stop().message == "step 1: rollouts are 3 times as long"


@pytest.mark.parametrize("sampler", ["JudgedAsyncSampler"], indirect=True)
def test_a_step_takes_its_groups_when_the_next_ones_are_sampled(sampler, monkeypatch):
    from types import SimpleNamespace

    sampled = {"c"}
    asked = SimpleNamespace(remote=lambda ids: set(ids) <= sampled)
    monkeypatch.setattr(type(sampler)._owner, "sampled", asked, raising=False)
    sampler.running_keys["train"], sampler.pending_keys["train"] = {"c"}, {"d"}
    sampler.prompt_global_steps["train"] = {"c": 1, "d": 1}
    assert not sampler._has_enough_samples(1, "train", 2, {"a", "b"})
    sampled.add("d")
    assert sampler._has_enough_samples(1, "train", 2, {"a", "b"})
    assert not sampler._has_enough_samples(1, "train", 2, {"a"})


def test_a_demonstration_takes_the_place_of_a_rollout_with_its_reward(monkeypatch, tiny_model):
    from types import SimpleNamespace

    from transformers import AutoTokenizer

    from ropd_cli.training.judge_owner import GroupRewards
    from ropd_cli.training.verl import agent_loop

    put = {}

    async def keep(_self, output, validate, **kwargs):
        put[kwargs["session_id"]] = output

    class Judge:
        class judge:
            @staticmethod
            async def remote(*_):
                return GroupRewards((0.5, 1.0), None, {1: "w3 w4 w5"})

    monkeypatch.setattr(agent_loop._Worker, "_agent_loop_postprocess", keep)
    worker = object.__new__(agent_loop.JudgedAgentLoopWorker)
    worker._judge, worker._teacher, worker.tokenizer = Judge, None, AutoTokenizer.from_pretrained(tiny_model)
    ropd = SimpleNamespace(thinking_tags=None)
    worker.config = SimpleNamespace(
        ropd=ropd, actor_rollout_ref=SimpleNamespace(rollout=SimpleNamespace(response_length=12))
    )

    def rollout():
        return SimpleNamespace(
            prompt_ids=[3, 6, 4],
            response_ids=[7, 8, 9],
            response_mask=[1, 1, 1],
            response_logprobs=[-1.0, -2.0, -3.0],
            reward_score=None,
            extra_fields={},
        )

    async def run():
        barrier = agent_loop.Barrier(2, asyncio.get_running_loop().create_future())
        worker._barriers = {"u": barrier}
        said = {"uid": "u", "extra_info": {"ropd_uid": "p"}, "global_steps": 1}
        calls = (worker._agent_loop_postprocess(rollout(), False, session_id=k, **said) for k in range(2))
        await asyncio.gather(*calls)

    asyncio.run(run())
    assert (put[0].response_ids, put[0].response_mask, put[0].reward_score) == ([7, 8, 9], [1, 1, 1], 0.5)
    assert put[0].response_logprobs == [-1.0, -2.0, -3.0]
    # three words and the end of the turn
    assert (put[1].response_ids, put[1].response_mask, put[1].reward_score) == ([9, 10, 11, 1], [1, 1, 1, 1], 1.0)
    assert put[1].response_logprobs == [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("status", "reply", "rewards", "fault"),
    [
        (200, {"rewards": [1.0, None], "error": None}, {0: 1.0, 1: None}, ""),
        (200, {"rewards": [None, None], "error": "out of money"}, None, "out of money"),
        (400, {"error": "no answer to the prompt", "hint": None}, None, "/rewards: no answer to the prompt"),
        (502, b"<html>", None, "ContentTypeError"),
    ],
)
def test_rewards_of_a_server_are_those_of_a_group_or_none_at_all(monkeypatch, status, reply, rewards, fault):
    from servers import Raw, ScriptedServer, Status

    from ropd_cli.records.schemas import Answer
    from ropd_cli.training.verl import agent_loop, reward_client

    with ScriptedServer() as server:
        headers = {} if isinstance(reply, dict) else {"Content-Type": "text/html"}
        step = Status(status, body=reply, headers=headers)
        server.default = Raw(json.dumps(reply).encode()) if status == 200 else step
        worker = object.__new__(reward_client.ServedAgentLoopWorker)
        worker._url, worker._headers = f"{server.url}/rewards", {"Authorization": "Bearer secret"}
        row = {"uid": "u", "raw_prompt": [{"role": "user", "content": "w1"}], "global_steps": 3}
        row |= {"extra_info": None, "reward_model": {"ground_truth": 7}}

        async def run():
            barrier = agent_loop.Barrier(2, asyncio.get_running_loop().create_future())
            barrier.rollouts = {k: Answer(text=f"w{k}", finish_reason="stop") for k in range(2)}
            await worker._reward_group(barrier, row)
            return barrier.rewards.exception() or barrier.rewards.result()

        outcome = asyncio.run(run())
    assert outcome == rewards if rewards is not None else fault in str(outcome)
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer secret"
    assert request.body == {
        "prompt": row["raw_prompt"],
        "uid": None,
        "answer": "7",
        "step": 3,
        "n": 2,
        "completions": ["w0", "w1"],
        "finish_reasons": ["stop", "stop"],
    }


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

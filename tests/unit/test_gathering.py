"""Rollouts of a prompt that come one by one, and clients that go away."""

from __future__ import annotations

import asyncio

import pytest

from ropd_cli.errors import InputError
from ropd_cli.records.schemas import Answer
from ropd_cli.serving.gathering import Gatherer, RolloutReward
from ropd_cli.training.judge_owner import GroupRewards


class Judge:
    """Gives a rollout its length as its reward; waits for ``go``."""

    def __init__(self):
        self.groups = []
        self.go = asyncio.Event()
        self.go.set()
        self.fault = None

    async def __call__(self, rollouts):
        self.groups.append([rollout.text for rollout in rollouts])
        await self.go.wait()
        if self.fault is not None:
            return GroupRewards(None, self.fault)
        return GroupRewards(tuple(float(len(rollout.text)) for rollout in rollouts))


@pytest.fixture
def judge():
    return Judge()


@pytest.fixture
def said():
    return []


@pytest.fixture
def ask(judge, said):
    """Sends a rollout of the prompt "p"; a task."""
    gatherer = Gatherer(0.2, said.append)

    def asked(text, n=3, key="p"):
        return asyncio.create_task(gatherer.reward(key, n, Answer(text=text), judge))

    asked.gatherer = gatherer
    return asked


async def test_a_full_group_is_judged_at_once_and_in_an_order_of_its_own(ask, judge, said):
    tasks = [ask("ccc"), ask("a"), ask("bb"), ask("other", n=2, key="q"), ask("one", n=2, key="q")]
    rewards = [(await task).reward for task in tasks]
    assert rewards == [3, 1, 2, 5, 3] and not said
    assert judge.groups == [["a", "bb", "ccc"], ["one", "other"]]
    again = [ask(text) for text in ("bb", "ccc", "a")]  # the next epoch
    assert [(await task).reward for task in again] == [2, 3, 1] and len(judge.groups) == 3
    assert not ask.gatherer._judged and not ask.gatherer._open


async def test_the_time_limit_is_of_the_last_one_that_came(ask, judge, said):
    tasks = [ask("a")]
    for text in ("bb", "ccc"):
        await asyncio.sleep(0.12)
        tasks.append(ask(text, n=3))
    assert [(await task).reward for task in tasks] == [1, 2, 3] and not said
    short = [ask("a"), ask("bb")]
    assert [(await task).reward for task in short] == [1, 2]
    assert said == ["2 of 3 rollouts of a prompt came, and no further one in 0.2 s: they are judged without the others"]
    alone = await ask("a")
    assert alone.reward is None and "a group is judged together" in alone.error
    assert judge.groups == [["a", "bb", "ccc"], ["a", "bb"]]


async def test_a_client_that_goes_away_leaves_the_group_or_finds_its_reward_later(ask, judge):
    gone = ask("gone")
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    assert ask.gatherer.waiting == 0
    judge.go.clear()
    first, second, third = ask("a"), ask("bb"), ask("ccc")
    await asyncio.sleep(0.01)
    assert judge.groups == [["a", "bb", "ccc"]]
    second.cancel()
    third.cancel()
    await asyncio.sleep(0)
    retaken = ask("bb")  # while it is judged
    await asyncio.sleep(0)
    judge.go.set()
    assert [(await task).reward for task in (first, retaken)] == [1, 2]
    assert await ask("ccc") == RolloutReward(3.0)  # and after it
    assert len(judge.groups) == 1 and not ask.gatherer._judged


async def test_a_group_that_failed_is_judged_anew(ask, judge):
    judge.fault = "out of order"
    judge.go.clear()
    tasks = [ask("a", n=2), ask("bb", n=2)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    judge.go.set()
    assert await tasks[1] == RolloutReward(None, "out of order")
    judge.fault = None
    assert [(await task).reward for task in (ask("a", n=2), ask("bb", n=2))] == [1, 2]
    assert len(judge.groups) == 2


async def test_siblings_of_another_n_and_a_judge_that_raises(ask, judge):
    first = ask("a")
    await asyncio.sleep(0)
    with pytest.raises(InputError, match="a group of 2 rollouts, and its siblings are said to be 3"):
        await ask("bb", n=2)
    first.cancel()

    async def refuse(rollouts):
        raise InputError("no such rubric")

    with pytest.raises(InputError, match="no such rubric"):
        await asyncio.gather(*(ask.gatherer.reward("q", 2, Answer(text=text), refuse) for text in "ab"))

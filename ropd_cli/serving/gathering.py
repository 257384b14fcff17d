"""Gather the rollouts of a prompt that come in separate requests, and have them judged together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field

from ropd_cli.errors import InputError
from ropd_cli.records.schemas import Answer
from ropd_cli.training.judge_owner import GroupRewards
from ropd_cli.util.counted import counted

KEPT = 1000
"""So many judged groups are kept for clients that went away before they had their rewards, and may ask again."""
TELL_AFTER_S = 30.0
"""A group that has waited so long for its next rollout is told of."""

Judge = Callable[[Sequence[Answer]], Awaitable[GroupRewards]]


@dataclass(frozen=True)
class RolloutReward:
    """What one rollout is worth; ``reward`` None is missing, and ``error`` says why."""

    reward: float | None
    error: str | None = None


@dataclass(eq=False)
class Sibling:
    """One rollout of a prompt, and what becomes of it."""

    rollout: Answer
    outcome: asyncio.Future[RolloutReward]
    is_waited_for: bool = True
    """Whether a client is there to take the reward."""


@dataclass(eq=False)
class Gathering:
    """The rollouts of one prompt so far."""

    n: int
    judge: Judge
    siblings: list[Sibling] = field(default_factory=list)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def stop_waiting(self) -> None:
        """Cancel what was to happen if no further rollout came."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


class Gatherer:
    """Groups rollouts by a key until ``n`` are there, or no further one has come for ``timeout_s``."""

    def __init__(self, timeout_s: float, say: Callable[[str], None], tell_after_s: float = TELL_AFTER_S) -> None:
        self._timeout_s, self._say, self._tell_after_s = timeout_s, say, tell_after_s
        self._tell_again = 0.0
        self._open: dict[Hashable, Gathering] = {}
        self._judged: dict[Hashable, list[Gathering]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Rollouts that wait for their siblings."""
        return sum(len(gathering.siblings) for gathering in self._open.values())

    async def reward(self, key: Hashable, n: int, rollout: Answer, judge: Judge) -> RolloutReward:
        """Return the reward of one rollout of a group of n, once the group is judged.

        A client that goes away (cancels) before that takes its rollout out of the group; while the group is being
        judged, the same rollout asked again takes its place. Raises InputError where siblings have another n.
        """
        sibling = self._left_behind(key, rollout) or self._join(key, n, rollout, judge)
        try:
            outcome = await asyncio.shield(sibling.outcome)
        except asyncio.CancelledError:
            self._leave(key, sibling)
            raise
        self._forget(key)
        return outcome

    def _left_behind(self, key: Hashable, rollout: Answer) -> Sibling | None:
        for gathering in self._judged.get(key, ()):
            for sibling in gathering.siblings:
                if not sibling.is_waited_for and sibling.rollout.text == rollout.text:
                    sibling.is_waited_for = True
                    return sibling
        return None

    def _join(self, key: Hashable, n: int, rollout: Answer, judge: Judge) -> Sibling:
        loop = asyncio.get_running_loop()
        gathering = self._open.setdefault(key, Gathering(n, judge))
        if gathering.n != n:
            raise InputError(
                f"a group of {counted(n, 'rollout')}, and its siblings are said to be {gathering.n}",
                "send one n per group",
            )
        sibling = Sibling(rollout, loop.create_future())
        gathering.siblings.append(sibling)
        gathering.stop_waiting()
        if len(gathering.siblings) == n:
            self._begin(key)
        else:
            gathering.timers = [
                loop.call_later(self._timeout_s, self._begin, key),
                loop.call_later(self._tell_after_s, self._tell_waiting, key),
            ]
        return sibling

    def _tell_waiting(self, key: Hashable) -> None:
        """Say that a group waits, of all that wait one at a time."""
        now = asyncio.get_running_loop().time()
        if now >= self._tell_again:
            self._tell_again = now + self._tell_after_s
            gathering = self._open[key]
            uid = key[0] if isinstance(key, tuple) else key
            self._say(
                f"{len(gathering.siblings)} of {gathering.n} rollouts of prompt {uid} came, waiting for the others "
                f"(waiting in all: {self.waiting}; is rollout.n the trainer's number?)"
            )

    def _leave(self, key: Hashable, sibling: Sibling) -> None:
        sibling.is_waited_for = False
        gathering = self._open.get(key)
        if gathering is None or sibling not in gathering.siblings:
            self._forget(key)
            return
        gathering.siblings.remove(sibling)
        if not gathering.siblings:
            gathering.stop_waiting()
            del self._open[key]

    def _begin(self, key: Hashable) -> None:
        """Have a group judged, as many of it as there are."""
        gathering = self._open.pop(key)
        gathering.stop_waiting()
        self._judged.setdefault(key, []).append(gathering)
        task = asyncio.create_task(self._judge(key, gathering))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _judge(self, key: Hashable, gathering: Gathering) -> None:
        # in an order of their own, whichever came first: the same rollouts are the same requests after a restart
        siblings = sorted(gathering.siblings, key=lambda sibling: sibling.rollout.text)
        came = (
            f"{len(siblings)} of {gathering.n} rollouts of a prompt came, and no further one in {self._timeout_s:g} s"
        )
        try:
            if len(siblings) < 2:
                judged = GroupRewards(None, f"{came}; a group is judged together")
                self._say(f"{came}: it gets no reward")
            else:
                if len(siblings) < gathering.n:
                    self._say(f"{came}: they are judged without the others")
                judged = await gathering.judge([sibling.rollout for sibling in siblings])
        except Exception as fault:
            self._settle(siblings, [fault] * len(siblings))
        else:
            rewards = judged.rewards or (None,) * len(siblings)
            why = judged.error or "the rollout has no reward of its own"
            self._settle(siblings, [RolloutReward(one, why if one is None else None) for one in rewards])
        if not any(
            sibling.outcome.exception() is None and sibling.outcome.result().reward is not None for sibling in siblings
        ):
            for sibling in siblings:  # whoever asks again is judged anew
                sibling.is_waited_for = True
        self._forget(key)

    def _settle(self, siblings: Sequence[Sibling], outcomes: Sequence[RolloutReward | Exception]) -> None:
        for sibling, outcome in zip(siblings, outcomes, strict=True):
            if isinstance(outcome, Exception):
                sibling.outcome.set_exception(outcome)
                sibling.outcome.exception()  # never "was not retrieved"
            else:
                sibling.outcome.set_result(outcome)

    def _forget(self, key: Hashable) -> None:
        """Drop judged groups whose rewards were all taken, and the oldest of the others."""
        kept = [
            gathering
            for gathering in self._judged.pop(key, [])
            if any(not sibling.outcome.done() or not sibling.is_waited_for for sibling in gathering.siblings)
        ]
        if kept:
            self._judged[key] = kept
        while len(self._judged) > KEPT:
            del self._judged[next(iter(self._judged))]

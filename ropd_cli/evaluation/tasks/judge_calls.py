"""Calls to a judge: which failures cost one sample its score, and which end the evaluation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import RopdError
from ropd_cli.evaluation.samples import Sample
from ropd_cli.records.schemas import Answer, Group
from ropd_cli.stages.runner import ENDPOINT_ERRORS, GIVE_UP_AFTER, RECORD_ERRORS, STOPS

V = TypeVar("V")


class Judging:
    """Makes the calls about one sample at once, and remembers whether the judge has ever answered."""

    def __init__(self) -> None:
        self._has_answered = False
        self._lost = 0

    async def outcomes(self, calls: Sequence[Callable[[], Awaitable[V]]]) -> list[V | RopdError]:
        """What the calls came to, in order; one that failed has its error in its place.

        All calls are finished first: they are paid for. Then raises what makes going on pointless: the limit of costs,
        an endpoint that has stopped, a missing key, and an endpoint that served none of the first ``GIVE_UP_AFTER``
        samples.
        """
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_attempt(call)) for call in calls]
        found = [task.result() for task in running]
        faults = [each for each in found if isinstance(each, RopdError)]
        for fault in faults:
            if isinstance(fault, STOPS) or not isinstance(fault, RECORD_ERRORS):
                raise fault
        self._has_answered = self._has_answered or len(faults) < len(found)
        if not self._has_answered and any(isinstance(fault, ENDPOINT_ERRORS) for fault in faults):
            self._lost += 1
            if self._lost >= GIVE_UP_AFTER:
                raise faults[0]
        return found


async def _attempt(call: Callable[[], Awaitable[V]]) -> V | RopdError:
    try:
        return await call()
    except RopdError as fault:
        return fault


def group_of(question: EvalQuestion, sample: Sample) -> Group:
    """A question and its one answer, as judges are shown it."""
    answer = Answer(text=sample.text, finish_reason=sample.finish_reason)
    return Group(uid=question.id, prompt=question.messages, raw_prompt_hash="", rollouts=(answer,))


def kinds_of(faults: Sequence[RopdError]) -> str:
    """The kinds of errors, without their messages: these may quote a reply, and so a question."""
    return ", ".join(sorted({type(fault).__name__ for fault in faults}))

"""Several calls at once about one record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ropd_cli.errors import AccountEnded, CostLimit, ProviderDown, ProviderError, RopdError

STOPS = (AccountEnded, CostLimit, ProviderDown)
"""Errors after which no further call makes sense: nothing new is begun, what is under way is finished, and no record
counts as failed."""

V = TypeVar("V")


async def all_of(calls: Sequence[Callable[[], Awaitable[V]]], *, partial: bool) -> list[V | RopdError]:
    """Make several calls about one record at once, and return their results in order.

    With ``partial`` a call that failed has its error in its place, unless all failed. Else, and where no further
    call makes sense, the first error is raised, when all calls are over: their replies are paid for, and kept.
    """
    if len(calls) == 1:
        return [await calls[0]()]

    async def attempt(call: Callable[[], Awaitable[V]]) -> V | RopdError:
        try:
            return await call()
        except (ProviderError, CostLimit) as fault:
            return fault

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(attempt(call)) for call in calls]
    outcomes = [task.result() for task in running]
    faults = [outcome for outcome in outcomes if isinstance(outcome, RopdError)]
    stops = [fault for fault in faults if isinstance(fault, STOPS)]
    if stops or (faults and (not partial or len(faults) == len(calls))):
        raise (stops or faults)[0]
    return outcomes

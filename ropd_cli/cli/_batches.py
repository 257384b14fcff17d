"""``ropd teacher-gen --batch-api``: the answers by way of the Batch API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import dollars

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.batch import Standing
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.stages.runner import Tally
    from ropd_cli.stages.teacher import Grader, TeacherCount, TeacherFiles, Wanted
    from ropd_cli.util.progress import Progress


def check_batches(endpoints: Sequence[EndpointConfig], cache: ReplyCache | None) -> None:
    """Raise InputError where batches can't be used."""
    from ropd_cli.errors import InputError
    from ropd_cli.llm.urls import BUILTIN, base_url

    if cache is None:
        raise InputError("--batch-api needs the cache: batches fill it", "leave --no-cache out")
    for endpoint in endpoints:
        url = base_url(endpoint)
        if url.startswith(BUILTIN):
            raise InputError(f"{url} has no Batch API", "leave --batch-api out")
        if endpoint.api == "azure":
            raise InputError("--batch-api does not know Azure's batches", "leave --batch-api out")


def at_batch_prices(settings: RopdConfig) -> RopdConfig:
    """Return the configuration with the prices that requests of a batch have."""
    prices = {}
    for name, price in settings.prices.items():
        known = {key: getattr(price, key) for key in ("input", "cached_input", "output")}
        lower = {key: value * price.batch_factor for key, value in known.items() if value is not None}
        prices[name] = price.model_copy(update=lower)
    return settings.model_copy(update={"prices": prices})


async def run_batches(
    settings: RopdConfig,
    endpoints: Sequence[EndpointConfig],
    cache: ReplyCache,
    files: TeacherFiles,
    wanted: Wanted,
    *,
    grader: Grader | None,
    counts: Sequence[TeacherCount],
    stats: Sequence[ClientStats],
    wait: bool,
    poll_s: float,
    max_failed_fraction: float | None,
    progress: Progress,
) -> Tally | Standing:
    """Run rounds of batches, and then the stage over their replies, which lie in the cache; return a Standing where
    some batches are still running. ``counts`` and ``stats`` have one entry per teacher and are filled."""
    from ropd_cli.llm.batch import BatchFiller, BatchState, state_path
    from ropd_cli.llm.batch.api import BatchApi
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.llm.money import Budget
    from ropd_cli.stages.teacher import Collected, Teacher, fill_by_batches, teacher_gen

    teachers = [Teacher(endpoint) for endpoint in endpoints]
    state = BatchState(state_path(files.out))
    budget = Budget(settings.prices, settings.max_cost, state.spent_usd)
    async with AsyncExitStack() as stack:
        fillers = []
        for endpoint, one in zip(endpoints, stats, strict=True):
            api = await stack.enter_async_context(BatchApi(endpoint))
            fillers.append(BatchFiller(endpoint, api, cache, state, budget, one, progress.note))
        standing = await fill_by_batches(
            files,
            fillers,
            wanted,
            teachers,
            cache,
            state,
            grader=grader,
            wait=wait,
            poll_s=poll_s,
            progress=progress,
        )
    if standing.running:
        return standing
    return await teacher_gen(
        files,
        [ChatClient.open(endpoint, cache=cache) for endpoint in endpoints],
        wanted,
        grader=grader,
        counts=counts,
        source=Collected(cache, teachers, state.refused.get),
        max_failed_fraction=max_failed_fraction,
        progress=progress,
    )


def print_standing(screen: Screen, standing: Standing, files: TeacherFiles) -> None:
    """Print how the batches stand."""
    from ropd_cli.llm.batch import BatchState, state_path

    state = BatchState(state_path(files.out))
    words = ", ".join(f"{count} {status}" for status, count in sorted(standing.statuses.items())) or "submitted"
    spent = f"; {dollars(state.spent_usd)} spent" if state.spent_usd else ""
    document = {
        "out": str(files.out),
        "running": standing.running,
        "running_done": standing.running_done,
        "batches": state.document(),
        "state": str(state.path),
    }
    screen.result(
        document,
        f"{standing.running} requests are under way in batches ({words}), {standing.running_done} of them answered"
        f"{spent}\nthe same command collects them",
    )

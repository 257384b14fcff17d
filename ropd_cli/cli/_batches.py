"""``ropd teacher-gen --batch-api``: the answers by way of the Batch API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import dollars
from ropd_cli.llm.batch.state import BatchShown
from ropd_cli.util.counted import counted

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.batch import BatchState, Standing
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.stages.teacher import TeacherFiles, Wanted
    from ropd_cli.stages.teacher.collect import ReplySource


class UnderWay(TypedDict):
    """With ``--batch-api`` where batches are not finished."""

    out: str
    running: int
    """Requests in unfinished batches."""
    running_done: int
    """Those of them that are answered."""
    batches: list[BatchShown]
    state: str
    """File that remembers the batches."""


def check_batches(endpoints: Sequence[EndpointConfig], cache: ReplyCache | None) -> None:
    """Raise InputError where batches can't be used."""
    from ropd_cli.config.masking import shown_url
    from ropd_cli.errors import InputError
    from ropd_cli.llm.urls import BUILTIN, base_url

    if cache is None:
        raise InputError("--batch-api needs the cache: batches fill it", "leave --no-cache out")
    for endpoint in endpoints:
        url = base_url(endpoint)
        if url.startswith(BUILTIN):
            raise InputError(f"{shown_url(url)} has no Batch API", "leave --batch-api out")
        if endpoint.api == "azure":
            raise InputError("--batch-api does not know Azure's batches", "leave --batch-api out")


def at_batch_prices(settings: RopdConfig, endpoints: Sequence[EndpointConfig]) -> RopdConfig:
    """Return the configuration with the prices that requests of a batch have."""
    from ropd_cli.llm.list_prices import list_price
    from ropd_cli.llm.urls import base_url

    listed = {str(each.model): list_price(str(each.model), base_url(each)) for each in endpoints}
    prices = {}
    for name, price in ({name: one for name, one in listed.items() if one is not None} | settings.prices).items():
        known = {key: getattr(price, key) for key in ("input", "cached_input", "output")}
        lower = {key: value * price.batch_factor for key, value in known.items() if value is not None}
        prices[name] = price.model_copy(update=lower)
    return settings.model_copy(update={"prices": prices})


async def fill_cache(
    screen: Screen,
    settings: RopdConfig,
    endpoints: Sequence[EndpointConfig],
    cache: ReplyCache,
    files: TeacherFiles,
    wanted: Wanted,
    stats: Sequence[ClientStats],
    *,
    wait: bool,
    poll_s: float,
) -> ReplySource | None:
    """Run rounds of batches until their replies lie in the cache, and return these; None, after printing how they
    stand, where some batches are still running. ``stats`` has one entry per teacher and is filled."""
    from ropd_cli.llm.batch import BatchFiller, BatchState, state_path
    from ropd_cli.llm.batch.api import BatchApi
    from ropd_cli.llm.money import Budget
    from ropd_cli.stages.teacher import Teacher, collected, fill_by_batches

    teachers = [Teacher(endpoint) for endpoint in endpoints]
    state = BatchState(state_path(files.out))
    budget = Budget(settings.prices, settings.max_cost, state.spent_usd)
    progress = screen.progress()
    async with AsyncExitStack() as stack:
        fillers = []
        for endpoint, one in zip(endpoints, stats, strict=True):
            api = await stack.enter_async_context(BatchApi(endpoint))
            fillers.append(BatchFiller(endpoint, api, cache, state, budget, one, progress.note))
        standing = await fill_by_batches(
            files, fillers, wanted, teachers, cache, state, wait=wait, poll_s=poll_s, progress=progress
        )
    if standing.running:
        _print_standing(screen, standing, state, files)
        return None
    return collected(cache, teachers, state.refused.get)


def _print_standing(screen: Screen, standing: Standing, state: BatchState, files: TeacherFiles) -> None:
    """Print how the batches stand."""
    words = ", ".join(f"{count} {status}" for status, count in sorted(standing.statuses.items())) or "submitted"
    spent = f"; {dollars(state.spent_usd)} spent" if state.spent_usd else ""
    document = UnderWay(
        out=str(files.out),
        running=standing.running,
        running_done=standing.running_done,
        batches=state.document(),
        state=str(state.path),
    )
    screen.result(
        document,
        f"under way in batches: {counted(standing.running, 'request')} ({words}), {standing.running_done} of "
        f"them answered{spent}\nthe same command collects them",
    )

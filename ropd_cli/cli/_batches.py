"""``ropd teacher-gen --batch-api``: the answers by way of the Batch API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import dollars

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.batch import BatchState, Standing
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.llm.costs import Budget
    from ropd_cli.progress import Progress
    from ropd_cli.stage_run import Tally
    from ropd_cli.stages.teacher import Grader, TeacherCount, TeacherFiles, Wanted


def check_batches(endpoints: Sequence[EndpointConfig], cache: ReplyCache | None) -> None:
    """Raises InputError where batches can't be used."""
    from ropd_cli.errors import InputError
    from ropd_cli.llm.endpoints import BUILTIN, base_urls

    if cache is None:
        raise InputError("--batch-api needs the cache: batches fill it", "leave --no-cache out")
    for endpoint in endpoints:
        urls = base_urls(endpoint)
        if urls[0].startswith(BUILTIN):
            raise InputError(f"{urls[0]} has no Batch API", "leave --batch-api out")
        if len(urls) > 1:
            raise InputError("--batch-api: several servers for one teacher", "name the one that takes the batches")


def by_batches(
    screen: Screen,
    settings: RopdConfig,
    files: TeacherFiles,
    endpoints: Sequence[EndpointConfig],
    wanted: Wanted,
    cache: ReplyCache,
    counts: Sequence[TeacherCount],
    stats: Sequence[ClientStats],
    *,
    grader: Grader | None,
    wait: bool,
    poll_s: float,
    max_failed_fraction: float | None,
) -> Tally | None:
    """Answers from batches; None where some are still under way and are not waited for, which is said."""
    from ropd_cli.llm.batch import BatchState, state_path

    state = BatchState(state_path(files.out))
    progress = screen.progress()

    async def work() -> Tally | Standing:
        async with AsyncExitStack() as stack:
            if grader is not None:
                await stack.enter_async_context(grader)  # type: ignore[arg-type]  # a MathGrader is one
            return await _rounds(
                stack, settings, files, endpoints, wanted, cache, counts, stats, state, progress,
                grader=grader, wait=wait, poll_s=poll_s, max_failed_fraction=max_failed_fraction,
            )  # fmt: skip

    outcome = screen.run(work())
    from ropd_cli.llm.batch import Standing

    if not isinstance(outcome, Standing):
        return outcome
    _say_running(screen, outcome, state, files)
    return None


async def _rounds(
    stack: AsyncExitStack,
    settings: RopdConfig,
    files: TeacherFiles,
    endpoints: Sequence[EndpointConfig],
    wanted: Wanted,
    cache: ReplyCache,
    counts: Sequence[TeacherCount],
    stats: Sequence[ClientStats],
    state: BatchState,
    progress: Progress,
    *,
    grader: Grader | None,
    wait: bool,
    poll_s: float,
    max_failed_fraction: float | None,
) -> Tally | Standing:
    from ropd_cli.llm.batch import BatchFiller
    from ropd_cli.llm.batch.api import BatchApi
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.stages.teacher import Collected, Teacher, fill_by_batches, teacher_gen

    budget = _budget(settings, state.spent_usd)
    teachers = [Teacher(endpoint) for endpoint in endpoints]
    fillers = []
    for endpoint, one in zip(endpoints, stats, strict=True):
        api = await stack.enter_async_context(BatchApi(endpoint))
        fillers.append(BatchFiller(endpoint, api, cache, state, budget, one, progress.note))
    standing = await fill_by_batches(
        files, fillers, wanted, teachers, cache, state, grader=grader, wait=wait, poll_s=poll_s, progress=progress
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


def _budget(settings: RopdConfig, spent_usd: float) -> Budget:
    """The money of the run, at the prices of batches."""
    from ropd_cli.llm.costs import Budget

    prices = {
        name: price.model_copy(
            update={
                key: getattr(price, key) * price.batch_factor
                for key in ("input", "cached_input", "output")
                if getattr(price, key) is not None
            }
        )
        for name, price in settings.prices.items()
    }
    return Budget(prices, settings.max_cost, spent_usd)


def _say_running(screen: Screen, standing: Standing, state: BatchState, files: TeacherFiles) -> None:
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

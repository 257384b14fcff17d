"""``ropd teacher-gen --batch-api``: the answers by way of the Batch API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeGuard

from ropd_cli.cli._screen import Screen
from ropd_cli.cli._stages import dollars

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.batch import Standing
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.stages.runner import Tally
    from ropd_cli.stages.teacher import Grader, TeacherFiles, Wanted
    from ropd_cli.util.progress import Progress


def check_batches(endpoints: Sequence[EndpointConfig], cache: ReplyCache | None) -> None:
    """Raises InputError where batches can't be used."""
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
    """The configuration with the prices that requests of a batch have."""
    prices = {}
    for name, price in settings.prices.items():
        known = {key: getattr(price, key) for key in ("input", "cached_input", "output")}
        paid = {key: value * price.batch_factor for key, value in known.items() if value is not None}
        prices[name] = price.model_copy(update=paid)
    return settings.model_copy(update={"prices": prices})


class Batching:
    """One run of teacher-gen by way of batches. ``stats`` and ``counts`` have one entry a teacher."""

    def __init__(
        self,
        settings: RopdConfig,
        endpoints: Sequence[EndpointConfig],
        cache: ReplyCache,
        *,
        wait: bool,
        poll_s: float,
    ) -> None:
        from ropd_cli.llm.chat import ClientStats
        from ropd_cli.stages.teacher import Teacher, TeacherCount

        self._settings, self._endpoints, self._cache = settings, endpoints, cache
        self._wait, self._poll_s = wait, poll_s
        self._teachers = [Teacher(endpoint) for endpoint in endpoints]
        self.stats = [ClientStats() for _ in endpoints]
        self.counts = [TeacherCount(teacher.model, teacher.shown) for teacher in self._teachers]

    async def run(
        self,
        stack: AsyncExitStack,
        files: TeacherFiles,
        wanted: Wanted,
        *,
        grader: Grader | None,
        max_failed_fraction: float | None,
        progress: Progress,
    ) -> Tally | Standing:
        """Rounds of batches, and the stage over what they brought; a Standing where some are still under way."""
        from ropd_cli.llm.batch import BatchFiller, BatchState, state_path
        from ropd_cli.llm.batch.api import BatchApi
        from ropd_cli.llm.client import ChatClient
        from ropd_cli.llm.money import Budget
        from ropd_cli.stages.teacher import Collected, fill_by_batches, teacher_gen

        state = BatchState(state_path(files.out))
        budget = Budget(self._settings.prices, self._settings.max_cost, state.spent_usd)
        fillers = []
        for endpoint, stats in zip(self._endpoints, self.stats, strict=True):
            api = await stack.enter_async_context(BatchApi(endpoint))
            fillers.append(BatchFiller(endpoint, api, self._cache, state, budget, stats, progress.note))
        standing = await fill_by_batches(
            files,
            fillers,
            wanted,
            self._teachers,
            self._cache,
            state,
            grader=grader,
            wait=self._wait,
            poll_s=self._poll_s,
            progress=progress,
        )
        if standing.running:
            return standing
        return await teacher_gen(
            files,
            [ChatClient.open(endpoint, cache=self._cache) for endpoint in self._endpoints],
            wanted,
            grader=grader,
            counts=self.counts,
            source=Collected(self._cache, self._teachers, state.refused.get),
            max_failed_fraction=max_failed_fraction,
            progress=progress,
        )

    def is_running(self, outcome: Tally | Standing) -> TypeGuard[Standing]:
        """Whether batches are still under way."""
        from ropd_cli.llm.batch import Standing

        return isinstance(outcome, Standing)

    def say_running(self, screen: Screen, standing: Standing, files: TeacherFiles) -> None:
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

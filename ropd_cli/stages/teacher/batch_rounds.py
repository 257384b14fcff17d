"""Rounds of batches: what the prompts lack is handed over, collected into the cache, and looked at again, until
nothing is lacking; the stage then reads the cache alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ropd_cli.errors import BatchRefused, ProviderRefused
from ropd_cli.llm.batch import BatchFiller, BatchState, Standing
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatReply, ChatRequest
from ropd_cli.llm.urls import base_url
from ropd_cli.stages.teacher.collect import CachedReplies, RepliesMissing, ReplySource, Requests
from ropd_cli.stages.teacher.generate import pending
from ropd_cli.stages.teacher.request import Teacher, TeacherFiles, Wanted
from ropd_cli.util.progress import Progress


async def fill_by_batches(
    files: TeacherFiles,
    fillers: Sequence[BatchFiller],
    wanted: Wanted,
    teachers: Sequence[Teacher],
    cache: ReplyCache,
    state: BatchState,
    *,
    wait: bool,
    poll_s: float,
    progress: Progress,
) -> Standing:
    """Batches, one a teacher and round, until the cache holds all that the prompts need, or all that is to be had.

    Without ``wait`` it returns when requests are under way (``Standing.running``); the same call later goes on.
    Raises ProviderRefused where a server refuses a whole batch.
    """
    if not state.open:
        state.forget_refusals()
    total = Standing()
    waiting = _Waiting(progress)
    try:
        while True:
            standing = Standing(submitted=total.submitted, collected=total.collected)
            for filler in fillers:
                await filler.resume()
                await filler.look(standing)
            total = standing
            if standing.failed:
                raise ProviderRefused("; ".join(standing.failed), "the same command hands the requests over again")
            if standing.running:
                waiting.show(standing)
                if not wait:
                    return standing
                await asyncio.sleep(poll_s)
                continue
            asked: list[list[ChatRequest]] = [[] for _ in fillers]
            async for place, request in pending(files, teachers, wanted, cache, with_cached=False):
                asked[place].append(request)
            handed = [await filler.submit(requests) for filler, requests in zip(fillers, asked, strict=True)]
            if not sum(handed):
                return standing
            standing.submitted += sum(handed)
            if not wait:
                standing.running = sum(handed)
                return standing
            await asyncio.sleep(min(poll_s, 1.0))
    finally:
        waiting.finish()


def collected(cache: ReplyCache, teachers: Sequence[Teacher], why: Callable[[str], str | None]) -> ReplySource:
    """Return a source of the replies that batches have brought. It raises BatchRefused for one that is not there:
    nothing is sent for it."""

    async def replies(asked: Requests) -> dict[int, list[ChatReply]]:
        source = CachedReplies(cache, teachers)
        try:
            return await source(asked)
        except RepliesMissing as fault:
            teacher, request = source.missing[0]
            key = cache_key(base_url(teachers[teacher].endpoint), request)
            raise BatchRefused(
                f"{request.model}: not answered by the batch: {why(key) or 'it is in none'}",
                "the same command hands it over again",
            ) from fault

    return replies


class _Waiting:
    """The requests of the batches that run, as progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._total = self._done = 0

    def show(self, standing: Standing) -> None:
        if standing.running != self._total:
            self._total, self._done = standing.running, 0
            self._progress.start(standing.running, "batch")
        step = standing.running_done - self._done
        if step > 0:
            self._progress.advance(step)
            self._done = standing.running_done

    def finish(self) -> None:
        if self._total:
            self._progress.finish()

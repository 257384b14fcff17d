"""What the commands of one stage share: the endpoints they ask, and what they say at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack, closing
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropd_cli.cli._screen import Screen, exit_partial

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.chat import ChatRequest, ClientStats
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.llm.cost_estimate import Forecast
    from ropd_cli.stages.runner import Tally
    from ropd_cli.util.progress import Progress

Stage = Callable[[Sequence["ChatClient"], "Progress"], Awaitable["Tally"]]


def run_api_stage(
    screen: Screen,
    config: RopdConfig,
    section: str,
    stage: Callable[[ChatClient, Progress], Awaitable[Tally]],
    out: Path,
    *,
    requests: Callable[[EndpointConfig], Iterable[ChatRequest]],
    dry_run: bool,
    cached: bool,
    noun: str,
) -> None:
    """Run a stage at the endpoint of a configuration section ("teacher", "student.endpoint", …) and print how
    it went, in ``noun``s. Exit code 3 where some records failed. With ``dry_run`` only what ``requests`` it
    would send is counted."""
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.llm.cost_estimate import forecast
    from ropd_cli.llm.shared import Shared
    from ropd_cli.llm.urls import model_name

    endpoint = reduce(getattr, section.split("."), config)
    endpoint = endpoint.model_copy(update={"model": model_name(endpoint, section)})
    with ExitStack() as stack:
        cache = open_cache(stack, config, cached)
        if dry_run:
            found = forecast(requests(endpoint), endpoint, cache, Shared.of(config).budget)
            screen.result({"model": endpoint.model} | found.as_dict(), in_words(found, endpoint.model))
            return
        stats = ClientStats()
        tally = run_clients(screen, config, [endpoint], [stats], cache, lambda clients, bar: stage(clients[0], bar))
        report(screen, tally, out, noun, stats.as_dict())


def open_cache(stack: ExitStack, config: RopdConfig, cached: bool) -> ReplyCache | None:
    """The cache of a configuration, until ``stack`` is left; None without one."""
    from ropd_cli.llm.cache import ReplyCache

    return stack.enter_context(closing(ReplyCache.open(config.cache_dir, config.cache_max_gb))) if cached else None


def run_clients(
    screen: Screen,
    config: RopdConfig,
    endpoints: Sequence[EndpointConfig],
    stats: Sequence[ClientStats],
    cache: ReplyCache | None,
    stage: Stage,
) -> Tally:
    """Run a stage with clients of these endpoints, which count in ``stats``, under one progress bar."""
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.llm.shared import Shared
    from ropd_cli.llm.urls import base_url

    progress = Counted(screen.progress(lambda: so_far(stats, progress.share_done)))
    shared = Shared.of(config, progress.note)
    for endpoint in endpoints:
        shared.budget.price(endpoint.model, base_url(endpoint))  # a limit that can't be kept is said now

    async def work() -> Tally:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(ChatClient.open(endpoint, cache=cache, shared=shared, stats=one))
                for endpoint, one in zip(endpoints, stats, strict=True)
            ]
            return await stage(clients, progress)

    return screen.run(work())


class Counted:
    """A progress that knows how far it is."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._total = self._done = 0

    @property
    def share_done(self) -> float:
        """Of the work that was left at the start, in [0, 1]."""
        return self._done / self._total if self._total else 0.0

    def start(self, total: int, what: str) -> None:
        self._total, self._done = total, 0
        self._shown.start(total, what)

    def advance(self, n: int = 1, failed: int = 0) -> None:
        self._done += n
        self._shown.advance(n, failed)

    def note(self, text: str) -> None:
        self._shown.note(text)

    def finish(self) -> None:
        self._shown.finish()


def so_far(stats: Sequence[ClientStats], share_done: float) -> str:
    """Replies from the cache, retries, and the money: what is spent, and by it what the whole run will cost."""
    from ropd_cli.llm.chat import ClientStats

    total = ClientStats.total(stats)
    parts = [f"{total.cache_hits} cached"]
    if total.retries:
        parts.append(f"{total.retries} retries")
    if total.cost_usd:
        forecast = f" of about {dollars(total.cost_usd / share_done)}" if 0 < share_done < 1 else ""
        parts.append(f"{dollars(total.cost_usd)}{forecast}")
    return ", ".join(parts)


def in_words(found: Forecast, model: str) -> str:
    """A forecast as a line."""
    cost = "no price known, see prices in docs/configuration.md" if found.cost_usd is None else dollars(found.cost_usd)
    basis = "as the cached replies had" if found.measured else "estimated"
    return (
        f"{found.calls} calls to {model}, {found.cached} more are in the cache; about "
        f"{found.prompt_tokens:,} tokens of prompts and {found.completion_tokens:,} of replies ({basis}); {cost}"
    )


def dollars(usd: float) -> str:
    """An amount, small ones with more digits."""
    return f"${usd:.2f}" if usd >= 0.995 else f"${usd:.4f}"


def report(
    screen: Screen, tally: Tally, out: Path, noun: str, stats: dict[str, Any] | None = None, lines: Sequence[str] = ()
) -> None:
    """Print how a stage went, and ``lines`` below it; exit code 3 where some records failed."""
    from ropd_cli.records.files import failed_path

    document = {"out": str(out), "done": tally.done, "skipped": tally.skipped, "failed": tally.failed} | (stats or {})
    document["failed_file"] = str(failed_path(out)) if tally.failed else None
    screen.result(document, "\n".join([_sentence(document, noun), *lines]))
    exit_partial(tally.failed)


def _sentence(document: dict[str, Any], noun: str) -> str:
    parts = [f"{document['out']}: {document['done']} {noun} written"]
    if document["skipped"]:
        parts.append(f"{document['skipped']} already there")
    if document["failed"]:
        parts.append(f"{document['failed']} failed, see {document['failed_file']}")
    if "requests_sent" not in document:
        return ", ".join(parts)
    calls = f"{document['requests_sent']} requests sent, {document['cache_hits']} answers from the cache"
    if document["cost_usd"]:
        calls += f", {dollars(document['cost_usd'])}"
    return f"{', '.join(parts)} ({calls})"

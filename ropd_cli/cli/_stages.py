"""What the commands of one stage share: the endpoint they ask, and what they say at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack, closing
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropd_cli.cli._screen import Screen, exit_partial

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.chat import ChatRequest, ClientStats
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.llm.shared import Shared
    from ropd_cli.progress import Progress
    from ropd_cli.stage_run import Tally


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
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.llm.endpoints import base_url, model_name
    from ropd_cli.llm.shared import Shared

    endpoint = reduce(getattr, section.split("."), config)
    endpoint = endpoint.model_copy(update={"model": model_name(endpoint, section)})
    with ExitStack() as stack:
        cache = None
        if cached:
            cache = stack.enter_context(closing(ReplyCache.open(config.cache_dir, config.cache_max_gb)))
        if dry_run:
            _forecast(screen, Shared.of(config), requests(endpoint), endpoint, cache)
            return
        stats = ClientStats()
        progress = screen.progress(lambda: _so_far(stats))
        shared = Shared.of(config, progress.note)
        shared.budget.price(endpoint.model, base_url(endpoint))  # a limit that can't be kept is said now

        async def work() -> Tally:
            async with ChatClient.open(endpoint, cache=cache, shared=shared, stats=stats) as client:
                return await stage(client, progress)

        tally = screen.run(work())
        report(screen, tally, out, noun, stats.as_dict())


def _so_far(stats: ClientStats) -> str:
    parts = [f"{stats.cache_hits} cached"]
    if stats.retries:
        parts.append(f"{stats.retries} retries")
    if stats.cost_usd:
        parts.append(_dollars(stats.cost_usd))
    return ", ".join(parts)


def _forecast(
    screen: Screen,
    shared: Shared,
    requests: Iterable[ChatRequest],
    endpoint: EndpointConfig,
    cache: ReplyCache | None,
) -> None:
    from ropd_cli.llm.forecast import forecast

    found = forecast(requests, endpoint, cache, shared.budget)
    document = {"model": endpoint.model} | found.as_dict()
    cost = "no price known, see prices in docs/configuration.md" if found.cost_usd is None else _dollars(found.cost_usd)
    basis = "as the cached replies had" if found.measured else "estimated"
    screen.result(
        document,
        f"{found.calls} calls to {endpoint.model}, {found.cached} more are in the cache; about "
        f"{found.prompt_tokens:,} tokens of prompts and {found.completion_tokens:,} of replies ({basis}); {cost}",
    )


def _dollars(usd: float) -> str:
    return f"${usd:.2f}" if usd >= 0.995 else f"${usd:.4f}"


def report(screen: Screen, tally: Tally, out: Path, noun: str, stats: dict[str, Any] | None = None) -> None:
    """Print how a stage went; exit code 3 where some records failed."""
    from ropd_cli.artifacts import failed_path

    document = {"out": str(out), "done": tally.done, "skipped": tally.skipped, "failed": tally.failed} | (stats or {})
    document["failed_file"] = str(failed_path(out)) if tally.failed else None
    screen.result(document, _sentence(document, noun))
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
        calls += f", {_dollars(document['cost_usd'])}"
    return f"{', '.join(parts)} ({calls})"

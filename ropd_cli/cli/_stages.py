"""What the commands of one stage share: the endpoint they ask, and what they say at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropd_cli.cli._screen import Screen, exit_partial

if TYPE_CHECKING:
    from ropd_cli.config import RopdConfig
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.progress import Progress
    from ropd_cli.stage_run import Tally


def run_api_stage(
    screen: Screen,
    config: RopdConfig,
    section: str,
    stage: Callable[[ChatClient, Progress], Awaitable[Tally]],
    out: Path,
    *,
    cached: bool,
    noun: str,
) -> None:
    """Run a stage at the endpoint of a configuration section ("teacher", "student.endpoint", …) and print how
    it went, in ``noun``s. Exit code 3 where some records failed."""
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.llm.endpoints import model_name

    endpoint = reduce(getattr, section.split("."), config)
    endpoint = endpoint.model_copy(update={"model": model_name(endpoint, section)})

    async def work() -> tuple[Tally, dict[str, Any]]:
        with ExitStack() as stack:
            cache = stack.enter_context(closing(ReplyCache.open(config.cache_dir))) if cached else None
            async with ChatClient.open(endpoint, cache=cache) as client:
                tally = await stage(client, screen.progress(lambda: f"{client.stats.cache_hits} cached"))
                return tally, client.stats.as_dict()

    tally, stats = screen.run(work())
    report(screen, tally, out, noun, stats)


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
    return f"{', '.join(parts)} ({calls})"

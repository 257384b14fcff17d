"""What ``ropd rubricate`` and ``ropd verify`` share: the endpoint they ask, and what they say at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropd_cli.cli._screen import Screen, exit_partial

if TYPE_CHECKING:
    from ropd_cli.config import RopdConfig
    from ropd_cli.llm.client import ChatClient
    from ropd_cli.progress import Progress
    from ropd_cli.stage_run import Tally


def run_judge(
    screen: Screen,
    config: RopdConfig,
    section: str,
    stage: Callable[[ChatClient, Progress], Awaitable[Tally]],
    out: Path,
    *,
    cached: bool,
) -> None:
    """Run a judging stage at the endpoint of ``section`` ("rubricator" or "verifier") and print how it went.

    Exit code 3 where some groups failed.
    """
    from ropd_cli.artifacts import failed_path
    from ropd_cli.errors import InputError
    from ropd_cli.llm.cache import ReplyCache
    from ropd_cli.llm.client import ChatClient

    endpoint = getattr(config, section)
    if endpoint.model is None:
        raise InputError(
            f"no model for the {section}", f"give --model, set {section}.model, or ROPD_{section.upper()}_MODEL"
        )

    async def work() -> tuple[Tally, dict[str, Any]]:
        with ExitStack() as stack:
            cache = stack.enter_context(closing(ReplyCache.open(config.cache_dir))) if cached else None
            async with ChatClient.open(endpoint, cache=cache) as client:
                tally = await stage(client, screen.progress(lambda: f"{client.stats.cache_hits} cached"))
                return tally, client.stats.as_dict()

    tally, stats = screen.run(work())
    document = {"out": str(out), "done": tally.done, "skipped": tally.skipped, "failed": tally.failed} | stats
    document["failed_file"] = str(failed_path(out)) if tally.failed else None
    screen.result(document, _sentence(document))
    exit_partial(tally.failed)


def _sentence(document: dict[str, Any]) -> str:
    parts = [f"{document['out']}: {document['done']} groups written"]
    if document["skipped"]:
        parts.append(f"{document['skipped']} already there")
    if document["failed"]:
        parts.append(f"{document['failed']} failed, see {document['failed_file']}")
    calls = f"{document['requests_sent']} requests sent, {document['cache_hits']} answers from the cache"
    return f"{', '.join(parts)} ({calls})"

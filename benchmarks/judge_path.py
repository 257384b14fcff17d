"""How much the judge path costs beside a bare HTTP loop that sends and receives the same.

    python benchmarks/judge_path.py                    # ratios at 0 and 200 ms of server latency
    python benchmarks/judge_path.py --memory 20000     # resident memory over so many groups

The bare loop: aiohttp, orjson, the same two requests a group from texts made before, the replies parsed and thrown
away. Ours: ``Rubricator`` and ``Verifier`` with a ``ChatClient`` and a cache on disk, which lay out the block,
make schemas, keys and requests, check the replies, keep them and compute scores. Both have 128 groups at once and
run in turns in one process on one core against a judge server in another process on another core; medians over
the pairs. The time of ours ends when the cache is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from judge_material import Texts, endpoint, machine, median, rss_mb, rubric_record, show, table
from judge_server import running

from ropd_cli.config import EndpointConfig, JudgeConfig
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.client import ChatClient
from ropd_cli.method.prompts import Templates
from ropd_cli.records.schemas import Group
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.verifier import Verifier

AT_ONCE = 128
LOOKS = 40
"""At memory, between two points."""
Bodies = tuple[dict[str, Any], dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """One run: ``groups`` of them took ``wall_s`` and ``cpu_s`` of this process's time (all threads)."""

    groups: int
    wall_s: float
    cpu_s: float

    @property
    def per_second(self) -> float:
        return self.groups / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Of one group."""
        return 1000 * self.cpu_s / self.groups


async def at_once(items: Iterable[Any], work: Callable[[Any], Awaitable[None]]) -> None:
    """``work`` on every item, 128 under way."""
    shared = iter(items)

    async def worker() -> None:
        for item in shared:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


async def bare(url: str, bodies: list[Bodies]) -> None:
    """The loop to compare with. It takes the bodies out of their list, so that their memory comes back as ours does."""
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def work(pair: Bodies) -> None:
            for body in pair:
                async with session.post(f"{url}/chat/completions", data=orjson.dumps(body)) as response:
                    orjson.loads(await response.read())

        await at_once((bodies.pop() for _ in range(len(bodies))), work)


def judges(model: ChatClient | EndpointConfig) -> tuple[Rubricator, Verifier]:
    """Both judges, with the defaults."""
    settings, templates = JudgeConfig(), Templates.load()
    return Rubricator(model, settings, templates), Verifier(model, settings, templates)


async def ours(url: str, groups: Iterable[Group], cache_dir: str) -> None:
    """The judge path."""
    cache = ReplyCache.open(cache_dir)
    try:
        async with ChatClient.open(endpoint(url, AT_ONCE), cache=cache, environ={}) as client:
            rubricator, verifier = judges(client)

            async def work(group: Group) -> None:
                block = rubricator.block(group)  # once for both, as training does
                rubric = await rubricator.rubric(group, block=block)
                record = await verifier.verdicts(group, rubric, block=block)
                if None in record.rewards:
                    raise SystemExit(f"group {group.uid} has no rewards")

            await at_once(groups, work)
            if client.stats.cache_hits or client.stats.retries:
                raise SystemExit(f"not what was to be measured: {client.stats}")
    finally:
        cache.close()


def same_requests(group: Group, rubricator: Rubricator, verifier: Verifier) -> Bodies:
    """What ours sends for a group, as the bare loop's documents."""
    bodies = []
    (rubric,) = rubricator.requests(group)
    (verdicts,) = verifier.requests(group, rubric_record(group))
    for request in (rubric.request, *verdicts.requests):
        schema = {"name": request.form.name, "strict": True, "schema": request.form.body}
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        form = {"type": "json_schema", "json_schema": schema}
        bodies.append({"model": request.model, "messages": messages, "response_format": form})
    return bodies[0], bodies[1]


def timed(work: Awaitable[None], groups: int) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(work)
    return Run(groups, time.perf_counter() - wall, time.process_time() - cpu)


def own_core() -> list[str]:
    """Keep this process (all its threads) on one core; the server's options that keep it on another.

    Left to itself the scheduler puts client and server on one core now and then, for seconds.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return []
    os.sched_setaffinity(0, cores[:1])
    return ["--cpu", str(cores[1])]


def compare(latency_ms: float, groups: int, pairs: int, size: int, server: list[str]) -> dict[str, Any]:
    """Medians of ``pairs`` pairs of runs, bare then ours."""
    texts = Texts(size)
    runs: dict[str, list[Run]] = {"bare": [], "ours": []}
    with running("--latency-ms", latency_ms, *server) as url:
        both_judges = judges(endpoint(url, AT_ONCE))
        for pair in range(-1, pairs):
            count = groups if pair >= 0 else min(groups, AT_ONCE)  # the first pair warms up
            batch = [texts.group(f"{latency_ms:g}-{pair}-{number}") for number in range(count)]
            bodies = [same_requests(group, *both_judges) for group in batch]
            one = timed(bare(url, bodies), count)
            with tempfile.TemporaryDirectory() as folder:
                other = timed(ours(url, batch, folder), count)
            if pair >= 0:
                runs["bare"].append(one)
                runs["ours"].append(other)
    both = list(zip(runs["bare"], runs["ours"], strict=True))
    return {
        "latency_ms": latency_ms,
        "bare_groups_per_s": median(run.per_second for run in runs["bare"]),
        "ours_groups_per_s": median(run.per_second for run in runs["ours"]),
        "bare_cpu_ms": median(run.cpu_ms for run in runs["bare"]),
        "ours_cpu_ms": median(run.cpu_ms for run in runs["ours"]),
        "ratio": median(other.per_second / one.per_second for one, other in both),
        "cpu_ms_over_bare": median(other.cpu_ms - one.cpu_ms for one, other in both),
    }


def memory(groups: int, every: int, size: int) -> dict[str, Any]:
    """Resident memory of the client while it judges ``groups`` groups that are made on the way.

    Each point is the median over the last ``every`` groups: how much is there at a moment depends on how many of the
    128 groups are where in their two calls.
    """
    points: list[dict[str, float]] = []
    looks: list[float] = []

    def made(url: str) -> Iterable[Group]:
        texts = Texts(size)
        for number in range(1, groups + 1):
            yield texts.group(f"memory-{number}")
            if number % max(1, every // LOOKS) == 0:
                looks.append(rss_mb())
            if number % every == 0:
                points.append({"groups": number, "rss_mb": median(looks)})
                looks.clear()
                print(f"{number} groups: {points[-1]['rss_mb']:.1f} MB", file=sys.stderr)

    with running() as url, tempfile.TemporaryDirectory() as folder:
        run = timed(ours(url, made(url), folder), groups)
    first, last = points[0], points[-1]
    return {
        "groups": groups,
        "groups_per_s": run.per_second,
        "points": points,
        "growth_mb": last["rss_mb"] - first["rss_mb"],
        "growth": last["rss_mb"] / first["rss_mb"] - 1,
        "late_growth": last["rss_mb"] / points[len(points) // 2]["rss_mb"] - 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1024, help="of each run")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0, 200.0], metavar="MS", help="of the server")
    parser.add_argument("--answer-bytes", type=int, default=10_000)
    parser.add_argument("--any-core", action="store_true", help="leave it to the scheduler what runs where")
    parser.add_argument("--memory", type=int, metavar="GROUPS", help="watch memory over so many groups instead")
    parser.add_argument("--every", type=int, default=2000, help="with --memory: groups between two looks")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.memory:
        seen = memory(options.memory, options.every, options.answer_bytes)
        rows = [(point["groups"], point["rss_mb"]) for point in seen["points"]]
        text = f"{table(('groups', 'RSS MB'), rows)}\n"
        text += f"growth {seen['growth_mb']:+.1f} MB ({seen['growth']:+.1%}), {seen['late_growth']:+.1%} in the "
        text += f"second half; {seen['groups_per_s']:.0f} groups/s"
        show(seen, text, options.json)
        return
    server = [] if options.any_core else own_core()
    results = [compare(ms, options.groups, options.pairs, options.answer_bytes, server) for ms in options.latency]
    head = ("latency ms", "bare groups/s", "ours groups/s", "ratio", "bare CPU ms", "ours CPU ms", "over bare")
    keys = (
        "latency_ms",
        "bare_groups_per_s",
        "ours_groups_per_s",
        "ratio",
        "bare_cpu_ms",
        "ours_cpu_ms",
        "cpu_ms_over_bare",
    )
    text = f"{machine()}; {options.pairs} pairs of {options.groups} groups, answers of {options.answer_bytes} bytes\n"
    text += table(head, [[result[key] for key in keys] for result in results])
    show({"machine": machine(), "results": results}, text, options.json)


if __name__ == "__main__":
    main()

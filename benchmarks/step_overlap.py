"""How much of a training step the judges take when each group is judged as soon as its last rollout is there.

    python benchmarks/step_overlap.py

A step is simulated: its rollouts are waits drawn from a lognormal distribution, its judges the judge server, which
draws lognormal latencies that are known here. The bound is what no order of work could beat: the slowest
of "last rollout of a group, then its rubricator, then its verifier". Printed as ratios to it: the step as training runs
it, and the step whose judging begins when all rollouts are there. Medians over the steps.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from judge_material import STUDENTS, Texts, endpoint, machine, median, show, table
from judge_server import lognormal_s, running

from ropd_cli.config import JudgeConfig
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.client import ChatClient
from ropd_cli.records.schemas import Group
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.verifier import Verifier


@dataclass(frozen=True)
class Drawn:
    """One group of a step: itself, when its rollouts are done, how long its two judges take."""

    group: Group
    rollouts_s: tuple[float, ...]
    judges_s: float


@dataclass(frozen=True)
class Judges:
    """The judge path."""

    rubricator: Rubricator
    verifier: Verifier

    async def judge(self, group: Group) -> None:
        """Rubric and verdicts of a group."""
        await self.verifier.verdicts(group, await self.rubricator.rubric(group))


def draw(name: str, texts: Texts, options: argparse.Namespace) -> Drawn:
    """The group of this name; the judge server draws the same latencies for it."""
    times = random.Random(f"rollouts of {name}")
    rollouts_s = tuple(options.rollout_s * math.exp(times.gauss(0.0, options.rollout_sigma)) for _ in range(STUDENTS))
    judges_s = sum(lognormal_s(name, kind, options.judge_s, options.judge_sigma) for kind in ("rubric", "verdicts"))
    return Drawn(texts.group(name), rollouts_s, judges_s)


async def overlapped(step: list[Drawn], judges: Judges) -> float:
    """Seconds of a step in which each group is judged when its own rollouts are there."""

    async def one(drawn: Drawn) -> None:
        async with asyncio.TaskGroup() as rollouts:
            for seconds in drawn.rollouts_s:
                rollouts.create_task(asyncio.sleep(seconds))
        await judges.judge(drawn.group)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for drawn in step:
            group.create_task(one(drawn))
    return time.perf_counter() - started


async def after_barrier(step: list[Drawn], judges: Judges) -> float:
    """Seconds of a step in which judging begins when all rollouts are there."""
    started = time.perf_counter()
    await asyncio.sleep(max(max(drawn.rollouts_s) for drawn in step))
    async with asyncio.TaskGroup() as group:
        for drawn in step:
            group.create_task(judges.judge(drawn.group))
    return time.perf_counter() - started


async def steps(url: str, options: argparse.Namespace) -> list[dict[str, float]]:
    """Every step both ways, each time with a cache of its own."""
    measured, texts = [], Texts(options.answer_bytes)
    for number in range(options.steps):
        step = [draw(f"step-{number}-{k}", texts, options) for k in range(options.groups)]
        row = {"bound_s": max(max(drawn.rollouts_s) + drawn.judges_s for drawn in step)}
        for name, way in (("ours_s", overlapped), ("barrier_s", after_barrier)):
            with tempfile.TemporaryDirectory() as folder, ReplyCache.open(folder) as cache:
                async with ChatClient.open(endpoint(url, options.concurrency), cache=cache, environ={}) as client:
                    row[name] = await way(
                        step, Judges(Rubricator(client, JudgeConfig()), Verifier(client, JudgeConfig()))
                    )
        measured.append(row)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--rollout-s", type=float, default=3.0, help="median")
    parser.add_argument("--rollout-sigma", type=float, default=0.5)
    parser.add_argument("--judge-s", type=float, default=1.0, help="median, of each of the two judges")
    parser.add_argument("--judge-sigma", type=float, default=0.4)
    parser.add_argument("--answer-bytes", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=32, help="limits.concurrency of the client")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with running("--median-s", options.judge_s, "--sigma", options.judge_sigma) as url:
        rows = asyncio.run(steps(url, options))
    document: dict[str, Any] = {
        "machine": machine(),
        "steps": rows,
        "ratio": median(row["ours_s"] / row["bound_s"] for row in rows),
        "barrier_ratio": median(row["barrier_s"] / row["bound_s"] for row in rows),
    }
    text = f"{machine()}; {options.groups} groups of {STUDENTS} rollouts a step\n"
    text += table(("bound s", "ours s", "after barrier s"), [tuple(row.values()) for row in rows])
    text += f"\nours {document['ratio']:.3f} of the bound, after a barrier {document['barrier_ratio']:.3f}"
    show(document, text, options.json)


if __name__ == "__main__":
    main()

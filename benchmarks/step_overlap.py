"""How much of a training step the judges take when each group is judged as soon as its last rollout is there.

    python benchmarks/step_overlap.py
    python benchmarks/step_overlap.py --verl      # three trainings of a tiny random model: about six minutes

Without ``--verl`` a step is simulated: its rollouts are waits drawn from a lognormal distribution, its judges the judge
server, which draws lognormal latencies that are known here. The bound is what no order of work could beat: the slowest
of "last rollout of a group, then its rubricator, then its verifier". Printed as ratios to it: the step as training runs
it, and the step whose judging begins when all rollouts are there. Medians over the steps.

With ``--verl`` three real trainings are run: with judges that answer at once (generation and update alone), with
judges of ``--judge-s`` seconds each, and with the same judges and ``train.async: one_step``. Printed as ratios to the
longer of generation with update, and the two judges. Means over the steps: where sampling and judging overlap, long
steps and short ones take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from judge_material import STUDENTS, Texts, endpoint, machine, median, show, table
from judge_server import lognormal_s, running

from ropd_cli.config import JudgeConfig
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.client import ChatClient
from ropd_cli.records.schemas import Group, prompt_hash
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


def trained(folder: Path, name: str, judge_s: float, *options: str) -> float:
    """Mean seconds per step of one training, without the steps that start or end it."""
    with running("--latency-ms", 1000 * judge_s) as url:
        judge = f"{{base_url: {url}, model: judge, limits: {{concurrency: 64}}}}"
        settings = [f"rubricator={judge}", f"verifier={judge}", *options]
        sets = [word for setting in settings for word in ("--set", setting)]
        command = [sys.executable, "-m", "ropd_cli", "train", "--config", "run.yaml", "--out", name, *sets]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return fmean(row["timing_s/step"] for row in rows[2:-1])


def write_run(folder: Path, steps: int) -> None:
    """Prompts, an index, a configuration, and a student: a random model with the small student's tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from ropd_cli.engines.small_student import fetch_small_student
    from ropd_cli.llm.cache import default_cache_dir

    tokenizer = AutoTokenizer.from_pretrained(fetch_small_student(default_cache_dir() / "models"))
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True, dtype="float32",
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "student")
    tokenizer.save_pretrained(folder / "student")
    with open(folder / "prompts.jsonl", "w") as prompts, open(folder / "teacher.jsonl", "w") as teacher:
        for k in range(4 * steps):
            prompt = {"uid": f"p{k}", "prompt": f"What is {k} + 2?"}
            prompts.write(json.dumps(prompt) + "\n")
            answer = {"answers": [{"text": f"It is {k + 2}."}], "model": "teacher"}
            teacher.write(json.dumps(prompt | {"raw_prompt_hash": prompt_hash(prompt["prompt"])} | answer) + "\n")
    (folder / "run.yaml").write_text(
        f"""device: cpu
judge: {{m: 1}}
student: {{model_path: student, dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 64, max_response_tokens: 32}}
rollout: {{n: 4}}
train: {{steps: {steps}, prompts_per_step: 4, lr: 1e-4}}
"""
    )
    index = [sys.executable, "-m", "ropd_cli", "index", "build", "teacher.jsonl", "--out", "teacher.index"]
    subprocess.run(index, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def on_verl(options: argparse.Namespace) -> None:
    """Measure real trainings, and print what came out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_run(folder, options.steps + 3)
        alone = trained(folder, "alone", 0.0)
        waiting = trained(folder, "waiting", options.judge_s)
        ahead = trained(folder, "ahead", options.judge_s, "train.async=one_step")
    judges_s = 2 * options.judge_s  # one after the other
    bound = max(alone, judges_s)
    document = {
        "machine": machine(),
        "judges_s": judges_s,
        "generation_and_update_s": alone,
        "synchronous_s": waiting,
        "one_step_ahead_s": ahead,
        "ratio": ahead / bound,
        "synchronous_ratio": waiting / bound,
    }
    text = f"{machine()}; means of {options.steps} steps, judges of {judges_s:g} s per group\n"
    text += table(("generation + update s", "synchronous s", "one step ahead s"), [(alone, waiting, ahead)])
    text += f"\none step ahead {ahead / bound:.3f} of the bound, synchronous {waiting / bound:.3f}"
    show(document, text, options.json)


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
    parser.add_argument("--verl", action="store_true", help="measure real trainings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.verl:
        return on_verl(options)
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

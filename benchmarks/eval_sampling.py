"""Tokens a second of ``ropd eval``'s sampling from a checkpoint, beside a bare vLLM loop over the same requests.

    python benchmarks/eval_sampling.py --model-path MODEL

Both engines are loaded once, each in a process of its own, and asked in turn: the same prompts (of the shipped MATH-500
set), n, limits and seeds. Ours is all that the command does between the first question and the last sample: the chat
template, the way to the engine's process, the samples written to disk, and their grading by a task that does nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from judge_material import machine, median, show, table

from ropd_cli.datasets.eval_sets import load_eval_set
from ropd_cli.engines.vllm_sampling import (
    EngineOptions,
    LocalModel,
    SamplingOptions,
    installed_device,
    vllm_environment,
)
from ropd_cli.evaluation.grading import Grading
from ropd_cli.evaluation.samples import Benchmark, Grade, Metric, Query
from ropd_cli.evaluation.sampling import Meter, draw, left_to_draw
from ropd_cli.evaluation.sources import LocalSource
from ropd_cli.evaluation.store import EvalRun
from ropd_cli.records.schemas import Message
from ropd_cli.util.progress import NoProgress


class Nothing:
    """A task that asks the bare question and grades nothing."""

    metrics = (Metric("nothing", "nothing"),)
    extracts = False

    def check(self, question: Any) -> None: ...

    def ask(self, question: Any, sample: int) -> Query:
        return Query((Message(role="user", content=question.prompt),))

    async def grade(self, question: Any, sample: Any) -> Grade:
        return Grade(benchmark=sample.benchmark, id=sample.id, sample=sample.sample, scores={"nothing": 0.0})

    async def __aenter__(self) -> Nothing:
        return self

    async def __aexit__(self, *_: object) -> None: ...


class Bare:
    """The bare loop's process."""

    def __init__(self, engine: EngineOptions) -> None:
        environ = vllm_environment(engine.model_path, engine.device, engine.kv_cache_gb, os.environ)
        environ |= {"VLLM_LOGGING_LEVEL": "ERROR"}
        if engine.device == "cpu":
            environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        read_end, write_end = os.pipe()
        script = Path(__file__).parent / "bare_vllm.py"
        wanted = [engine.model_path, engine.device, engine.max_num_seqs, engine.max_model_len]
        command = [sys.executable, str(script), *map(str, wanted)]
        self._child = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3>&{write_end}', "bare", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(write_end,),
            env=environ,
            text=True,
        )
        os.close(write_end)
        self._replies = os.fdopen(read_end)
        self._reply()

    def _reply(self) -> dict[str, Any]:
        line = self._replies.readline()
        if not line:
            raise SystemExit("the bare loop's process ended: does the model load?")
        return json.loads(line)

    def run(self, prompts: list[list[int]], n: int, max_tokens: int, seeds: list[int]) -> float:
        """Tokens a second."""
        assert self._child.stdin is not None
        asked = {"prompts": prompts, "n": n, "max_tokens": max_tokens, "seeds": seeds}
        print(json.dumps(asked), file=self._child.stdin, flush=True)
        done = self._reply()
        return done["tokens"] / done["seconds"]

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process: threads of an idle engine may wait for work by looking for it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def ours(model: LocalModel, folder: Path, benchmark: Benchmark, max_tokens: int, seed: int) -> float:
    """Tokens a second of the evaluation's own way."""
    run, meter = EvalRun(folder), Meter()
    sampling = SamplingOptions(n=benchmark.n, temperature=1.0, top_p=0.95, max_tokens=max_tokens, seed=seed)
    jobs = left_to_draw(run, [benchmark], {"seed": seed})
    async with Grading(run, [benchmark]) as grading:
        await draw(
            run, jobs, LocalSource(model, sampling), grading.add, meter, max_failed_fraction=None, progress=NoProgress()
        )
        await grading.finish(NoProgress())
    return meter.tokens / meter.seconds


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Interleaved pairs."""
    from transformers import AutoTokenizer

    questions = load_eval_set("math500").questions[: options.problems]
    benchmark = Benchmark("bench", Nothing(), questions, True, options.n)
    engine = EngineOptions(
        options.model_path,
        options.device or installed_device(),
        max_num_seqs=options.max_num_seqs,
        max_model_len=options.max_model_len,
        gpu_memory_utilization=0.45,
    )
    tokenizer = AutoTokenizer.from_pretrained(options.model_path)
    prompts = [
        list(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question.prompt}], add_generation_prompt=True, return_dict=False
            )
        )
        for question in questions
    ]
    bare = Bare(engine)
    try:
        async with await LocalModel.start(engine, environ=os.environ, log=folder / "vllm.log") as model:
            await ours(model, folder / "warm", benchmark, 2, 0)
            bare.run(prompts, options.n, 2, [0] * len(prompts))
            pairs = []
            for pair in range(options.pairs):
                seeds = [pair * 1000 + number for number in range(len(prompts))]
                ran = {}
                for who in ("bare", "ours") if pair % 2 else ("ours", "bare"):
                    if who == "ours":
                        with stopped(bare.pid):
                            ran[who] = await ours(model, folder / f"pair-{pair}", benchmark, options.max_tokens, pair)
                    else:
                        with stopped(model._child.process.pid):
                            ran[who] = await asyncio.to_thread(bare.run, prompts, options.n, options.max_tokens, seeds)
                pairs.append(ran)
    finally:
        bare.close()
    ratios = [pair["ours"] / pair["bare"] for pair in pairs]
    return {
        "machine": machine(),
        "problems": len(prompts),
        "n": options.n,
        "max_tokens": options.max_tokens,
        "pairs": pairs,
        "ours_tokens_per_s": median([pair["ours"] for pair in pairs]),
        "bare_tokens_per_s": median([pair["bare"] for pair in pairs]),
        "ratio": median(ratios),
    }


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-path", required=True)
    parser.add_argument("--device", choices=("cpu", "gpu"))
    parser.add_argument("--problems", type=int, default=48)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--max-num-seqs", type=int, default=64)
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(options, Path(folder)))
    rows = [
        [f"{pair['ours']:,.0f}", f"{pair['bare']:,.0f}", f"{pair['ours'] / pair['bare']:.3f}"]
        for pair in found["pairs"]
    ]
    text = table(["ours, tokens/s", "bare, tokens/s", "ratio"], rows) + f"\nmedian ratio {found['ratio']:.3f}"
    show(found, text, options.json)


if __name__ == "__main__":
    main()

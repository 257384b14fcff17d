"""Grade benchmarks during a training: verl's validation asks, the graders of ``ropd eval`` grade, the run keeps it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.config import RopdConfig
from ropd_cli.evaluation.benchmarks import Choice, open_benchmarks
from ropd_cli.evaluation.graders import Tools
from ropd_cli.evaluation.samples import Grade, Sample
from ropd_cli.evaluation.statistics import benchmark_figures, lengths_of
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.shared import Shared
from ropd_cli.records.files import disk_errors, read_journal, write_atomic, write_records
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Answer, Prompt, with_system
from ropd_cli.training.dataset import write_parquet
from ropd_cli.training.run_dir import RunDir


def open_validation(config: RopdConfig, cache: ReplyCache | None, shared: Shared) -> tuple[Tools, list[Choice]]:
    """The benchmarks of ``validate``, and what their graders share. Raises InputError as ``open_benchmarks``, and where
    a judge is needed and none is configured."""
    wanted = config.validate
    tools = Tools(config, cache, shared, os.environ)
    return tools, open_benchmarks(
        wanted.benchmarks, config.eval.data, config.eval.grader, tools, n=wanted.n, limit=wanted.limit
    )


def validation_rows(chosen: list[Choice]) -> Iterator[dict[str, Any]]:
    """The questions in verl's columns, a row a wording; ``extra_info`` says which samples a row is for."""
    for choice in chosen:
        benchmark = choice.benchmark
        for question in benchmark.questions:
            wordings: dict[bytes, list[int]] = {}
            for sample in range(benchmark.n):
                each = benchmark.task.ask(question, sample)
                messages = [message.model_dump(mode="json") for message in each.messages]
                wordings.setdefault(orjson.dumps([messages, each.key and dict(each.key)]), []).append(sample)
            for wording, samples in wordings.items():
                messages, key = orjson.loads(wording)
                yield {
                    "data_source": benchmark.name,
                    "prompt": messages,
                    "reward_model": {"style": "rule", "ground_truth": ""},
                    "extra_info": {
                        "ropd_benchmark": benchmark.name,
                        "ropd_id": question.id,
                        "ropd_key": orjson.dumps(key).decode(),
                        "ropd_samples": samples,
                    },
                    "__rollout_n__": len(samples),
                }


def validation_sample(info: Mapping[str, Any], session: int, answer: Answer) -> Sample:
    """The answer of one session to the question of a row (its ``extra_info``)."""
    return Sample(
        benchmark=info["ropd_benchmark"],
        id=info["ropd_id"],
        sample=int(info["ropd_samples"][session]),
        text=answer.text,
        finish_reason=answer.finish_reason or "stop",
        usage=answer.usage,
        key=orjson.loads(info["ropd_key"]),
    )


def write_validation_prompts(chosen: list[Choice], path: Path, system_prompt: str | None) -> list[Prompt]:
    """Write the questions as verl reads them; as prompts, so that their lengths can be looked at."""
    prompts = []
    rows = list(validation_rows(chosen))
    for number, row in enumerate(rows):
        info = row["extra_info"] | {"index": number}
        prompt = Prompt(uid=f"{info['ropd_benchmark']}/{info['ropd_id']}", prompt=row["prompt"])
        messages = with_system(prompt.messages, system_prompt)
        row["prompt"] = [message.model_dump(mode="json") for message in messages]
        row["extra_info"] = info
        prompts.append(prompt)
    write_parquet(rows, path)
    return prompts


class Validator:
    """Grades the answers of one validation after the other, and keeps the best checkpoint. Lives in the process that
    owns the judging; ``grade`` is called by many tasks at once."""

    def __init__(self, config: RopdConfig, run: RunDir, cache: ReplyCache | None, shared: Shared) -> None:
        self._config, self._run = config, run
        self._tools, self._chosen = open_validation(config, cache, shared)
        self._by_name = {choice.benchmark.name: choice for choice in self._chosen}
        self._questions = {
            name: {question.id: question for question in choice.benchmark.questions}
            for name, choice in self._by_name.items()
        }
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._is_open = False
        self._writer: RecordWriter | None = None
        self._samples: list[Sample] = []
        self._grades: dict[str, dict[tuple[str, int], Grade]] = {}

    async def _open(self) -> None:
        """Open the graders, once; whoever comes meanwhile waits."""
        async with self._opening:
            if not self._is_open:
                self._is_open = True
                await self._stack.enter_async_context(self._tools)
                for choice in self._chosen:
                    await self._stack.enter_async_context(choice.benchmark.task)

    async def close(self) -> None:
        """Close the graders."""
        await self._stack.aclose()

    async def grade(self, step: int, sample: Sample) -> float | None:
        """The score of one answer; None where it could not be graded."""
        await self._open()
        name = sample.benchmark
        choice = self._by_name[name]
        grade = await choice.benchmark.task.grade(self._questions[name][sample.id], sample)
        if self._writer is None:
            file = self._run.validation_file(step)
            file.unlink(missing_ok=True)  # of an earlier try at this step
            self._writer = RecordWriter(file)
        self._writer.append({"step": step, "sample": sample.to_json(), "grade": grade.to_json()})
        self._samples.append(sample)
        self._grades.setdefault(name, {})[sample.id, sample.sample] = grade
        return grade.scores.get(choice.benchmark.task.metrics[0].name)

    def finish(self, step: int) -> dict[str, float]:
        """The metrics of the validation of a step, all of whose answers are graded; its figures are written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        metrics: dict[str, float] = {}
        row: dict[str, Any] = {}
        for choice in self._chosen:
            benchmark = choice.benchmark
            ids = [question.id for question in benchmark.questions]
            samples = [sample for sample in self._samples if sample.benchmark == benchmark.name]
            figures = benchmark_figures(
                ids,
                benchmark.n,
                benchmark.task.metrics,
                self._grades.get(benchmark.name, {}),
                lengths_of(samples, ids, benchmark.n),
                extracts=benchmark.task.extracts,
            )
            row[benchmark.name] = figures.document()
            metrics |= {f"val/{benchmark.name}/{name}": figure.value for name, figure in figures.metrics.items()}
            metrics[f"val/{benchmark.name}/missing"] = figures.missing
        self._samples, self._grades = [], {}
        self._write_row({"step": step, "benchmarks": row})
        self._keep_best(step, row)
        return metrics

    def _write_row(self, row: dict[str, Any]) -> None:
        rows = {}
        if self._run.validation.is_file():
            rows = {each["step"]: each for _, each in read_journal(self._run.validation)}
        rows[row["step"]] = row
        write_records(self._run.validation, [rows[step] for step in sorted(rows)])

    def _keep_best(self, step: int, row: Mapping[str, Any]) -> None:
        """Keep the weights of a step that has a checkpoint and a better score than any before it."""
        name = self._config.validate.best_by or self._chosen[0].benchmark.name
        metric = self._by_name[name].benchmark.task.metrics[0]
        figure = row[name]["metrics"].get(metric.name)
        weights = self._run.huggingface(step)
        if figure is None or not (weights / "config.json").is_file():
            return
        before = orjson.loads(self._run.best.read_bytes()) if self._run.best.is_file() else None
        if before is not None and before["step"] < step and before["value"] >= figure["value"]:
            return
        with disk_errors(self._run.best_model):
            fresh = self._run.path / ".best.tmp"
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(weights, fresh, copy_function=_linked)
            shutil.rmtree(self._run.best_model, ignore_errors=True)
            os.replace(fresh, self._run.best_model)
        best = {"step": step, "benchmark": name, "metric": metric.name, "title": metric.title, **figure}
        write_atomic(self._run.best, orjson.dumps(best, option=orjson.OPT_INDENT_2))


def _linked(source: str, target: str) -> str:
    """A hard link, or a copy where the file system has none: the checkpoint itself is deleted later."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target

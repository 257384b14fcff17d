"""Sampling: every benchmark's questions at one source, all at once, each sample written when it is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Benchmark, Sample
from ropd_cli.evaluation.sources import Source
from ropd_cli.evaluation.store import OTHERWISE, EvalRun
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Answer, Message, digest, with_system
from ropd_cli.stages.runner import Tally, run_jobs
from ropd_cli.util.progress import NoProgress, Progress

OnSample = Callable[[Sample], None]


@dataclass(frozen=True)
class Job:
    """Samples that are still to be drawn of one wording of a question."""

    benchmark: str
    id: str
    messages: tuple[Message, ...]
    key: dict[str, Any] | None
    indices: tuple[int, ...]
    request_hash: str

    @property
    def uid(self) -> str:
        """For the list of those that failed."""
        return f"{self.benchmark}/{self.id}/{self.indices[0]}"


class Meter:
    """Samples and tokens so far."""

    def __init__(self) -> None:
        self.samples = self.tokens = 0
        self._began: float | None = None
        self._last = 0.0

    def book(self, sample: Sample) -> None:
        """Count one. The clock runs from the first question on."""
        self.samples += 1
        self.tokens += sample.usage.completion_tokens if sample.usage else 0
        self._last = time.monotonic()

    def start(self) -> None:
        """The first question is asked now."""
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """From the first question to the last sample."""
        return max(self._last - self._began, 1e-9) if self._began is not None and self.samples else 0.0

    def __str__(self) -> str:
        return f"{self.tokens / self.seconds:,.0f} tokens/s" if self.seconds and self.tokens else ""


def left_to_draw(
    run: EvalRun, benchmarks: Sequence[Benchmark], how: Mapping[str, Any], system_prompt: str | None = None
) -> list[Job]:
    """What the run's files lack, in the order of the benchmarks. ``system_prompt`` goes before questions without one.

    ``how`` is all that shapes an answer besides the messages. Raises InputError where samples of a question's id answer
    another wording of it.
    """
    jobs: list[Job] = []
    for benchmark in benchmarks:
        there = {(sample.id, sample.sample): sample.request_hash for sample in run.samples(benchmark.name)}
        for question in benchmark.questions:
            wordings: dict[str, Job] = {}
            for index in range(benchmark.n):
                asked = benchmark.task.ask(question, index)
                key = dict(asked.key) if asked.key is not None else None
                messages = with_system(asked.messages, system_prompt)
                asked_hash = digest([[m.model_dump(mode="json") for m in messages], key, how])[:16]
                found = there.get((question.id, index))
                if found is None:
                    known = wordings.get(asked_hash)
                    indices = (*known.indices, index) if known else (index,)
                    wordings[asked_hash] = Job(benchmark.name, question.id, messages, key, indices, asked_hash)
                elif found != asked_hash:
                    raise InputError(
                        f"{run.samples_file(benchmark.name)}: sample {index} of {question.id} answers another question "
                        "than the data has now" + (", or its options in another order (`seed`)" if key else ""),
                        OTHERWISE.format("the file"),
                    )
            jobs += wordings.values()
    return jobs


async def draw(
    run: EvalRun,
    jobs: Sequence[Job],
    source: Source,
    on_sample: OnSample,
    meter: Meter,
    *,
    max_failed_fraction: float | None,
    progress: Progress,
) -> Tally:
    """Draw the samples of all jobs and append them to the files of their benchmarks. The tally counts questions.

    Raises what ``run_jobs`` raises; what was drawn until then is written.
    """
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(RecordWriter(run.samples_file(name)))
            for name in dict.fromkeys(job.benchmark for job in jobs)
        }

        async def work(job: Job) -> bool:
            came: set[int] = set()

            def take(index: int, answer: Answer) -> None:
                sample = _sample(job, index, answer)
                writers[job.benchmark].append(sample.to_json())
                came.add(index)
                meter.book(sample)
                on_sample(sample)
                progress.advance()

            try:
                return await source.sample(job.messages, job.indices, f"{job.benchmark}/{job.id}", take)
            except Exception:
                progress.advance(len(job.indices) - len(came), failed=len(job.indices) - len(came))
                raise

        progress.start(sum(len(job.indices) for job in jobs), "sample")
        meter.start()
        try:
            return await run_jobs(
                jobs,
                work,
                needed_endpoint=bool,
                total=len(jobs),
                out=run.path / "samples.jsonl",
                stage="eval",
                concurrency=source.at_once,
                max_failed_fraction=max_failed_fraction,
                progress=NoProgress(),
            )
        finally:
            progress.finish()


def _sample(job: Job, index: int, answer: Answer) -> Sample:
    return Sample(
        benchmark=job.benchmark,
        id=job.id,
        sample=index,
        text=answer.text,
        finish_reason=answer.finish_reason or "stop",
        reasoning=answer.reasoning,
        usage=answer.usage,
        key=job.key,
        request_hash=job.request_hash,
    )

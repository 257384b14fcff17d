"""Grading beside the sampling: each sample when it comes, those of earlier runs first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType

from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import JudgeError
from ropd_cli.evaluation.samples import Benchmark, Grade, Sample
from ropd_cli.evaluation.store import EvalRun
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import digest
from ropd_cli.util.progress import Progress

GIVE_UP_AFTER = 16
"""So many samples of a benchmark without any grade before one has one: its judge does not work, and the rest need not
be tried."""
AT_ONCE = 128
"""Samples that are graded at once; judges and comparing processes have limits of their own."""


class Grading:
    """Grades what it is given. An async context manager; ``finish`` waits for all that was given.

    A fault that makes going on pointless (a judge that went away, the limit on money) ends the grading, not the
    sampling, whose samples are paid for; ``finish`` raises it.
    """

    def __init__(self, run: EvalRun, benchmarks: Sequence[Benchmark]) -> None:
        self._run, self._benchmarks = run, benchmarks
        self._queue: asyncio.Queue[Sample] = asyncio.Queue()
        self._questions: Mapping[str, Mapping[str, EvalQuestion]] = {
            benchmark.name: {question.id: question for question in benchmark.questions} for benchmark in benchmarks
        }
        self._hashes = {
            benchmark.name: {each.id: digest(each.model_dump(mode="json")) for each in benchmark.questions}
            for benchmark in benchmarks
        }
        self._tasks = {benchmark.name: benchmark.task for benchmark in benchmarks}
        self._writers: dict[str, RecordWriter] = {}
        self._stack = ExitStack()
        self._workers: list[asyncio.Task[None]] = []
        self._fault: BaseException | None = None
        self._progress: Progress | None = None
        self._without: dict[str, int | None] = {}
        """By benchmark, grades that are missing so far; None when one is not."""
        self._given = self._done = 0

    async def __aenter__(self) -> Grading:
        for benchmark in self._benchmarks:
            writer = RecordWriter(self._run.grades_file(benchmark.name))
            self._writers[benchmark.name] = self._stack.enter_context(writer)
        self._workers = [asyncio.create_task(self._work()) for _ in range(AT_ONCE)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._stack.close()

    def add_ungraded(self) -> None:
        """Give it the samples on disk that have no grade, an incomplete one, or one of another text, question or
        grader."""
        for benchmark in self._benchmarks:
            grades = self._run.grades(benchmark.name)
            for sample in self._run.samples(benchmark.name):
                if sample.sample >= benchmark.n or sample.id not in self._questions[benchmark.name]:
                    continue
                grade = grades.get((sample.id, sample.sample))
                if grade is None or not _is_complete(grade) or grade.of != self._hash(sample):
                    self.add(sample)

    def add(self, sample: Sample) -> None:
        """Grade this one; a sample of a question that is not asked now is left alone."""
        if sample.id in self._questions.get(sample.benchmark, {}):
            self._given += 1
            self._queue.put_nowait(sample)

    async def finish(self, progress: Progress) -> None:
        """Wait until all is graded. Raises the fault that ended it."""
        left = self._given - self._done
        if left and self._fault is None:
            progress.start(left, "grade")
            self._progress = progress
        try:
            await self._queue.join()
        finally:
            if self._progress is not None:
                self._progress.finish()
                self._progress = None
        if self._fault is not None:
            raise self._fault

    async def _work(self) -> None:
        while True:
            sample = await self._queue.get()
            try:
                if self._fault is None:
                    await self._grade(sample)
            except Exception as fault:
                self._fault = self._fault or fault
            finally:
                self._done += 1
                if self._progress is not None:
                    self._progress.advance()
                self._queue.task_done()

    async def _grade(self, sample: Sample) -> None:
        question = self._questions[sample.benchmark][sample.id]
        grade = await self._tasks[sample.benchmark].grade(question, sample)
        self._watch(grade)
        grade = grade.model_copy(update={"of": self._hash(sample)})
        self._writers[sample.benchmark].append(grade.to_json())

    def _hash(self, sample: Sample) -> str:
        task = self._tasks[sample.benchmark]
        how: list[str | int] = [metric.title for metric in task.metrics]
        if task.revision > 1:
            how.append(task.revision)
        return digest([sample.text, sample.key, how, self._hashes[sample.benchmark][sample.id]])[:16]

    def _watch(self, grade: Grade) -> None:
        """Raises JudgeError where a benchmark's first grades are all missing."""
        count = self._without.get(grade.benchmark, 0)
        if count is None:
            return
        if any(score is not None for score in grade.scores.values()):
            self._without[grade.benchmark] = None
            return
        self._without[grade.benchmark] = count + 1
        if count + 1 >= GIVE_UP_AFTER:
            raise JudgeError(
                f"{grade.benchmark}: the first {GIVE_UP_AFTER} samples got no grade: {grade.why_missing}",
                "see to the judge; the same command grades the samples that are there",
            )


def _is_complete(grade: Grade) -> bool:
    return all(score is not None for score in grade.scores.values())

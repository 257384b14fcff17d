"""What evaluation writes and reads: the samples of a benchmark, and their grades, one record a sample each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field

from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.records.schemas import Message, RecordModel, Usage


class Sample(RecordModel):
    """One answer of the model under test. ``text`` is as it came, thinking in it too where the endpoint does not keep
    it apart, with the ``<think>`` that the chat template wrote; ``sample`` counts from 0; ``key`` is what the task
    needs to grade this very wording of the question (the order of shuffled options)."""

    benchmark: str
    id: str
    sample: int
    text: str
    finish_reason: str
    reasoning: str | None = None
    usage: Usage | None = None
    key: dict[str, Any] | None = None
    request_hash: str = ""


class Grade(RecordModel):
    """What a sample is worth. ``scores`` by metric; None is missing (a judge that failed, a process that was ended),
    and never zero. ``undecided``: why the result was not compared by value; it then counts as wrong. ``counts``: (met,
    of how many) for metrics that are a share over all questions. ``extracted``: the final result that was read, in a
    form in which equal ones are equal; None without one."""

    benchmark: str
    id: str
    sample: int
    scores: dict[str, float | None]
    counts: dict[str, tuple[int, int]] = Field(default_factory=dict)
    extracted: str | None = None
    why_missing: str | None = None
    undecided: str | None = None
    of: str = ""
    """Hash of what was graded (the text), against what (the question), and how (the metrics)."""
    detail: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def to(cls, sample: Sample, scores: Mapping[str, float | None], **fields: Any) -> Grade:
        """Make the grade of a sample."""
        return cls(benchmark=sample.benchmark, id=sample.id, sample=sample.sample, scores=dict(scores), **fields)


@dataclass(frozen=True)
class Metric:
    """A figure of a benchmark. ``binary``: scores are 0 or 1, so pass@k and majority make sense. ``clipped``: the mean
    over questions is clipped to [0, 1], single scores may lie outside."""

    name: str
    title: str
    binary: bool = True
    clipped: bool = False
    from_counts: bool = False


@dataclass(frozen=True)
class Query:
    """A question as it is put to the model, for one sample."""

    messages: tuple[Message, ...]
    key: Mapping[str, Any] | None = None


class Task(ABC):
    """How a benchmark asks and grades. An async context manager: worker processes end with it."""

    metrics: tuple[Metric, ...]
    """The first is the one that stands for the benchmark."""
    revision = 1
    """Raised where the same reply may get another grade than before: earlier grades are then made again."""
    extracts = False
    """Whether ``Grade.extracted`` is filled: else "no result found" and majority mean nothing."""

    @abstractmethod
    def check(self, question: EvalQuestion) -> None:
        """Raise InputError (with the question's id, never its text) for a question that can't be asked or graded."""

    def ask(self, question: EvalQuestion, sample: int) -> Query:
        """Return the messages of one sample: the prompt as it stands, unless a task says otherwise."""
        return Query(question.messages)

    @abstractmethod
    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        """Grade a sample. Raises RopdError only for what makes going on pointless; one that can't be judged has None
        scores."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as it is run. ``shareable``: its questions may stand in reports."""

    name: str
    task: Task
    questions: tuple[EvalQuestion, ...]
    shareable: bool
    n: int
    source: str = ""

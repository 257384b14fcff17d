"""What the tasks have in common."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ropd_cli.errors import InputError
from ropd_cli.evaluation.records import Asked, Grade, Metric, Sample
from ropd_cli.schemas import Message
from ropd_cli.tasks.evalsets import EvalQuestion
from ropd_cli.thinking import split_thinking

ACCURACY = "accuracy"


class Plain:
    """A task that opens nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class Result(Plain):
    """A task whose answer is one final result: right, wrong, or undecided."""

    extracts = True

    def __init__(self, how: str, instruction: str | None) -> None:
        self.metrics = (Metric(ACCURACY, f"accuracy ({how})"),)
        self._instruction = instruction

    def check(self, question: EvalQuestion) -> None:
        if not question.answer:
            raise InputError(f"question {question.id}: no answer to grade against", "give each question an answer")

    def ask(self, question: EvalQuestion, sample: int) -> Asked:
        return Asked(with_instruction(question, self._instruction))


def with_instruction(question: EvalQuestion, instruction: str | None) -> tuple[Message, ...]:
    """The question's messages, with an instruction below the last of the user's."""
    if isinstance(question.prompt, str):
        text = question.prompt if instruction is None else f"{question.prompt}\n\n{instruction}"
        return (Message(role="user", content=text),)
    messages = list(question.prompt)
    if instruction is not None and messages and isinstance(messages[-1].content, str):
        last = messages[-1]
        messages[-1] = last.model_copy(update={"content": f"{last.content}\n\n{instruction}"})
    return tuple(messages)


def visible_text(sample: Sample) -> str | None:
    """What is graded: the text after the thinking; None where there is none (empty, or cut off inside the thinking)."""
    _, visible = split_thinking(sample.text)
    return visible.strip() or None if visible is not None else None


def graded(
    sample: Sample, score: float | None, extracted: str | None, why_missing: str | None = None, **detail: object
) -> Grade:
    """The grade of a sample by one final result."""
    return Grade(
        benchmark=sample.benchmark,
        id=sample.id,
        sample=sample.sample,
        scores={ACCURACY: score},
        extracted=extracted,
        why_missing=why_missing,
        detail=dict(detail),
    )

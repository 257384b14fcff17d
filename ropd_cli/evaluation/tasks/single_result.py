"""What the graders of single results share: how they ask, and a grade of right or wrong."""

from __future__ import annotations

from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Grade, Metric, Sample, Task
from ropd_cli.records.schemas import Message

ACCURACY = "accuracy"
BOX_INSTRUCTION = r"Work it out step by step. End with the final answer inside \boxed{}."


class ResultTask(Task):
    """Base of tasks with one metric, right or wrong."""

    metrics: tuple[Metric, ...] = (Metric(ACCURACY, "accuracy"),)
    revision = 2
    extracts = True


def accuracy(how: str) -> Metric:
    """The metric of a task, with how it is graded in its title."""
    return Metric(ACCURACY, f"accuracy ({how})")


def messages_with(question: EvalQuestion, more: str) -> tuple[Message, ...]:
    """The messages of a question; ``more`` stands after a blank line at the end of its last user message."""
    messages = list(question.messages)
    last = max((i for i, message in enumerate(messages) if message.role == "user"), default=None)
    if last is not None and isinstance(content := messages[last].content, str):
        messages[last] = messages[last].model_copy(update={"content": f"{content.rstrip()}\n\n{more}"})
    else:
        messages.append(Message(role="user", content=more))
    return tuple(messages)


def gold_answer(question: EvalQuestion) -> str:
    """The answer a question comes with. Raises InputError without one."""
    if question.answer is None or not question.answer.strip():
        raise InputError(f"question {question.id}: no answer to compare with", "give its `answer`")
    return question.answer


def grade_of(
    sample: Sample,
    right: bool | None,
    extracted: str | None,
    why_missing: str | None = None,
    undecided: str | None = None,
) -> Grade:
    """The grade of a sample; ``right`` None is missing, for the reason given."""
    scores = {ACCURACY: None if right is None else float(right)}
    if extracted is not None:  # half a pair of surrogates is no text that a file can hold
        extracted = extracted.encode("utf-8", "replace").decode("utf-8")
    return Grade.to(sample, scores, extracted=extracted, why_missing=why_missing, undecided=undecided)

"""The figures of a quickstart, and how they are shown."""

from __future__ import annotations

import io
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from ropd_cli.analysis.intervals import Interval
from ropd_cli.answers.exact_match import is_exact
from ropd_cli.records.schemas import AnswerRecord, Prompt
from ropd_cli.util.counted import counted

_CURVE_COLUMNS, _CURVE_ROWS = 64, 6


@dataclass(frozen=True)
class Sample:
    """One held-out prompt and what the student said before and after."""

    question: str
    answer: str
    before: str
    after: str

    def is_right(self, text: str) -> bool:
        return is_exact(text, self.answer)


@dataclass(frozen=True)
class Outcome:
    """The figures of a quickstart. Accuracies are exact match on ``held_out`` prompts, in [0, 1]."""

    seed: int
    held_out: int
    accuracy_before: float
    accuracy_after: float
    difference: Interval
    reward_curve: list[float]
    """Mean reward of the rollouts, by step."""
    teacher_curve: list[float]
    """Mean score of the teacher's answers, by step."""
    samples: list[Sample]
    checkpoint: str
    run_dir: str
    report: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def learned(self) -> bool:
        """Whether the whole interval of the difference lies above 0."""
        return self.difference.low > 0

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Outcome:
        """Read back what ``document`` wrote."""
        return TypeAdapter(cls).validate_python(document)

    def document(self) -> dict[str, Any]:
        """Return the outcome for ``--json`` and ``result.json`` (``OutcomeShown``)."""
        return {**asdict(self), "learned": self.learned}


@dataclass(frozen=True, kw_only=True)
class OutcomeShown(Outcome):
    """The figures of a quickstart. Accuracies are exact match on ``held_out`` prompts, in [0, 1]; ``difference`` has
    its 95% interval, and ``learned`` says whether all of that lies above 0."""

    learned: bool = field()


def compare(
    prompts: list[Prompt], before: dict[str, AnswerRecord], after: dict[str, AnswerRecord]
) -> tuple[list[float], list[float]]:
    """Return the exact match of each prompt, before and after: shape (P,), each the mean over its samples."""

    def scores(records: dict[str, AnswerRecord]) -> list[float]:
        return [
            statistics.fmean(is_exact(answer.text, prompt.answer or "") for answer in records[prompt.uid].answers)
            for prompt in prompts
        ]

    return scores(before), scores(after)


def three_samples(
    prompts: list[Prompt], before: dict[str, AnswerRecord], after: dict[str, AnswerRecord]
) -> list[Sample]:
    """Return the first three held-out prompts, whatever became of them."""
    return [
        Sample(
            question=str(prompt.messages[-1].content),
            answer=prompt.answer or "",
            before=before[prompt.uid].answers[0].text,
            after=after[prompt.uid].answers[0].text,
        )
        for prompt in prompts[:3]
    ]


def as_text(outcome: Outcome) -> str:
    """Return the outcome as it is printed."""
    low, high = outcome.difference.low, outcome.difference.high
    total = sum(outcome.seconds.values())
    lines = [
        "",
        f"exact match on {counted(outcome.held_out, 'held-out prompt')}",
        f"  before   {outcome.accuracy_before:6.1%}",
        f"  after    {outcome.accuracy_after:6.1%}",
        f"  change   {100 * outcome.difference.mean:+6.1f} points   95% interval {100 * low:+.1f} to {100 * high:+.1f} "
        "(paired bootstrap)",
        "",
        "mean reward of the student's rollouts, by step",
        *("  " + row for row in curve(outcome.reward_curve)),
        "",
        "three held-out prompts, before and after",
    ]
    for sample in outcome.samples:
        lines.append(f"  {_short(sample.question)}")
        for name, text in (("before", sample.before), ("after ", sample.after)):
            lines.append(f"    {name}  {'right' if sample.is_right(text) else 'wrong'}  {_short(text)}")
    lines += [
        "",
        f"checkpoint  {outcome.checkpoint}   (a plain Hugging Face folder)",
        f"groups      ropd inspect-rubrics {outcome.run_dir}",
        f"page        {outcome.report}",
        f"time        {total / 60:.1f} min: " + ", ".join(f"{name} {s:.0f} s" for name, s in outcome.seconds.items()),
    ]
    if not outcome.learned:
        lines.append("The interval holds 0: this run does not show that the student learned.")
    return "\n".join(lines)


def curve(values_S: list[float]) -> list[str]:
    """Return a chart of values by step, shape (S,), with the scale at its left; columns are means of several steps
    where there are many."""
    from textual.renderables.sparkline import Sparkline

    from ropd_cli.util.terminal import Console

    if not values_S:
        return []
    console = Console(file=io.StringIO(), width=_CURVE_COLUMNS, color_system=None)
    with console.capture() as printed:
        width = min(len(values_S), _CURVE_COLUMNS)
        console.print(Sparkline(values_S, width=width, height=_CURVE_ROWS, summary_function=statistics.fmean))
    labels = [f"{max(values_S):6.2f}", *[" " * 6] * (_CURVE_ROWS - 2), f"{min(values_S):6.2f}"]
    rows = [f"{label} │{row}" for label, row in zip(labels, printed.get().splitlines(), strict=True)]
    return [*rows, f"{'':7}└ steps 1 to {len(values_S)}"]


def _short(text: str, width: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"

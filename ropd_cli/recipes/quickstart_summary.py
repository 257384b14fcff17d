"""What a quickstart found, and how it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ropd_cli.analysis.intervals import Interval, paired_bootstrap
from ropd_cli.answers.exact_match import is_exact
from ropd_cli.records.schemas import AnswerRecord, Prompt
from ropd_cli.report.text_curve import text_curve


@dataclass(frozen=True)
class Sample:
    """One held-out prompt and what the student said before and after."""

    question: str
    answer: str
    before: str
    after: str


@dataclass(frozen=True)
class Outcome:
    """The figures of a quickstart. Accuracies are exact match on ``held_out`` prompts, in [0, 1]."""

    seed: int
    held_out: int
    accuracy_before: float
    accuracy_after: float
    difference: Interval
    reward_curve: list[float]
    teacher_curve: list[float]
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
        """What ``document`` wrote, read back."""
        fields = {key: value for key, value in document.items() if key != "learned"}
        fields["difference"] = Interval(**fields["difference"])
        fields["samples"] = [Sample(**sample) for sample in fields["samples"]]
        return cls(**fields)

    def document(self) -> dict[str, Any]:
        """For ``--json`` and ``result.json``."""
        return {**asdict(self), "learned": self.learned}


def compare(
    prompts: list[Prompt], before: dict[str, AnswerRecord], after: dict[str, AnswerRecord]
) -> tuple[list[float], list[float]]:
    """Exact match of each prompt, before and after: two lists of shape (P,), each the mean over its samples."""
    return _scores(prompts, before), _scores(prompts, after)


def difference_of(before_P: list[float], after_P: list[float], seed: int) -> Interval:
    """The paired-bootstrap 95% interval of the mean difference."""
    return paired_bootstrap(before_P, after_P, level=0.95, seed=seed)


def three_samples(
    prompts: list[Prompt], before: dict[str, AnswerRecord], after: dict[str, AnswerRecord]
) -> list[Sample]:
    """The first three held-out prompts, whatever became of them."""
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
    """The outcome as it is printed."""
    low, high = outcome.difference.low, outcome.difference.high
    total = sum(outcome.seconds.values())
    lines = [
        "",
        f"exact match on {outcome.held_out} held-out prompts",
        f"  before   {outcome.accuracy_before:6.1%}",
        f"  after    {outcome.accuracy_after:6.1%}",
        f"  change   {100 * outcome.difference.mean:+6.1f} points   95% interval {100 * low:+.1f} to {100 * high:+.1f} "
        "(paired bootstrap)",
        "",
        "mean reward of the student's rollouts, by step",
        *("  " + row for row in text_curve(outcome.reward_curve)),
        "",
        "three held-out prompts, before and after",
        *(line for sample in outcome.samples for line in _sample_lines(sample)),
        "",
        f"checkpoint  {outcome.checkpoint}   (a plain Hugging Face folder)",
        f"groups      ropd inspect-rubrics {outcome.run_dir}",
        f"page        {outcome.report}",
        f"time        {total / 60:.1f} min: " + ", ".join(f"{name} {s:.0f} s" for name, s in outcome.seconds.items()),
    ]
    if not outcome.learned:
        lines.append("The interval holds 0: this run does not show that the student learned.")
    return "\n".join(lines)


def _scores(prompts: list[Prompt], records: dict[str, AnswerRecord]) -> list[float]:
    means = []
    for prompt in prompts:
        answers = records[prompt.uid].answers
        means.append(sum(is_exact(a.text, prompt.answer or "") for a in answers) / len(answers))
    return means


def _sample_lines(sample: Sample) -> list[str]:
    def mark(text: str) -> str:
        return "right" if is_exact(text, sample.answer) else "wrong"

    return [
        f"  {_short(sample.question)}",
        f"    before  {mark(sample.before)}  {_short(sample.before)}",
        f"    after   {mark(sample.after)}  {_short(sample.after)}",
    ]


def _short(text: str, width: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"

"""Judged groups read back from a rubrics file, a verdicts file or a run directory, and what is wrong with them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, dropwhile, islice
from typing import Any, Literal

from typing_extensions import TypedDict

from ropd_cli.answers.thinking import answer_of, split_thinking
from ropd_cli.lint import Finding, Linted, lint, linted
from ropd_cli.lint.rules import in_order
from ropd_cli.method.block import render_question
from ropd_cli.method.scoring import GroupStats, group_stats
from ropd_cli.records.packed import Key
from ropd_cli.records.schemas import (
    Answer,
    AnswerVerdict,
    Message,
    Rubric,
    RubricRecord,
    VerdictRecord,
)

_QUESTION_CHARS = 160
_COMPARED = 16
"""Questions that are compared for what they have in common."""
_SUPERVISED = re.compile("^method: sft$", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_NUMBERS = re.compile(r"-?\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class GroupRow:
    """One group as a line of a list; ``n`` is its number there. Means and spread are None where nothing was judged,
    ``missing`` counts rewards of judged groups, ``rules`` are those of the linter that found something."""

    n: int
    step: int | None
    uid: str
    rollouts: int
    criteria: int
    mean: float | None
    spread: float | None
    teacher: float | None
    missing: int
    zero_variance: bool
    below: bool
    error: str | None
    rules: tuple[str, ...]
    faults: tuple[str, ...]
    question: str

    def to_json(self) -> GroupLine:
        """Return the line as ``--json`` prints it."""
        return {
            "uid": self.uid,
            "step": self.step,
            "question": self.question,
            "rollouts": self.rollouts,
            "criteria": self.criteria,
            "mean": self.mean,
            "spread": self.spread,
            "teacher_mean": self.teacher,
            "missing": self.missing,
            "faults": list(self.faults),
            "lint": list(self.rules),
            "error": self.error,
        }


class GroupLine(TypedDict):
    """A group in brief. Means and spread are null where nothing was judged."""

    uid: str
    step: int | None
    """Null outside a run."""
    question: str | None
    """A line of it."""
    rollouts: int
    criteria: int
    mean: float | None
    """Mean reward."""
    spread: float | None
    """Standard deviation of the rewards."""
    teacher_mean: float | None
    """Mean score of the teacher's answers."""
    missing: int
    """Rewards."""
    faults: list[str]
    """In words."""
    lint: list[str]
    """Rules of the linter that found something."""
    error: str | None
    """Why the group could not be judged."""


class GroupShown(GroupLine):
    """A group in full; what the files leave out is null or empty. ``question`` is whole."""

    raw_prompt_hash: str
    teacher_answers: list[str]
    rubric: RubricRecord | None
    verdicts: VerdictRecord | None
    rewards: list[float | None]
    """Of the rollouts."""
    answers: list[Answer]
    """The rollouts."""
    findings: list[Finding]
    """Of the linter."""


class Summary(TypedDict):
    """Counts and means over the groups that the filters ask for; means over those that have them."""

    groups: int
    failed: int
    """Groups that could not be judged."""
    mean: float | None
    spread: float | None
    teacher_mean: float | None
    zero_variance: int
    """Groups whose rewards are all equal."""
    teacher_below_student: int
    """Groups."""
    missing_rewards: int


@dataclass(frozen=True)
class ShownAnswer:
    """One answer of a group, its thinking apart; ``answer`` is None where the thinking never ended."""

    heading: str
    source: Literal["teacher", "student"]
    thinking: str
    answer: str | None


@dataclass(frozen=True)
class GroupView:
    """One group as far as the files tell of it; None or empty is what they leave out."""

    uid: str
    raw_prompt_hash: str
    step: int | None = None
    question: str | None = None
    messages: tuple[Message, ...] = ()
    """The prompt itself; ``question`` is its text."""
    teacher_answers: tuple[str, ...] = ()
    rollouts: tuple[Answer, ...] = ()
    rubric: RubricRecord | None = None
    verdicts: VerdictRecord | None = None
    rewards: tuple[float | None, ...] = ()
    error: str | None = None
    answer: str | None = None
    """The prompt's checkable final answer."""
    left_out: str | None = None
    """Why another group was trained on in its place ("tied", "missing"); None where it was trained on."""
    replaced: tuple[int, ...] = ()
    """Rollouts in whose place a teacher answer was trained on: the reward is that answer's."""
    of_rollout: int | None = None
    """Set where this is only what was judged by the rubric of one rollout."""
    judge_findings: tuple[Finding, ...] = ()
    """What the lint judge finds in the rubric, where it was asked."""
    judge_fault: str | None = None
    """Why the lint judge, which was asked, found neither something nor nothing."""

    @property
    def key(self) -> Key:
        return self.uid, self.raw_prompt_hash

    @property
    def criteria(self) -> Rubric | None:
        """The rubric itself."""
        return self.rubric.rubric if self.rubric else None

    @property
    def criterion_ids(self) -> tuple[str, ...]:
        """Ids of the criteria, shape (K,); c1, c2, … where only the verdicts are known."""
        if self.criteria:
            return tuple(c.criterion_id for c in self.criteria.rubrics)
        longest = max((len(a.judgement) for a in self.judged), default=0)
        return tuple(f"c{k}" for k in range(1, longest + 1))

    @property
    def origin(self) -> str | None:
        """Where the rubric is from, in words; None where it was written for this group."""
        words = {
            "reused": "the rubric is that of an earlier group of the prompt",
            "renewed": "the rubric was written anew: by the earlier one all scores were equal",
        }
        return words.get(self.rubric.origin or "") if self.rubric else None

    @property
    def weights_K(self) -> tuple[float, ...]:
        """Weights of the criteria in what GRPO was given, shape (K,); empty where they are the points."""
        return self.verdicts.weights if self.verdicts else ()

    def shaped(self, answer: AnswerVerdict) -> float | None:
        """Return what GRPO was given for a rollout; None for a teacher's answer, and where that is its reward."""
        values = self.verdicts.shaped if self.verdicts and answer.source == "student" else ()
        return values[answer.index] if answer.index < len(values) else None

    @property
    def judged(self) -> tuple[AnswerVerdict, ...]:
        """All verdicts of the group, the teacher's first."""
        answers = self.verdicts.answers if self.verdicts else ()
        return tuple(sorted(answers, key=lambda a: (a.source != "teacher", a.index)))

    @property
    def by_rubric(self) -> list[GroupView]:
        """The group once for each of its rubrics: with one for all rollouts the group itself, else a view a rollout."""
        own = {} if self.rubric is None or self.criteria else self.rubric.by_rollout
        if self.rubric is None or not own:
            return [self]
        views = []
        for rollout, rubric in own.items():
            verdicts = self.verdicts
            if verdicts is not None:
                mine = tuple(a for a in verdicts.answers if a.whose_rubric == rollout)
                verdicts = verdicts.model_copy(update={"answers": mine})
            record = self.rubric.model_copy(update={"rubric": rubric, "rubrics": ()})
            views.append(replace(self, rubric=record, verdicts=verdicts, of_rollout=rollout))
        return views

    def score_of(self, source: str, index: int) -> float | None:
        """Return the score of an answer; where several rubrics were applied to it, their mean."""
        return _mean([a.score for a in self.judged if (a.source, a.index) == (source, index)])

    @property
    def stats(self) -> GroupStats:
        if self.verdicts is None:
            return group_stats(self.rewards)
        verdicts = self.verdicts
        return group_stats(self.rewards, verdicts.teacher_scores, verdicts.student_scores, verdicts.shaped)

    @property
    def scale(self) -> int | None:
        """The top of the scale where the judge gave one score per answer."""
        return self.verdicts.scale if self.verdicts else None

    @property
    def is_scored(self) -> bool:
        """Whether its answers have scores that no rubric is behind."""
        return self.rubric is None and not self.criterion_ids and any(a.score is not None for a in self.judged)

    @property
    def unanswered(self) -> int:
        """How many judged rollouts have no answer: by their texts, where these are known, else by what was shown."""
        if self.verdicts is None:
            return 0
        if len(self.rollouts) == len(self.rewards):
            return sum(answer_of(rollout.text) is None for rollout in self.rollouts)
        return sum(not a.was_shown for a in self.judged if a.source == "student")

    def met(self, source: str, k: int) -> tuple[int, int]:
        """Return (how many of a source's judged answers meet criterion k, how many were judged by it)."""
        marks = [a.judgement[k] for a in self.judged if a.source == source and k < len(a.judgement)]
        return sum(mark is True for mark in marks), sum(mark is not None for mark in marks)

    @property
    def linted(self) -> list[Linted]:
        """What the linter reads of the group, one entry per rubric."""
        return linted(self.rubric, self.verdicts, self.question, self.answer) if self.rubric else []

    @cached_property  # lists, pages and counts each ask, and the linter is slow
    def findings(self) -> list[Finding]:
        """What the linter says of the group's rubric, or of its rubrics, and the lint judge where it was asked."""
        certain = [finding for each in self.linted for finding in lint(each)]
        return in_order([*certain, *self.judge_findings]) if self.judge_findings else certain

    @property
    def faults(self) -> list[str]:
        """What is wrong with the group, or keeps it from teaching anything."""
        replaced = ["replaced by another group"] if self.left_out else []
        if self.error:
            return [*replaced, f"failed: {self.error}"]
        stats, faults = self.stats, replaced
        if self.judge_fault:
            faults.append(f"lint judge missing: {self.judge_fault}")
        if self.rubric is not None and not self.rubric.by_rollout:
            faults.append("no rollout has an answer, so no rubric")
        if self.scale and self.unanswered == len(self.rewards):
            faults.append("no rollout has an answer")
        if stats.missing and self.verdicts:
            faults.append(f"{stats.missing} of {stats.n} rewards missing")
        if 0 < self.unanswered < len(self.rewards):
            faults.append(f"{self.unanswered} without an answer")
        if stats.zero_variance and not self.is_unrewarded:
            faults.append("without spread")
        if stats.teacher_below_student:
            faults.append("teacher below students")
        for word, same in (("all", lambda met, of: met == of), ("none", lambda met, of: met == 0)):
            marks = [(name, *self.met("student", k)) for k, name in enumerate(self.criterion_ids)]
            ids = [name for name, met, of in marks if of > 1 and same(met, of)]
            if ids and not stats.zero_variance and self.rubric is None:  # where there is one, the linter says it
                faults.append(f"met by {word}: {', '.join(ids)}")
        return faults

    def row(self, n: int, common: frozenset[str] = frozenset()) -> GroupRow:
        """Return the group as line ``n`` of a list; ``common`` are sentences that the list's questions share."""
        stats = self.stats
        return GroupRow(
            n=n,
            step=self.step,
            uid=self.uid,
            rollouts=stats.n or len(self.rollouts),
            criteria=len(self.criterion_ids),
            mean=_finite(stats.mean),
            spread=_finite(stats.spread),
            teacher=_finite(stats.teacher_mean),
            missing=stats.missing if self.verdicts else 0,
            zero_variance=stats.zero_variance,
            below=stats.teacher_below_student,
            error=self.error,
            rules=tuple(dict.fromkeys(finding.rule for finding in self.findings)),
            faults=tuple(self.faults),
            question=_task(self.question, common),
        )

    @property
    def title(self) -> str:
        """The step, where there is one, the uid, and which repeat of a judging it is."""
        again = f", repeat {self.repeat}" if self.repeat else ""
        return (self.uid if self.step is None else f"step {self.step}, {self.uid}") + again

    @property
    def repeat(self) -> int | None:
        """How often the group was judged before, where it was judged again (``ropd rejudge``)."""
        return (self.verdicts.model_extra or {}).get("repeat") if self.verdicts else None

    @property
    def is_unrewarded(self) -> bool:
        """Whether rewards play no part: nobody judged the answers, and each reward is 0."""
        return self.verdicts is not None and not self.verdicts.answers and not any(self.rewards)

    @property
    def texts(self) -> list[ShownAnswer]:
        """The answers as they are shown, the teacher's first."""
        judged = {(a.source, a.index) for a in self.judged}
        answers: list[tuple[Literal["teacher", "student"], int, str, str | None]] = []
        answers += [("teacher", i, text, None) for i, text in enumerate(self.teacher_answers)]
        answers += [("student", i, a.text, a.finish_reason) for i, a in enumerate(self.rollouts)]
        shown = []
        for source, index, text, finish_reason in answers:
            heading = f"{source} {index}"
            if (source, index) in judged:
                score = self.score_of(source, index)
                heading += ", score –" if score is None else f", score {score:.2f}"
                heading += self._raw(source, index)
            elif source == "student" and self.rewards and not self.is_unrewarded:
                reward = self.rewards[index]
                heading += ", reward –" if reward is None else f", reward {reward:.2f}"
            if finish_reason and finish_reason != "stop":
                heading += f", ended by {finish_reason}"
            thinking, answer = split_thinking(text)
            shown.append(ShownAnswer(heading, source, thinking, answer))
        return shown

    def _raw(self, source: str, index: int) -> str:
        """The score of an answer on the judge's scale, in words; "" where there is none."""
        scores = [a.on_scale for a in self.judged if (a.source, a.index) == (source, index)]
        return f" ({scores[0]:g} of {self.scale})" if self.scale and scores and scores[0] is not None else ""

    def to_json(self) -> dict[str, Any]:
        """Return all of the group for ``--json`` (``GroupShown``): its line, the texts, the rubric and the verdicts."""
        return self.row(0).to_json() | {
            "raw_prompt_hash": self.raw_prompt_hash,
            "teacher_answers": list(self.teacher_answers),
            "rubric": self.rubric.to_json() if self.rubric else None,
            "verdicts": self.verdicts.to_json() if self.verdicts else None,
            "rewards": list(self.rewards),
            "question": self.question,
            "answers": [answer.to_json() for answer in self.rollouts],
            "findings": [finding.to_json() for finding in self.findings],
        }


def without_numbers(criterion: str) -> str:
    """Return a criterion with # for its numbers: criteria that differ in their numbers alone are counted together."""
    return _NUMBERS.sub("#", criterion)


def question_of(messages: tuple[Message, ...]) -> str:
    return render_question([message.model_dump(mode="json") for message in messages])


def common_sentences(views: Iterable[GroupView]) -> frozenset[str]:
    """Return the sentences that more than one question has, by the first questions: instructions, examples."""
    questions = islice(dict.fromkeys(view.question for view in views if view.question), _COMPARED)
    counts = Counter(sentence for question in questions for sentence in set(chain(*_lines(question))))
    return frozenset(sentence for sentence, count in counts.items() if count > 1)


def _task(question: str | None, common: frozenset[str]) -> str:
    """Return what a list shows of a question: the first line from its first own sentence on, else the last line."""
    lines = list(_lines(question or ""))
    own = (list(dropwhile(common.__contains__, line)) for line in lines if common)
    words = " ".join(next(filter(None, own), lines[-1] if lines else ()))
    return words if len(words) <= _QUESTION_CHARS else words[: _QUESTION_CHARS - 1] + "…"


def _lines(text: str) -> Iterator[list[str]]:
    """Yield the sentences of each line, of a chat those of its last turn."""
    for line in text.rpartition("\n\n[user]\n")[2].splitlines():
        if line.strip():
            yield _SENTENCE_END.split(line.strip())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

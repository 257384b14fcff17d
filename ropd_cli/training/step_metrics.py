"""Count the groups of one training step, and compute its metrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import fmean

from ropd_cli.answers.thinking import answer_of
from ropd_cli.lint import CERTAIN, lint_group
from ropd_cli.method.injection import injection_kind
from ropd_cli.method.replies import CATEGORIES
from ropd_cli.method.scoring import group_stats
from ropd_cli.records.schemas import Group, RubricRecord, VerdictRecord
from ropd_cli.util.tokens import estimate_tokens

OTHER = "other"
_SLUGS = {name: name.lower().replace(" ", "_") for name in CATEGORIES}
_COUNTED = (
    *("groups/judged", "groups/zero_variance", "groups/no_answer_rollouts", "groups/missing_rollouts"),
    *("rubrics/mended", "answers/cut", *(f"lint/{rule}" for rule in CERTAIN)),
)
"""Counts that stand in the metrics of every step, 0 included."""


@dataclass
class StepTally:
    """Counts of one step; ``book`` adds a group, ``metrics`` gives what ``metrics.jsonl`` has of it."""

    counts: Counter[str] = field(default_factory=Counter)
    """By the name of the metric."""
    values: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of groups or rollouts, by the name of the metric that is their mean."""
    teacher_below_student: int = 0
    injections: int = 0
    """Rollouts that try to break out of their tags, or to give the judge orders."""
    last_fault: str = ""
    repairs: Counter[str] = field(default_factory=Counter)
    """"tried", "helped", "rejected" and "failed"."""
    weights: Counter[str] = field(default_factory=Counter)
    """Points of the criteria, by the category's name in metrics."""
    marks: defaultdict[tuple[str, str], list[bool]] = field(default_factory=lambda: defaultdict(list))
    """Judgements by (category, whose answer: "student" or "teacher")."""
    arrived: float = 0.0
    ended: float = 0.0
    """When the last group's rollouts were there, and when the last group was judged; seconds of the monotonic clock."""

    def add(self, other: StepTally) -> None:
        """Add what another tally has counted."""
        self.counts += other.counts
        self.repairs += other.repairs
        self.weights += other.weights
        for name, values in other.values.items():
            self.values[name] += values
        for key, marks in other.marks.items():
            self.marks[key] += marks
        self.teacher_below_student += other.teacher_below_student
        self.injections += other.injections
        self.last_fault = other.last_fault or self.last_fault
        self.arrived, self.ended = max(self.arrived, other.arrived), max(self.ended, other.ended)

    def book(
        self, group: Group, rubric: RubricRecord | None, verdicts: VerdictRecord | None, fault: str | None
    ) -> tuple[float | None, ...] | None:
        """Count a group; its rewards, or None where too few are there to compare (a lone reward has no
        advantage, and verl would take it for one)."""
        self._book_rollouts(group)
        if rubric is not None:
            self.counts["rubrics/mended"] += bool(rubric.mended)
            if rubric.origin is not None:
                self.counts[f"rubrics/{rubric.origin}"] += 1
        # a rubric that no judge wrote, and a judge that reads none, leave it to the verdicts
        self.counts["answers/cut"] += len({name for record in (rubric, verdicts) if record for name in record.cut})
        rewards = verdicts.rewards if verdicts is not None else ()
        present = [r for r in rewards if r is not None]
        if verdicts is None or len(present) < min(2, len(rewards)):
            self.last_fault = fault or "fewer than two rollouts with a reward"
            return None
        if rubric is not None:
            findings = lint_group(group, rubric, verdicts)
            self.counts.update(f"lint/{finding.rule}" for finding in findings or ())
            self.counts["lint/failed"] += findings is None
            self._book_categories(rubric, verdicts)
        stats = group_stats(rewards, verdicts.teacher_scores, verdicts.student_scores, verdicts.shaped)
        without = [answer_of(rollout.text) is None for rollout in group.rollouts]
        self.counts["groups/judged"] += 1
        self.counts["groups/zero_variance"] += stats.zero_variance
        self.counts["groups/no_answer_rollouts"] += sum(without)
        self.counts["groups/missing_rollouts"] += sum(
            r is None and not w for r, w in zip(rewards, without, strict=True)
        )
        self.teacher_below_student += stats.teacher_below_student
        self.values["reward/mean"] += present
        for name, value in (
            ("reward/teacher_mean", stats.teacher_mean),
            ("judge/coverage_mean", verdicts.coverage),
            ("judge/agreement_mean", verdicts.agreement),
        ):
            if value is not None:
                self.values[name].append(value)
        for part, values in verdicts.parts.items():
            self.values[f"reward/{part}_mean"] += [v for v in values if v is not None]
        return rewards

    def metrics(self, expected_groups: int) -> dict[str, float]:
        """The metrics of a step that had so many groups, those included whose generation failed."""
        metrics: dict[str, float] = {name: self.counts[name] for name in _COUNTED}
        metrics["groups/missing"] = expected_groups - self.counts["groups/judged"]
        if self.counts["lint/failed"]:
            metrics["lint/failed"] = self.counts["lint/failed"]
        metrics |= {name: fmean(values) for name, values in self.values.items() if values}
        if tokens := self.values["rollouts/tokens_mean"]:
            metrics["rollouts/fence_attempts"] = self.injections / len(tokens)
        if seconds := self.values["judge/seconds_mean"]:
            metrics |= {"judge/seconds_max": max(seconds), "judge/waited_seconds": max(0.0, self.ended - self.arrived)}
        if rewards := self.values["reward/mean"]:
            metrics |= {"reward/max": max(rewards), "reward/min": min(rewards)}
        if self.values["reward/teacher_mean"]:
            metrics["reward/teacher_below_student"] = self.teacher_below_student / self.counts["groups/judged"]
        for name, weight in sorted(self.weights.items()):
            metrics[f"categories/{name}/weight_share"] = weight / self.weights.total()
            for source, title in (("student", "pass_rate"), ("teacher", "teacher_pass_rate")):
                if marks := self.marks[name, source]:
                    metrics[f"categories/{name}/{title}"] = sum(marks) / len(marks)
        return metrics

    def _book_rollouts(self, group: Group) -> None:
        prompt = [content for message in group.prompt if isinstance(content := message.content, str)]
        innocent = {kind for text in (*prompt, *group.teacher_answers) if (kind := injection_kind(text)) is not None}
        for rollout in group.rollouts:
            counted = rollout.usage.completion_tokens if rollout.usage is not None else 0
            self.values["rollouts/tokens_mean"].append(counted or estimate_tokens(rollout.text))
            self.values["rollouts/cut_off"].append(rollout.finish_reason == "length")
            shown = answer_of(rollout.text)  # no judge is shown the thinking
            self.injections += shown is not None and injection_kind(shown, innocent) is not None

    def _book_categories(self, rubric: RubricRecord, verdicts: VerdictRecord) -> None:
        names = {}
        for whose, own in rubric.by_rollout.items():
            names[whose] = [_SLUGS.get(criterion.category, OTHER) for criterion in own.rubrics]
            for name, points in zip(names[whose], own.weights_K, strict=True):
                self.weights[name] += points
        for answer in verdicts.answers:
            categories = names.get(answer.whose_rubric, [])
            if len(answer.judgement) == len(categories):  # else no judge was shown the answer
                for name, mark in zip(categories, answer.judgement, strict=True):
                    if mark is not None:
                        self.marks[name, answer.source].append(mark)

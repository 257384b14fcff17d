"""What the groups of one training step came to, and its metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ropd_cli.answers.thinking import answer_of
from ropd_cli.errors import RopdError
from ropd_cli.lint import RULES, lint_group
from ropd_cli.method.injection import fence_attempt
from ropd_cli.method.replies import CATEGORIES
from ropd_cli.method.scoring import group_stats
from ropd_cli.records.schemas import Group, RubricRecord, VerdictRecord
from ropd_cli.util.tokens import estimate_tokens

OTHER = "other"
_SLUGS = {name: name.lower().replace(" ", "_") for name in CATEGORIES}


@dataclass
class CategoryTally:
    """Judgements on the criteria of one category, over the groups of a step."""

    weight: int = 0
    met: Counter[str] = field(default_factory=Counter)
    """Judgements "true", by whose answer it is: "student" or "teacher"."""
    judged: Counter[str] = field(default_factory=Counter)


@dataclass
class StepTally:
    """Counts of one step; ``book`` adds a group, ``metrics`` gives what ``metrics.jsonl`` has of it."""

    judged: int = 0
    missing: int = 0
    zero_variance: int = 0
    teacher_below_student: int = 0
    no_answer: int = 0
    rewards: list[float] = field(default_factory=list)
    teacher_means: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    coverages: list[float] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)
    missing_rollouts: int = 0
    """Of groups that were judged, rollouts that were not."""
    mended: int = 0
    cut: int = 0
    seconds: list[float] = field(default_factory=list)
    last_fault: str = ""
    lint: Counter[str] = field(default_factory=Counter)
    """Findings of the linter, by rule."""
    lint_failed: int = 0
    """Groups on which it failed."""
    repairs: Counter[str] = field(default_factory=Counter)
    """"tried", "helped", "rejected" and "failed"."""
    categories: dict[str, CategoryTally] = field(default_factory=dict)
    """By the category's name in metrics."""
    tokens: list[int] = field(default_factory=list)
    """Of each rollout, judged or not."""
    attempts: Counter[str] = field(default_factory=Counter)
    """Rollouts that try to leave their fence, by kind."""
    arrived: float = 0.0
    ended: float = 0.0
    """When the last group's rollouts were there, and when the last group was judged; seconds of the monotonic clock."""
    before: dict[str, float] = field(default_factory=dict)
    """The endpoints' counters when the step began."""

    def book(
        self, group: Group, rubric: RubricRecord | None, verdicts: VerdictRecord | None, fault: RopdError | None
    ) -> list[float | None] | None:
        """Count a group; its rewards, or None where too few are there to compare (a lone reward has no
        advantage, and verl would take it for one)."""
        self._book_rollouts(group)
        rewards = list(verdicts.rewards) if verdicts is not None else []
        self.mended += bool(rubric is not None and rubric.mended)
        self.cut += len(rubric.cut) if rubric is not None else 0
        present = [r for r in rewards if r is not None]
        if verdicts is None or len(present) < min(2, len(rewards)):
            self.missing += 1
            self.last_fault = str(fault) if fault else "fewer than two rollouts with a reward"
            return None
        stats = group_stats(rewards, verdicts.teacher_scores, verdicts.student_scores)
        self.judged += 1
        if rubric is not None:
            found = lint_group(group, rubric, verdicts)
            self.lint.update(finding.rule for finding in found or ())
            self.lint_failed += found is None
            self._book_categories(rubric, verdicts)
        self.rewards += present
        self.zero_variance += stats.zero_variance
        self.teacher_below_student += stats.teacher_below_student
        without = [answer_of(rollout.text) is None for rollout in group.rollouts]
        self.no_answer += sum(without)
        self.missing_rollouts += sum(r is None and not w for r, w in zip(rewards, without, strict=True))
        if stats.teacher_mean is not None:
            self.teacher_means.append(stats.teacher_mean)
        if verdicts.coverage is not None:
            self.coverages.append(verdicts.coverage)
        if verdicts.agreement is not None:
            self.agreements.append(verdicts.agreement)
        for name, values in verdicts.parts.items():
            self.parts.setdefault(name, []).extend(v for v in values if v is not None)
        return rewards

    def metrics(self, expected_groups: int) -> dict[str, float]:
        """The metrics of a step that had so many groups, those included whose generation failed."""
        metrics: dict[str, float] = {
            "groups/judged": self.judged,
            "groups/missing": expected_groups - self.judged,
            "groups/zero_variance": self.zero_variance,
            "groups/no_answer_rollouts": self.no_answer,
            "groups/missing_rollouts": self.missing_rollouts,
            "rubrics/mended": self.mended,
            "answers/cut": self.cut,
        }
        if self.tokens:
            metrics["rollouts/tokens_mean"] = _mean(self.tokens)
            metrics["rollouts/fence_attempts"] = self.attempts.total() / len(self.tokens)
        if self.seconds:
            metrics |= {"judge/seconds_mean": _mean(self.seconds), "judge/seconds_max": max(self.seconds)}
            metrics["judge/waited_seconds"] = max(0.0, self.ended - self.arrived)
        metrics |= {f"lint/{rule}": self.lint[rule] for rule in RULES}
        if self.lint_failed:
            metrics["lint/failed"] = self.lint_failed
        metrics |= self._category_metrics()
        if self.coverages:
            metrics["judge/coverage_mean"] = _mean(self.coverages)
        if self.agreements:
            metrics["judge/agreement_mean"] = _mean(self.agreements)
        if self.rewards:
            metrics |= {
                "reward/mean": _mean(self.rewards),
                "reward/max": max(self.rewards),
                "reward/min": min(self.rewards),
            }
            metrics |= {f"reward/{name}_mean": _mean(values) for name, values in self.parts.items() if values}
        if self.teacher_means:
            metrics["reward/teacher_mean"] = _mean(self.teacher_means)
            metrics["reward/teacher_below_student"] = self.teacher_below_student / self.judged
        return metrics

    def _book_rollouts(self, group: Group) -> None:
        asked = [content for message in group.prompt if isinstance(content := message.content, str)]
        innocent = {kind for text in (*asked, *group.teacher_answers) if (kind := fence_attempt(text)) is not None}
        for rollout in group.rollouts:
            counted = rollout.usage.completion_tokens if rollout.usage is not None else 0
            self.tokens.append(counted or estimate_tokens(rollout.text))
            shown = answer_of(rollout.text)  # no judge is shown the thinking
            kind = fence_attempt(shown, innocent) if shown is not None else None
            if kind is not None:
                self.attempts[kind] += 1

    def _book_categories(self, rubric: RubricRecord, verdicts: VerdictRecord) -> None:
        rubrics = rubric.by_rollout
        for own in rubrics.values():
            for criterion in own.rubrics:
                self._category(criterion.category).weight += criterion.points
        for answer in verdicts.answers:
            own = rubrics.get(answer.whose_rubric)
            if own is None or len(answer.judgement) != len(own.rubrics):
                continue
            for criterion, mark in zip(own.rubrics, answer.judgement, strict=True):
                if mark is not None:
                    category = self._category(criterion.category)
                    category.judged[answer.source] += 1
                    category.met[answer.source] += mark

    def _category(self, name: str) -> CategoryTally:
        return self.categories.setdefault(_SLUGS.get(name, OTHER), CategoryTally())

    def _category_metrics(self) -> dict[str, float]:
        total = sum(category.weight for category in self.categories.values())
        metrics = {}
        for name in sorted(self.categories):
            category = self.categories[name]
            metrics[f"categories/{name}/weight_share"] = category.weight / total
            for source, called in (("student", "pass_rate"), ("teacher", "teacher_pass_rate")):
                if category.judged[source]:
                    metrics[f"categories/{name}/{called}"] = category.met[source] / category.judged[source]
        return metrics


def _mean(values: list[float] | list[int]) -> float:
    return sum(values) / len(values)

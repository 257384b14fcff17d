"""Watch for a student that learns to please its judge: a second judge on a share of the groups, and thresholds.

Nothing here touches a reward. The second judge reads the group's own rubric and answers after the first has judged
them; where it fails its verdicts are missing, and a step waits ``monitor.wait_s`` for it at most.
"""

from __future__ import annotations

import asyncio
import hashlib
import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import fmean
from typing import Any, NamedTuple

from ropd_cli.config import JudgeConfig, MonitorConfig, RopdConfig
from ropd_cli.errors import RopdError
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.shared import Shared
from ropd_cli.method.prompts import Templates
from ropd_cli.method.scoring import coverage, judged_for_all, score
from ropd_cli.records.files import read_journal, write_records
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Group, RubricRecord, VerdictRecord
from ropd_cli.stages.verifier import Verifier
from ropd_cli.training.run_dir import RunDir

Row = tuple[bool | None, ...]
"""Judgements of one answer, shape (K,)."""


@dataclass
class Comparison:
    """Rollouts under two judges and the same rubrics."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    """Scores of the same rollouts, both in [0, 1]."""
    judgements: int = 0
    agreed: int = 0
    pairs: int = 0
    """Of rollouts of one group to which the first judge gives different scores."""
    in_order: float = 0.0
    """Of these pairs, those in the same order by the second judge; a tie of its is worth a half."""

    def add(self, first: VerdictRecord, second: VerdictRecord, rubric: RubricRecord, min_coverage: float = 0.0) -> None:
        """One group. Rollouts that one of the two has not judged are left out.

        Scores are computed anew, over the criteria that both judged for all these rollouts, so that what one judge
        declined to say does not look like another opinion. Less than ``min_coverage`` of the weight is no score.
        """
        others = {(a.index, a.whose_rubric): a for a in second.answers if a.source == "student"}
        by_rubric: dict[int | None, list[tuple[Row, Row]]] = {}
        for own in first.answers:
            other = others.get((own.index, own.whose_rubric)) if own.source == "student" else None
            if other is None or not own.judgement or len(own.judgement) != len(other.judgement):
                continue
            if own.score is None or other.score is None:
                continue
            marks = [pair for pair in zip(own.judgement, other.judgement, strict=True) if None not in pair]
            self.judgements += len(marks)
            self.agreed += sum(a == b for a, b in marks)
            by_rubric.setdefault(own.whose_rubric, []).append((own.judgement, other.judgement))
        scores = []
        for whose, rows in by_rubric.items():
            weights_K = rubric.by_rollout[whose].weights_K
            counted_K = judged_for_all([row for pair in rows for row in pair])
            if any(counted_K) and coverage(counted_K, weights_K) >= min_coverage:
                scores += [(_score(a, weights_K, counted_K), _score(b, weights_K, counted_K)) for a, b in rows]
        self.first += [a for a, _ in scores]
        self.second += [b for _, b in scores]
        for (a, x), (b, y) in combinations(scores, 2):
            if a != b:
                self.pairs += 1
                self.in_order += 0.5 if x == y else float((a > b) == (x > y))

    def metrics(self) -> dict[str, float]:
        """Means and shares; none where nothing could be compared."""
        metrics: dict[str, float] = {}
        if self.first:
            metrics["monitor/first_mean"], metrics["monitor/second_mean"] = fmean(self.first), fmean(self.second)
            metrics["monitor/gap"] = metrics["monitor/first_mean"] - metrics["monitor/second_mean"]
        if self.judgements:
            metrics["monitor/agreement"] = self.agreed / self.judgements
        if self.pairs:
            metrics["monitor/rank_agreement"] = self.in_order / self.pairs
        return metrics


def _score(row: Row, weights_K: tuple[int, ...], counted_K: tuple[bool, ...]) -> float:
    value = score(row, weights_K, counted_K)
    assert value is not None  # only criteria count that have a judgement
    return value


@dataclass(frozen=True)
class SharedGroup:
    """A group of the second judge's share; without ``task`` it is not asked about it, because it is silent."""

    group: Group
    rubric: RubricRecord
    verdicts: VerdictRecord
    task: asyncio.Task[VerdictRecord] | None


class SecondJudge:
    """Judges a share of the groups again, beside the training, and writes its verdicts to ``monitor/step-N``.

    Where it says nothing in a whole step it is silent: from then on one group at a time is put to it, for as long as it
    takes and without anybody waiting, until it answers.
    """

    def __init__(self, config: RopdConfig, run: RunDir, cache: ReplyCache, shared: Shared) -> None:
        self._settings, self._run, self._seed = config.monitor, run, config.seed
        # its own limits and servers: the verifier may be at the same URL, and must not wait where this one fails
        client = ChatClient.open(config.monitor.judge, cache=cache, shared=shared.apart())
        self._verifier = Verifier(client, second_settings(config))
        self._say = shared.say
        self._groups: dict[str, SharedGroup] = {}
        """By group id."""
        self._is_silent = False
        self._probe: asyncio.Task[VerdictRecord] | None = None
        """The one question that a silent judge has at a time."""

    def wants(self, step: int, uid: str) -> bool:
        """Whether a group is of the share: the same groups whenever the same step is made."""
        drawn = hashlib.sha256(f"{self._seed} {step} {uid}".encode()).digest()[:8]
        return int.from_bytes(drawn, "big") < self._settings.share * 2**64

    def start(self, group_id: str, group: Group, rubric: RubricRecord, verdicts: VerdictRecord) -> None:
        """Have a group judged that the first judge is through with; one that no judge was shown is left out."""
        if not any(answer.source == "student" and answer.judgement for answer in verdicts.answers):
            return
        self._listen()
        task = None
        if not self._is_silent or self._probe is None:
            task = asyncio.create_task(self._verifier.verdicts(group, rubric, partial=True))
            if self._is_silent:
                self._probe = task
        self._groups[group_id] = SharedGroup(group, rubric, verdicts, task)

    def _listen(self) -> None:
        """Whether a silent judge has answered meanwhile."""
        if self._probe is not None and self._probe.done():
            has_answered = not self._probe.cancelled() and self._probe.exception() is None
            self._probe, self._is_silent = None, not has_answered

    async def finish(self, step: int, taken: Sequence[str]) -> dict[str, float]:
        """The metrics of a step that takes these groups, which are written; waits for what is under way, but not for
        long."""
        began = time.monotonic()
        entries = [self._groups.pop(group_id) for group_id in taken if group_id in self._groups]
        tasks = [entry.task for entry in entries if entry.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=0 if self._is_silent else self._settings.wait_s)
        over = [task for task in tasks if task is not self._probe or task.done()]
        for task in over:
            task.cancel()
        await asyncio.gather(*over, return_exceptions=True)
        compared, missing, why = Comparison(), 0, ""
        records = []
        for entry in entries:
            second, fault = self._outcome(entry.task)
            if second is None:
                missing, why = missing + 1, fault
            else:
                compared.add(entry.verdicts, second, entry.rubric, self._verifier.settings.min_coverage)
            verdicts_json = second.to_json() if second is not None else None
            records.append({"step": step, "uid": entry.group.uid, "verdicts": verdicts_json, "error": fault or None})
        self._run.monitor_file(step).unlink(missing_ok=True)  # of an earlier try at this step
        if records:
            with RecordWriter(self._run.monitor_file(step)) as writer:
                for record in records:
                    writer.append(record)
        self._note_silence(step, len(entries), missing, why)
        metrics = {"monitor/judged": len(entries) - missing, "monitor/missing": missing}
        return metrics | {"monitor/waited_seconds": time.monotonic() - began} | compared.metrics()

    def counters(self) -> dict[str, float]:
        """What its endpoint did in this process so far."""
        stats = self._verifier.client.stats
        counters: dict[str, float] = {"monitor/requests_sent": stats.requests_sent}
        if stats.cost_usd is not None:
            counters["monitor/cost_usd"] = stats.cost_usd
        return counters

    async def close(self) -> None:
        """End what is under way, and close the connections."""
        tasks = [entry.task for entry in self._groups.values() if entry.task is not None]
        tasks += [self._probe] if self._probe is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._verifier.client.close()

    def _outcome(self, task: asyncio.Task[VerdictRecord] | None) -> tuple[VerdictRecord | None, str]:
        if task is None:
            return None, "not asked: the second judge has not answered since an earlier step"
        if task.cancelled() or not task.done():
            return None, f"not judged within {self._settings.wait_s:g} s of the step's last group (monitor.wait_s)"
        fault = task.exception()
        if fault is None:
            return task.result(), ""
        return None, str(fault) if isinstance(fault, RopdError) else repr(fault)

    def _note_silence(self, step: int, groups: int, missing: int, why: str) -> None:
        if not groups:
            return
        self._listen()
        was, self._is_silent = self._is_silent, missing == groups
        if self._is_silent and not was:
            self._say(
                f"step {step}: the second judge said nothing of {groups} groups ({why}); rewards do not depend on it, "
                "and the run does not wait for it until it answers"
            )


def judges_since(config: RopdConfig, run: RunDir) -> int:
    """The first step that the two judges of a configuration judge, written down for the next start: where one of them
    has changed it is the next step."""
    settings, verifier, second = config.judge, config.verifier, config.monitor.judge
    own = Templates.load(second_settings(config)).verifier_hash
    parts = [
        *((each.base_url, each.model, each.sampling.model_dump()) for each in (verifier, second)),
        *(Templates.load(settings).verifier_hash, own, settings.form, settings.blind, settings.chunk_size),
    ]
    pair = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    known = [row for _, row in read_journal(run.judges)] if run.judges.is_file() else []
    done = max((row["step"] for row in run.metric_rows()), default=0)
    if not known or known[-1]["judges"] != pair:
        known.append({"step": done + 1, "judges": pair})
        write_records(run.judges, known)
    return min(known[-1]["step"], done + 1)


def second_settings(config: RopdConfig) -> JudgeConfig:
    """The second judge's settings: those of the first, but for the templates."""
    return config.judge.model_copy(update={"templates": config.monitor.templates or config.judge.templates})


class Rule(NamedTuple):
    """What a threshold of ``monitor.warn`` and ``monitor.stop`` looks at: a metric, as a mean over the last window."""

    metric: str
    words: str
    """Of the alarm; the value is put in."""
    from_start: Callable[[float, float], float | None] | None = None
    """Where the first window counts too: the value by (mean of the first, mean of the last)."""
    is_passed: Callable[[float, float], bool] = operator.gt
    """Of value and threshold."""
    of_two: bool = False
    """Whether the metric compares two judges."""


RULES = {
    "gap_growth": Rule(
        "monitor/gap",
        "the gap between the first judge and the second has grown by {:.2f} since the first steps: the student may be "
        "learning to please the first",
        from_start=lambda first, last: last - first,
        of_two=True,
    ),
    "rank_agreement": Rule(
        "monitor/rank_agreement",
        "the two judges put only {:.0%} of the pairs of rollouts in the same order",
        is_passed=operator.lt,
        of_two=True,
    ),
    "length_ratio": Rule(
        "rollouts/tokens_mean",
        "rollouts are {:.2f} times as long as in the first steps",
        from_start=lambda first, last: last / first if first > 0 else None,
        is_passed=lambda value, threshold: value > threshold or value < 1 / threshold,
    ),
    "fence_attempts": Rule(
        "rollouts/fence_attempts", "{:.1%} of the rollouts try to leave their fence or to give the judge orders"
    ),
}


@dataclass(frozen=True)
class Alarm:
    """A figure that has passed its threshold."""

    step: int
    rule: str
    value: float
    threshold: float
    action: str
    """"warn" or "stop"."""

    @property
    def text(self) -> str:
        """In words."""
        words = RULES[self.rule].words.format(self.value)
        return f"step {self.step}: {words} (monitor.{self.action}.{self.rule} {self.threshold:g})"

    def to_json(self) -> dict[str, Any]:
        """For ``monitor.jsonl``."""
        return asdict(self) | {"message": self.text}


class Thresholds:
    """Holds the figures of a run against its thresholds, each as a mean over ``window`` steps."""

    def __init__(
        self, settings: MonitorConfig, earlier: Iterable[Mapping[str, Any]] = (), *, judges_since: int = 1
    ) -> None:
        """``earlier``: the rows of the steps that are finished. ``judges_since``: the first step with the two judges as
        they are; with others before there is no baseline."""
        self._settings = settings
        self._series: dict[str, list[float]] = {name: [] for name in RULES}
        self._passed: set[tuple[str, str]] = set()
        of_two = {rule.metric for rule in RULES.values() if rule.of_two}
        for row in earlier:
            if row["step"] < judges_since:
                row = {name: value for name, value in row.items() if name not in of_two}
            self.check(row["step"], row)  # alarms of these steps are not given again

    def check(self, step: int, metrics: Mapping[str, float]) -> tuple[dict[str, float], list[Alarm]]:
        """The windows' values with this step's metrics, as metrics too, and the thresholds that are passed now and
        were not the step before."""
        shown: dict[str, float] = {}
        alarms: list[Alarm] = []
        for name, rule in RULES.items():
            value = metrics.get(rule.metric)
            if value is None:
                continue  # what was passed stays passed: nothing new is known
            self._series[name].append(value)
            value = self._value(name, rule)
            if value is not None and rule.from_start is not None:
                shown[f"monitor/{name}"] = value
            for action in ("warn", "stop"):
                threshold = getattr(getattr(self._settings, action), name)
                if value is None or threshold is None or not rule.is_passed(value, threshold):
                    self._passed.discard((name, action))
                elif (name, action) not in self._passed:
                    self._passed.add((name, action))
                    alarms.append(Alarm(step, name, value, threshold, action))
        return shown, alarms

    def _value(self, name: str, rule: Rule) -> float | None:
        """The value of a rule; None while too few steps are there."""
        series, window = self._series[name], self._settings.window
        if len(series) < window + (rule.from_start is not None):
            return None
        last = fmean(series[-window:])
        return last if rule.from_start is None else rule.from_start(fmean(series[:window]), last)

"""Judge the groups of a run: the one owner of endpoints, limits, cache, teacher index, group files and counters.

Plain asyncio code; ``verl/agent_loop`` puts it into a Ray actor that all rollout workers call, with the records
``Answer`` and ``Sample`` to it and ``GroupRewards`` and ``Stop`` back. A judged group stays open until a step takes
it, or a refill has left it out: which step that is, is known no sooner.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from ropd_cli.config import RopdConfig
from ropd_cli.errors import RopdError, TrainingError
from ropd_cli.evaluation.samples import Sample
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.shared import Shared
from ropd_cli.method.groups import group_of
from ropd_cli.methods import method_of
from ropd_cli.methods.base import Resources, Rewarded
from ropd_cli.records.files import write_records
from ropd_cli.records.schemas import Answer, Failure, Group, Prompt, load_prompts
from ropd_cli.stages.groups import with_teacher
from ropd_cli.stages.runner import RECORD_ERRORS
from ropd_cli.training.books import Book, keep, restored
from ropd_cli.training.heartbeat import Heartbeat
from ropd_cli.training.monitor import Alarm, SecondJudge, Thresholds, judges_since
from ropd_cli.training.run_dir import RunDir, Stop
from ropd_cli.training.step_metrics import StepTally
from ropd_cli.training.validation import Validator
from ropd_cli.util.concurrency import STOPS
from ropd_cli.util.visible_text import print_out
from ropd_cli.util.yaml_text import load_yaml

OWNER = "ropd_run_judge"
"""The name of the Ray actor."""
REPAIRS = ("tried", "helped", "rejected", "failed")
"""What becomes of attempts to repair a rubric."""
LEFT_OUT = ("tied", "missing")
"""Why a refill replaces a group."""
COUNTERS = ("requests_sent", "cache_hits", "retries", "prompt_tokens", "cached_tokens", "completion_tokens")
"""Of ClientStats, those that are metrics of a step."""


class GroupRewards(NamedTuple):
    """What GRPO is given of a group, one entry a rollout, shape (n,), None for one that is missing; ``rewards`` is None
    where the group could not be judged, and ``error`` says why."""

    rewards: tuple[float | None, ...] | None
    error: str | None = None
    replaced: Mapping[int, str] = {}
    """By rollout: the teacher's answer that takes its place, and has its entry of the rewards."""


class RunJudge:
    """Judges the groups of one run, one call of ``judge`` a group, as many at once as come."""

    def __init__(self, run_dir: str) -> None:
        self._run = RunDir(Path(run_dir))
        self._heartbeat = Heartbeat(self._run.heartbeat)
        self._config = RopdConfig.model_validate(load_yaml(self._run.config.read_text(encoding="utf-8")))
        prompts = self._config.data.prompts
        self._prompts: dict[str, Prompt] = {p.uid: p for p in load_prompts(prompts)} if prompts else {}
        self._method = method_of(self._config)
        self._needs = self._method.needs(self._config)
        index = self._config.data.index if self._needs.teacher_answers else None
        self._index = TeacherIndex.open(Path(index)) if index else None
        count = self._run.prompt_count() or len(self._prompts)
        self._steps_per_epoch = max(1, count // self._config.train.prompts_per_step)
        self._cache = ReplyCache.open(self._config.cache_dir, self._config.cache_max_gb)
        rows = self._run.metric_rows()
        self._spent_usd = self._run.spent_usd()
        self._shared = Shared.of(self._config, self._say, spent_usd=self._spent_usd)
        self._rewarder = self._method.rewarder(
            Resources(self._config, self._cache, self._shared, self._index, self._run.rubrics())
        )
        self._validator = (
            Validator(self._config, self._run, self._cache, self._shared) if self._config.validate.benchmarks else None
        )
        monitored = self._config.monitor.share > 0 and "verifier" in self._needs.roles
        self._second = SecondJudge(self._config, self._run, self._cache, self._shared) if monitored else None
        since = judges_since(self._config, self._run) if monitored else 1
        self._thresholds = Thresholds(self._config.monitor, rows, judges_since=since)
        self._stopped_by: RopdError | None = None
        self._last_fault = ""
        self._closed: list[Book] = []
        """Of the last step that was closed."""
        kept = self._run.kept_books()
        self._open: dict[str, Book] = restored(kept) if kept is not None else {}
        self._judging: set[str] = set()
        self._before = self._counters()
        self._until: dict[str, float] | None = None
        """What the step at hand is counted up to, where the next one has begun."""

    async def judge(self, group_id: str, step: int, uid: str, rollouts: Sequence[Answer]) -> GroupRewards:
        """Rewards of the rollouts of one prompt, which ``step`` has sampled. The group stays open until a step takes
        it (``close_step``)."""
        return await self.judge_group(group_id, step, self._group(self._prompts[uid], rollouts))

    def _group(self, prompt: Prompt, rollouts: Sequence[Answer], teacher_answers: Sequence[str] = ()) -> Group:
        with_rubric = self._config.judge.rubrics != "induced"
        return group_of(prompt, tuple(rollouts), tuple(teacher_answers), with_rubric=with_rubric)

    def _epoch(self, step: int) -> int:
        """Which of more than ``judge.m`` teacher answers a step's groups get."""
        return (step - 1) // self._steps_per_epoch if self._config.judge.rotate_answers else 0

    async def judge_group(self, group_id: str, step: int, group: Group) -> GroupRewards:
        """As ``judge``; a group that has its teacher answers keeps them."""
        self._judging.add(group_id)
        arrived = time.monotonic()
        rewarded: Rewarded | None = None
        fault: RopdError | None = self._stopped_by
        try:
            if fault is None:
                if not group.teacher_answers:
                    m, seed = self._needs.teacher_answers, self._config.seed
                    group = with_teacher(group, self._index, m, seed=seed, epoch=self._epoch(step))
                rewarded = await self._rewarder.reward(group)
        except (*STOPS, *RECORD_ERRORS) as caught:
            fault = caught
            if isinstance(caught, STOPS):  # no further group can be judged either
                self._stopped_by = self._stopped_by or caught
        judged = time.monotonic()
        rubric, verdicts = (rewarded.rubric, rewarded.verdicts) if rewarded is not None else (None, None)
        error = Failure(stage="judge", type=type(fault).__name__, message=str(fault)).to_json() if fault else None
        record = {
            "step": step,
            "sampled_step": step,
            "uid": group.uid,
            "prompt": [m.model_dump(mode="json") for m in group.prompt],
            "raw_prompt_hash": group.raw_prompt_hash,
            "answer": group.answer,
            "teacher_answers": list(group.teacher_answers),
            "rollouts": [r.to_json() for r in group.rollouts],
            "rubric": rubric.to_json() if rubric else None,
            "verdicts": verdicts.to_json() if verdicts else None,
            "seconds": round(judged - arrived, 4),
            "error": error,
        }
        replaced = rewarded.replaced if rewarded is not None else {}
        if self._method.replaces:
            record["replaced"] = sorted(replaced)
            record["too_long"] = rewarded.too_long if rewarded is not None else 0
        said = str(fault) if fault else None
        book = Book(group_id, record, group, rubric, verdicts, said, arrived, judged)
        book.repair = rewarded.repair if rewarded is not None else None
        rewards = book.count()
        self._open[group_id] = book
        self._judging.discard(group_id)
        self._last_fault = book.tally.last_fault or self._last_fault
        second = self._second if rewards is not None else None
        if second is not None and rubric is not None and verdicts is not None and second.wants(step, group.uid):
            second.start(group_id, group, rubric, verdicts)
        self._keep_spent()
        self._heartbeat.beat()
        given = verdicts.for_update if verdicts is not None and rewards is not None else None
        return GroupRewards(given, book.tally.last_fault or None, replaced)

    async def demonstrations(self, group_ids: Sequence[str]) -> dict[str, str]:
        """A teacher answer to each of these groups, by their ids."""
        return {group_id: self._open[group_id].group.teacher_answers[0] for group_id in group_ids}

    async def missing(self, taken: Sequence[str]) -> int:
        """How many of these groups have no rewards."""
        return sum(group_id not in self._open or self._open[group_id].rewards is None for group_id in taken)

    async def sampled(self, group_ids: Collection[str]) -> bool:
        """Whether all rollouts of these groups are there, judged or not."""
        return all(group_id in self._judging or group_id in self._open for group_id in group_ids)

    async def unjudged(self, why: str) -> None:
        """Take note that a group has failed before it could be judged."""
        self._last_fault = why

    async def close_step(
        self,
        step: int,
        taken: Sequence[str],
        left_out: Mapping[str, str] | None = None,
        deferred: Mapping[str, Sequence[float | None]] | None = None,
    ) -> dict[str, float]:
        """Metrics of a step that takes these groups, by their ids; writes its group file.

        An id without a group is one whose generation failed. ``left_out``: groups that a refill has replaced, and why;
        they are written, marked, and count in no mean. ``deferred``: rewards that are known only now, by group, shape
        (n,) each. Where a figure passes one of the ``monitor.stop`` thresholds, the run is to stop: ``stopped`` says
        so from now on.
        """
        tally = StepTally()
        records = []
        for group_id, rewards in (deferred or {}).items():
            self._open[group_id].settle(tuple(rewards))
        self._closed = [self._open.pop(group_id) for group_id in taken if group_id in self._open]
        for book in self._closed:
            tally.add(book.tally)
            records.append({**book.record, "step": step, "rewards": book.rewards, "left_out": None})
        for group_id, why in (left_out or {}).items():
            if (other := self._open.pop(group_id, None)) is not None:
                records.append({**other.record, "step": step, "rewards": other.rewards, "left_out": why})
        write_records(self._run.group_file(step), records)
        metrics = tally.metrics(len(taken))
        if left_out is not None:
            metrics |= {f"groups/left_out_{why}": 0 for why in LEFT_OUT} | Counter(
                f"groups/left_out_{why}" for why in left_out.values()
            )
        if self._method.replaces:
            metrics["rollouts/replaced"] = sum(len(book.record["replaced"]) for book in self._closed)
            metrics["rollouts/too_long_to_replace"] = sum(book.record["too_long"] for book in self._closed)
        if self._config.judge.repair:
            metrics |= {f"rubrics/repair_{how}": tally.repairs[how] for how in REPAIRS}
        if self._config.judge.reuse == "epoch":
            metrics |= {f"rubrics/{how}": tally.counts[f"rubrics/{how}"] for how in ("reused", "renewed")}
        if self._second is not None:
            metrics |= await self._second.finish(step, taken)
        counters, self._until = self._until or self._counters(), None
        metrics |= {name: count - self._before.get(name, 0) for name, count in counters.items()}
        self._before = counters
        windows, alarms = self._thresholds.check(step, metrics)
        for alarm in alarms:
            self._alarm(alarm)
        self._keep_spent()
        return metrics | windows

    async def keep_open(self, path: Path, *, with_last_step: bool = False) -> None:
        """Write the groups that are judged and that no step has taken, beside a checkpoint that has them in flight.
        ``with_last_step``: also those of the step that was closed last, which is to be made again."""
        keep([*(self._closed if with_last_step else ()), *self._open.values()], path)

    async def grade(self, step: int, sample: Sample) -> float | None:
        """The score of an answer of a validation; None where it could not be graded."""
        assert self._validator is not None
        self._heartbeat.beat()
        return await self._validator.grade(step, sample)

    async def validated(self, step: int) -> dict[str, float]:
        """Metrics of a validation whose answers are all there."""
        assert self._validator is not None
        self._keep_spent()
        return self._validator.finish(step)

    async def stopped(self) -> Stop | None:
        """What makes judging on pointless; None while nothing does."""
        fault = self._stopped_by
        return Stop(type(fault).__name__, fault.message, fault.hint) if fault else None

    async def last_fault(self) -> str:
        """Why the last group that could not be judged could not be."""
        return self._last_fault

    async def close(self) -> None:
        """Close endpoints and files."""
        self._keep_spent()
        if self._validator is not None:
            await self._validator.close()
        if self._second is not None:
            await self._second.close()
        await self._rewarder.close()
        self._cache.close()
        if self._index is not None:
            self._index.close()

    def _say(self, line: str) -> None:
        """To the training's log, and to the parent process, which shows it."""
        print_out(line)
        with open(self._run.notes, "a", encoding="utf-8") as notes:
            notes.write(line + "\n")

    def _keep_spent(self) -> None:
        """Write down what the run has cost, so that a killed one still knows."""
        spent = self._shared.budget.spent_usd
        if spent != self._spent_usd:
            self._spent_usd = spent
            self._run.keep_spent(spent)

    def _counters(self) -> dict[str, float]:
        """What the endpoints did in this process so far, as metrics."""
        each = [client.stats for client in self._rewarder.clients.values()]
        counters: dict[str, float] = {f"judge/{name}": sum(getattr(stats, name) for stats in each) for name in COUNTERS}
        counters["judge/pauses"] = self._shared.pauses
        if any(stats.cost_usd is not None for stats in each):
            counters["judge/cost_usd"] = sum(stats.cost_usd or 0.0 for stats in each)
        if self._second is not None:
            counters |= self._second.counters()
        return counters

    def _alarm(self, alarm: Alarm) -> None:
        """Write an alarm down, and say it; the first that stops the run does."""
        with open(self._run.alarms, "ab") as file:
            file.write(orjson.dumps(alarm.to_json(), option=orjson.OPT_APPEND_NEWLINE))
        self._say(f"monitor: {alarm.text}")
        if alarm.action == "stop" and self._stopped_by is None:
            self._stopped_by = TrainingError(
                alarm.text,
                f"look at it by: ropd inspect-rubrics {self._run.path} --step {alarm.step}; to go on all the same, "
                f"raise monitor.stop.{alarm.rule} or leave it out",
            )

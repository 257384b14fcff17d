"""Judge the groups of a run: the one owner of endpoints, limits, cache, teacher index, group files and counters.

Plain asyncio code; ``verl/agent_loop`` puts it into a Ray actor that all rollout workers call, with the records
``Answer`` and ``Sample`` to it and ``GroupRewards`` and ``Stop`` back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from ropd_cli.config import RopdConfig
from ropd_cli.errors import RopdError, TrainingError
from ropd_cli.evaluation.samples import Sample
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ClientStats
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.shared import Shared
from ropd_cli.method.groups import group_of
from ropd_cli.method.prompts import Templates
from ropd_cli.method.rewards import RewardMixer
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import (
    Answer,
    AnswerVerdict,
    Failure,
    Group,
    Prompt,
    RubricRecord,
    VerdictRecord,
    load_prompts,
)
from ropd_cli.stages.groups import with_teacher
from ropd_cli.stages.repair import repair
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.runner import RECORD_ERRORS
from ropd_cli.stages.verifier import Verifier
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
COUNTERS = ("requests_sent", "cache_hits", "retries", "prompt_tokens", "cached_tokens", "completion_tokens")
"""Of ClientStats, those that are metrics of a step."""


class GroupRewards(NamedTuple):
    """What a group's rollouts are worth, one entry a rollout, shape (n,), None for one that is missing; ``rewards`` is
    None where the group could not be judged, and ``error`` says why."""

    rewards: tuple[float | None, ...] | None
    error: str | None = None


class RunJudge:
    """Judges the groups of one run, one call of ``judge`` a group, as many at once as come."""

    def __init__(self, run_dir: str) -> None:
        self._run = RunDir(Path(run_dir))
        self._heartbeat = Heartbeat(self._run.heartbeat)
        self._config = RopdConfig.model_validate(load_yaml(self._run.config.read_text(encoding="utf-8")))
        self._prompts: dict[str, Prompt] = {p.uid: p for p in load_prompts(str(self._config.data.prompts))}
        self._index = TeacherIndex.open(Path(str(self._config.data.index)))
        count = self._run.prompt_count() or len(self._prompts)
        self._steps_per_epoch = max(1, count // self._config.train.prompts_per_step)
        self._mixer = RewardMixer.load(self._config.reward)
        self._cache = ReplyCache.open(self._config.cache_dir, self._config.cache_max_gb)
        rows = self._run.metric_rows()
        self._spent_usd = self._run.spent_usd()
        self._shared = Shared.of(self._config, self._say, spent_usd=self._spent_usd)
        settings, templates = self._config.judge, Templates.load(self._config.judge)
        rubricator, verifier = (
            ChatClient.open(endpoint, cache=self._cache, shared=self._shared)
            for endpoint in (self._config.rubricator, self._config.verifier)
        )
        self._rubricator = Rubricator(rubricator, settings, templates)
        self._verifier = Verifier(verifier, settings, templates, self._mixer)
        self._validator = (
            Validator(self._config, self._run, self._cache, self._shared) if self._config.validate.benchmarks else None
        )
        monitored = self._config.monitor.share > 0 and self._mixer.needs_judges
        self._second = SecondJudge(self._config, self._run, self._cache, self._shared) if monitored else None
        since = judges_since(self._config, self._run) if monitored else 1
        self._thresholds = Thresholds(self._config.monitor, rows, judges_since=since)
        self._stopped_by: RopdError | None = None
        self._steps: dict[int, StepTally] = {}
        self._writers: dict[int, RecordWriter] = {}

    async def judge(self, step: int, uid: str, rollouts: Sequence[Answer]) -> GroupRewards:
        """Rewards of one prompt's rollouts. The group is written to the run directory, judged or not."""
        tally, began = self._tally(step), time.monotonic()
        tally.arrived = began
        group = group_of(self._prompts[uid], tuple(rollouts), with_rubric=self._config.judge.rubrics != "induced")
        rubric: RubricRecord | None = None
        verdicts: VerdictRecord | None = None
        fault: RopdError | None = self._stopped_by
        try:
            if fault is None:
                epoch = (step - 1) // self._steps_per_epoch
                group = with_teacher(group, self._index, self._config.judge.m, seed=self._config.seed, epoch=epoch)
                rubric, verdicts = await self._judged(group, tally)
        except (*STOPS, *RECORD_ERRORS) as caught:
            fault = caught
            if isinstance(caught, STOPS):  # no further group can be judged either
                self._stopped_by = self._stopped_by or caught
        seconds = time.monotonic() - began
        tally.values["judge/seconds_mean"].append(seconds)
        tally.ended = time.monotonic()
        rewards = tally.book(group, rubric, verdicts, fault)
        second = self._second if rewards is not None else None
        if second is not None and rubric is not None and verdicts is not None and second.wants(step, uid):
            second.start(step, group, rubric, verdicts)
        error = Failure(stage="judge", type=type(fault).__name__, message=str(fault)).to_json() if fault else None
        self._writer(step).append(
            {
                "step": step,
                "uid": group.uid,
                "prompt": [m.model_dump(mode="json") for m in group.prompt],
                "raw_prompt_hash": group.raw_prompt_hash,
                "answer": group.answer,
                "teacher_answers": list(group.teacher_answers),
                "rollouts": [r.to_json() for r in group.rollouts],
                "rubric": rubric.to_json() if rubric else None,
                "verdicts": verdicts.to_json() if verdicts else None,
                "rewards": rewards,
                "seconds": round(seconds, 4),
                "error": error,
            }
        )
        self._keep_spent()
        self._heartbeat.beat()
        return GroupRewards(rewards, str(fault) if fault else None)

    async def step_metrics(self, step: int, expected_groups: int) -> dict[str, float]:
        """Metrics of a step whose groups are all over; closes its group file. Where a figure passes one of the
        ``monitor.stop`` thresholds, the run is to stop: ``stopped`` says so from now on."""
        tally = self._tally(step)
        writer = self._writers.pop(step, None)
        if writer is not None:
            writer.close()
        metrics = tally.metrics(expected_groups)
        if self._config.judge.repair:
            metrics |= {f"rubrics/repair_{how}": tally.repairs[how] for how in REPAIRS}
        if self._second is not None:
            metrics |= await self._second.finish(step)
        metrics |= {name: count - tally.before.get(name, 0) for name, count in self._counters().items()}
        windows, alarms = self._thresholds.check(step, metrics)
        for alarm in alarms:
            self._alarm(alarm)
        self._keep_spent()
        return metrics | windows

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

    async def last_fault(self, step: int) -> str:
        """Why the last group of a step that failed did so."""
        return self._tally(step).last_fault

    async def close(self) -> None:
        """Close endpoints and files."""
        self._keep_spent()
        for writer in self._writers.values():
            writer.close()
        if self._validator is not None:
            await self._validator.close()
        if self._second is not None:
            await self._second.close()
        await self._rubricator.client.close()
        await self._verifier.client.close()
        self._cache.close()
        self._index.close()

    async def _judged(self, group: Group, tally: StepTally) -> tuple[RubricRecord | None, VerdictRecord]:
        """The group's rubric and verdicts; no rubric where its rewards need no judge."""
        if not self._mixer.needs_judges:
            return None, await self._unjudged(group)
        block = self._rubricator.block(group)
        rubric = await self._rubricator.rubric(group, block=block, partial=True)
        verdicts = await self._verifier.verdicts(group, rubric, block=block, partial=True)
        if not self._config.judge.repair:
            return rubric, verdicts
        final = await repair(group, rubric, verdicts, self._rubricator, self._verifier, block)
        if final.outcome is not None:
            tally.repairs.update(("tried", final.outcome))
        return final.rubric, final.verdicts

    async def _unjudged(self, group: Group) -> VerdictRecord:
        """The rewards alone: no verdicts, all scores missing."""
        n = len(group.rollouts)
        mixed = await self._mixer.mix(group, [None] * n)
        return VerdictRecord(
            uid=group.uid,
            raw_prompt_hash=group.raw_prompt_hash,
            rubric_hash=None,
            answers=tuple(AnswerVerdict(source="student", index=k, judgement=(), score=None) for k in range(n)),
            rewards=mixed.rewards_G,
            parts=mixed.parts,
            model="",
            template_hash="",
        )

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
        both: list[ClientStats] = [self._rubricator.client.stats, self._verifier.client.stats]
        counters: dict[str, float] = {f"judge/{name}": sum(getattr(stats, name) for stats in both) for name in COUNTERS}
        counters["judge/pauses"] = self._shared.pauses
        if any(stats.cost_usd is not None for stats in both):
            counters["judge/cost_usd"] = sum(stats.cost_usd or 0.0 for stats in both)
        if self._second is not None:
            counters |= self._second.counters()
        return counters

    def _tally(self, step: int) -> StepTally:
        if step not in self._steps:
            self._steps[step] = StepTally(before=self._counters())
        return self._steps[step]

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

    def _writer(self, step: int) -> RecordWriter:
        if step not in self._writers:
            file = self._run.group_file(step)
            file.unlink(missing_ok=True)  # of an earlier try at this step
            self._writers[step] = RecordWriter(file)
        return self._writers[step]

"""The one owner of judging in a run: endpoints, limits, cache, teacher index, group files and counters.

Plain asyncio code; ``agent_loop`` puts it into a Ray actor that all rollout workers call.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ropd_cli.artifacts import RecordWriter
from ropd_cli.config import RopdConfig
from ropd_cli.errors import IndexMissing, JudgeError, ProviderError, RopdError, TooFewAnswers
from ropd_cli.index import TeacherIndex
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.client import ChatClient
from ropd_cli.schemas import Answer, Group, Prompt, RubricRecord, VerdictRecord, load_prompts
from ropd_cli.scoring import group_stats
from ropd_cli.stages.rubricate import rubricate_group
from ropd_cli.stages.verify import verify_group
from ropd_cli.templates import Templates
from ropd_cli.training.run_dir import RunDir

GROUP_FAULTS = (JudgeError, ProviderError, IndexMissing, TooFewAnswers)


@dataclass
class StepTally:
    """What one training step's groups came to."""

    judged: int = 0
    missing: int = 0
    zero_variance: int = 0
    teacher_below_student: int = 0
    no_answer: int = 0
    rewards: list[float] = field(default_factory=list)
    teacher_means: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    last_fault: str = ""
    requests_before: int = 0
    hits_before: int = 0


class RunJudge:
    """Judges the groups of one run, one call of ``judge`` a group, as many at once as come."""

    def __init__(self, run_dir: str) -> None:
        self._run = RunDir(Path(run_dir))
        self._config = RopdConfig.model_validate(yaml.safe_load(self._run.config.read_text()))
        self._prompts: dict[str, Prompt] = {p.uid: p for p in load_prompts(str(self._config.data.prompts))}
        self._index = TeacherIndex.open(Path(str(self._config.data.index)))
        self._templates = Templates.load(self._config.judge.templates)
        cache = ReplyCache.open(self._config.cache_dir)
        self._rubricator = ChatClient.open(self._config.rubricator, cache=cache)
        self._verifier = ChatClient.open(self._config.verifier, cache=cache)
        self._steps: dict[int, StepTally] = {}
        self._writers: dict[int, RecordWriter] = {}

    async def judge(self, step: int, uid: str, rollouts: list[dict[str, Any]]) -> dict[str, Any]:
        """Rewards of one prompt's rollouts: ``{"rewards": [float | None] or None, "error": str | None}``.

        ``rollouts`` holds {"text", "finish_reason"}, shape (n,). The group is written to the run directory
        either way. None for all of them: the group could not be judged and is missing.
        """
        tally, began = self._tally(step), time.monotonic()
        prompt = self._prompts[uid]
        group = Group(
            uid=uid,
            prompt=prompt.messages,
            raw_prompt_hash=prompt.raw_prompt_hash,
            rollouts=tuple(Answer(**rollout) for rollout in rollouts),
        )
        rubric: RubricRecord | None = None
        verdicts: VerdictRecord | None = None
        fault: RopdError | None = None
        try:
            answers = self._index.answers(uid, prompt.raw_prompt_hash, self._config.judge.m)
            group = group.model_copy(update={"teacher_answers": tuple(answers)})
            settings = self._config.judge
            rubric = await rubricate_group(group, self._rubricator, settings, templates=self._templates)
            verdicts = await verify_group(group, rubric, self._verifier, settings, templates=self._templates)
        except GROUP_FAULTS as caught:
            fault = caught
        seconds = time.monotonic() - began
        tally.seconds.append(seconds)
        rewards = self._count(tally, verdicts, fault)
        self._write(step, group, rubric, verdicts, rewards, fault, seconds)
        return {"rewards": rewards, "error": str(fault) if fault else None}

    async def step_metrics(self, step: int, expected_groups: int) -> dict[str, float]:
        """Metrics of a step whose groups are all over; closes its group file."""
        tally = self._tally(step)
        writer = self._writers.pop(step, None)
        if writer is not None:
            writer.close()
        judged = tally.judged
        metrics = {
            "groups/judged": judged,
            "groups/missing": expected_groups - judged,  # also those whose generation failed
            "groups/zero_variance": tally.zero_variance,
            "groups/no_answer_rollouts": tally.no_answer,
            "judge/requests_sent": self._rubricator.stats.requests_sent
            + self._verifier.stats.requests_sent
            - tally.requests_before,
            "judge/cache_hits": self._rubricator.stats.cache_hits + self._verifier.stats.cache_hits - tally.hits_before,
        }
        if tally.seconds:
            metrics |= {"judge/seconds_mean": _mean(tally.seconds), "judge/seconds_max": max(tally.seconds)}
        if tally.rewards:
            metrics |= {
                "reward/mean": _mean(tally.rewards),
                "reward/max": max(tally.rewards),
                "reward/min": min(tally.rewards),
            }
        if tally.teacher_means:
            metrics["reward/teacher_mean"] = _mean(tally.teacher_means)
            metrics["reward/teacher_below_student"] = tally.teacher_below_student / judged
        return metrics

    async def last_fault(self, step: int) -> str:
        """Why the last group of a step that failed did so."""
        return self._tally(step).last_fault

    async def close(self) -> None:
        """Close endpoints and files."""
        for writer in self._writers.values():
            writer.close()
        await self._rubricator.close()
        await self._verifier.close()
        self._index.close()

    def _tally(self, step: int) -> StepTally:
        if step not in self._steps:
            self._steps[step] = StepTally(
                requests_before=self._rubricator.stats.requests_sent + self._verifier.stats.requests_sent,
                hits_before=self._rubricator.stats.cache_hits + self._verifier.stats.cache_hits,
            )
        return self._steps[step]

    def _count(
        self, tally: StepTally, verdicts: VerdictRecord | None, fault: RopdError | None
    ) -> list[float | None] | None:
        """Book a group; its rewards, or None where too few are there to compare (a lone reward has no
        advantage, and verl would take it for one)."""
        rewards = list(verdicts.rewards) if verdicts is not None else []
        present = [r for r in rewards if r is not None]
        if verdicts is None or len(present) < min(2, len(rewards)):
            tally.missing += 1
            tally.last_fault = str(fault) if fault else "fewer than two rollouts with a reward"
            return None
        stats = group_stats(rewards, verdicts.teacher_scores)
        tally.judged += 1
        tally.rewards += present
        tally.zero_variance += stats.zero_variance
        tally.teacher_below_student += stats.teacher_below_student
        tally.no_answer += sum(a.source == "student" and not a.judgement for a in verdicts.answers)
        if stats.teacher_mean is not None:
            tally.teacher_means.append(stats.teacher_mean)
        return rewards

    def _write(
        self,
        step: int,
        group: Group,
        rubric: RubricRecord | None,
        verdicts: VerdictRecord | None,
        rewards: list[float | None] | None,
        fault: RopdError | None,
        seconds: float,
    ) -> None:
        if step not in self._writers:
            file = self._run.group_file(step)
            file.unlink(missing_ok=True)  # of an earlier try at this step
            self._writers[step] = RecordWriter(file)
        error = {"stage": "judge", "type": type(fault).__name__, "message": str(fault)} if fault else None
        self._writers[step].append(
            {
                "step": step,
                "uid": group.uid,
                "prompt": [m.model_dump(mode="json") for m in group.prompt],
                "raw_prompt_hash": group.raw_prompt_hash,
                "teacher_answers": list(group.teacher_answers),
                "rollouts": [r.to_json() for r in group.rollouts],
                "rubric": rubric.to_json() if rubric else None,
                "verdicts": verdicts.to_json() if verdicts else None,
                "rewards": rewards,
                "seconds": round(seconds, 4),
                "error": error,
            }
        )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)

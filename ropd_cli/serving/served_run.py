"""Judge groups that come by HTTP, and write them as a training writes its own: the run directory of a reward server."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.config import RopdConfig
from ropd_cli.errors import InputError, ProviderDown, RopdError
from ropd_cli.index import TeacherIndex
from ropd_cli.judging import MissingGroups, check_answer, indexed_answers, no_prompt
from ropd_cli.methods import check_sections, method_of_rewards
from ropd_cli.records.files import read_journal, write_records
from ropd_cli.records.schemas import Answer, Group, Prompt, digest, load_prompts, prompt_hash
from ropd_cli.records.sent_prompts import check_same, is_same, sent_prompt
from ropd_cli.training.books import book_of
from ropd_cli.training.checks import check_keys, check_method
from ropd_cli.training.judge_owner import GroupRewards, RunJudge
from ropd_cli.training.launch import check_same_run, with_absolute_paths, write_settings
from ropd_cli.training.run_dir import RunDir


def prepare(config: RopdConfig) -> RunDir:
    """Check a configuration and write it into its run directory. Raises InputError for what can't be used, before
    anything is opened."""
    config = with_absolute_paths(config)
    run = RunDir.of(config.out)
    check_sections(config)
    needs = method_of_rewards(config).needs(config)
    if run.verl_config.is_file():
        raise InputError(f"{run.path} holds a training", "choose another directory by --out")
    if run.config.is_file():
        check_same_run(config, run, "is a run")
    check_method(config, load_prompts(config.data.prompts) if config.data.prompts else [])
    check_keys(config, os.environ)
    if needs.teacher_answers and config.data.index:
        TeacherIndex.open(Path(config.data.index)).close()
    run.path.mkdir(parents=True, exist_ok=True)
    write_settings(config, run)
    return run


@dataclass(frozen=True)
class Asked:
    """A prompt whose rollouts are to be judged."""

    prompt: Prompt
    teacher_answers: tuple[str, ...]
    step: int | None
    """The trainer's own; None where it does not say."""


class ServedRun(RunJudge):
    """The groups of a trainer that is not ours.

    A step of the files ends when the trainer's own does, or after ``train.prompts_per_step`` groups where it does not
    say. The file of the step at hand is written with each group, so that a kill loses none.
    """

    def __init__(self, run_dir: RunDir, tell: Callable[[str], None]) -> None:
        self._tell = tell
        super().__init__(str(run_dir.path))
        rows = self._run.metric_rows()
        self._step = rows[-1]["step"] + 1 if rows else 1
        self._by_hash = {prompt_hash(prompt.messages): prompt for prompt in self._prompts.values()}
        self._under_way: dict[str, asyncio.Task[GroupRewards]] = {}
        self._ended: dict[int, set[str]] = {}
        """Ids of the groups of steps that have ended, as far as they were asked for again."""
        self._writing = asyncio.Lock()
        self.counts: Counter[str] = Counter()
        self._told_stop = False
        self._missing = MissingGroups(tell)
        self._last: deque[bool] = deque(maxlen=self._config.train.prompts_per_step)
        """Of the groups judged last: whether each is missing."""
        file = self._run.group_file(self._step)
        for _, record in read_journal(file) if file.is_file() else ():
            fault = record["error"]["message"] if record["error"] else None
            self._open[record["group_id"]] = book_of(record["group_id"], record, fault)

    @property
    def config(self) -> RopdConfig:
        """The resolved configuration."""
        return self._config

    def knows(self, uid: str, prompt: Any) -> bool:
        """Return whether ``data.prompts`` has a prompt of this uid, which is the one sent (None: not sent)."""
        known = self._prompts.get(uid)
        return known is not None and (prompt is None or is_same(known, sent_prompt(prompt)))

    def asked(
        self,
        prompt: str | Sequence[dict[str, Any]] | None,
        *,
        uid: str | None = None,
        answer: str | None = None,
        teacher_answers: Sequence[str] | None = None,
        step: int | None = None,
        **fields: Any,
    ) -> Asked:
        """Return what is asked about: the prompt of ``data.prompts`` by its uid or its text, else the one that is sent.

        Raises InputError where there is none, where uid and text are those of two, or it lacks what the method needs.
        """
        known = self._prompts.get(uid) if uid is not None else None
        if prompt is not None:
            sent = sent_prompt(prompt, uid, answer, **fields)
            if known is not None:
                check_same(known, sent)
            else:
                known = self._by_hash.get(prompt_hash(sent.messages), sent)
        elif known is None:
            raise no_prompt(uid)
        check_answer(self._needs, known)
        if not teacher_answers:
            epoch = self._epoch(step) if step is not None and self._prompts else 0
            m = self._needs.teacher_answers
            teacher_answers = indexed_answers(self._config, self._index, m, known, epoch)
        return Asked(known, tuple(teacher_answers), step)

    async def rewards(self, asked: Asked, rollouts: Sequence[Answer]) -> GroupRewards:
        """Return the rewards of a group. One that is asked for while it is judged is judged once. Raises RopdError, and
        no InputError, where the server is at fault."""
        group = self._group(asked.prompt, rollouts, asked.teacher_answers)
        texts = [rollout.text for rollout in rollouts]
        group_id = digest([group.uid, group.raw_prompt_hash, asked.step, list(asked.teacher_answers), texts])[:32]
        task = self._under_way.get(group_id)
        if task is None:
            task = asyncio.create_task(self._judged(group_id, asked.step, group))
            self._under_way[group_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(group_id, None))
        try:
            return await asyncio.shield(task)
        except InputError as fault:  # the request was checked before: this is the server's own file or setting
            raise RopdError(fault.message, fault.hint) from fault

    async def _judged(self, group_id: str, step: int | None, group: Group) -> GroupRewards:
        if step is not None and step > self._step and self._until is None:
            self._until = self._counters()
        judged = await self.judge_group(group_id, step or self._step, group)
        self._open[group_id].record["group_id"] = group_id
        if isinstance(self._stopped_by, ProviderDown):  # a server outlives an outage
            self._stopped_by = None
            self._shared.wait_anew()
        elif self._stopped_by is not None and not self._told_stop:
            self._told_stop = True
            self._tell(f"no further group is judged until the server is restarted: {self._stopped_by.message}")
        is_missing = judged.rewards is None
        self.counts["groups"] += 1
        self.counts["groups_missing"] += is_missing
        self._last.append(is_missing)
        self._missing.note((judged.error or "no reason is known") if is_missing else None)
        self.counts["rollouts"] += len(group.rollouts)
        if step is not None and step < self._step and group_id in self._groups_of(step):
            del self._open[group_id]  # a client repeats what it asked before a kill
            return judged
        async with self._writing:
            if step is not None and step > self._step:
                await self._end_step([each for each in self._open if each != group_id])
                self._step = step
            while step is None and len(self._open) >= (count := self._config.train.prompts_per_step):
                await self._end_step(list(self._open)[:count])
            self._write_open()
        return judged

    def _groups_of(self, step: int) -> set[str]:
        """Return the ids of the groups in the file of a step that has ended."""
        if step not in self._ended:
            file = self._run.group_file(step)
            records = read_journal(file) if file.is_file() else ()
            self._ended[step] = {record["group_id"] for _, record in records if "group_id" in record}
        return self._ended[step]

    def _write_open(self) -> None:
        if self._open:
            records = [
                {**book.record, "step": self._step, "rewards": book.rewards, "left_out": None}
                for book in self._open.values()
            ]
            write_records(self._run.group_file(self._step), records)

    async def _end_step(self, taken: Sequence[str]) -> None:
        """Write the group file of the step at hand, and its metrics."""
        if not taken:
            return
        metrics = await self.close_step(self._step, taken)
        row = orjson.dumps({"step": self._step, **metrics}, option=orjson.OPT_APPEND_NEWLINE)
        with open(self._run.metrics, "ab") as file:  # noqa: ASYNC230 - a line
            file.write(row)
        self._step += 1

    def health(self) -> dict[str, Any]:
        """Return how the judge does, and the share of missing groups among the last ``train.prompts_per_step``, in
        [0, 1]; None before the first.

        "stopped": no further group is judged until a restart. "paused": an endpoint does not answer, and is waited for.
        "failing": more groups are missing than ``judge.max_failed_fraction``.
        """
        share = sum(self._last) / len(self._last) if self._last else None
        state = "ok"
        if self._stopped_by is not None:
            state = "stopped"
        elif self._shared.paused:
            state = "paused"
        elif share is not None and share > self._config.judge.max_failed_fraction:
            state = "failing"
        return {"judge": state, "missing_share": share}

    def _say(self, line: str) -> None:
        self._tell(line)

    def figures(self) -> dict[str, float]:
        """Return counters since the start, by name, and the dollars that the run has cost."""
        counters = {name.replace("/", "_"): count for name, count in self._counters().items()}
        return {**self.counts, **counters, "spent_usd": self._shared.budget.spent_usd}

    async def close(self) -> None:
        """End the step at hand, and close endpoints and files."""
        under_way = list(self._under_way.values())
        for task in under_way:  # replies that came are in the cache
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        async with self._writing:
            await self._end_step(list(self._open))
        await super().close()

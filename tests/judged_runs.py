"""Run directories as ``launch`` leaves them, with the owner of judging but without verl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ropd_cli.builtin.teacher import write_answer
from ropd_cli.config import load_config
from ropd_cli.index import IndexWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, prompt_hash
from ropd_cli.training.judge_owner import GroupRewards, RunJudge
from ropd_cli.training.run_dir import RunDir

QUESTIONS = {"a": "What is 3 + 4?", "b": "What is 5 + 9?", "odd": "Who wrote Faust?"}


def write_inputs(folder: Path) -> None:
    """Three prompts, and an index with two teacher answers to each."""
    lines = [f'{{"uid": "{uid}", "prompt": "{question}"}}\n' for uid, question in QUESTIONS.items()]
    (folder / "prompts.jsonl").write_text("".join(lines))
    with IndexWriter(folder / "i.db") as index:
        for uid, question in QUESTIONS.items():
            texts = [write_answer(question, n) for n in range(2)] if uid != "odd" else ["Goethe", "Goethe did"]
            answers = tuple(Answer(text=text) for text in texts)
            index.add(
                AnswerRecord(
                    uid=uid, prompt=question, raw_prompt_hash=prompt_hash(question), answers=answers, model="m"
                )
            )


class StepwiseJudge(RunJudge):
    """The owner of judging, for runs in which each group is trained on in the step that sampled it."""

    async def judge(self, step: int, uid: str, rollouts: Sequence[Answer]) -> GroupRewards:
        return await super().judge(f"{step}/{uid}", step, uid, rollouts)

    async def step_metrics(self, step: int, groups: int) -> dict[str, float]:
        """Close a step that has so many groups, those included whose generation failed."""
        ids = [group_id for group_id in self._open if group_id.startswith(f"{step}/")]
        return await self.close_step(step, ids + [f"{step}/nothing-{k}" for k in range(groups - len(ids))])


def judge_of(folder: Path, **settings: Any) -> tuple[StepwiseJudge, RunDir]:
    """The owner of judging of ``folder/run``, by the embedded provider unless ``settings`` (``section__key``) say
    otherwise."""
    flags = {
        "data.prompts": str(folder / "prompts.jsonl"),
        "data.index": str(folder / "i.db"),
        "cache_dir": str(folder / "cache"),
        "judge.m": 2,
        "rubricator.base_url": "builtin://checkable",
        "verifier.base_url": "builtin://checkable",
    }
    flags |= {key.replace("__", "."): value for key, value in settings.items()}
    run = RunDir(folder / "run")
    run.path.mkdir(exist_ok=True)
    run.config.write_text(yaml.safe_dump(load_config(None, flags=flags, environ={}).model_dump(mode="json")))
    return StepwiseJudge(str(run.path)), run

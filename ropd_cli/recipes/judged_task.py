"""The judged half of a training step on a small task, by the built-in provider: rollouts, rubrics and verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropd_cli.config import EndpointConfig, RopdConfig, SamplingConfig, load_config
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.client import ChatClient
from ropd_cli.method.prompts import Templates
from ropd_cli.method.rewards import RewardMixer
from ropd_cli.recipes.small_task import TEACHER_URL, make_index, make_prompts
from ropd_cli.records.outputs import sole_writer
from ropd_cli.stages.rollout import RolloutFiles, rollout_api
from ropd_cli.stages.rubricate import RubricateFiles, rubricate
from ropd_cli.stages.rubricator import Rubricator
from ropd_cli.stages.verifier import Verifier
from ropd_cli.stages.verify import VerifyFiles, verify
from ropd_cli.training.run_dir import Place
from ropd_cli.util.progress import Progress

PROMPTS = 8
STUDENT_URL = f"{TEACHER_URL}?skill=0.5"
"""A student that gets half of its answers right."""


@dataclass(frozen=True)
class Paths:
    """The files of a judged task."""

    path: Path
    prompts = Place("prompts.jsonl")
    held_out = Place("held-out.jsonl")
    teacher = Place("teacher.jsonl")
    index = Place("teacher.index")
    rollouts = Place("rollouts.jsonl")
    rubrics = Place("rubrics.jsonl")
    verdicts = Place("verdicts.jsonl")


def judged_task(out: Path, seed: int, overrides: tuple[str, ...], flags: Mapping[str, Any], progress: Progress) -> Path:
    """Write prompts, teacher answers, rollouts, rubrics and verdicts to a folder, or the rest of them; return the file
    of the verdicts. Raises what the stages raise."""
    config = load_config("quickstart", overrides=overrides, flags={"seed": seed, **flags}, environ={})
    paths = Paths(out)
    with sole_writer(out, directory=True):
        make_prompts("sums", PROMPTS, seed, paths.prompts, paths.held_out)
        asyncio.run(make_index(paths.prompts, paths.teacher, paths.index, config, progress))
        asyncio.run(_judge(paths, config, progress))
    return paths.verdicts


async def _judge(paths: Paths, config: RopdConfig, progress: Progress) -> None:
    student = EndpointConfig(base_url=STUDENT_URL, model="checkable", sampling=SamplingConfig(seed=config.seed))
    texts = Templates.load(config.judge)
    mixer = RewardMixer.load(config.reward, config.seed)
    answers = RolloutFiles(prompts=paths.prompts, out=paths.rollouts)
    of_groups: dict[str, Any] = {"prompts": paths.prompts, "rollouts": paths.rollouts, "index": paths.index}
    rubrics = RubricateFiles(**of_groups, out=paths.rubrics, seed=config.seed)
    verdicts = VerifyFiles(**of_groups, rubrics=paths.rubrics, out=paths.verdicts, seed=config.seed)
    with closing(ReplyCache.open(config.cache_dir)) as cache:
        async with ChatClient.open(student, cache=cache) as client:
            await rollout_api(answers, client, config.rollout.n, max_failed_fraction=0.0, progress=progress)
        async with ChatClient.open(config.rubricator, cache=cache) as client:
            writer = Rubricator(client, config.judge, texts)
            await rubricate(rubrics, writer, max_failed_fraction=0.0, progress=progress)
        async with ChatClient.open(config.verifier, cache=cache) as client:
            judge = Verifier(client, config.judge, texts, mixer)
            await verify(verdicts, judge, max_failed_fraction=0.0, progress=progress)

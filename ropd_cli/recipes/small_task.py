"""Parts of recipes that train a small student on a task of the built-in provider: its prompts, its teacher's answers,
and what a model answers to held-out prompts."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from ropd_cli.config import EndpointConfig, RopdConfig, SamplingConfig
from ropd_cli.engines.vllm_sampling import EngineOptions, LocalModel, SamplingOptions
from ropd_cli.errors import InputError, MissingPackage, RopdError
from ropd_cli.index import IndexWriter
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.client import ChatClient
from ropd_cli.records.schemas import AnswerRecord, Prompt, load_models
from ropd_cli.stages.prepare import Output, Part, Plan, Source, prepare, write_all
from ropd_cli.stages.rollout import RolloutFiles, rollout_local
from ropd_cli.stages.teacher import TeacherFiles, Wanted, teacher_gen
from ropd_cli.training.device_choices import default_cpu_dtype, dtype_of, whole_sequence
from ropd_cli.util.counted import counted
from ropd_cli.util.progress import Progress

HELD_OUT_PROMPTS = 200
TEACHER_URL = "builtin://checkable"


def make_prompts(task: str, size: int, seed: int, train: Path, held_out: Path) -> list[Prompt]:
    """Write a made task's prompts to train on, and ``HELD_OUT_PROMPTS`` others; return these."""
    prepared = prepare(Plan(Source(task), parts=(Part("held-out", HELD_OUT_PROMPTS),), size=size, seed=seed))
    others = prepared.parts["held-out"]
    try:
        write_all([Output(train, "train", prepared.train), Output(held_out, "held-out", others)], force=False)
    except InputError as fault:
        raise InputError(
            f"{train.parent}: its prompts are not those of --seed {seed}", "give the seed of before, or another --out"
        ) from fault
    return others


async def make_index(prompts: Path, answers: Path, index: Path, config: RopdConfig, progress: Progress) -> None:
    """Let the built-in teacher answer the prompts, ``judge.m`` times each, and index its answers."""
    teacher = EndpointConfig(base_url=TEACHER_URL, model="checkable", sampling=SamplingConfig(seed=config.seed))
    with closing(ReplyCache.open(config.cache_dir)) as cache:
        async with ChatClient.open(teacher, cache=cache) as client:
            files = TeacherFiles(prompts=prompts, out=answers)
            await teacher_gen(files, [client], Wanted(config.judge.m), max_failed_fraction=0.0, progress=progress)
    with IndexWriter(index) as writer:
        for record in load_models(answers, AnswerRecord):
            writer.add(record)


async def greedy_answers(
    prompts: Path, out: Path, model: Path | str, config: RopdConfig, environ: Mapping[str, str], progress: Progress
) -> dict[str, AnswerRecord]:
    """One greedy answer of a model to each prompt, by uid; those that ``out`` has already are not sampled again.

    Raises RopdError where a prompt got no answer.
    """
    engine = EngineOptions(
        str(model),
        config.device,
        max_model_len=whole_sequence(config),
        kv_cache_gb=config.rollout.kv_cache_gb,
        dtype=dtype_of(config, has_bfloat16=default_cpu_dtype() == "bfloat16"),  # as in training
    )
    log = out.with_name(out.name + ".vllm.log")
    tally = await rollout_local(
        RolloutFiles(prompts=prompts, out=out),
        lambda: LocalModel.start(engine, environ=environ, log=log),
        str(model),
        SamplingOptions(n=1, temperature=0.0, max_tokens=config.data.max_response_tokens),
        progress=progress,
    )
    if tally.failed:
        raise RopdError(
            f"{out}: {counted(tally.failed, 'held-out prompt')} got no answer",
            f"see {log}; the same command tries again",
        )
    return {record.uid: record for record in load_models(out, AnswerRecord)}


def require_stack(what: str) -> None:
    """Raise MissingPackage, naming what is not installed, before a model is fetched."""
    missing = [name for name in ("torch", "vllm", "verl") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackage(
            f"{what} trains with verl and vLLM, and {', '.join(missing)} can't be imported",
            "run make quickstart in a checkout (it installs the CPU stack); with a GPU: pip install 'ropd-cli[gpu]'",
        )

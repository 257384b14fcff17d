"""The whole chain on this machine: student, task, teacher answers, index, training, and the student before and after.

Each part is the stage that its own command runs, and each is skipped where its file is there already: a
quickstart that was stopped goes on from there.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import orjson

from ropd_cli.analysis.intervals import paired_bootstrap
from ropd_cli.analysis.run_data import read_run
from ropd_cli.config import EndpointConfig, RopdConfig, SamplingConfig, load_config
from ropd_cli.engines.small_student import fetch_small_student, require_space
from ropd_cli.engines.vllm_sampling import EngineOptions, LocalModel, SamplingOptions, installed_device
from ropd_cli.errors import MissingPackage, RopdError
from ropd_cli.index import IndexWriter
from ropd_cli.llm.cache import ReplyCache, default_cache_dir
from ropd_cli.llm.client import ChatClient
from ropd_cli.recipes.quickstart_summary import Outcome, compare, three_samples
from ropd_cli.records.files import write_atomic
from ropd_cli.records.outputs import sole_writer
from ropd_cli.records.schemas import AnswerRecord, load_models
from ropd_cli.report.run_page import page
from ropd_cli.stages.prepare import Output, Part, Plan, Source, prepare, write_all
from ropd_cli.stages.rollout import RolloutFiles, rollout_local
from ropd_cli.stages.teacher import TeacherFiles, Wanted, teacher_gen
from ropd_cli.training import launch
from ropd_cli.training.run_dir import Place
from ropd_cli.util.progress import Progress

TRAIN_PROMPTS = 112
HELD_OUT_PROMPTS = 200
NEEDED_BYTES = 4_000_000_000  # the checkpoint with its optimiser state, twice while it is replaced
TEACHER_URL = "builtin://checkable"


@dataclass(frozen=True)
class Paths:
    """The files of a quickstart."""

    path: Path
    prompts = Place("prompts.jsonl")
    held_out = Place("held-out.jsonl")
    teacher = Place("teacher.jsonl")
    index = Place("teacher.index")
    before = Place("before.jsonl")
    after = Place("after.jsonl")
    run = Place("run")
    report = Place("report.html")
    result = Place("result.json")


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Note the seconds that a part takes."""
    began = time.monotonic()
    yield
    seconds[part] = round(time.monotonic() - began, 1)


@dataclass(frozen=True)
class Options:
    """What a user can choose."""

    out: Path
    seed: int = 0
    model_path: str | None = None
    overrides: tuple[str, ...] = ()
    cache_dir: str | None = None


def quickstart(options: Options, *, environ: Mapping[str, str], progress: Progress) -> Outcome:
    """Run the chain to its end, or the rest of it; a finished one gives its outcome again.

    Raises MissingPackage, NoSpace or InputError before anything long begins, and what the stages raise.
    """
    paths = Paths(options.out)
    if paths.result.is_file():
        return Outcome.from_document(orjson.loads(paths.result.read_bytes()))
    _require_stack()
    require_space(options.out, NEEDED_BYTES, "the run")
    with sole_writer(options.out, directory=True):
        return _outcome(options, paths, environ, progress)


def _outcome(options: Options, paths: Paths, environ: Mapping[str, str], progress: Progress) -> Outcome:
    seconds = dict[str, float]()
    flags = {"seed": options.seed, "out": str(paths.run), "cache_dir": options.cache_dir, "device": installed_device()}
    flags |= {"data.prompts": str(paths.prompts), "data.index": str(paths.index)}
    models = Path(options.cache_dir or environ.get("ROPD_CACHE_DIR") or default_cache_dir()) / "models"
    with timed(seconds, "student"):
        model_path = options.model_path or str(fetch_small_student(models, progress.note))
    flags["student.model_path"] = model_path
    # no account is needed and none is used: an OPENAI_BASE_URL that happens to be set has no say here
    own = {key: value for key, value in environ.items() if key == "ROPD_CACHE_DIR"}
    config = load_config("quickstart", overrides=options.overrides, flags=flags, environ=own)
    with timed(seconds, "teacher"):
        plan = Plan(Source("sums"), parts=(Part("held-out", HELD_OUT_PROMPTS),), size=TRAIN_PROMPTS, seed=options.seed)
        prepared = prepare(plan)
        held_out = prepared.parts["held-out"]
        files = [Output(paths.prompts, "train", prepared.train), Output(paths.held_out, "held-out", held_out)]
        write_all(files, force=False)
        asyncio.run(_make_index(paths, config, progress))
    with timed(seconds, "before"):
        before = asyncio.run(_answers(paths.before, model_path, config, paths, environ, progress))
    with timed(seconds, "train"):
        trained = launch.train(config, resume=True, environ=environ, progress=progress)
    with timed(seconds, "after"):
        after = asyncio.run(_answers(paths.after, str(trained.model), config, paths, environ, progress))
    before_P, after_P = compare(held_out, before, after)
    outcome = Outcome(
        seed=options.seed,
        held_out=len(held_out),
        accuracy_before=fmean(before_P),
        accuracy_after=fmean(after_P),
        difference=paired_bootstrap(before_P, after_P, seed=options.seed),
        reward_curve=[row["reward/mean"] for row in trained.rows if "reward/mean" in row],
        teacher_curve=[row["reward/teacher_mean"] for row in trained.rows if "reward/teacher_mean" in row],
        samples=three_samples(held_out, before, after),
        checkpoint=str(trained.model),
        run_dir=str(paths.run),
        report=str(paths.report),
        seconds=seconds,
    )
    report = page(read_run(paths.run), template="quickstart.html", title="What the student learned", outcome=outcome)
    write_atomic(paths.report, report)
    write_atomic(paths.result, orjson.dumps(outcome.document(), option=orjson.OPT_INDENT_2))
    return outcome


def _require_stack() -> None:
    """Raise MissingPackage, naming what is not installed, before a model is fetched."""
    missing = [name for name in ("torch", "vllm", "verl") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackage(
            f"the quickstart trains with verl and vLLM, and {', '.join(missing)} can't be imported",
            "run make quickstart in a checkout (it installs the CPU stack); with a GPU: pip install 'ropd-cli[gpu]'",
        )


async def _make_index(paths: Paths, config: RopdConfig, progress: Progress) -> None:
    """Let the built-in teacher answer the prompts to train on, and index its answers."""
    teacher = EndpointConfig(base_url=TEACHER_URL, model="checkable", sampling=SamplingConfig(seed=config.seed))
    with ExitStack() as stack:
        cache = stack.enter_context(closing(ReplyCache.open(config.cache_dir)))
        async with ChatClient.open(teacher, cache=cache) as client:
            files = TeacherFiles(prompts=paths.prompts, out=paths.teacher)
            await teacher_gen(files, [client], Wanted(config.judge.m), max_failed_fraction=0.0, progress=progress)
    with IndexWriter(paths.index) as index:
        for record in load_models(paths.teacher, AnswerRecord):
            index.add(record)


async def _answers(
    out: Path, model_path: str, config: RopdConfig, paths: Paths, environ: Mapping[str, str], progress: Progress
) -> dict[str, AnswerRecord]:
    """One greedy answer of a model to each held-out prompt, by uid."""
    length = config.data.max_prompt_tokens + config.data.max_response_tokens
    engine = EngineOptions(
        model_path, config.device, max_model_len=length, kv_cache_gb=config.rollout.kv_cache_gb, dtype="bfloat16"
    )
    log = out.with_name(out.name + ".vllm.log")
    tally = await rollout_local(
        RolloutFiles(prompts=paths.held_out, out=out),
        lambda: LocalModel.start(engine, environ=environ, log=log),
        model_path,
        SamplingOptions(n=1, temperature=0.0, max_tokens=config.data.max_response_tokens),
        progress=progress,
    )
    if tally.failed:
        raise RopdError(
            f"{out}: {tally.failed} held-out prompts got no answer", f"see {log}; the same command tries again"
        )
    return {record.uid: record for record in load_models(out, AnswerRecord)}

"""The whole chain on this machine: student, task, teacher answers, index, training, and the student before and after.

Each part is the stage that its own command runs, and each is skipped where its file is there already: a
quickstart that was stopped goes on from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import orjson

from ropd_cli.analysis.intervals import paired_bootstrap
from ropd_cli.analysis.run_data import read_run
from ropd_cli.config import load_config
from ropd_cli.engines.small_student import fetch_small_student, require_space
from ropd_cli.engines.vllm_sampling import installed_device
from ropd_cli.llm.cache import default_cache_dir
from ropd_cli.recipes.quickstart_summary import Outcome, compare, three_samples
from ropd_cli.recipes.small_task import greedy_answers, make_index, make_prompts, require_stack
from ropd_cli.records.files import write_atomic
from ropd_cli.records.outputs import sole_writer
from ropd_cli.report.run_page import page
from ropd_cli.training import launch
from ropd_cli.training.run_dir import Place
from ropd_cli.util.progress import Progress

TRAIN_PROMPTS = 112
SAVE_EVERY = 4
NEEDED_BYTES = 4_000_000_000  # the checkpoint with its optimiser state, twice while it is replaced


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
    require_stack("the quickstart")
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
    overrides = (f"train.save_every={SAVE_EVERY}", "train.keep_checkpoints=1", *options.overrides)
    config = load_config("quickstart", overrides=overrides, flags=flags, environ=own)
    with timed(seconds, "teacher"):
        held_out = make_prompts("sums", TRAIN_PROMPTS, options.seed, paths.prompts, paths.held_out)
        asyncio.run(make_index(paths.prompts, paths.teacher, paths.index, config, progress))
    with timed(seconds, "before"):
        before = asyncio.run(greedy_answers(paths.held_out, paths.before, model_path, config, environ, progress))
    with timed(seconds, "train"):
        trained = launch.train(config, resume=True, environ=environ, progress=progress)
    with timed(seconds, "after"):
        after = asyncio.run(greedy_answers(paths.held_out, paths.after, trained.model, config, environ, progress))
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

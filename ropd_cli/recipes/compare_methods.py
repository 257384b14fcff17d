"""Train one student by several methods on one task, with several seeds each, and put the results side by side.

A cell is a method with a seed: a training, and the model's greedy answers to held-out prompts at some of its steps. A
finished cell is not made again, and cells that were made elsewhere (another machine, another day) can be added.
"""

from __future__ import annotations

import asyncio
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ropd_cli import __version__
from ropd_cli.analysis.method_runs import CellResult, Point, read_cells, write_cells
from ropd_cli.answers.exact_match import is_exact
from ropd_cli.builtin.rule_judges import NotJudgeable, share_of_checks
from ropd_cli.config import RopdConfig, load_config
from ropd_cli.engines.small_student import fetch_small_student
from ropd_cli.engines.vllm_sampling import installed_device
from ropd_cli.errors import ConfigError, InputError
from ropd_cli.llm.cache import default_cache_dir
from ropd_cli.method.block import render_question
from ropd_cli.methods import METHODS, method_of
from ropd_cli.recipes.small_task import greedy_answers, make_index, make_prompts, require_stack
from ropd_cli.records.outputs import sole_writer
from ropd_cli.records.schemas import AnswerRecord, Prompt, load_prompts
from ropd_cli.training import launch
from ropd_cli.training.run_dir import Place, RunDir
from ropd_cli.training.run_estimate import RunForecast, forecast_run
from ropd_cli.util.counted import counted
from ropd_cli.util.progress import NoProgress, Progress

TASKS: dict[str, tuple[int, tuple[str, ...]]] = {
    "sums": (112, ()),
    "long-sums": (224, ("data.max_prompt_tokens=112", "data.max_response_tokens=48")),
}
"""Made tasks: the number of their prompts to train on, and settings for their size."""
FLIPPED = "builtin://checkable?flip={share}&seed={seed}"
ABLATIONS = {
    "m1": "ablations/one-answer",
    "per-rollout": "ablations/rubric-per-rollout",
    "unblinded": "ablations/not-blind",
    "no-pool": "ablations/no-teacher-in-pool",
}
"""Shipped files that ``method@variant`` lays over the configuration."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "discriminating": ("reward.criterion_weights=discriminating",),
    "dropout": ("reward.criterion_dropout=0.25",),
    "reuse": ("judge.reuse=epoch",),
    "flip10": tuple(
        f"{role}.base_url={FLIPPED.format(share=0.1, seed='{seed}')}" for role in ("rubricator", "verifier")
    ),
}
"""Settings of other variants; ``{seed}`` is the cell's."""


@dataclass(frozen=True)
class Options:
    """What is compared, where. ``config`` is laid below each method; ``held_out`` replaces the made task."""

    out: Path
    labels: tuple[str, ...]
    seeds: int = 3
    config: str = "quickstart"
    task: str = "sums"
    held_out: Path | None = None
    points: int = 3
    overrides: tuple[str, ...] = ()
    """``key=value`` for all methods, ``method:key=value`` for one of them."""
    added: tuple[Path, ...] = ()
    model_path: str | None = None
    cache_dir: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Paths:
    """The files of a comparison."""

    path: Path
    prompts = Place("prompts.jsonl")
    held_out = Place("held-out.jsonl")
    teacher = Place("teacher.jsonl")
    index = Place("teacher.index")
    before = Place("before.jsonl")
    cells = Place("compare.json")
    markdown = Place("compare.md")
    page = Place("compare.html")

    def cell(self, label: str, seed: int) -> Path:
        return self.path / "cells" / label / f"seed-{seed}"


def variants_of(label: str) -> tuple[str, list[str]]:
    """Return the method and the variants of ``method@variant@…``. Raises InputError for a name that is not known."""
    method, *variants = label.split("@")
    known = [*ABLATIONS, *VARIANTS]
    for name, names in ((method, METHODS), *((variant, known) for variant in variants)):
        if name not in names:
            raise InputError(f"--methods {label}: no {name!r} is known", f"there is {', '.join(names)}")
    return method, variants


def compare_methods(options: Options, progress: Progress) -> list[CellResult]:
    """Make the cells that are missing, and return all, in the order of the labels.

    Raises InputError before anything starts for labels, configurations and files that can't be used, and what a
    training raises.
    """
    _check_names(options)
    require_stack("compare-methods")
    paths = Paths(options.out.absolute())
    student = options.model_path or (None if options.held_out else str(fetch_small_student(_models(options))))
    configs = {
        (label, seed): config_of(options, paths, student, label, seed)
        for label in options.labels
        for seed in range(options.seeds)
    }
    results = _known_cells(options)
    with sole_writer(paths.path, directory=True):
        held_out = _task(options, paths, next(iter(configs.values())), progress)
        for number, ((label, seed), config) in enumerate(configs.items(), start=1):
            name = _task_name(options)
            if (name, label, seed) in results:
                continue
            progress.note(f"cell {number} of {len(configs)}: {label}, seed {seed}")
            cell = _cell(options, paths, config, label, seed, name, held_out, progress)
            results[cell.key] = cell
            write_cells(paths.cells, list(results.values()))
            RunDir(paths.cell(label, seed) / "run").saved.keep_last_model()
    write_cells(paths.cells, list(results.values()))
    return sorted(results.values(), key=lambda cell: _order(cell, options.labels))


def forecasts(options: Options) -> list[tuple[str, int, RunForecast | None]]:
    """Return for each label how many runs are left to make, and what judging one takes (None: no judge is asked).

    Nothing is sent and nothing is kept; a made task's files are made elsewhere. Raises InputError as
    ``compare_methods`` does before it starts.
    """
    _check_names(options)
    known = _known_cells(options)
    with tempfile.TemporaryDirectory() as folder:
        aside = replace(options, out=Path(folder), cache_dir=folder)
        student = options.model_path or "student"  # asked for nothing
        configs = {label: config_of(aside, Paths(aside.out), student, label, 0) for label in options.labels}
        if not options.held_out:
            _task(aside, Paths(aside.out), next(iter(configs.values())), NoProgress())
        planned = []
        for label, config in configs.items():
            if config.data.prompts is None:
                raise InputError("data.prompts is not set", "the prompts to train on: --set data.prompts=FILE")
            runs = sum((_task_name(options), label, seed) not in known for seed in range(options.seeds))
            prompts = load_prompts(config.data.prompts)
            planned.append((label, runs, forecast_run(config, prompts, config.train.steps or 0)))
    return planned


def _check_names(options: Options) -> None:
    """Raise InputError for a label or a task that is not known."""
    for label in options.labels:
        variants_of(label)
    if not options.held_out and options.task not in TASKS:
        raise InputError(f"--task {options.task}: no such task", f"there is {', '.join(TASKS)}; or give --held-out")


def _task_name(options: Options) -> str:
    return str(options.held_out or options.task)


def _known_cells(options: Options) -> dict[tuple[str, str, int], CellResult]:
    paths = Paths(options.out)
    return {cell.key: cell for path in (*options.added, paths.cells) for cell in read_cells(path)}


def config_of(options: Options, paths: Paths, student: str | None, label: str, seed: int) -> RopdConfig:
    """Return the configuration of a cell. Raises ConfigError or InputError."""
    method, variants = variants_of(label)
    own = {key: value for key, value in options.environ.items() if key == "ROPD_CACHE_DIR"}
    flags: dict[str, Any] = {
        "method": method,
        "seed": seed,
        "out": str(paths.cell(label, seed) / "run"),
        "cache_dir": options.cache_dir,
        "student.model_path": student,
    }
    if not options.held_out:
        flags |= {"data.prompts": str(paths.prompts), "data.index": str(paths.index), "device": installed_device()}
    files = [options.config, *(ABLATIONS[name] for name in variants if name in ABLATIONS)]
    settings = [] if options.held_out else list(TASKS[options.task][1])
    for text in options.overrides:
        named, colon, setting = text.partition(":")
        is_for_one = bool(colon) and named.partition("@")[0] in METHODS
        if not is_for_one or named in (method, label):
            settings.append(setting if is_for_one else text)
    settings += [each.replace("{seed}", str(seed)) for name in variants for each in VARIANTS.get(name, ())]
    try:
        config = load_config(files, overrides=settings, flags=flags, environ=own)
        method_of(config).check(config, [])
    except ConfigError as fault:
        raise InputError(f"{label}: {fault.message}", fault.hint) from fault
    if config.train.steps is None:
        raise InputError("train.steps is not set", "methods are compared over the same steps: --set train.steps=12")
    every = max(1, -(-config.train.steps // options.points))
    train = config.train.model_copy(update={"save_every": every, "keep_checkpoints": options.points + 1})
    return config.model_copy(update={"train": train})


def _models(options: Options) -> Path:
    """Return the folder of fetched models."""
    return Path(options.cache_dir or options.environ.get("ROPD_CACHE_DIR") or default_cache_dir()) / "models"


def _task(options: Options, paths: Paths, config: RopdConfig, progress: Progress) -> list[Prompt]:
    """Make the task's files where they are not there yet, and return the held-out prompts."""
    if options.held_out:
        prompts = load_prompts(options.held_out)
        lacking = [prompt.uid for prompt in prompts if prompt.answer is None]
        if lacking:
            raise InputError(
                f"{options.held_out}: no `answer` in {counted(len(lacking), 'prompt')} (uid {lacking[0]!r})",
                "held-out answers are graded by exact match: give each prompt its `answer`",
            )
        return prompts
    if paths.index.exists():
        return load_prompts(paths.held_out)
    held_out = make_prompts(options.task, TASKS[options.task][0], 0, paths.prompts, paths.held_out)
    asyncio.run(make_index(paths.prompts, paths.teacher, paths.index, config, progress))
    return held_out


def _cell(
    options: Options,
    paths: Paths,
    config: RopdConfig,
    label: str,
    seed: int,
    task: str,
    held_out: list[Prompt],
    progress: Progress,
) -> CellResult:
    file = options.held_out or paths.held_out
    before = asyncio.run(
        greedy_answers(file, paths.before, str(config.student.model_path), config, options.environ, progress)
    )
    trained = launch.train(config, resume=True, environ=options.environ, progress=progress)
    run = RunDir(trained.run_dir)
    points = [_point(0, before, held_out, trained.rows, config)]
    answers = before
    for step in run.saved.steps():
        out = paths.cell(label, seed) / f"step-{step}.jsonl"
        answers = asyncio.run(greedy_answers(file, out, run.huggingface(step), config, options.environ, progress))
        points.append(_point(step, answers, held_out, trained.rows, config))
    judged = sum(row.get("groups/judged", 0) for row in trained.rows)
    flat = sum(row.get("groups/zero_variance", 0) for row in trained.rows)
    teacher = [row["reward/teacher_mean"] for row in trained.rows if "reward/teacher_mean" in row]
    return CellResult(
        label=label,
        seed=seed,
        task=task,
        steps=trained.steps,
        points=tuple(points),
        scores=tuple(float(is_right(prompt, answers)) for prompt in held_out),
        tokens_mean=trained.rows[-1].get("rollouts/tokens_mean"),
        without_spread=flat / judged if judged else None,
        teacher_mean=fmean(teacher) if teacher else None,
        machine=f"{platform.machine()}, {platform.system()}",
        version=__version__,
    )


def _point(
    step: int,
    answers: Mapping[str, AnswerRecord],
    held_out: list[Prompt],
    rows: list[dict[str, Any]],
    config: RopdConfig,
) -> Point:
    done = [row for row in rows if row["step"] <= step]
    groups = step * config.train.prompts_per_step

    def total(*names: str) -> float:
        return sum(row.get(name, 0) for row in done for name in names)

    method = method_of(config)
    return Point(
        step=step,
        accuracy=fmean(is_right(prompt, answers) for prompt in held_out),
        checks=_checks(held_out, answers),
        samples=groups * config.rollout.n if method.samples else 0,
        teacher_answers=round(total("answers/trained")) or groups * method.needs(config).teacher_answers,
        judge_calls=round(total("judge/requests_sent", "judge/cache_hits")),
        judge_tokens=round(total("judge/prompt_tokens", "judge/completion_tokens")),
        seconds=round(total("timing_s/step"), 1),
    )


def _checks(held_out: list[Prompt], answers: Mapping[str, AnswerRecord]) -> float | None:
    """Return the mean share of the checks; None where the built-in provider can't work a prompt out."""
    try:
        return fmean(share_of_checks(_question(prompt), answers[prompt.uid].answers[0].text) for prompt in held_out)
    except NotJudgeable:
        return None


def _question(prompt: Prompt) -> str:
    return render_question([message.model_dump(mode="json") for message in prompt.messages])


def is_right(prompt: Prompt, answers: Mapping[str, AnswerRecord]) -> bool:
    """Return whether the answer to a prompt states the right result."""
    return is_exact(answers[prompt.uid].answers[0].text, prompt.answer or "")


def _order(cell: CellResult, labels: Sequence[str]) -> tuple[str, int, str, int]:
    place = labels.index(cell.label) if cell.label in labels else len(labels)
    return cell.task, place, cell.label, cell.seed

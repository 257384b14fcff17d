"""Run a training: check and prepare it, start verl in a process of its own, watch that, and collect what it made."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NotRequired

import orjson
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from ropd_cli.config import RopdConfig
from ropd_cli.config.load import differing, dump_config, read_yaml, value_at
from ropd_cli.config.models import laid_over
from ropd_cli.errors import InputError, MissingPackage, TrainingError
from ropd_cli.llm.shared import Shared
from ropd_cli.methods import check_sections, method_of
from ropd_cli.records.files import whole_file, write_atomic, write_records
from ropd_cli.records.outputs import sole_writer
from ropd_cli.records.schemas import load_prompts
from ropd_cli.training.checks import (
    check_gpu,
    check_judges,
    check_keys,
    check_method,
    check_settings,
    check_sizes,
    check_trackers,
    schedule_warnings,
)
from ropd_cli.training.dataset import load_checked_prompts, write_verl_prompts
from ropd_cli.training.device_choices import Choice, ChoiceShown, Machine, device_choices, few_cores
from ropd_cli.training.process_watch import watch
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.run_estimate import RunForecast, forecast_run
from ropd_cli.training.starting_point import with_student_of_run
from ropd_cli.training.supervised_config import compose_supervised, supervised_choices
from ropd_cli.training.validation import open_validation, write_validation_prompts
from ropd_cli.training.verl_config import compose, steps_of
from ropd_cli.training.versions import check_exact, installed_versions
from ropd_cli.util.changes import changes
from ropd_cli.util.counted import counted
from ropd_cli.util.processes import run_module
from ropd_cli.util.progress import Progress

MAY_CHANGE = (
    *("train.steps.", "train.epochs.", "train.save_every.", "train.keep_checkpoints.", "train.trackers."),
    *("train.watchdog_s.", "train.watchdog_update_s."),
    *("rubricator.", "verifier.", "teacher.", "judge.", "student.endpoint.", "endpoint.", "distil.endpoint."),
    *("prices.", "max_cost.", "cache_dir.", "cache_max_gb.", "out."),
    *("validate.", "eval.", "monitor.", "lint."),
)
"""Keys and sections that a resumed run may have other values of, each with a dot at its end."""
PATHS = (
    ("", "out"),
    ("", "cache_dir"),
    ("data", "prompts"),
    ("data", "index"),
    ("judge", "templates"),
    ("monitor", "templates"),
    ("student", "model_path"),
    ("student", "from_run"),
    ("distil", "teacher_path"),
    ("rubricator", "ca_file"),
    ("verifier", "ca_file"),
    ("monitor.judge", "ca_file"),
)
MODELS = ("model_path", "teacher_path")
"""Of these, the keys that may name a model of the hub instead."""


class Trained(TypedDict):
    run_dir: str
    model: str
    """Folder."""
    steps: int
    rewards: list[float | None]
    """Mean reward of each step; null where it has none."""
    losses: NotRequired[list[float]]
    """Of the steps that have one."""
    last: dict[str, float]
    """Some metrics of the last step."""


@with_config(ConfigDict(extra="allow"))
class ResolvedPart(TypedDict):
    """Settings of the training process, and:"""

    forecast: RunForecast | None
    """Null where no judge is asked, or prompts or answers are not named."""
    choices: list[ChoiceShown]


@with_config(ConfigDict(extra="allow"))
class Resolved(TypedDict):
    """With ``--dry-run``: verl's configuration, whose keys are verl's."""

    ropd: ResolvedPart


@dataclass(frozen=True)
class Result:
    """A finished run: where the model lies and the metrics of its steps."""

    run_dir: Path
    model: Path
    steps: int
    rows: list[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """For ``--json`` and ``result.json`` (``Trained``)."""
        last = self.rows[-1] if self.rows else {}
        losses = [row["train/loss"] for row in self.rows if "train/loss" in row]
        wanted = ("reward/mean", "reward/teacher_mean", "groups/judged", "groups/missing", "judge/seconds_mean")
        return {
            "run_dir": str(self.run_dir),
            "model": str(self.model),
            "steps": self.steps,
            "rewards": [row.get("reward/mean") for row in self.rows],
            **({"losses": losses} if losses else {}),
            "last": {name: last[name] for name in wanted if name in last},
        }


def resolve(config: RopdConfig) -> tuple[Any, RunForecast | None]:
    """For ``--dry-run``: verl's configuration, and a forecast of the judging where prompts and an index are
    named. Nothing is written or started."""
    config, run = with_student_of_run(config), RunDir.of(config.out)
    check_sections(config)
    check_sizes(config)
    prompts = load_prompts(str(config.data.prompts)) if config.data.prompts else []
    has_answers = config.data.index is not None or not method_of(config).needs(config).teacher_answers
    if prompts and has_answers:
        prompts = load_checked_prompts(config).prompts
    if prompts:
        check_method(config, prompts)
    count = len(prompts) or config.train.prompts_per_step
    try:
        tree = _composed(config, run, count, ray_dir="/tmp/ropd-dry-run")
    except MissingPackage as fault:
        hint = f"{fault.hint}; without it, ropd doctor --config FILE forecasts the run"
        raise MissingPackage(fault.message, hint) from fault
    if not prompts or not has_answers:
        return tree, None
    return tree, forecast_run(config, prompts, steps_of(config, count))


def _composed(config: RopdConfig, run: RunDir, prompt_count: int, ray_dir: str) -> Any:
    """verl's configuration for the method's trainer."""
    if method_of(config).samples:
        return compose(config, run, prompt_count, ray_dir)
    return compose_supervised(config, run, prompt_count)


def choices_of(config: RopdConfig) -> list[Choice]:
    """Return the choices of a run that depend on its device."""
    choices = device_choices if method_of(config).samples else supervised_choices
    return choices(config, Machine.here(config))


def train(
    config: RopdConfig, *, resume: bool, environ: Mapping[str, str], progress: Progress, force: bool = False
) -> Result:
    """Run a training to its end, or the rest of it; with ``force`` on versions that are not tested, too.

    A finished run is not run again: its result is returned. Raises InputError for what the user can mend
    before anything starts, OutputBusy where another process trains it, TrainingError where the process failed, hung,
    or stopped at a limit.
    """
    config = with_absolute_paths(config)
    if config.out is not None and (done := (run := RunDir.of(config.out)).finished()) is not None:
        kept, or_else = ("train.steps", "train.epochs"), "student.from_run trains on from a finished run"
        check_same_run(with_student_of_run(config), run, "is a finished run", kept, or_else)
        here = run.huggingface(done["steps"])  # of a run that was moved
        return Result(run.path, here if here.is_dir() else Path(done["model"]), done["steps"], run.metric_rows())
    if not force:
        check_exact(config.device)
    config = with_student_of_run(config)
    check_settings(config)
    check_gpu(config)
    run = RunDir.of(config.out)
    with sole_writer(run.path, directory=True):
        return _trained(config, run, resume, environ, progress)


def _trained(config: RopdConfig, run: RunDir, resume: bool, environ: Mapping[str, str], progress: Progress) -> Result:
    progress.state(f"train: reading prompts and settings; log: {run.log}")
    first = _first_step(config, run, resume)
    checked = load_checked_prompts(config, run.skipped_before(first))
    prompts = checked.prompts
    if checked.skipped:
        progress.note(
            f"{len(checked.skipped)} of {counted(len(prompts) + len(checked.skipped), 'prompt')} have fewer than "
            f"{method_of(config).needs(config).teacher_answers} distinct teacher answers and are left out; they are "
            f"listed in {run.skipped}"
        )
    check_method(config, prompts)
    check_keys(config, environ)
    check_judges(config, environ)
    validation = open_validation(config, None, Shared())[1] if config.validate.benchmarks else []
    steps = steps_of(config, len(prompts))
    for line in schedule_warnings(config, run, len(prompts)):
        progress.note(line)
    lacking = few_cores(config, len(os.sched_getaffinity(0))) if method_of(config).samples else None
    if lacking is not None:
        progress.note(f"{lacking[0]}; {lacking[1]}")
    ray_dir = tempfile.mkdtemp(prefix="ropd-")  # short: a unix socket's path may have 107 bytes
    try:
        verl_config = _composed(config, run, len(prompts), ray_dir)
        check_trackers(config)
        _write_inputs(config, run, verl_config)
        write_verl_prompts(prompts, run.train_prompts, config.student.system_prompt)
        if validation:
            write_validation_prompts(validation, run.val_prompts, config.student.system_prompt)
        write_records(run.skipped, checked.skipped)
        aside = run.set_aside_after(first)
        if aside is not None:
            progress.note(f"steps after {first} are made again; their earlier files are in {aside}")
        run.stopped.unlink(missing_ok=True)
        if first < steps:  # else only the end of it was lost
            progress.start(steps, "train", first)
            progress.note(f"log of the training process: {run.log}")
            try:
                watch(config, run, child_environment(config, run, environ), progress)
            finally:
                progress.finish()
    finally:
        shutil.rmtree(ray_dir, ignore_errors=True)
    last = run.saved.newest()
    if last is None:
        raise TrainingError(f"{run.path}: the training ended without a checkpoint", f"see {run.log}")
    sampled = verl_config.actor_rollout_ref.rollout if method_of(config).samples else verl_config.ropd
    _finish_model(run.huggingface(last), str(sampled.dtype), config)
    result = Result(run.path, run.huggingface(last), last, run.metric_rows())
    write_atomic(run.result, orjson.dumps(result.document(), option=orjson.OPT_INDENT_2))
    return result


def after_a_stop(out: str | None, command: str | None = None) -> str:
    """Return in words what is left of a run that was interrupted, and the command that goes on with it (``command``, or
    the run's own)."""
    run = RunDir.of(out)
    step, command = run.saved.newest(), command or run.resume_command
    if step is not None:
        return f"the last checkpoint is of step {step}; go on from there with: {command}"
    return f"no checkpoint is saved yet; begin again, with judgements from the cache, with: {command}"


def child_environment(config: RopdConfig, run: RunDir, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the training process."""
    local = Path(str(config.student.model_path)).is_dir()
    own = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "TENSORBOARD_DIR": str(run.path / "tensorboard"),
        "VERL_FILE_LOGGER_PATH": str(run.verl_metrics),
        "VLLM_LOGGING_LEVEL": "WARN",
        "PYTHONUNBUFFERED": "1",
    }
    if local:
        own["HF_HUB_OFFLINE"] = "1"
    if config.device == "cpu":
        own |= {
            "VERL_PLATFORM": "cpu",
            "VLLM_CPU_KVCACHE_SPACE": str(config.rollout.kv_cache_gb),
            # Ray gives a worker one thread and a low priority unless it is told otherwise
            "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "RAY_worker_niceness": "0",
        }
    # where trackers write unless the caller says it; verl's own choice for mlflow is a file in /tmp that all runs share
    files = {"WANDB_DIR": str(run.path), "MLFLOW_TRACKING_URI": f"sqlite:///{run.path}/mlflow.db"}
    return {**files, **environ, **own}


def with_absolute_paths(config: RopdConfig) -> RopdConfig:
    """The configuration with the files it names as absolute paths: the run's processes have places of their own."""
    tree = config.model_dump()
    for section, key in PATHS:
        part = reduce(getitem, section.split("."), tree) if section else tree
        if part[key] is not None and (key not in MODELS or Path(os.path.expanduser(part[key])).exists()):
            part[key] = _absolute(part[key])
    tree["eval"]["data"] = {name: _absolute(file) for name, file in config.eval.data.items()}
    function = tree["reward"]["custom_function"]
    if function is not None and ".py:" in function:
        file, _, name = function.rpartition(":")
        tree["reward"]["custom_function"] = f"{_absolute(file)}:{name}"
    return RopdConfig.model_validate(tree)


def _absolute(path: str) -> str:
    return str(Path(os.path.expanduser(path)).absolute())


def _first_step(config: RopdConfig, run: RunDir, resume: bool) -> int:
    """Steps that need not be done again. Raises InputError where the run directory is another run's."""
    never_begun = run.verl_config.is_file() and not (run.metric_rows() or run.saved.steps())
    if not run.config.is_file() or never_begun:  # then other settings may begin
        return 0
    check_same_run(config, run, "is an unfinished run")
    if not resume:
        raise InputError(
            f"{run.path} holds an unfinished run", "go on with it by --resume, or choose another run directory by --out"
        )
    return run.saved.settle()


def check_same_run(config: RopdConfig, run: RunDir, what: str, kept: Sequence[str] = (), or_else: str = "") -> None:
    """Raise InputError where a run directory was started with other values of keys that a run keeps, or ``kept``;
    ``or_else`` is a further hint."""
    # a run of an earlier version knows nothing of newer keys, which are as they are by default
    before = laid_over(RopdConfig().model_dump(mode="json"), read_yaml(run.config))
    now = config.model_dump(mode="json")
    fixed = (*method_of(config).fixed, *kept)
    keys = [key for key in differing(before, now) if key in fixed or not f"{key}.".startswith(MAY_CHANGE)]
    if keys:
        was, new = ({key: value_at(tree, key) for key in keys} for tree in (before, now))
        raise InputError(
            f"{run.path} {what} of other settings: {'; '.join(changes(was, new))}",
            "give the same settings, or another --out" + (or_else and f"; {or_else}"),
        )


def _write_inputs(config: RopdConfig, run: RunDir, verl_config: Any) -> None:
    from omegaconf import OmegaConf

    write_settings(config, run)
    write_atomic(run.verl_config, OmegaConf.to_yaml(verl_config))


def write_settings(config: RopdConfig, run: RunDir) -> None:
    """Write what a run goes by: configuration, hashes of templates, versions."""
    with whole_file(run.config) as temporary:  # it is read again, so it holds what the user's own file holds
        temporary.touch(mode=0o600)
        temporary.write_text(dump_config(config), encoding="utf-8")
    hashes = method_of(config).template_hashes(config)
    write_atomic(run.prompts_lock, orjson.dumps(hashes, option=orjson.OPT_INDENT_2))
    write_atomic(run.versions, orjson.dumps(installed_versions(), option=orjson.OPT_INDENT_2))


def _finish_model(folder: Path, dtype: str, config: RopdConfig) -> None:
    """Make the checkpoint a plain model where the training was killed before it did so; torch stays out of here."""
    rank, alpha = str(config.student.lora_rank), str(config.student.lora_alpha)
    fault = run_module("ropd_cli.training.verl.saved_model", str(folder), dtype, rank, alpha)
    if fault is not None:
        raise TrainingError(
            f"{folder}: the model could not be written as a plain one: {fault}",
            "run the same command again with --resume",
        )

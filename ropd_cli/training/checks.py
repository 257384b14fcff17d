"""What is wrong with a training that is asked for, before anything starts: verl would find out minutes later."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ropd_cli.config import EndpointConfig, RopdConfig
from ropd_cli.config.load import read_yaml
from ropd_cli.engines.model_folder import has_tokenizer, looks_local
from ropd_cli.engines.vllm_sampling import check_model
from ropd_cli.errors import INSTALL_STACK, ConfigError, InputError
from ropd_cli.llm.api_key import Peer
from ropd_cli.llm.model_list import list_models
from ropd_cli.llm.money import Budget
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.urls import BUILTIN, base_url, model_name
from ropd_cli.method.prompts import Templates
from ropd_cli.methods import check_sections, method_of
from ropd_cli.records.schemas import Prompt
from ropd_cli.training.dataset import unnamed_files
from ropd_cli.training.gpus import has_gpu
from ropd_cli.training.monitor import second_settings
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.verl_config import gad_warmup, steps_of
from ropd_cli.util.counted import counted

ANSWER_S = 20.0
"""Seconds to wait for a judge's first sign."""


def check_settings(config: RopdConfig) -> None:
    """Raise InputError for all that a configuration lacks or gets wrong, as far as it tells without reading a file of
    data; also for a missing stack, if there is anything else."""
    faults = unnamed_files(config)
    for check in (_check_out, _check_student, check_sections, check_sizes):
        try:
            check(config)
        except InputError as fault:
            faults.append(fault)
    missing = [name for name in ("verl", "hydra") if find_spec(name) is None]
    if faults and missing:
        faults.append(InputError(f"training needs verl, and {missing[0]} is not installed", INSTALL_STACK))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        problems = [
            line for one in faults for line in (one.problems if isinstance(one, ConfigError) else [one.message])
        ]
        hints = dict.fromkeys(one.hint for one in faults if one.hint)
        raise ConfigError(problems, "configuration", "; ".join(hints))


def _check_out(config: RopdConfig) -> None:
    RunDir.of(config.out)


def _check_student(config: RopdConfig) -> None:
    path = config.student.model_path
    if path is None:
        raise InputError(
            "student.model_path is not set",
            "a Hugging Face folder or hub name, or ROPD_MODEL_PATH; or a finished run by student.from_run",
        )
    check_model(path)
    if looks_local(path) and not has_tokenizer(Path(path)):
        raise InputError(
            f"{path}: no tokenizer in it", "give the whole folder of a model (tokenizer.json stands in it)"
        )


def check_gpu(config: RopdConfig) -> None:
    """Raise InputError where a run on this machine alone wants a GPU, and there is none."""
    if config.device == "gpu" and config.train.nodes == 1 and not has_gpu():
        raise InputError(
            "device is gpu, and this machine has none", "run it on a machine with a GPU, or --set device=cpu"
        )


def check_trackers(config: RopdConfig) -> None:
    """Raise InputError for a tracker whose package is missing; verl would find out minutes later."""
    missing = [name for name in config.train.trackers if find_spec(name) is None]
    if missing:
        raise InputError(
            f"train.trackers: {', '.join(missing)} not installed",
            f"pip install {' '.join(missing)}, or leave it out of train.trackers",
        )


def check_sizes(config: RopdConfig) -> None:
    """Raise ConfigError for sizes that do not divide; verl would find out minutes later, or pad without a word."""
    if not method_of(config).samples:
        return
    train, rollout = config.train, config.rollout
    devices = train.nodes * train.devices_per_node
    update = train.prompts_per_update or train.prompts_per_step
    problems = []
    if train.prompts_per_step % update:
        problems.append(
            f"train.prompts_per_step {train.prompts_per_step} is no multiple of train.prompts_per_update {update}"
        )
    if update * rollout.n % devices:
        problems.append(
            f"rollouts of an update ({update} prompts x rollout.n {rollout.n}) do not divide by {devices} devices "
            "(train.nodes x train.devices_per_node)"
        )
    if devices % rollout.tensor_parallel_size:
        problems.append(
            f"{devices} devices are no multiple of rollout.tensor_parallel_size {rollout.tensor_parallel_size}"
        )
    has_weights = train.rollout_is != "none" and (train.rollout_is != "auto" or config.device == "gpu")
    if train.is_async and not has_weights and (config.device == "gpu" or rollout.top_p < 1):
        problems.append("train.async one_step needs train.rollout_is token here: nothing else corrects older rollouts")
    if problems:
        hint = "change one of the numbers; ropd config explain KEY describes a key"
        raise ConfigError(problems, "configuration", hint)


def schedule_warnings(config: RopdConfig, run: RunDir, prompt_count: int) -> list[str]:
    """Return what is odd about the schedule, of the learning rate or of gad's warm-up, for a new run or a resumed
    one."""
    train, steps, warnings = config.train, steps_of(config, prompt_count), []
    if steps <= train.warmup_steps:
        warnings.append(
            f"the run has {counted(steps, 'step')} and train.warmup_steps is {train.warmup_steps}: the learning "
            f"rate does not reach train.lr {train.lr:g}"
        )
    if train.lr_schedule == "cosine" and run.config.is_file():
        before = steps_of(RopdConfig.model_validate(read_yaml(run.config)), prompt_count)
        if before != steps:
            warnings.append(
                f"the run was planned for {counted(before, 'step')} and is now for {steps}: the learning rate "
                "follows the cosine of the new length from here on"
            )
    warmup = gad_warmup(config, prompt_count)
    if steps <= warmup:
        warnings.append(
            f"the run has {counted(steps, 'step')} and the warm-up of gad {warmup}: the student learns by "
            "cross-entropy alone, and the discriminator's rewards play no part; lower discriminator.warmup_epochs (or "
            "warmup_steps), or raise train.epochs (or steps)"
        )
    return warnings


def check_method(config: RopdConfig, prompts: list[Prompt]) -> None:
    """Raise InputError where the method lacks what it needs, or has settings or prompts that do not fit it."""
    method = method_of(config)
    needs = method.needs(config)
    budget = Shared.of(config).budget
    for name in needs.roles:
        endpoint = getattr(config, name)
        budget.price(model_name(endpoint, name), base_url(endpoint))
    method.check(config, prompts)
    if config.monitor.share:
        _check_second_judge(config, budget)


def check_keys(config: RopdConfig, environ: Mapping[str, str]) -> None:
    """Raise InputError where a judge needs a key that the environment lacks: known before a model is loaded."""
    for endpoint in _judges(config):
        Peer.read(endpoint, environ)


def check_judges(config: RopdConfig, environ: Mapping[str, str]) -> None:
    """Raise ProviderUnreachable where nothing answers at a judge's URL: known before a model is loaded."""
    urls = {base_url(endpoint): endpoint for endpoint in _judges(config)}
    for url, endpoint in urls.items():
        if not url.startswith(BUILTIN):
            limits = endpoint.limits.model_copy(update={"timeout_s": min(ANSWER_S, endpoint.limits.timeout_s)})
            asyncio.run(list_models(endpoint.model_copy(update={"limits": limits}), environ))


def _judges(config: RopdConfig) -> list[EndpointConfig]:
    """Return the endpoints that the run asks."""
    asked = [getattr(config, role) for role in method_of(config).needs(config).roles]
    return [*asked, *([config.monitor.judge] if config.monitor.share else [])]


def _check_second_judge(config: RopdConfig, budget: Budget) -> None:
    second, verifier = config.monitor.judge, config.verifier
    name = model_name(second, "monitor.judge")
    budget.price(name, base_url(second))
    own = Templates.load(second_settings(config))
    same = (name, base_url(second)) == (model_name(verifier, "verifier"), base_url(verifier))
    if same and own.verifier_hash == Templates.load(config.judge).verifier_hash:
        raise InputError(
            "monitor.judge is the verifier itself, which would always agree",
            "name another model or endpoint in monitor.judge, or give it templates of its own (monitor.templates)",
        )

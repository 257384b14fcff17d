"""Compose verl's configuration: verl's packaged defaults, our settings, the method's, the user's ``verl:`` last."""

from __future__ import annotations

import math
from typing import Any

from ropd_cli.config import RopdConfig
from ropd_cli.errors import INSTALL_STACK, MissingPackage
from ropd_cli.methods import method_of
from ropd_cli.methods.base import optimizer
from ropd_cli.training.device_choices import Machine, device_choices, whole_sequence
from ropd_cli.training.raw_keys import EFFECTS, check_effects, check_names
from ropd_cli.training.run_dir import RunDir

TRAINER, ASYNC_TRAINER = "ropd", "ropd_async"
"""The names that the trainers of ``verl/trainer`` are registered under."""


def compose(config: RopdConfig, run: RunDir, prompt_count: int, ray_dir: str) -> Any:
    """verl's resolved configuration (an OmegaConf tree) for a run over ``prompt_count`` prompts.

    Raises MissingPackage without verl, and ConfigError for every key of the ``verl:`` section that is unknown or breaks
    the method.
    """
    tree = packaged("ppo_trainer")
    from omegaconf import OmegaConf, open_dict

    check_names(config.verl, OmegaConf.to_container(tree), "ppo_trainer")
    with open_dict(tree):
        ray_init = {"ray_kwargs": {"ray_init": _ray_init(config, ray_dir)}}
        tree = OmegaConf.merge(tree, common(config, run, prompt_count), ray_init)
        for choice in device_choices(config, Machine.here(config)):
            for key, value in choice.keys.items():
                OmegaConf.update(tree, key, value, force_add=True)
        tree = OmegaConf.merge(tree, method_of(config).verl_settings(config), config.verl)
        actor, model = tree.actor_rollout_ref.actor, tree.actor_rollout_ref.model
        if model.use_fused_kernels and actor.strategy == "fsdp2":
            others = [model.external_lib] if isinstance(model.external_lib, str) else model.external_lib or []
            model.external_lib = [*others, "ropd_cli.training.verl.fused_head"]
    check_effects(tree, EFFECTS)
    return tree


def packaged(name: str) -> Any:
    """Return one of verl's configurations with its packaged defaults. Raises MissingPackage without verl."""
    try:
        from hydra import compose as hydra_compose
        from hydra import initialize_config_module

        with initialize_config_module(config_module="verl.trainer.config", version_base=None):
            return hydra_compose(config_name=name)
    except Exception as fault:  # hydra raises its own kinds for a package that is not there
        if not isinstance(fault, ImportError) and "verl" not in str(fault):
            raise
        missing = fault.name if isinstance(fault, ImportError) else "verl"
        raise MissingPackage(
            f"training needs verl, and {missing} is not installed",
            INSTALL_STACK,
        ) from fault


def steps_of(config: RopdConfig, prompt_count: int) -> int:
    """Training steps of a run: ``train.steps``, or ``train.epochs`` over the prompts."""
    per_epoch = max(1, prompt_count // config.train.prompts_per_step)
    return config.train.steps or per_epoch * config.train.epochs


def gad_warmup(config: RopdConfig, prompt_count: int) -> int:
    """Steps of cross-entropy that a run of gad begins with, as ``verl/discriminator`` counts them; 0 for others."""
    settings = config.discriminator
    if config.method != "gad":
        return 0
    if settings.warmup_steps is not None:
        return settings.warmup_steps
    return math.ceil(settings.warmup_epochs * max(1, prompt_count // config.train.prompts_per_step))


def common(config: RopdConfig, run: RunDir, prompt_count: int) -> dict[str, Any]:
    """What does not depend on the device."""
    train, data, rollout, student = config.train, config.data, config.rollout, config.student
    validation = config.validate
    steps = steps_of(config, prompt_count)
    per_epoch = max(1, prompt_count // train.prompts_per_step)
    template = {} if student.enable_thinking is None else {"enable_thinking": student.enable_thinking}
    return {
        "algorithm": {"adv_estimator": "grpo", "norm_adv_by_std_in_grpo": train.norm_adv_by_std},
        "data": {
            "train_files": str(run.train_prompts),
            "val_files": str(run.val_prompts if config.validate.benchmarks else run.train_prompts),  # verl wants some
            "validation_shuffle": False,
            "train_batch_size": train.prompts_per_step,
            # one by one, so that any number of them can be replaced
            "gen_batch_size": 1 if train.refill.is_on or train.is_async else None,
            "max_prompt_length": data.max_prompt_tokens,
            "max_response_length": data.max_response_tokens,
            "filter_overlong_prompts": False,
            "truncation": "error",
            "shuffle": data.shuffle,
            "seed": config.seed,
            "dataloader_num_workers": 0,
            "apply_chat_template_kwargs": template,
        },
        "actor_rollout_ref": {
            "model": {
                "path": student.model_path,
                "lora_rank": student.lora_rank,
                "lora_alpha": student.lora_alpha,
                "use_remove_padding": True,
            },
            "actor": {
                "strategy": train.strategy,
                "loss_agg_mode": train.loss_agg_mode,
                "ppo_mini_batch_size": train.prompts_per_update or train.prompts_per_step,
                "clip_ratio": train.clip_ratio,
                "clip_ratio_low": train.clip_ratio,
                "clip_ratio_high": train.clip_ratio,
                "use_kl_loss": train.kl_coef > 0,
                "kl_loss_coef": train.kl_coef,
                "entropy_coeff": 0,
                "data_loader_seed": config.seed,
                "optim": optimizer(train),  # with clip_grad: actor.grad_clip is read by nobody
                "checkpoint": {"save_contents": ["model", "optimizer", "extra", "hf_model"]},
            },
            "rollout": {
                "name": "vllm",
                "n": rollout.n,
                "temperature": rollout.temperature,
                "top_p": rollout.top_p,
                "tensor_model_parallel_size": rollout.tensor_parallel_size,
                "max_model_len": whole_sequence(config),
                "seed": config.seed,
                "val_kwargs": {
                    "n": 1,  # each row says how many it wants
                    "do_sample": True,
                    "temperature": validation.temperature,
                    "top_p": validation.top_p,
                },
                "agent": {"agent_loop_manager_class": "ropd_cli.training.verl.agent_loop.JudgedAgentLoopManager"},
            },
        },
        "reward": {"num_workers": 1},
        "trainer": {
            "v1": {
                "trainer_mode": ASYNC_TRAINER if train.is_async else method_of(config).trainer,
                "sampler": {
                    "custom_sampler": {
                        "path": "pkg://ropd_cli.training.verl.sampler",
                        "name": "JudgedAsyncSampler" if train.is_async else "JudgedSampler",
                    },
                    "sampler_kwargs": {
                        "run_dir": str(run.path),
                        "max_failed_fraction": config.judge.max_failed_fraction,
                        "prompts_per_step": train.prompts_per_step,
                        "refill": train.refill.model_dump(),
                    },
                    # a step waits for all groups that were submitted before it
                    "max_off_policy_threshold": 2,
                    "max_off_policy_strategy": "wait",
                },
            },
            "nnodes": train.nodes,
            "n_gpus_per_node": train.devices_per_node,
            "logger": ["console", "file", *train.trackers],
            "val_before_train": bool(validation.benchmarks) and validation.before,
            "test_freq": (validation.every or train.save_every or steps) if validation.benchmarks else -1,
            "total_training_steps": steps,
            "total_epochs": math.ceil(steps / per_epoch) + 1,
            "save_freq": train.save_every or steps,
            "max_actor_ckpt_to_keep": None,  # verl's own pruning forgets at a resume what is there
            "resume_mode": "auto",
            "default_local_dir": str(run.checkpoints),
            "project_name": "ropd",
            "experiment_name": run.path.name,
        },
        "ropd": {
            "run_dir": str(run.path),
            "thinking_tags": config.model_dump(mode="json")["student"]["endpoint"]["thinking_tags"],
        },
    }


def _ray_init(config: RopdConfig, ray_dir: str) -> dict[str, Any]:
    """A Ray of the run's own, whatever RAY_ADDRESS says; with several nodes the cluster that they have joined."""
    if config.train.nodes > 1:
        return {"address": "auto"}
    return {"address": "local", "include_dashboard": False, "_temp_dir": ray_dir}

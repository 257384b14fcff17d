"""Compose the configuration of verl's SFT trainer: its packaged defaults, our settings, the user's ``verl:`` last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ropd_cli.config import RopdConfig
from ropd_cli.methods.base import optimizer
from ropd_cli.methods.sft import answers_per_prompt
from ropd_cli.training.device_choices import ACTOR, MODEL, ROLLOUT, Choice, Machine, device_choices
from ropd_cli.training.raw_keys import FILE_LOGGER, Effect, check_effects, check_names
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.verl_config import packaged, steps_of

NAME = "sft_trainer_engine"
"""The name of verl's own configuration."""
KEYS = {
    "trainer.device": "trainer.device",
    f"{ROLLOUT}.dtype": "ropd.dtype",
    f"{ACTOR}.strategy": "engine.strategy",
    f"{ACTOR}.fsdp_config.mixed_precision": "engine.mixed_precision",
    f"{ACTOR}.fsdp_config.use_torch_compile": "engine.use_torch_compile",
    f"{ACTOR}.use_dynamic_bsz": "data.use_dynamic_bsz",
    f"{ACTOR}.ppo_max_token_len_per_gpu": "data.max_token_len_per_gpu",
    f"{ACTOR}.ppo_micro_batch_size_per_gpu": "data.micro_batch_size_per_gpu",
    **{
        f"{MODEL}.{key}": f"model.{key}"
        for key in (
            "override_config.attn_implementation",
            "enable_gradient_checkpointing",
            "use_fused_kernels",
            "fused_kernel_options.impl_backend",
        )
    },
}
"""By the key of verl's PPO trainer, the SFT trainer's for the same."""
EFFECTS = (
    FILE_LOGGER,
    Effect(
        "data.pad_mode",
        lambda value: value != "no_padding",
        "the rows have lengths of their own",
        "leave it out",
    ),
)


def compose_supervised(config: RopdConfig, run: RunDir, prompt_count: int) -> Any:
    """verl's resolved configuration (an OmegaConf tree) for a run over ``prompt_count`` prompts.

    Raises MissingPackage without verl, and ConfigError for every key of the ``verl:`` section that is unknown or breaks
    the method.
    """
    tree = packaged(NAME)
    from omegaconf import OmegaConf, open_dict

    check_names(config.verl, OmegaConf.to_container(tree), NAME)
    with open_dict(tree):
        tree = OmegaConf.merge(tree, _settings(config, run, prompt_count))
        for choice in supervised_choices(config, Machine.here(config)):
            for key, value in choice.keys.items():
                OmegaConf.update(tree, key, value, force_add=True)
        tree = OmegaConf.merge(tree, config.verl)
    check_effects(tree, EFFECTS)
    return tree


def supervised_choices(config: RopdConfig, machine: Machine) -> list[Choice]:
    """Return every choice that depends on the device and is not about rollouts, by the keys of the SFT trainer."""
    renamed = [
        replace(choice, keys={KEYS[key]: value for key, value in choice.keys.items() if key in KEYS})
        for choice in device_choices(config, machine)
    ]
    return [choice for choice in renamed if choice.keys]


def _settings(config: RopdConfig, run: RunDir, prompt_count: int) -> dict[str, Any]:
    train, student = config.train, config.student
    steps = steps_of(config, prompt_count)
    batch = train.prompts_per_step * answers_per_prompt(config)
    return {
        "data": {
            "train_files": str(run.train_prompts),
            "train_batch_size": batch,
            "train_max_samples": steps * batch,  # the rows of the whole run
            "num_workers": 0,
            "custom_cls": {"path": "pkg://ropd_cli.training.verl.supervised", "name": "TeacherAnswers"},
            "apply_chat_template_kwargs": (
                {} if student.enable_thinking is None else {"enable_thinking": student.enable_thinking}
            ),
        },
        "model": {
            "path": student.model_path,
            "lora_rank": student.lora_rank,
            "lora_alpha": student.lora_alpha,
            "use_remove_padding": True,
        },
        "engine": {
            "strategy": train.strategy,
            # without a rollout engine on the device, nothing waits in main memory unless it is asked for
            "param_offload": train.offload == "all",
            "optimizer_offload": train.offload in ("optimizer", "all"),
        },
        "optim": optimizer(train),
        "checkpoint": {"save_contents": ["model", "optimizer", "extra", "hf_model"]},
        "trainer": {
            "nnodes": train.nodes,
            "n_gpus_per_node": train.devices_per_node,
            "logger": ["console", "file", *train.trackers],
            "total_epochs": 1,  # the dataset is the whole run
            "total_training_steps": steps,
            "save_freq": train.save_every or steps,
            "test_freq": -1,
            "max_ckpt_to_keep": None,  # verl's own pruning forgets at a resume what is there
            "resume_mode": "auto",
            "default_local_dir": str(run.checkpoints),
            "project_name": "ropd",
            "experiment_name": run.path.name,
        },
        "ropd": {"run_dir": str(run.path), "seed": config.seed},
    }

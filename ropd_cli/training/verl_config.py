"""Compose verl's configuration: verl's packaged defaults, our settings, the user's ``verl:`` last."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ropd_cli.config import RopdConfig
from ropd_cli.errors import MissingPackage
from ropd_cli.training.raw_keys import check_effects, check_names
from ropd_cli.training.run_dir import RunDir

GPU_TOKENS_AT_ONCE = 16_384  # of one micro-batch; at least one whole sequence
CPU_TOKENS_AT_ONCE = 1_536  # the packed attention mask is dense, so this bounds its square
CPU_SEQUENCES_AT_ONCE = 64
TRAINER = "ropd"
"""The name that ``verl/trainer`` is registered under."""


def compose(config: RopdConfig, run: RunDir, prompt_count: int, ray_dir: str) -> Any:
    """verl's resolved configuration (an OmegaConf tree) for a run over ``prompt_count`` prompts.

    Raises MissingPackage without verl, and ConfigError for every key of the ``verl:`` section that is unknown or breaks
    the method.
    """
    try:
        from hydra import compose as hydra_compose
        from hydra import initialize_config_module
        from omegaconf import OmegaConf, open_dict

        with initialize_config_module(config_module="verl.trainer.config", version_base=None):
            tree = hydra_compose(config_name="ppo_trainer")
    except Exception as fault:  # hydra raises its own kinds for a package that is not there
        if not isinstance(fault, ImportError) and "verl" not in str(fault):
            raise
        missing = fault.name if isinstance(fault, ImportError) else "verl"
        raise MissingPackage(
            f"training needs verl, and {missing} is not installed",
            "on a GPU machine: pip install 'ropd-cli[gpu]'; on a CPU: make env (docs/install.md)",
        ) from fault
    check_names(config.verl, OmegaConf.to_container(tree))
    with open_dict(tree):
        device = (_cpu if config.device == "cpu" else _gpu)(config, ray_dir)
        for part in (common(config, run, prompt_count), device, config.verl):
            tree = OmegaConf.merge(tree, part)
    check_effects(tree)
    return tree


def steps_of(config: RopdConfig, prompt_count: int) -> int:
    """Training steps of a run: ``train.steps``, or ``train.epochs`` over the prompts."""
    per_epoch = max(1, prompt_count // config.train.prompts_per_step)
    return config.train.steps or per_epoch * config.train.epochs


def common(config: RopdConfig, run: RunDir, prompt_count: int) -> dict[str, Any]:
    """What does not depend on the device."""
    train, data, rollout, student = config.train, config.data, config.rollout, config.student
    validation = config.validate
    steps = steps_of(config, prompt_count)
    per_epoch = max(1, prompt_count // train.prompts_per_step)
    length = data.max_prompt_tokens + data.max_response_tokens
    template = {} if student.enable_thinking is None else {"enable_thinking": student.enable_thinking}
    return {
        "algorithm": {"adv_estimator": "grpo", "norm_adv_by_std_in_grpo": train.norm_adv_by_std},
        "data": {
            "train_files": str(run.train_prompts),
            "val_files": str(run.val_prompts if config.validate.benchmarks else run.train_prompts),  # verl wants some
            "validation_shuffle": False,
            "train_batch_size": train.prompts_per_step,
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
                "override_config": {"attn_implementation": "sdpa"},  # needs no flash-attn
            },
            "actor": {
                "strategy": train.strategy,
                "loss_agg_mode": train.loss_agg_mode,
                "ppo_mini_batch_size": train.prompts_per_update or train.prompts_per_step,
                "use_dynamic_bsz": True,
                "clip_ratio": train.clip_ratio,
                "clip_ratio_low": train.clip_ratio,
                "clip_ratio_high": train.clip_ratio,
                "use_kl_loss": train.kl_coef > 0,
                "kl_loss_coef": train.kl_coef,
                "entropy_coeff": 0,
                "data_loader_seed": config.seed,
                "optim": {
                    "lr": train.lr,
                    "lr_scheduler_type": train.lr_schedule,
                    "lr_warmup_steps": train.warmup_steps,
                    "betas": list(train.betas),
                    "weight_decay": train.weight_decay,
                    "clip_grad": train.grad_clip,  # actor.grad_clip is read by nobody
                },
                "checkpoint": {"save_contents": ["model", "optimizer", "extra", "hf_model"]},
            },
            "rollout": {
                "name": "vllm",
                "n": rollout.n,
                "temperature": rollout.temperature,
                "top_p": rollout.top_p,
                "tensor_model_parallel_size": rollout.tensor_parallel_size,
                "max_model_len": length,
                "log_prob_use_dynamic_bsz": True,
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
                "trainer_mode": TRAINER,
                "sampler": {
                    "custom_sampler": {"path": "pkg://ropd_cli.training.verl.sampler", "name": "JudgedSampler"},
                    "sampler_kwargs": {
                        "run_dir": str(run.path),
                        "max_failed_fraction": config.judge.max_failed_fraction,
                    },
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


def _cpu(config: RopdConfig, ray_dir: str) -> dict[str, Any]:
    bf16 = (config.student.dtype or default_cpu_dtype()) == "bfloat16"
    length = config.data.max_prompt_tokens + config.data.max_response_tokens
    tokens = max(CPU_TOKENS_AT_ONCE, length)
    sequences = config.rollout.max_num_seqs or CPU_SEQUENCES_AT_ONCE
    precision = _precision("bf16" if bf16 else "fp32")
    devices = config.train.devices_per_node
    level = _rollout_is(config)
    return {
        # rollout and actor agree on this device, so the rollout's log-probabilities are taken as they are; with top_p
        # they are not the policy's
        "algorithm": {
            "rollout_correction": {"rollout_is": level, "bypass_mode": level is None and config.rollout.top_p == 1}
        },
        "actor_rollout_ref": {
            "model": {"enable_gradient_checkpointing": False},
            "actor": {
                "ppo_max_token_len_per_gpu": tokens,
                "use_torch_compile": False,
                "fsdp_config": {"use_torch_compile": False, "mixed_precision": precision},
            },
            "ref": {
                "log_prob_use_dynamic_bsz": True,
                "log_prob_max_token_len_per_gpu": tokens,
                "fsdp_config": {"use_torch_compile": False, "mixed_precision": precision},
            },
            "rollout": {
                "dtype": "bfloat16" if bf16 else "float32",
                "log_prob_max_token_len_per_gpu": tokens,
                "enforce_eager": True,
                "free_cache_engine": False,
                "enable_sleep_mode": False,
                "max_num_seqs": sequences,
                "max_num_batched_tokens": max(2048, length),
                "agent": {"num_workers": 1},
                "checkpoint_engine": {"update_weights_bucket_megabytes": 256},
            },
        },
        "transfer_queue": {"backend": {"SimpleStorage": {"num_data_storage_units": 1}}},
        "trainer": {"device": "cpu"},
        "ray_kwargs": {
            # declared, so that verl finds as many as it asks for
            "ray_init": _ray_init(config, ray_dir, num_gpus=devices, num_cpus=8 * devices)
        },
    }


def _gpu(config: RopdConfig, ray_dir: str) -> dict[str, Any]:
    length = config.data.max_prompt_tokens + config.data.max_response_tokens
    tokens = max(GPU_TOKENS_AT_ONCE, length)
    rollout: dict[str, Any] = {
        "dtype": config.student.dtype or "bfloat16",
        "log_prob_max_token_len_per_gpu": tokens,
        "gpu_memory_utilization": config.rollout.gpu_memory_utilization,
        "max_num_batched_tokens": max(8192, length),
    }
    if config.rollout.max_num_seqs:
        rollout["max_num_seqs"] = config.rollout.max_num_seqs
    precision = _precision("fp32" if config.student.dtype == "float32" else "bf16")
    offload = config.train.offload
    if offload == "auto":  # beside vLLM on one device, weights and optimizer of a 4B model do not fit otherwise
        offload = "all" if config.train.nodes * config.train.devices_per_node == 1 else "none"
    params = {"param_offload": offload == "all"}
    return {
        "algorithm": {"rollout_correction": {"rollout_is": _rollout_is(config)}},
        "actor_rollout_ref": {
            "model": {"enable_gradient_checkpointing": True},
            "actor": {
                "ppo_max_token_len_per_gpu": tokens,
                "fsdp_config": {"mixed_precision": precision, "optimizer_offload": offload != "none", **params},
            },
            "ref": {
                "log_prob_use_dynamic_bsz": True,
                "log_prob_max_token_len_per_gpu": tokens,
                "fsdp_config": {"mixed_precision": precision, **params},
            },
            "rollout": rollout,
        },
        "trainer": {"device": "cuda"},
        "ray_kwargs": {"ray_init": _ray_init(config, ray_dir)},
    }


def _ray_init(config: RopdConfig, ray_dir: str, **declared: int) -> dict[str, Any]:
    """A Ray of the run's own, whatever RAY_ADDRESS says; with several nodes the cluster that they have joined, of which
    nothing may be declared."""
    if config.train.nodes > 1:
        return {"address": "auto"}
    return {"address": "local", "include_dashboard": False, "_temp_dir": ray_dir, **declared}


def _rollout_is(config: RopdConfig) -> str | None:
    """verl's ``rollout_is``: on a GPU vLLM's log-probabilities are not the trainer's, which verl's recipes correct."""
    level = config.train.rollout_is
    if level == "auto":
        level = "none" if config.device == "cpu" else "token"
    return None if level == "none" else level


def _precision(parameters: str) -> dict[str, str]:
    """FSDP's mixed precision: weights are kept in float32, multiplied in ``parameters``, reduced in float32."""
    return {"param_dtype": parameters, "reduce_dtype": "fp32", "buffer_dtype": "fp32"}


def default_cpu_dtype() -> str:
    """bfloat16 where the processor multiplies it natively (twice as fast), else float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "float32"
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"

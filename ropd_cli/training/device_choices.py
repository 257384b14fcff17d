"""Every choice that depends on the device, as data: its value, why, and verl's keys that are composed from it.

What verl does with these keys was read in the source of 0.9.1: ``workers/engine/fsdp/transformer_impl.py``
(micro-batches, log-probabilities), ``models/transformers/monkey_patch.py`` (fused kernels),
``single_controller/ray/base.py`` and TransferQueue's ``simple_storage.py`` (processors).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from ropd_cli.config import RopdConfig
from ropd_cli.engines.model_folder import model_config
from ropd_cli.methods import method_of
from ropd_cli.util.counted import counted

ACTOR, REF, ROLLOUT, MODEL = (f"actor_rollout_ref.{part}" for part in ("actor", "ref", "rollout", "model"))
STORAGE_UNITS = "transfer_queue.backend.SimpleStorage.num_data_storage_units"
GPU_TOKENS_AT_ONCE = 16_384  # of one micro-batch; at least one whole sequence
CPU_TOKENS_AT_ONCE = 1_536  # the packed attention mask is dense, so this bounds its square
CPU_SEQUENCES_AT_ONCE = 64
FUSED = ("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
"""Models whose logits are nothing but the last layer's matrix times the hidden states, which is what verl's fused
kernels compute; others scale or cap them, or add a bias."""
CPUS_PER_GPU = 3
"""That verl's resource pool reserves (``ResourcePoolManager.max_colocate_count``)."""
OTHER_CPUS = 2
"""TransferQueue's controller, and one that has to be free whenever a process without one of its own starts."""
MOST_STORAGE_UNITS, MOST_AGENT_WORKERS = 8, 8
CORES_PER_AGENT_WORKER = 4


@dataclass(frozen=True)
class Machine:
    """What a choice depends on besides the configuration."""

    cores: int
    """Processors of each node."""
    has_flash_attn: bool
    has_bfloat16: bool
    """Of the processor."""
    student: Mapping[str, Any] = field(default_factory=dict)
    """The student's config.json; empty where it is not known."""

    @classmethod
    def here(cls, config: RopdConfig, *, ask_hub: bool = True) -> Machine:
        """Return this machine. Nothing heavy is imported; ``ask_hub``: a config.json that is not on this disk is taken
        from the hub, for a run on GPUs."""
        return cls(
            cores=len(os.sched_getaffinity(0)),
            has_flash_attn=importlib.util.find_spec("flash_attn") is not None,
            has_bfloat16=default_cpu_dtype() == "bfloat16",
            student=model_config(config.student.model_path, ask_hub=ask_hub and config.device == "gpu"),
        )


class ChoiceShown(TypedDict):
    choice: str
    """What it is about."""
    value: str
    why: str
    keys: dict[str, Any]
    """Keys of verl that say it."""
    overridden: NotRequired[dict[str, Any]]
    """Those of them that the ``verl:`` section gives another value."""


@dataclass(frozen=True)
class Choice:
    """A choice: what it is about, its value, why it is so in one sentence, and the keys of verl's that say it."""

    name: str
    value: str
    why: str
    keys: Mapping[str, Any]


def device_choices(config: RopdConfig, machine: Machine) -> list[Choice]:
    """Return every choice that depends on the device, in the order in which they are shown."""
    return list((_cpu if config.device == "cpu" else _gpu)(config, machine))


def overridden(choice: Choice, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a choice's keys that the ``verl:`` section (``raw``) gives another value."""
    other = {}
    for key, value in choice.keys.items():
        found: Any = raw
        for part in key.split("."):
            found = found.get(part, value) if isinstance(found, Mapping) else value
        if found != value:
            other[key] = found
    return other


def chosen_keys(choices: Sequence[Choice], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return verl's keys of all choices, with what the ``verl:`` section says instead."""
    return {key: value for each in choices for key, value in {**each.keys, **overridden(each, raw)}.items()}


def described(choices: Sequence[Choice], raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the choices as documents (``ChoiceShown``)."""
    return [
        {"choice": each.name, "value": each.value, "why": each.why, "keys": dict(each.keys)}
        | ({"overridden": other} if (other := overridden(each, raw)) else {})
        for each in choices
    ]


def table(choices: Sequence[Choice], raw: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (choice, value, why) of each, where the ``verl:`` section does not say otherwise."""
    rows = [("choice", "value", "why")]
    for each in choices:
        other = "; ".join(f"{key.rpartition('.')[2]} {value}" for key, value in overridden(each, raw).items())
        rows.append((each.name, f"verl: {other}", "set by hand") if other else (each.name, each.value, each.why))
    return rows


def whole_sequence(config: RopdConfig) -> int:
    """Return the tokens of the longest prompt with the longest response."""
    return config.data.max_prompt_tokens + config.data.max_response_tokens


def default_cpu_dtype() -> str:
    """bfloat16 where the processor multiplies it natively (twice as fast), else float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "float32"
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def dtype_of(config: RopdConfig, *, has_bfloat16: bool) -> str:
    """Return ``student.dtype``; without it bfloat16 on GPUs and processors that have it, else float32."""
    return config.student.dtype or ("bfloat16" if config.device == "gpu" or has_bfloat16 else "float32")


def _cpu(config: RopdConfig, machine: Machine) -> Iterator[Choice]:
    length, asked = whole_sequence(config), config.student.dtype
    dtype = dtype_of(config, has_bfloat16=machine.has_bfloat16)
    native = "the processor has" if machine.has_bfloat16 else "the processor lacks"
    yield Choice("device", "cpu", "device is cpu", {"trainer.device": "cpu"})
    yield _dtype(dtype, "student.dtype says so" if asked else f"{native} bfloat16 instructions")
    tokens = max(CPU_TOKENS_AT_ONCE, length)
    yield _packed("sdpa", tokens, "the attention mask of a packed batch is dense, and grows with its square")
    yield _log_probs("from whole logits", "of so few tokens they are small")
    level = _rollout_is(config)
    bypass = level is None and config.rollout.top_p == 1
    yield Choice(
        "rollout correction",
        "vLLM's log-probabilities are taken as they are" if bypass else f"importance weights: {level or 'none'}",
        "vLLM and trainer agree on a CPU" if bypass else _why_rollout_is(config),
        {
            "algorithm.rollout_correction.rollout_is": level,
            "algorithm.rollout_correction.bypass_mode": bypass,
        },
    )
    yield Choice(
        "checkpointing",
        "off",
        "main memory holds the activations",
        {f"{MODEL}.enable_gradient_checkpointing": False, **_each_engine("use_torch_compile", False)}
        | {f"{ACTOR}.use_torch_compile": False},
    )
    yield Choice(
        "vLLM",
        f"eager, {config.rollout.kv_cache_gb} GB for its cache, never asleep",
        "a CPU has neither graphs to capture nor memory of its own to free",
        {
            f"{ROLLOUT}.enforce_eager": True,
            f"{ROLLOUT}.free_cache_engine": False,
            f"{ROLLOUT}.enable_sleep_mode": False,
            f"{ROLLOUT}.max_num_seqs": config.rollout.max_num_seqs or CPU_SEQUENCES_AT_ONCE,
            f"{ROLLOUT}.max_num_batched_tokens": max(2048, length),
            f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes": 256,
        },
    )
    devices, declared = config.train.devices_per_node, {}
    if config.train.nodes == 1:  # a cluster's nodes have declared what they have
        declared = {"ray_kwargs.ray_init.num_cpus": 8 * devices, "ray_kwargs.ray_init.num_gpus": devices}
    yield Choice(
        "processors",
        f"{8 * devices}; agent workers: 1, storage units: 1",
        "what verl asks Ray for; declared to Ray, whatever this machine has",
        _workers(1, 1) | declared,
    )


def _gpu(config: RopdConfig, machine: Machine) -> Iterator[Choice]:
    length, asked, devices = whole_sequence(config), config.student.dtype, config.train.devices_per_node
    count = config.train.nodes * devices
    yield Choice("device", "gpu", "device is gpu", {"trainer.device": "cuda"})
    dtype = dtype_of(config, has_bfloat16=machine.has_bfloat16)
    yield _dtype(dtype, "student.dtype says so" if asked else "weights stay in float32, GPUs multiply in bfloat16")
    if machine.has_flash_attn:
        tokens = max(GPU_TOKENS_AT_ONCE, length)
        yield _packed("flash_attention_2", tokens, "flash-attn is importable here, and takes packed sequences as such")
    else:
        yield _one_sequence(length)
    yield _gpu_log_probs(machine)
    level = _rollout_is(config)
    yield Choice(
        "rollout correction",
        f"importance weights: {level or 'none'}",
        _why_rollout_is(config),
        {"algorithm.rollout_correction.rollout_is": level},
    )
    yield Choice(
        "checkpointing",
        "on",
        "activations of all layers do not fit: each layer is computed again in the backward pass",
        {f"{MODEL}.enable_gradient_checkpointing": True},
    )
    yield Choice(
        "sharding",
        f"{config.train.strategy} over {counted(count, 'GPU')}",
        "weights, gradients and optimizer are split over all of them",
        {f"{ACTOR}.strategy": config.train.strategy},
    )
    yield _offload(config, count)
    share = config.rollout.gpu_memory_utilization
    limit = {f"{ROLLOUT}.max_num_seqs": config.rollout.max_num_seqs} if config.rollout.max_num_seqs else {}
    yield Choice(
        "vLLM",
        f"{share:.0%} of each GPU, tensor parallel {config.rollout.tensor_parallel_size}",
        "rollout.gpu_memory_utilization; it sleeps during the update, which then has the whole GPU",
        {f"{ROLLOUT}.gpu_memory_utilization": share, f"{ROLLOUT}.max_num_batched_tokens": max(8192, length), **limit},
    )
    yield _gpu_processors(config, machine)


def _dtype(dtype: str, why: str) -> Choice:
    """FSDP keeps weights in float32, multiplies in ``dtype`` and reduces in float32; vLLM has all in ``dtype``."""
    precision = {
        "param_dtype": "bf16" if dtype == "bfloat16" else "fp32",
        "reduce_dtype": "fp32",
        "buffer_dtype": "fp32",
    }
    return Choice(
        "arithmetic",
        dtype,
        why,
        {f"{ROLLOUT}.dtype": dtype, **_each_engine("mixed_precision", precision)},
    )


def _packed(attention: str, tokens: int, why: str) -> Choice:
    return Choice(
        "attention",
        f"{attention}, up to {tokens:,} tokens packed per micro-batch",
        why,
        {
            f"{MODEL}.override_config.attn_implementation": attention,
            f"{ACTOR}.use_dynamic_bsz": True,
            f"{ACTOR}.ppo_max_token_len_per_gpu": tokens,
            **{f"{part}.log_prob_use_dynamic_bsz": True for part in (REF, ROLLOUT)},
            **{f"{part}.log_prob_max_token_len_per_gpu": tokens for part in (REF, ROLLOUT)},
        },
    )


def _one_sequence(length: int) -> Choice:
    """Without flash-attn transformers builds a dense mask of tokens squared for packed sequences, and torch's
    attention multiplies all of it; for a single one there is no mask and a causal kernel. flex_attention would take
    packed ones, but is compiled anew for their ever new lengths."""
    return Choice(
        "attention",
        "sdpa, one sequence per micro-batch",
        "flash-attn is not importable here, and sdpa multiplies a dense mask of tokens squared for packed sequences",
        {
            f"{MODEL}.override_config.attn_implementation": "sdpa",
            f"{ACTOR}.use_dynamic_bsz": False,
            f"{ACTOR}.ppo_micro_batch_size_per_gpu": 1,
            f"{ACTOR}.ppo_max_token_len_per_gpu": length,
            **{f"{part}.log_prob_use_dynamic_bsz": False for part in (REF, ROLLOUT)},
            **{f"{part}.log_prob_micro_batch_size_per_gpu": 1 for part in (REF, ROLLOUT)},
        },
    )


def _log_probs(value: str, why: str, *, fused: bool = False, chunked: bool = False) -> Choice:
    return Choice(
        "log-probabilities",
        value,
        why,
        {
            f"{MODEL}.use_fused_kernels": fused,
            f"{MODEL}.fused_kernel_options.impl_backend": "torch",
            **{f"{part}.entropy_from_logits_with_chunking": chunked for part in (ACTOR, REF)},
        },
    )


def _gpu_log_probs(machine: Machine) -> Choice:
    kind = machine.student.get("model_type")
    if kind in FUSED:
        why = "whole logits are gigabytes a copy, and without flash-attn verl loops over them token by token"
        return _log_probs("fused with the last layer, 512 tokens at a time", why, fused=True)
    slow = "" if machine.has_flash_attn else "; without flash-attn verl loops over the tokens, which is slow"
    if kind is None:
        why = "the student's config.json can't be read, so its last layer is not known to be a plain product"
    else:
        why = f"the last layer of {kind} is not known to be a plain product"
    return _log_probs("from whole logits, their entropy in chunks", why + slow, chunked=True)


def _offload(config: RopdConfig, count: int) -> Choice:
    level = config.train.offload
    why = f"train.offload is {level}"
    if level == "auto":
        level = "all" if count == 1 else "none"
        why = (
            "on one GPU they do not fit beside vLLM" if count == 1 else f"split over {count} GPUs they fit beside vLLM"
        )
    shown = {"all": "weights and optimizer", "optimizer": "the optimizer", "none": "nothing"}[level]
    return Choice(
        "offload",
        f"{shown} in main memory while vLLM samples",
        why,
        {
            f"{ACTOR}.fsdp_config.optimizer_offload": level != "none",
            **_each_engine("param_offload", level == "all"),
        },
    )


def _gpu_processors(config: RopdConfig, machine: Machine) -> Choice:
    nodes, cores = config.train.nodes, machine.cores
    units, needed = storage_units(config), cpus_per_node(config)
    agents = max(1, min(MOST_AGENT_WORKERS, cores * nodes // CORES_PER_AGENT_WORKER))
    keys = _workers(agents, units)
    if nodes == 1:  # else Ray's own nodes count theirs
        keys["ray_kwargs.ray_init.num_cpus"] = max(cores, needed)
    why = f"verl reserves {CPUS_PER_GPU} per GPU, TransferQueue one per storage unit, and {OTHER_CPUS} more"
    if cores < needed:
        why += f"; there are {cores}: " + ("declared all the same, and slow" if nodes == 1 else "the run would wait")
    value = f"{needed} per node; agent workers: {agents}, storage units: {units}"
    return Choice("processors", value, why, keys)


def storage_units(config: RopdConfig) -> int:
    """Return TransferQueue's storage units: one per GPU up to verl's 8 in all, and one per node or more. It does not
    go by the cores of the node that asks: each of the nodes has to have declared as many CPUs as it comes to."""
    nodes = config.train.nodes
    return max(nodes, min(MOST_STORAGE_UNITS, nodes * config.train.devices_per_node))


def teacher_devices(config: RopdConfig) -> int:
    """Return the devices of a teacher whose vLLM is the run's own, which verl has a further pool of; else 0."""
    is_own = method_of(config).needs(config).checkpoint and config.distil.endpoint.base_url is None
    return config.distil.devices if is_own else 0


def cpus_per_node(config: RopdConfig) -> int:
    """Return the CPUs that Ray has to count on the fullest node, on which a teacher may be too: with fewer verl waits
    for ever."""
    ours = Choice("storage units", "", "", {STORAGE_UNITS: storage_units(config)})
    units = chosen_keys([ours], config.verl)[STORAGE_UNITS]
    gpus = config.train.devices_per_node + teacher_devices(config)
    return CPUS_PER_GPU * gpus + -(-units // config.train.nodes) + OTHER_CPUS


def few_cores(config: RopdConfig, cores: int) -> tuple[str, str] | None:
    """Return what is wrong with so few cores for a run on GPUs, and how to mend it; None where they are enough."""
    needed = cpus_per_node(config)
    if config.device == "cpu" or cores >= needed:
        return None
    gpus = config.train.devices_per_node + teacher_devices(config)
    found = f"verl reserves {needed} cores per node for {counted(gpus, 'GPU')}, and this machine has {cores}"
    if config.train.nodes == 1:
        return f"{found}: Ray is told {needed}, so the run starts, but is slow", "take a machine with more cores"
    mend = f"start Ray by ray start --num-cpus={needed} on nodes with fewer, or take fewer train.devices_per_node"
    return f"{found}: verl waits for ever where Ray counts fewer", mend


def _workers(agents: int, storage_units: int) -> dict[str, Any]:
    return {
        f"{ROLLOUT}.agent.num_workers": agents,
        STORAGE_UNITS: storage_units,
    }


def _each_engine(key: str, value: Any) -> dict[str, Any]:
    return {f"{part}.fsdp_config.{key}": value for part in (ACTOR, REF)}


def _rollout_is(config: RopdConfig) -> str | None:
    """verl's ``rollout_is``."""
    level = config.train.rollout_is
    if level == "auto":
        level = "none" if config.device == "cpu" else "token"
    return None if level == "none" else level


def _why_rollout_is(config: RopdConfig) -> str:
    if config.train.rollout_is != "auto":
        return f"train.rollout_is is {config.train.rollout_is}"
    if config.device == "cpu":
        return "rollout.top_p is below 1: vLLM's log-probabilities are not the policy's, and are computed again"
    return "vLLM's kernels round otherwise than the trainer's, which verl's recipes correct"

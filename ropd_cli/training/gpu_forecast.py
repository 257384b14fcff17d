"""Forecast of a run on GPUs: memory by component, main memory, and time per step, with the arithmetic in words.

The constants are few and stated; tests/unit/test_gpu_forecast.py holds the results against figures of real runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ropd_cli.config import RopdConfig
from ropd_cli.training.device_choices import ACTOR, MODEL, ROLLOUT, Choice, chosen_keys
from ropd_cli.training.gpus import GpuKind
from ropd_cli.training.model_shape import Shape

RESERVED_BYTES = 4e9
"""Of each GPU: CUDA contexts of two processes, NCCL, graphs of the vLLM that sleeps, fragments."""
VLLM_RESERVED_BYTES = 2e9
"""Of vLLM's share: activations of its largest batch, and graphs."""
FUSED_TOKENS = 512
PROCESS_BYTES, NODE_BYTES = 6e9, 16e9
"""Main memory: of the two processes per GPU; of Ray, its object store and the workers on each node."""
BANDWIDTH_SHARE, DECODING_SHARE = 0.6, 0.5
"""Shares of a GPU's bandwidth and arithmetic that generation reaches."""
DECODING_S = 0.005
"""Per decoding step: scheduling and sampling."""
MOST_SEQUENCES = 256
"""verl's default of ``max_num_seqs``."""
PCIE_BYTES = 20e9
"""Bytes per second between a GPU and main memory."""


@dataclass(frozen=True)
class Part:
    """One component: its amount in bytes or seconds, and the arithmetic in words."""

    name: str
    amount: float
    words: str


@dataclass(frozen=True)
class Plan:
    """What a forecast depends on. Lengths are means over a step, in tokens."""

    shape: Shape
    gpu: GpuKind
    nodes: int
    devices: int
    """Per node."""
    rollouts: int
    """Per step."""
    prompt: float
    response: float
    longest: int
    """Longest response."""
    tokens_at_once: int
    """Of the largest micro-batch."""
    is_fused: bool
    offload: str
    """What waits in main memory during rollouts: none, optimizer, all."""
    share: float
    """vLLM's, of each GPU's memory."""
    tensor_parallel: int = 1
    most_sequences: int = MOST_SEQUENCES
    lora_rank: int = 0
    has_reference: bool = False
    is_checkpointed: bool = True

    @classmethod
    def of(cls, config: RopdConfig, shape: Shape, gpu: GpuKind, choices: Sequence[Choice]) -> Plan:
        """Return the plan of a configuration; prompts and responses are taken to be half as long as it allows."""
        train, data, rollout = config.train, config.data, config.rollout
        keys = chosen_keys(choices, config.verl)
        optimizer = keys[f"{ACTOR}.fsdp_config.optimizer_offload"]
        return cls(
            shape=shape,
            gpu=gpu,
            nodes=train.nodes,
            devices=train.devices_per_node,
            rollouts=train.prompts_per_step * rollout.n,
            prompt=data.max_prompt_tokens / 2,
            response=data.max_response_tokens / 2,
            longest=data.max_response_tokens,
            tokens_at_once=keys[f"{ACTOR}.ppo_max_token_len_per_gpu"],
            is_fused=keys[f"{MODEL}.use_fused_kernels"],
            offload="all" if keys[f"{ACTOR}.fsdp_config.param_offload"] else "optimizer" if optimizer else "none",
            share=keys[f"{ROLLOUT}.gpu_memory_utilization"],
            tensor_parallel=rollout.tensor_parallel_size,
            most_sequences=rollout.max_num_seqs or MOST_SEQUENCES,
            lora_rank=config.student.lora_rank,
            has_reference=train.kl_coef > 0 and not config.student.lora_rank,
            is_checkpointed=keys[f"{MODEL}.enable_gradient_checkpointing"],
        )

    @property
    def count(self) -> int:
        """GPUs in all."""
        return self.nodes * self.devices

    @property
    def trained(self) -> int:
        """Weights that have gradients: all of them, or adapters of every matrix in a layer."""
        shape, rank = self.shape, self.lora_rank
        if not rank:
            return shape.weights
        attention = 2 * (shape.heads + shape.kv_heads) * shape.head_dim + 4 * shape.hidden
        return shape.layers * rank * (attention + 3 * (shape.hidden + shape.mlp) * shape.experts)


def sampling_memory(plan: Plan) -> list[Part]:
    """Return what lies on each GPU while vLLM samples."""
    return [*_resident(plan), vllm_share(plan), Part("reserve", RESERVED_BYTES, "CUDA, NCCL, fragments")]


def update_memory(plan: Plan) -> list[Part]:
    """Return what lies on each GPU at the peak of the update, when vLLM sleeps."""
    shape, tokens = plan.shape, plan.tokens_at_once
    split = f" / {plan.count} GPUs" if plan.count > 1 else ""
    trained = "adapters" if plan.lora_rank else "weights"
    optimizer = 8 * plan.trained / plan.count
    parts = [
        _weights(plan),
        Part(
            "gradients",
            4 * plan.trained / plan.count,
            f"{_billions(plan.trained)} {trained} x 4 bytes (float32){split}",
        ),
        Part("optimizer", optimizer, f"{_billions(plan.trained)} {trained} x 8 bytes (two moments of AdamW){split}"),
        *_reference(plan),
    ]
    kept = 2 * shape.layers * tokens * shape.hidden
    wide = (
        8 * shape.hidden
        + 4 * shape.mlp * shape.experts_at_once
        + 3 * (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    )
    layer = 2 * tokens * wide
    parts.append(
        Part(
            "activations",
            kept + layer,
            f"micro-batch of {tokens:,} tokens: {shape.layers} layers x {shape.hidden:,} x 2 bytes kept, "
            f"and one layer computed again ({_gigabytes(layer)})",
        )
    )
    if plan.is_fused:
        logits = FUSED_TOKENS * shape.vocab * 16.0
        words = f"{FUSED_TOKENS} tokens x {shape.vocab:,} words x 16 bytes (four copies in float32)"
    else:
        logits = tokens * shape.vocab * 10.0
        words = f"{tokens:,} tokens x {shape.vocab:,} words x 10 bytes (logits, gradient, a copy in float32)"
    parts.append(Part("logits", logits, words))
    if plan.count > 1:
        gathered = 2 * (
            shape.embedding * (1 if shape.is_tied else 2) + 4 * (shape.weights - shape.embedding) / shape.layers
        )
        parts.append(
            Part("gathered", gathered, "whole weights in bfloat16 of the embedding and of two layers, with gradients")
        )
    return [*parts, Part("reserve", RESERVED_BYTES, "CUDA, NCCL, graphs of the vLLM that sleeps, fragments")]


def vllm_share(plan: Plan) -> Part:
    """Return vLLM's share of each GPU, and what is in it."""
    weights = 2 * plan.shape.weights / plan.tensor_parallel
    split = f" / {plan.tensor_parallel}" if plan.tensor_parallel > 1 else ""
    each = plan.shape.kv_bytes / plan.tensor_parallel
    return Part(
        "vLLM",
        plan.share * plan.gpu.bytes,
        f"{plan.share:.0%} of {_gigabytes(plan.gpu.bytes)}: weights {_gigabytes(weights)} "
        f"({_billions(plan.shape.weights)} x 2 bytes{split}), {_gigabytes(VLLM_RESERVED_BYTES)} for its batches, "
        f"and its cache: {max(0, kv_tokens(plan)):,} tokens of {each / 1e3:,.0f} kB",
    )


def kv_tokens(plan: Plan) -> int:
    """Return how many tokens of context vLLM's cache holds; below 0 where not even the weights fit."""
    weights = 2 * plan.shape.weights / plan.tensor_parallel
    left = plan.share * plan.gpu.bytes - weights - VLLM_RESERVED_BYTES
    return int(left / (plan.shape.kv_bytes / plan.tensor_parallel))


def amount_of(parts: Sequence[Part]) -> float:
    """Return the sum of the parts."""
    return sum(part.amount for part in parts)


def node_memory(plan: Plan) -> list[Part]:
    """Return the main memory of the fullest node."""
    shape, devices = plan.shape, plan.devices
    words = f"{_gigabytes(NODE_BYTES)} for Ray, its objects and the workers, {_gigabytes(PROCESS_BYTES)} per GPU"
    parts = [Part("processes", NODE_BYTES + PROCESS_BYTES * devices, words)]
    here = devices / plan.count
    if plan.offload != "none":
        each = 8 * plan.trained + (4 * shape.weights if plan.offload == "all" else 0)
        what = "weights (4 bytes) and moments (8)" if plan.offload == "all" else "moments (8 bytes)"
        parts.append(Part("offload", each * here, f"{what} of the node's GPUs in main memory"))
    copies = devices if shape.is_tied else 1
    who = f"each of {devices} processes" if shape.is_tied and devices > 1 else "the first process"
    why = "its embedding is tied" if shape.is_tied else "the others get it from there"
    words = (
        f"{who} reads the whole model at the start ({why}): {copies} x {_billions(shape.weights)} x 4 bytes (float32)"
    )
    return [*parts, Part("loading", 4.0 * shape.weights * copies, words)]


def node_bytes(parts: Sequence[Part]) -> float:
    """Return the peak of main memory: what is loaded at the start is gone before anything is offloaded."""
    amounts = {part.name: part.amount for part in parts}
    return amounts["processes"] + max(amounts.get("offload", 0.0), amounts["loading"])


def step_time(plan: Plan) -> list[Part]:
    """Return the phases of a step in seconds; empty where the GPU's arithmetic is not known. Judging, which runs beside
    the generation and may outlast it, is not among them."""
    return list(_phases(plan, plan.gpu)) if plan.gpu.teraflops and plan.gpu.terabytes else []


def _phases(plan: Plan, gpu: GpuKind) -> Iterator[Part]:
    assert gpu.teraflops and gpu.terabytes
    shape, tp = plan.shape, plan.tensor_parallel
    length = plan.prompt + plan.response
    # generation: each replica of vLLM decodes its rollouts; a step reads the weights and the cache, or multiplies
    replicas = max(1, plan.count // tp)
    mine = -(-plan.rollouts // replicas)
    fitting = max(1, int(max(1, kv_tokens(plan)) / (plan.prompt + plan.response / 2)))
    at_once = min(mine, plan.most_sequences, fitting)
    weights = 2 * shape.decoded
    context = at_once * (plan.prompt + plan.response / 2) * shape.kv_bytes
    reading = (weights + context) / tp / (gpu.terabytes * 1e12 * BANDWIDTH_SHARE)
    multiplying = 2 * shape.multiplied * at_once / tp / (gpu.teraflops * 1e12 * DECODING_SHARE)
    one = max(reading, multiplying) + DECODING_S
    steps = mine * plan.response / at_once
    last = max(0.0, plan.longest - plan.response)
    alone = weights / tp / (gpu.terabytes * 1e12 * BANDWIDTH_SHARE) + DECODING_S
    prefill = mine * plan.prompt * 2 * shape.multiplied / tp / (gpu.teraflops * 1e12 * DECODING_SHARE)
    yield Part(
        "generation",
        steps * one + last * alone + prefill,
        f"{mine} rollouts per replica, {at_once} at once: {steps:,.0f} decoding steps x {one * 1e3:.1f} ms "
        f"(reads {_gigabytes((weights + context) / tp)} in {reading * 1e3:.1f} ms at {BANDWIDTH_SHARE:.0%} of "
        f"{gpu.terabytes:g} TB/s, multiplies in {multiplying * 1e3:.1f} ms, {DECODING_S * 1e3:.0f} ms besides), then "
        f"{last:,.0f} steps x {alone * 1e3:.1f} ms for the longest; prompts {prefill:.1f} s",
    )
    tokens = plan.rollouts * length
    speed = gpu.teraflops * 1e12 * gpu.utilisation * plan.count
    forward = tokens * shape.forward_flops(length)
    at = f"at {gpu.utilisation:.0%} of {plan.count} x {gpu.teraflops:g} TFLOP/s"
    words = f"{tokens:,.0f} tokens x {shape.forward_flops(length) / 1e9:.1f} GFLOP {at}"
    yield Part("log-probabilities", forward / speed, words)
    if plan.has_reference:
        yield Part("reference", forward / speed, words)
    times = 4 if plan.is_checkpointed else 3
    again = ", once more for checkpointing" if plan.is_checkpointed else ""
    yield Part("update", times * forward / speed, f"{times} x that: forward, twice backward{again}")
    moved = 4 * shape.weights  # in bfloat16 to vLLM, read and written
    moved += {"none": 0, "optimizer": 16 * plan.trained, "all": 16 * (plan.trained + shape.weights)}[plan.offload]
    words = f"new weights to vLLM, offloaded state to the GPU and back: {_gigabytes(moved / plan.count)} per GPU"
    yield Part("moving", moved / plan.count / PCIE_BYTES, f"{words} at {PCIE_BYTES / 1e9:.0f} GB/s")


def _weights(plan: Plan) -> Part:
    split = f" / {plan.count} GPUs" if plan.count > 1 else ""
    return Part(
        "weights",
        4 * plan.shape.weights / plan.count,
        f"{_billions(plan.shape.weights)} x 4 bytes (float32){split}",
    )


def _resident(plan: Plan) -> Iterator[Part]:
    """What of the trainer stays on each GPU while vLLM samples."""
    if plan.offload != "all":
        yield _weights(plan)
        yield from _reference(plan)
    if plan.offload == "none":
        split = f" / {plan.count} GPUs" if plan.count > 1 else ""
        yield Part("optimizer", 8 * plan.trained / plan.count, f"{_billions(plan.trained)} x 8 bytes{split}")


def _reference(plan: Plan) -> Iterator[Part]:
    if plan.has_reference and plan.offload != "all":
        yield Part(
            "reference", 4 * plan.shape.weights / plan.count, "train.kl_coef: a second copy of the weights, as above"
        )


def _billions(weights: float) -> str:
    return f"{weights / 1e9:.2f} B" if weights >= 1e8 else f"{weights / 1e6:.1f} M"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"

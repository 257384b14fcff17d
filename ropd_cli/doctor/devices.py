"""Devices: processors, memory, GPUs, and whether they are what the configuration asks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ropd_cli.config import RopdConfig
from ropd_cli.doctor.check import Case, Check, Section, shown_bytes
from ropd_cli.errors import ConfigError, RopdError
from ropd_cli.training.checks import check_sizes
from ropd_cli.training.device_choices import (
    Machine,
    cpus_per_node,
    default_cpu_dtype,
    device_choices,
    few_cores,
    table,
)
from ropd_cli.training.gpu_forecast import (
    Plan,
    amount_of,
    kv_tokens,
    node_bytes,
    node_memory,
    sampling_memory,
    update_memory,
)
from ropd_cli.training.gpus import GpuKind, has_gpu, known_gpu
from ropd_cli.training.model_shape import Shape, weights_of
from ropd_cli.training.versions import installed_versions

HERE = Section("devices")
SMI_TIMEOUT_S, TORCH_TIMEOUT_S = 15.0, 90.0
DRIVER = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
SMI = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
LEAST_MEMORY = 2e9
TRAINING_BYTES, ADAPTER_BYTES = 16, 4
"""Per weight: float32 with gradient and two moments of AdamW; frozen below an adapter."""
LEAST_DRIVER = {12: (525, 60), 13: (580, 65)}
"""By the CUDA that torch is built for: NVIDIA's oldest driver for it on Linux."""
CPU_STACK_BYTES = 8e9
"""Ray, verl and vLLM themselves, in several processes: the quickstart's peak without what its model takes."""


@dataclass(frozen=True)
class Gpu:
    """A GPU and its memory."""

    name: str
    total_bytes: float
    free_bytes: float | None = None

    def __str__(self) -> str:
        free = f", {shown_bytes(self.free_bytes)} free" if self.free_bytes is not None else ""
        return f"{self.name} ({self.total_bytes / 2**30:.1f} GiB = {shown_bytes(self.total_bytes)}{free})"


def processors(case: Case) -> list[Check]:
    """Check the cores that this process may use, whether they have bfloat16, and whether a GPU run has enough."""
    count = len(os.sched_getaffinity(0))
    if case.trains and case.config.device == "gpu":
        return [enough_cores(case.config, count)]
    cores = f"{count} cores"
    if default_cpu_dtype() == "bfloat16":
        return [HERE.ok("cpu", f"{cores}, with bfloat16")]
    if case.trains and case.config.device == "cpu" and case.config.student.dtype == "bfloat16":
        found = f"{cores}, without bfloat16, and student.dtype asks for it"
        return [HERE.warn("cpu", found, "leave student.dtype out")]
    return [HERE.ok("cpu", f"{cores}, without bfloat16 instructions: a CPU run computes in float32")]


def enough_cores(config: RopdConfig, count: int) -> Check:
    """Check ``count`` cores against what verl reserves for a run on GPUs."""
    lacking = few_cores(config, count)
    if lacking is None:
        return HERE.ok("cpu", f"{count} cores, and verl reserves {cpus_per_node(config)}")
    return (HERE.warn if config.train.nodes == 1 else HERE.fail)("cpu", *lacking)


def memory(case: Case) -> list[Check]:
    """Check the memory of this machine (or of its container)."""
    total, free = memory_bytes()
    found = f"{shown_bytes(free)} free of {shown_bytes(total)}"
    return [HERE.ok_unless(free < LEAST_MEMORY, "memory", found, "end other programs, or take a larger machine")]


def gpus(case: Case) -> list[Check]:
    """Check that there are as many GPUs as the configuration wants."""
    usable, wanted = find_gpus(), case.config.train.devices_per_node
    needed = case.trains and case.config.device == "gpu"
    if usable:
        names = [str(gpu) for gpu in usable]
        checks = [HERE.ok("gpu", "; ".join(f"{names.count(one)} x {one}" for one in dict.fromkeys(names)))]
        if needed and len(usable) < wanted:
            found = f"train.devices_per_node is {wanted}, and {len(usable)} can be used here"
            mend = f"--set train.devices_per_node={len(usable)}, and sizes that are multiples of it"
            checks.append(HERE.fail("devices_per_node", found, mend))
        return checks
    if case.config.device == "cpu":
        return [HERE.ok("gpu", "none found; device: cpu needs none")]
    if not needed:
        return [HERE.skipped("gpu", "none was found; ropd train needs one, or device: cpu")]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    why = f" (CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else ""
    mend = "run it on a machine with a GPU (does nvidia-smi list it, is torch a build for CUDA?), "
    mend += "or --set device=cpu"
    return [HERE.fail("gpu", f"device is gpu, and no GPU can be used here{why}", mend)]


def sizes(case: Case) -> list[Check]:
    """Check that the sizes of a run divide as ``ropd train`` wants them."""
    return [dividing(case.config)] if case.trains else []


def dividing(config: RopdConfig) -> Check:
    """Check the sizes of a run by what ``ropd train`` refuses."""
    try:
        check_sizes(config)
    except ConfigError as fault:
        return HERE.fail("sizes", "; ".join(fault.problems), "ropd train refuses this: change one of the numbers")
    return HERE.ok("sizes", "prompts, rollouts and devices divide")


def driver(case: Case) -> list[Check]:
    """Check the driver's version against the CUDA that torch is built for."""
    version = (output_of(DRIVER, SMI_TIMEOUT_S) or "").split("\n")[0].strip()
    cuda = probe().get("cuda") if version else None
    return [driver_for(version, cuda)] if cuda else []


def driver_for(version: str, cuda: str) -> Check:
    """Check a driver's ``version`` against a torch that is built for ``cuda``."""
    least = LEAST_DRIVER.get(int(cuda.partition(".")[0]))
    found = f"driver {version}, torch is built for CUDA {cuda}"
    has = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if least is None or has >= least:
        return HERE.ok("driver", found)
    shown = ".".join(map(str, least))
    mend = "update the driver, or install a torch of an older CUDA (https://pytorch.org/get-started)"
    return HERE.fail("driver", f"{found}, which wants driver {shown} or newer", mend)


def choices(case: Case) -> list[Check]:
    """Show what a run would choose on this machine, and why."""
    if not case.trains:
        return []
    here = Machine.here(case.config, ask_hub=not case.offline)
    _, *rows = table(device_choices(case.config, here), case.config.verl)
    return [HERE.ok(name, f"{value} ({why})") for name, value, why in rows]


def student_memory(case: Case) -> list[Check]:
    """Check that training the student roughly fits, where its size is known."""
    config = case.config
    if not case.trains:
        return []
    if config.device == "cpu":
        weights = weights_of(config.student.model_path)
        return [on_cpu(config, weights, memory_bytes()[1])] if weights is not None else []
    here = Machine.here(config, ask_hub=not case.offline)
    shape = Shape.of(here.student)
    if shape is None:
        return [HERE.skipped("student", "the student's config.json is not here or describes another kind of model")]
    made = device_choices(config, here)
    main = main_memory(Plan.of(config, shape, GpuKind("", 0), made), memory_bytes()[0])
    kinds = [known_gpu(gpu.name, gpu.total_bytes) for gpu in find_gpus()]
    smallest = min(kinds, key=lambda kind: kind.bytes, default=None)
    return [main] if smallest is None else [on_gpu(Plan.of(config, shape, smallest, made)), main]


def on_cpu(config: RopdConfig, weights: int, free: float) -> Check:
    """Check that training so many weights fits into ``free`` bytes of memory."""
    per_weight = ADAPTER_BYTES if config.student.lora_rank else TRAINING_BYTES
    # all devices of a node are processes of this machine, each replica of vLLM with its own weights and cache
    replicas = config.train.devices_per_node / config.rollout.tensor_parallel_size
    vllm = replicas * (4 * weights + config.rollout.kv_cache_gb * 1e9)
    need = weights * per_weight / config.train.nodes + vllm + CPU_STACK_BYTES
    found = f"training {weights / 1e6:,.0f} M weights takes roughly {shown_bytes(need)} of memory"
    adapters = "" if config.student.lora_rank else "student.lora_rank 32, "
    mend = f"a smaller student, {adapters}a lower rollout.kv_cache_gb, or a larger machine"
    return HERE.ok_unless(need > free, "student", f"{found}, {shown_bytes(free)} free", mend)


def on_gpu(plan: Plan) -> Check:
    """Check that training fits on the plan's GPUs."""
    sampling, updating = amount_of(sampling_memory(plan)), amount_of(update_memory(plan))
    found = (
        f"{plan.shape.weights / 1e6:,.0f} M weights: about {shown_bytes(sampling)} while sampling and "
        f"{shown_bytes(updating)} in the update, of {shown_bytes(plan.gpu.bytes)} per GPU"
    )
    room = kv_tokens(plan)
    is_cramped, is_full = room < plan.prompt + plan.longest, sampling > plan.gpu.bytes
    if is_cramped:
        found += f"; vLLM's cache would hold {max(0, room):,} tokens"
    levers = ["more train.devices_per_node", "shorter lengths"]
    if plan.offload != "all" and is_full:
        levers.append("train.offload: all")
    if not plan.lora_rank:
        levers.append("student.lora_rank 32")
    if is_cramped or is_full:
        levers.append("another rollout.gpu_memory_utilization")
    is_tight = is_cramped or max(sampling, updating) > plan.gpu.bytes
    return HERE.ok_unless(is_tight, "student", found, ", or ".join([", ".join(levers[:-1]), levers[-1]]))


def main_memory(plan: Plan, size: float) -> Check:
    """Check that what a node keeps in its ``size`` bytes of main memory fits."""
    parts = node_memory(plan)
    shares = ", ".join(f"{part.name} {shown_bytes(part.amount)}" for part in parts)
    found = f"about {shown_bytes(node_bytes(parts))} of main memory ({shares}), the machine has {shown_bytes(size)}"
    mend = "a machine with more memory, or fewer train.devices_per_node"
    if plan.offload != "none":
        mend += ", or train.offload: none with more GPUs"
    return HERE.ok_unless(node_bytes(parts) > size, "main memory", found, mend)


@cache
def find_gpus() -> list[Gpu]:
    """Return the GPUs that a run could use: by nvidia-smi, and by torch where it is built for them. Torch has the last
    word, for it heeds CUDA_VISIBLE_DEVICES and a driver that is too old."""
    by_smi = read_smi(output_of(SMI, SMI_TIMEOUT_S) or "")
    if not by_smi and not has_gpu():
        return []
    seen = probe()
    return [Gpu(one["name"], one["total_bytes"]) for one in seen["devices"]] if seen else by_smi


@cache
def probe() -> dict[str, Any]:
    """Return what torch sees; empty where it is not built for GPUs or can't be imported."""
    torch = installed_versions().get("torch")
    if torch is None or "+cpu" in torch:
        return {}
    # A process of its own: torch takes seconds to import, and may crash on a broken driver.
    command = [sys.executable, "-m", "ropd_cli.engines.torch_probe"]
    try:
        seen: dict[str, Any] = json.loads((output_of(command, TORCH_TIMEOUT_S) or "").splitlines()[-1])
    except (IndexError, ValueError):
        return {}
    return seen


def output_of(command: Sequence[str], timeout_s: float) -> str | None:
    """Return what a command prints; None where there is no such command or it fails. Raises RopdError where it
    hangs."""
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, errors="replace", timeout=timeout_s)
    except subprocess.TimeoutExpired as fault:
        raise RopdError(
            f"{command[0]} does not answer within {timeout_s:g} s",
            f"run {command[0]} by hand; is the driver all right?",
        ) from fault
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def read_smi(text: str) -> list[Gpu]:
    """Return the GPUs in nvidia-smi's lines ``name, MiB in all, MiB free``."""
    gpus = []
    for line in text.splitlines():
        name, *sizes = [part.strip() for part in line.rsplit(",", 2)]
        if len(sizes) == 2 and all(size.isdigit() for size in sizes):
            total, free = (int(size) * 2**20 for size in sizes)
            gpus.append(Gpu(name, total, free))
    return gpus


def memory_bytes() -> tuple[float, float]:
    """Return (all, free) memory in bytes, the container's where it has a limit."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = {line.partition(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    total, free = kilobytes["MemTotal"] * 1024.0, kilobytes["MemAvailable"] * 1024.0
    try:
        limit = float(Path("/sys/fs/cgroup/memory.max").read_text())
        used = float(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return total, free
    return (limit, min(free, limit - used)) if limit < total else (total, free)


CHECKS = (processors, memory, gpus, sizes, driver, choices, student_memory)

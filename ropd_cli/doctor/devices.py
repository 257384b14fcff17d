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
from ropd_cli.engines.model_folder import local_folder, parameters
from ropd_cli.errors import RopdError
from ropd_cli.training.device_choices import default_cpu_dtype
from ropd_cli.training.versions import installed_versions

HERE = Section("devices")
SMI_TIMEOUT_S, TORCH_TIMEOUT_S = 15.0, 90.0
SMI = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
GPU_FILES = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")
LEAST_MEMORY = 2e9
TRAINING_BYTES, SAMPLING_BYTES, ADAPTER_BYTES = 16, 12, 4
"""Per weight: float32 with gradient and two moments of AdamW; without the gradient; frozen below an adapter."""
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
        return f"{self.name} ({shown_bytes(self.total_bytes)}{free})"


def processors(case: Case) -> list[Check]:
    """Check the cores that this process may use, and whether they have bfloat16."""
    cores = f"{len(os.sched_getaffinity(0))} cores"
    if default_cpu_dtype() == "bfloat16":
        return [HERE.ok("cpu", f"{cores}, with bfloat16")]
    if case.named and case.config.device == "cpu" and case.config.student.dtype == "bfloat16":
        found = f"{cores}, without bfloat16, and student.dtype asks for it"
        return [HERE.warn("cpu", found, "leave student.dtype out")]
    return [HERE.ok("cpu", f"{cores}, without bfloat16 instructions: a CPU run computes in float32")]


def memory(case: Case) -> list[Check]:
    """Check the memory of this machine (or of its container)."""
    total, free = memory_bytes()
    found = f"{shown_bytes(free)} free of {shown_bytes(total)}"
    return [HERE.ok_unless(free < LEAST_MEMORY, "memory", found, "end other programs, or take a larger machine")]


def gpus(case: Case) -> list[Check]:
    """Check that there are as many GPUs as the configuration wants."""
    usable, wanted = find_gpus(), case.config.train.devices_per_node
    needed = case.named and case.config.device == "gpu"
    if usable:
        names = [str(gpu) for gpu in usable]
        checks = [HERE.ok("gpu", "; ".join(f"{names.count(one)} x {one}" for one in dict.fromkeys(names)))]
        if needed and len(usable) < wanted:
            found = f"train.devices_per_node is {wanted}, and {len(usable)} can be used here"
            mend = f"--set train.devices_per_node={len(usable)}, and sizes to match (docs/training.md)"
            checks.append(HERE.fail("devices_per_node", found, mend))
        return checks
    if not needed:
        return [HERE.ok("gpu", "none found; device: cpu works without (docs/cpu.md)")]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    why = f" (CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else ""
    mend = "run it on a machine with a GPU (does nvidia-smi list it, is torch a build for CUDA?), "
    mend += "or --set device=cpu (docs/cpu.md)"
    return [HERE.fail("gpu", f"device is gpu, and no GPU can be used here{why}", mend)]


def student_memory(case: Case) -> list[Check]:
    """Check that training the student roughly fits, where its size is known."""
    folder = local_folder(case.config.student.model_path) if case.named else None
    weights = parameters(folder) if folder is not None else None
    if weights is None:
        return []
    if case.config.device == "cpu":
        return [on_cpu(case.config, weights, memory_bytes()[1])]
    sizes = [gpu.total_bytes for gpu in find_gpus()]
    return [on_gpu(case.config, weights, min(sizes))] if sizes else []


def on_cpu(config: RopdConfig, weights: int, free: float) -> Check:
    """Check that training so many weights fits into ``free`` bytes of memory."""
    per_weight = ADAPTER_BYTES if config.student.lora_rank else TRAINING_BYTES
    devices = config.train.nodes * config.train.devices_per_node
    need = weights * (per_weight / devices + 4) + config.rollout.kv_cache_gb * 1e9 + CPU_STACK_BYTES
    found = f"training {weights / 1e6:,.0f} M weights takes roughly {shown_bytes(need)} of memory"
    mend = "a smaller student, student.lora_rank 32, a lower rollout.kv_cache_gb, or a larger machine"
    return HERE.ok_unless(need > free, "student", f"{found}, {shown_bytes(free)} free", mend)


def on_gpu(config: RopdConfig, weights: int, size: float) -> Check:
    """Check that training so many weights fits on GPUs of ``size`` bytes each."""
    devices = config.train.nodes * config.train.devices_per_node
    vllm = config.rollout.gpu_memory_utilization * size
    training, sampling = (ADAPTER_BYTES,) * 2 if config.student.lora_rank else (TRAINING_BYTES, SAMPLING_BYTES)
    need = max(weights * training / devices, weights * sampling / devices + vllm)
    found = (
        f"training {weights / 1e6:,.0f} M weights takes roughly {shown_bytes(need)} of each GPU besides activations "
        f"(vLLM {shown_bytes(vllm)} of it), which has {shown_bytes(size)}"
    )
    mend = "student.lora_rank 32, more train.devices_per_node, or another rollout.gpu_memory_utilization"
    is_tight = need > size or 2 * weights / config.rollout.tensor_parallel_size > vllm
    return HERE.ok_unless(is_tight, "student", found, mend)


@cache
def find_gpus() -> list[Gpu]:
    """Return the GPUs that a run could use: by nvidia-smi, and by torch where it is built for them. Torch has the last
    word, for it heeds CUDA_VISIBLE_DEVICES and a driver that is too old."""
    by_smi = read_smi(output_of(SMI, SMI_TIMEOUT_S) or "")
    if not by_smi and not any(Path(file).exists() for file in GPU_FILES):
        return []
    torch = installed_versions().get("torch")
    if torch is None or "+cpu" in torch:
        return by_smi
    # A process of its own: torch takes seconds to import, and may crash on a broken driver.
    command = [sys.executable, "-m", "ropd_cli.engines.torch_probe"]
    try:
        seen: dict[str, Any] = json.loads((output_of(command, TORCH_TIMEOUT_S) or "").splitlines()[-1])
    except (IndexError, ValueError):
        return by_smi
    return [Gpu(one["name"], one["total_bytes"]) for one in seen["devices"]]


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


CHECKS = (processors, memory, gpus, student_memory)

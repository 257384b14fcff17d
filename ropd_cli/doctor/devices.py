"""Devices: processors, memory, GPUs, and whether they are what the configuration asks for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ropd_cli.config import RopdConfig
from ropd_cli.doctor.check import Case, Check, Section, shown_bytes
from ropd_cli.doctor.model_folder import local_folder, parameters
from ropd_cli.doctor.subprocess_probe import module_says, said_by
from ropd_cli.training.verl_config import default_cpu_dtype
from ropd_cli.training.versions import installed_versions

HERE = Section("devices")
SMI_TIMEOUT_S, TORCH_TIMEOUT_S = 15.0, 90.0
SMI = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
GPU_FILES = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")
LEAST_MEMORY = 2e9
TRAINING_BYTES, SAMPLING_BYTES, ADAPTER_BYTES = 16, 12, 4
"""A weight: float32 with gradient and two moments of AdamW; without the gradient; frozen below an adapter."""
CPU_STACK_BYTES = 8e9
"""Ray, verl and vLLM themselves, in several processes: the quickstart's peak without what its model takes."""


@dataclass(frozen=True)
class Gpu:
    """A GPU and its memory."""

    name: str
    total_bytes: float
    free_bytes: float | None = None


def processors(case: Case) -> list[Check]:
    """Cores that this process may use, and whether they multiply bfloat16."""
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} cores"
    if default_cpu_dtype() == "bfloat16":
        return [HERE.ok("cpu", f"{found}, with bfloat16")]
    if case.named and case.config.device == "cpu" and case.config.student.dtype == "bfloat16":
        return [
            HERE.warn("cpu", f"{found}, without bfloat16, and student.dtype asks for it", "leave student.dtype out")
        ]
    return [HERE.ok("cpu", f"{found}, without bfloat16 instructions: a CPU run computes in float32")]


def memory(case: Case) -> list[Check]:
    """Memory of this machine (or of its container)."""
    total, free = memory_bytes()
    found = f"{shown_bytes(free)} free of {shown_bytes(total)}"
    if free < LEAST_MEMORY:
        return [HERE.warn("memory", found, "end other programs, or take a larger machine")]
    return [HERE.ok("memory", found)]


def gpus(case: Case) -> list[Check]:
    """GPUs, and how many the configuration wants."""
    found = find_gpus(case)
    checks = [_listed(case, found)]
    wanted = case.config.train.devices_per_node
    if case.named and case.config.device == "gpu" and 0 < len(found) < wanted:
        checks.append(
            HERE.fail(
                "devices_per_node",
                f"train.devices_per_node is {wanted}, and {len(found)} can be used here",
                f"--set train.devices_per_node={len(found)}, and sizes to match (docs/training.md)",
            )
        )
    return checks


def student_memory(case: Case) -> list[Check]:
    """What training the student roughly takes, where its size can be read."""
    folder = local_folder(case.config.student.model_path) if case.named else None
    weights = parameters(folder) if folder is not None else None
    if weights is None:
        return []
    if case.config.device == "cpu":
        return [on_cpu(case.config, weights, memory_bytes()[1])]
    sizes = [gpu.total_bytes for gpu in find_gpus(case)]
    return [on_gpu(case.config, weights, min(sizes))] if sizes else []


def find_gpus(case: Case) -> list[Gpu]:
    """The GPUs that a run could use: by nvidia-smi, and by torch where it is built for them, which has the last word
    (CUDA_VISIBLE_DEVICES, a driver that is too old). Looked for once."""
    if case.learnt.gpus is None:
        case.learnt.gpus = _look_for_gpus(case)
    return case.learnt.gpus


def _look_for_gpus(case: Case) -> list[Gpu]:
    listed = said_by(SMI, case.environ, SMI_TIMEOUT_S)
    by_smi = read_smi(listed) if listed is not None else []
    if not by_smi and not any(Path(file).exists() for file in GPU_FILES):
        return []
    torch = installed_versions().get("torch")
    if torch is None or "+cpu" in torch:
        return by_smi
    seen = module_says("ropd_cli.engines.torch_probe", case.environ, TORCH_TIMEOUT_S)
    if seen is None:
        return by_smi
    return [Gpu(one["name"], one["total_bytes"]) for one in seen["devices"]]


def read_smi(text: str) -> list[Gpu]:
    """GPUs in nvidia-smi's lines ``name, MiB in all, MiB free``."""
    found = []
    for line in text.splitlines():
        name, *sizes = [part.strip() for part in line.rsplit(",", 2)]
        if len(sizes) == 2 and all(size.isdigit() for size in sizes):
            total, free = (int(size) * 2**20 for size in sizes)
            found.append(Gpu(name, total, free))
    return found


def memory_bytes() -> tuple[float, float]:
    """(all, free) memory in bytes, the container's where it has a limit."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = {line.partition(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    total, free = kilobytes["MemTotal"] * 1024.0, kilobytes["MemAvailable"] * 1024.0
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    if limit is not None and limit < total:
        return limit, min(free, limit - (used or 0.0))
    return total, free


def _listed(case: Case, found: list[Gpu]) -> Check:
    if found:
        return HERE.ok("gpu", _names(found))
    if not (case.named and case.config.device == "gpu"):
        return HERE.ok("gpu", "none found; device: cpu works without (docs/cpu.md)")
    hidden = case.environ.get("CUDA_VISIBLE_DEVICES")
    why = f" (CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else ""
    return HERE.fail(
        "gpu",
        f"device is gpu, and no GPU can be used here{why}",
        "run it on a machine with a GPU (does nvidia-smi list it, is torch a build for CUDA?), "
        "or --set device=cpu (docs/cpu.md)",
    )


def _names(found: Iterable[Gpu]) -> str:
    parts = []
    for gpu in found:
        free = f", {shown_bytes(gpu.free_bytes)} free" if gpu.free_bytes is not None else ""
        parts.append(f"{gpu.name} ({shown_bytes(gpu.total_bytes)}{free})")
    return "; ".join(f"{parts.count(one)} x {one}" for one in dict.fromkeys(parts))


def on_cpu(config: RopdConfig, weights: int, free: float) -> Check:
    """Training so many weights on this machine, ``free`` bytes of whose memory are free."""
    per_weight = ADAPTER_BYTES if config.student.lora_rank else TRAINING_BYTES
    devices = config.train.nodes * config.train.devices_per_node
    need = weights * (per_weight / devices + 4) + config.rollout.kv_cache_gb * 1e9 + CPU_STACK_BYTES
    found = (
        f"training {weights / 1e6:,.0f} M weights takes roughly {shown_bytes(need)} of memory, {shown_bytes(free)} free"
    )
    if need > free:
        mend = "a smaller student, student.lora_rank 32, a lower rollout.kv_cache_gb, or a larger machine"
        return HERE.warn("student", found, mend)
    return HERE.ok("student", found)


def on_gpu(config: RopdConfig, weights: int, size: float) -> Check:
    """Training so many weights on GPUs of ``size`` bytes each."""
    lora = bool(config.student.lora_rank)
    devices = config.train.nodes * config.train.devices_per_node
    share = config.rollout.gpu_memory_utilization
    training = weights * (ADAPTER_BYTES if lora else TRAINING_BYTES) / devices
    sampling = weights * (ADAPTER_BYTES if lora else SAMPLING_BYTES) / devices + share * size
    need = max(training, sampling)
    found = (
        f"training {weights / 1e6:,.0f} M weights takes roughly {shown_bytes(need)} of each GPU besides activations "
        f"(vLLM {shown_bytes(share * size)} of it), which has {shown_bytes(size)}"
    )
    if need > size or 2 * weights / config.rollout.tensor_parallel_size > share * size:
        mend = "student.lora_rank 32, more train.devices_per_node, or another rollout.gpu_memory_utilization"
        return HERE.warn("student", found, mend)
    return HERE.ok("student", found)


def _number(file: Path) -> float | None:
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return None


CHECKS = (processors, memory, gpus, student_memory)

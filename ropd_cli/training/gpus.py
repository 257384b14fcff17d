"""Well-known GPUs, as their makers describe them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ropd_cli.errors import InputError

USABLE = 0.99
"""Of the memory on the label, what a program may have."""


@dataclass(frozen=True)
class GpuKind:
    """A kind of GPU. ``teraflops``: dense, in bfloat16; ``terabytes``: read per second from its memory; ``None``: not
    known. ``utilisation``: share of the arithmetic that training reaches."""

    name: str
    gigabytes: float
    teraflops: float | None = None
    terabytes: float | None = None
    utilisation: float = 0.4

    @property
    def bytes(self) -> float:
        """Memory that a program may have."""
        return self.gigabytes * 2**30 * USABLE


GPUS = (
    GpuKind("L4", 24, 121, 0.30),
    GpuKind("A10", 24, 125, 0.60),
    GpuKind("RTX-4090", 24, 165, 1.01),
    GpuKind("RTX-5090", 32, 209, 1.79),
    GpuKind("A40", 48, 150, 0.70),
    GpuKind("L40S", 48, 362, 0.86),
    GpuKind("A100-40GB", 40, 312, 1.56),
    GpuKind("A100-80GB", 80, 312, 2.04),
    GpuKind("A800-80GB", 80, 312, 2.04),
    GpuKind("H20-96GB", 96, 148, 4.0, 0.7),  # much memory bandwidth for little arithmetic, which is nearly all used
    GpuKind("H100-80GB", 80, 989, 3.35),
    GpuKind("H800-80GB", 80, 989, 3.35),
    GpuKind("H200-141GB", 141, 989, 4.8),
    GpuKind("B200-180GB", 180, 2250, 7.7),
)


def has_gpu() -> bool:
    """Return whether this machine shows a GPU: NVIDIA's, AMD's, or Windows' below WSL."""
    return any(Path(file).exists() for file in ("/dev/nvidia0", "/dev/kfd", "/dev/dxg"))


def known_gpu(name: str, total_bytes: float) -> GpuKind:
    """Return the kind of a GPU that a driver gives this name and memory; without speeds where it is not known."""
    words = re.split(r"[\s-]+", name.upper())
    same = [kind for kind in GPUS if set(re.sub(r"-\d+GB$", "", kind.name).split("-")) <= set(words)]
    gigabytes = total_bytes / 2**30 / USABLE
    return replace(same[0], name=name, gigabytes=gigabytes) if same else GpuKind(name, gigabytes)


def parse_gpus(text: str) -> tuple[GpuKind, int]:
    """Return the GPU and the count per node of ``NAME``, ``NAME:COUNT``, or ``80GB:COUNT`` for any of such a size.
    Raises InputError for another text."""
    matched = re.fullmatch(r"\s*(?P<name>[\w-]+)(?::(?P<count>\d+))?\s*", text)
    count = int(matched["count"] or 1) if matched else 0
    if matched and count:
        name = matched["name"].upper().replace("_", "-")
        found = [gpu for gpu in GPUS if name in (gpu.name, gpu.name.rsplit("-", 1)[0])]
        if found:
            return found[-1], count
        size = re.fullmatch(r"(\d+)GB", name)
        if size and int(size[1]):
            return GpuKind(f"a GPU of {size[1]} GB", int(size[1])), count
    names = ", ".join(gpu.name for gpu in GPUS)
    raise InputError(f"{text!r} names no GPUs", f"NAME:COUNT per node, as H100-80GB:8 or 80GB:4; names: {names}")

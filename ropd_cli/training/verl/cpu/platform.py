"""The CPU as a verl platform; loaded by verl through its entry point ``verl.plugins`` in every process.

verl swallows whatever goes wrong in here at debug level and falls back to CUDA, so the training program
asks ``require_cpu_platform`` before it starts.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

from ropd_cli.errors import TrainingError
from ropd_cli.training.verl.cpu import wanted


def device_module() -> types.ModuleType:
    """``torch.cpu`` with the calls verl makes on a device module: the memory ones say 0, the rest do nothing."""
    import torch

    def nothing(*_args: Any, **_kwargs: Any) -> None:
        return None

    def zero(*_args: Any, **_kwargs: Any) -> int:
        return 0

    module = types.ModuleType("torch_cpu_for_verl")
    vars(module).update(
        {name: value for name, value in vars(torch.cpu).items() if not name.startswith("__")},
        **dict.fromkeys(("set_device", "synchronize", "empty_cache", "ipc_collect"), nothing),
        **dict.fromkeys(("reset_peak_memory_stats", "manual_seed", "manual_seed_all"), nothing),
        **dict.fromkeys(("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"), zero),
        is_available=lambda: False,  # "no accelerator": verl's memory helpers then leave things alone
        current_device=lambda: "cpu",  # verl hands it to Tensor.to and torch.device
        device_count=lambda: 1,
        mem_get_info=lambda *_args, **_kwargs: (0, 0),
        get_device_name=lambda *_args, **_kwargs: "cpu",
        get_rng_state=lambda *_args, **_kwargs: torch.get_rng_state(),
        set_rng_state=lambda state, *_args, **_kwargs: torch.set_rng_state(state),
    )
    return module


def register() -> None:
    """Tell verl of the platform ``cpu`` and apply the patches."""
    import torch
    from verl.plugin.platform import PlatformBase, PlatformRegistry

    from ropd_cli.training.verl.cpu import verl_patches as patches

    module = device_module()

    @PlatformRegistry.register(platform="cpu")
    class CpuPlatform(PlatformBase):
        device_name = "cpu"
        vendor_name = "cpu"
        device_module = module

        def is_available(self) -> bool:
            return True

        def is_platform_available(self, use_smi_check: bool = False) -> bool:
            return False  # never detected, only asked for: a GPU cluster's head node has no GPU either

        def current_device(self) -> str:
            return "cpu"

        def device_count(self) -> int:
            return 1

        def set_device(self, device_index: Any) -> None: ...

        def synchronize(self, device_index: Any = None) -> None: ...

        def manual_seed(self, seed: int) -> None:
            torch.manual_seed(seed)

        def manual_seed_all(self, seed: int) -> None:
            torch.manual_seed(seed)

        def set_allocator_settings(self, settings: Any) -> None: ...

        def empty_cache(self) -> None: ...

        def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
            return None, None

        def communication_backend_name(self) -> str:
            return "gloo"

        def visible_devices_envvar(self) -> str:
            return "CUDA_VISIBLE_DEVICES"

        @contextlib.contextmanager
        def nvtx_range(self, msg: str) -> Iterator[None]:
            yield

        def profiler_start(self) -> None: ...

        def profiler_stop(self) -> None: ...

        def ray_resource_name(self) -> str:
            return "GPU"  # declared to Ray by ray_init.num_gpus, not found by it

        def ray_noset_envvars(self) -> list[str]:
            return []

        def is_ipc_supported(self) -> bool:
            return False  # weights then reach vLLM through shared memory

        def cudart(self) -> None:
            return None

    patches.apply_verl_patches()


def require_cpu_platform() -> None:
    """Raise TrainingError unless verl really took the CPU platform in this process."""
    import verl  # noqa: F401  (loads the plug-ins)
    from verl.utils.device import get_device_name

    try:
        device = get_device_name()
    except ValueError as fault:  # "Unknown platform"
        device = str(fault)
    if device != "cpu":
        raise TrainingError(
            f"verl did not load the CPU platform ({device})",
            "reinstall ropd-cli so that its entry points are registered: pip install --no-deps -e . (or make env)",
        )


if wanted():
    register()

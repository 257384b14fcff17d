"""vLLM's linear layers on the CPU, kept so that new weights can be loaded into them.

Loaded by vLLM through its entry point ``vllm.general_plugins`` in every process.
"""

from __future__ import annotations

import os

from ropd_cli.training.verl.cpu import wanted

INSIDE_VERL = "VERL_RAY_JOB_ID"  # set by verl's own server and by nothing else


def register() -> None:
    """vLLM's entry point. Does nothing outside verl on a CPU: a plain vLLM keeps its packed weights."""
    if not wanted() or INSIDE_VERL not in os.environ:
        return
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        reloadable_linear()


def reloadable_linear() -> None:
    """vLLM packs each weight at load time and empties ``layer.weight``, so a weight sync has nothing to load
    into. A plain matrix product on the live weight takes its place."""
    import torch
    import vllm.model_executor.layers.utils as utils

    def dispatch_cpu_unquantized_gemm(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    utils.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm

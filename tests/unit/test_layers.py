"""Who may import whom: a module imports only lower layers, no stage a stage, no command a command."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "ropd_cli"
LAYERS = {  # room (first part of the module's name below ropd_cli) -> layer
    **dict.fromkeys(["__init__", "errors"], 0),
    **dict.fromkeys(["util", "records", "answers"], 1),
    **dict.fromkeys(["config", "index", "engines", "datasets"], 2),
    "method": 3,
    "llm": 5,
    **dict.fromkeys(["builtin", "lint"], 6),
    **dict.fromkeys(["stages", "analysis"], 7),
    **dict.fromkeys(["evaluation", "report"], 8),
    "training": 9,
    **dict.fromkeys(["recipes", "doctor"], 10),
    "cli": 11,
    "__main__": 12,
}
ROOT_FILES = {"__init__.py", "__main__.py", "errors.py"}
SHARED_BY_STAGES = {"", "runner", "groups", "judge", "rubricator", "verifier"}
HEAVY = {"verl", "ray", "torch", "vllm"}
FILES = sorted(ROOT.rglob("*.py"))


def imports(file):
    """Modules that a file imports anywhere; of ``from package import module`` the module."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            for alias in node.names:
                inner = ROOT.parent / Path(*node.module.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else node.module


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_downwards(file):
    own = (*file.relative_to(ROOT).with_suffix("").parts, "")
    for module in imports(file):
        if module.split(".")[0] != "ropd_cli":
            continue
        other = (*module.split(".")[1:], "", "")
        here, there = LAYERS[own[0]], LAYERS[other[0] or "__init__"]
        if own[0] != other[0]:
            assert there < here or other[0] == "errors", f"layer {here} imports {module} of layer {there}"
        elif own[0] == "stages" and other[1] not in SHARED_BY_STAGES | {own[1]}:
            pytest.fail(f"a stage imports the stage {module}")
        elif own[0] == "cli" and other[1] != own[1] and not other[1].startswith("_") and other[1]:
            pytest.fail(f"a command imports the command {module}")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_heavy_packages_stay_where_they_belong(file):
    room = file.relative_to(ROOT).parts
    heavy = {module for module in imports(file) if module.split(".")[0] in HEAVY}
    assert not heavy or room[0] == "engines" or room[:2] == ("training", "verl")


def test_root_has_three_files():
    assert {file.name for file in ROOT.glob("*.py")} == ROOT_FILES

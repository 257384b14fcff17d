"""Who may import whom: a module imports only lower layers, no stage a stage, no command a command."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "ropd_cli"
LAYERS = {  # first part of the module's name below ropd_cli -> layer
    **dict.fromkeys(["__init__", "errors", "artifacts", "resources", "progress", "processes", "tokens"], 0),
    **dict.fromkeys(["schemas", "config", "thinking"], 1),
    **dict.fromkeys(["block", "exact", "fences"], 1.5),
    "stated": 1.55,
    **dict.fromkeys(["maths", "maths_worker"], 1.6),
    "views": 1.7,
    "lint": 2.7,
    **dict.fromkeys(["templates", "scoring", "index", "judging_format", "rewards", "stage_run", "tasks"], 2),
    **dict.fromkeys(["brought", "verdicts"], 2.5),
    **dict.fromkeys(["llm", "engines", "groups"], 3),
    "stages": 4,
    "evaluation": 4.5,
    **dict.fromkeys(["training", "report"], 5),
    **dict.fromkeys(["recipes", "doctor"], 5.5),  # whole chains and examinations, which a command starts
    "cli": 6,
    "__main__": 7,
}
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
        elif own[0] == "stages" and other[1] not in ("", own[1]):
            pytest.fail(f"a stage imports the stage {module}")
        elif own[0] == "cli" and other[1] != own[1] and not other[1].startswith("_") and other[1]:
            pytest.fail(f"a command imports the command {module}")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_heavy_packages_stay_where_they_belong(file):
    package = file.relative_to(ROOT).parts[0]
    heavy = {module for module in imports(file) if module.split(".")[0] in HEAVY}
    assert not heavy or package in ("training", "engines")

"""Who may import whom: a module imports only lower layers, no stage a stage, no command a command."""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "ropd_cli"
LAYERS = {  # room (first part of the module's name below ropd_cli) -> layer
    **dict.fromkeys(["__init__", "errors"], 0),
    **dict.fromkeys(["util", "records", "answers"], 1),
    **dict.fromkeys(["config", "index", "engines", "datasets"], 2),
    "method": 3,
    "llm": 4,
    **dict.fromkeys(["builtin", "lint"], 5),
    **dict.fromkeys(["stages", "analysis"], 6),
    **dict.fromkeys(["evaluation", "report"], 7),
    "methods": 8,
    "judging": 9,
    "training": 9,
    **dict.fromkeys(["recipes", "doctor", "serving"], 10),
    "cli": 11,
    "__main__": 12,
}
ROOT_FILES = {"__init__.py", "__main__.py", "errors.py", "judging.py"}
SHARED_BY_STAGES = {"", "runner", "groups", "judge", "rubricator", "verifier"}
HEAVY = {"verl", "ray", "torch", "vllm"}
FILES = sorted(ROOT.rglob("*.py"))


def module_of(file):
    """The dotted name of a file's module."""
    parts = ("ropd_cli", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def names_of(node):
    """Modules that an import statement names; of ``from package import module`` the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: relative import"
        for alias in node.names:
            inner = ROOT.parent / Path(*node.module.split("."), alias.name)
            is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
            yield f"{node.module}.{alias.name}" if is_module else node.module


def imports(file):
    """Modules that a file imports anywhere."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        yield from names_of(node)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_downwards(file):
    own = (*file.relative_to(ROOT).with_suffix("").parts, "")
    for module in imports(file):
        if module.split(".")[0] != "ropd_cli":
            continue
        other = (*module.split(".")[1:], "", "")
        if own[0] == "__init__" and (other[0] == "judging" or other[:3] == ("training", "verl", "reward_client")):
            continue  # what a user imports from the package itself
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


PRINTERS = {"util/visible_text.py", "engines/torch_probe.py"}  # the probe's output is read by the parent process
RAW = {"rich.console.Console", "rich.text.Text", "rich.print", "rich.get_console", "rich.console", "rich.text"}
LETS_MARKUP_IN = {"from_markup", "from_ansi", "echo", "secho", "render_markup", "print_exception", "print_exc"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_prints_past_the_guard(file):
    """Texts of endpoints and files reach a terminal through ``util/visible_text`` and ``util/terminal`` alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    where = str(file.relative_to(ROOT))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and where != "util/terminal.py":
            names = [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            assert not RAW & set(names), f"line {node.lineno}: take Console and Text from util/terminal"
        if isinstance(node, ast.Name) and node.id == "print":
            assert where in PRINTERS, f"line {node.lineno}: use print_out or print_err"
        if isinstance(node, ast.Attribute):
            stream = isinstance(node.value, ast.Attribute) and node.value.attr in ("stdout", "stderr")
            assert not (stream and node.attr in ("write", "buffer", "writelines")), f"line {node.lineno}: print_out"
            assert node.attr not in LETS_MARKUP_IN, f"line {node.lineno}: {node.attr} takes a text for markup"
        if isinstance(node, ast.keyword) and node.arg == "markup":
            assert isinstance(node.value, ast.Constant) and node.value.value is False, f"line {node.value.lineno}"


def test_root_has_three_files():
    assert {file.name for file in ROOT.glob("*.py")} == ROOT_FILES


def test_a_file_name_has_one_meaning():
    """Only a command and what it starts share a name, and the groups of the method and of its files."""
    names = Counter(file.name for file in FILES if file.name != "__init__.py" and file.parent.name != "cli")
    assert {name for name, count in names.items() if count > 1} <= {"groups.py"}
    assert not [file for file in FILES if file.with_name(f"{file.stem}s.py") in FILES], "a singular beside its plural"


def test_no_circle_of_modules():
    """Of imports at a module's top: those inside functions and for type checkers are there to break circles."""
    graph = {}
    for file in FILES:
        body = ast.parse(file.read_text(encoding="utf-8")).body
        nodes = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        graph[module_of(file)] = {name for node in nodes for name in names_of(node)} - {module_of(file)}
    TopologicalSorter({name: after & graph.keys() for name, after in graph.items()}).prepare()  # raises CycleError

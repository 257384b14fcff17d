"""What the documentation says is what the program does: commands parse, keys and defaults are the real ones."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from ropd_cli.cli.main import COMMANDS, app, load_command
from ropd_cli.config import RopdConfig, load_config
from ropd_cli.config.models import EndpointConfig

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ENDPOINTS = ("endpoint", "teacher", "rubricator", "verifier", "student.endpoint", "monitor.judge", "lint.judge")


def shell_lines(page):
    """Commands of ``ropd`` in a page's shell blocks and in the first lines of its configurations."""
    for block in re.findall(r"```(?:sh|bash|shell|console)\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.removeprefix("$ ").strip()
            words = shlex.split(line, comments=True)
            while words and "=" in words[0] and not words[0].startswith("-"):
                words.pop(0)  # VARIABLE=value before a command
            if words and words[0] == "ropd":
                yield words[1:]


COMMAND_LINES = [
    pytest.param(words, id=f"{page.name}: ropd {' '.join(words)}"[:100])
    for page in PAGES
    for words in shell_lines(page)
]


def parse(words):
    """Parse a command line as the program would, without running it."""
    words = words[: next((k for k, w in enumerate(words) if w in ("|", "&&", ";", "&", ">", ">>", "2>")), len(words))]
    if words[0] in ("--help", "--version"):
        get_command(app)
        return
    assert words[0] in COMMANDS, f"no command {words[0]}"
    command, rest = load_command(words[0]), words[1:]
    if hasattr(command, "commands") and not (command.invoke_without_command and rest and rest[0].startswith("-")):
        assert rest and rest[0] in command.commands, f"no command {words[0]} {rest[:1]}"
        command, rest = command.commands[rest[0]], rest[1:]
    if "--help" in rest:
        return
    context = command.make_context(command.name, list(rest), resilient_parsing=False)
    context.close()


@pytest.mark.parametrize("words", COMMAND_LINES)
def test_every_command_in_the_documentation_parses(words):
    parse(words)


def test_there_are_commands_to_parse_and_a_wrong_one_does_not():
    assert len(COMMAND_LINES) > 15
    with pytest.raises(Exception, match="no-such-option"):
        parse(["train", "--config", "x", "--no-such-option"])


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda f: f.stem)
def test_every_shipped_configuration_loads_and_begins_with_its_command(file):
    load_config(file, environ={})
    first = file.read_text().splitlines()[0]
    assert first.startswith("# ropd ")
    parse(shlex.split(first.removeprefix("# ropd ")))


def leaves(model, path=""):
    for name, field in model.model_fields.items():
        value = getattr(model, name)
        if isinstance(value, EndpointConfig):
            continue
        if hasattr(type(value), "model_fields"):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", field, value


def documented():
    """Return the keys of the page of keys, with their defaults as they are written."""
    text = (ROOT / "docs" / "keys.md").read_text()
    return dict(re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", text, re.MULTILINE))


def same(shown, value):
    return yaml.safe_load(shown) == (list(value) if isinstance(value, tuple) else value) or shown == str(value)


def test_the_page_of_keys_has_every_key_with_its_default():
    real = {key: value for model in (RopdConfig(), EndpointConfig()) for key, _, value in leaves(model)}
    shown = documented()
    assert set(shown) == set(real)
    assert {key: shown[key] for key in real if not same(shown[key], real[key])} == {}
    assert set(generator().MORE) <= set(real)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_pages_that_are_made_from_the_program_are_up_to_date():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "_generate.py"), "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_has_a_page_and_every_page_a_place_in_the_site():
    assert {file.stem for file in (ROOT / "docs" / "commands").glob("*.md")} == set(COMMANDS)
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def placed(entry):
        if isinstance(entry, str):
            yield entry
        else:
            for child in entry.values() if isinstance(entry, dict) else entry:
                yield from placed(child)

    assert set(placed(site["nav"])) == {
        str(page.relative_to(ROOT / "docs")) for page in PAGES if page.name != "README.md"
    }


def generator():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return importlib.import_module("_generate")
    finally:
        sys.path.pop(0)


def test_examples_of_the_formats_are_read_by_their_schemas():
    generate = generator()
    for name, (model, _, example) in generate.RECORDS.items():
        record = model.model_validate_json(example)
        assert not record.model_extra, f"{name} has fields that the schema lacks"
        for each in generate.models_of(model):
            assert all(f"{each.__name__}.{field}" in generate.MEANINGS for field in each.model_fields)


def test_every_file_that_the_contributors_page_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    names = re.findall(r"`((?:[a-z_]+/)+[\w.]+\.(?:py|json))`", text)
    assert len(names) > 40
    assert not [name for name in names if not any((folder / name).is_file() for folder in (ROOT, ROOT / "ropd_cli"))]


def test_every_function_that_the_method_names_exists():
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Where the method is computed")[1].split("\n## ")[0]
    names = re.findall(r"`(ropd_cli\.[\w.]+)`", section)
    assert len(names) > 12
    for name in names:
        parts = name.split(".")
        for k in range(len(parts) - 1, 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:k]))
            except ModuleNotFoundError:
                continue
            for part in parts[k:]:
                found = getattr(found, part)
            assert callable(found)
            break


def test_messages_that_troubleshooting_quotes_are_the_program_s():
    sources = "".join(file.read_text() for file in (ROOT / "ropd_cli").rglob("*.py"))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)  # texts that go on in the next line
    sources = re.sub(r"\{[^{}]*\}", "{}", sources)
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = re.findall(r"^\| `([^`]*)`", page, re.MULTILINE)
    assert len(quoted) > 10
    assert [text for text in quoted if text not in sources and text not in ("pip",)] == []


def test_no_message_names_a_file_that_an_installation_lacks():
    named = []
    for file in (ROOT / "ropd_cli").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        comments = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        texts = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in comments]
        named += [(file.name, node.value) for node in texts if re.search(r"docs/\S+\.md|see configs/", str(node.value))]
    assert named == []


def test_the_numbers_of_the_example_of_costs():
    page = (ROOT / "docs" / "costs.md").read_text()
    groups, a_request = 100 * 32, 12 * 1000 + 200 + 1000
    for number in (groups, a_request, 2 * a_request, groups * 2 * a_request, groups * (800 + 700)):
        assert f"{number:,}" in page
    shared = 12 * 1000 + 200
    assert f"{shared:,}" in page and f"{shared / (2 * a_request):.0%}" in page


@pytest.mark.slow
def test_the_tutorial_runs_as_it_is_written(tmp_path):
    """Its steps down to the training, in a folder and a shell of their own."""
    page = (ROOT / "docs" / "tutorial.md").read_text().split("## 4.")[0]
    script = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    environment = os.environ | {"ROPD_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    script = f'set -e\nropd() {{ {shlex.quote(sys.executable)} -m ropd_cli "$@"; }}\n{script}'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "verdicts.jsonl").read_text().splitlines()) == 4
    assert "sum-1" in done.stdout and "criterion" in done.stdout


@pytest.mark.slow
def test_the_site_is_built_strictly(tmp_path):
    pytest.importorskip("material", reason="pip install 'ropd-cli[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for page in ("index.html", "tutorial/index.html", "commands/train/index.html", "formats/index.html"):
        text = (tmp_path / "site" / page).read_text()
        assert not re.search(r'(?:src|href)="https?://(?:fonts|cdn|unpkg|cdnjs)', text)
    text = (tmp_path / "site/keys/index.html").read_text()
    assert set(documented()) == set(re.findall(r'<td id="([\w.]+)"', text))

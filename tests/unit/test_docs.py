"""What the documentation says is what the program does: commands parse, keys and defaults are the real ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from ropd_cli.cli.main import COMMANDS, app, load_command
from ropd_cli.config import RopdConfig, load_config
from ropd_cli.config.models import EndpointConfig

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ENDPOINTS = ("teacher", "rubricator", "verifier", "student.endpoint", "monitor.judge")


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


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda f: f.name)
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


def documented(section):
    text = (ROOT / "docs" / "configuration.md").read_text()
    part = text.split(f"## {section}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.]+)` \| (\S.*?) \|", part, re.MULTILINE))


def same(shown, value):
    return (
        yaml.safe_load(shown) == value
        or shown == str(value)
        or shown == str(list(value) if isinstance(value, tuple) else value)
    )


def test_the_configuration_page_has_every_key_with_its_default():
    for section, model in (("Everything else", RopdConfig()), ("Endpoints", EndpointConfig())):
        shown = documented(section)
        real = {key: value for key, _, value in leaves(model)}
        assert set(shown) == set(real)
        assert {key: shown[key] for key in real if not same(shown[key], real[key])} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target

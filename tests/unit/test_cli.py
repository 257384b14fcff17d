"""The command line's own promises: help, exit codes, what is imported."""

from __future__ import annotations

import inspect
import json
import operator
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

import ropd_cli
from ropd_cli.cli._options import command
from ropd_cli.cli._screen import Screen, pace
from ropd_cli.cli.main import COMMANDS, load_command, main
from ropd_cli.config import RopdConfig
from ropd_cli.errors import InputError, ProviderUnreachable

HEAVY = ("torch", "openai", "vllm", "verl", "ray", "datasets", "starlette", "uvicorn", "diskcache", "pyarrow")


def ropd(*arguments, **environ):
    command = [sys.executable, "-m", "ropd_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environ}, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["verify", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; sys.argv = ['ropd', *sys.argv[1:]]\n"
        "from ropd_cli.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip().splitlines()[-1] == "[]", done.stderr
    assert "ropd" in done.stdout


@pytest.mark.parametrize("start", [["-m", "ropd_cli"], ["-c", "SCRIPT"]])
def test_ctrl_c_while_it_imports_ends_with_130(tmp_path, start):
    """What is imported first is interrupted; SCRIPT is what the installed ``ropd`` does."""
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    project = tomllib.loads((Path(ropd_cli.__file__).parents[1] / "pyproject.toml").read_text())
    module, _, name = project["project"]["scripts"]["ropd"].partition(":")
    script = f"from {module} import {name}; {name}()"
    command = [sys.executable, start[0], start[1].replace("SCRIPT", script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name):
    command = load_command(name)
    assert inspect.cleandoc(command.help or "").split("\n\n")[0].replace("\n", " ") == COMMANDS[name][2]


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in ("config", "data", "index", "cache", "export")])
def test_every_command_has_the_common_options(name):
    options = {option for parameter in load_command(name).params for option in parameter.opts}
    assert {"--json", "--quiet", "--debug"} <= options


def run_main(monkeypatch, capsys, *arguments):
    """(exit code, stdout, stderr) of a command line in this process."""
    monkeypatch.setattr(sys, "argv", ["ropd", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "named", "helped"),
    [
        (["trian"], "did you mean train", "ropd --help"),
        (["cache", "nope"], "'nope'", "ropd cache --help"),
        (["verify", "--foo", "x"], "--foo", "ropd verify --help"),
        (["verify"], "'prompts'", "ropd verify --help"),
        (["verify", "p.jsonl"], "'--rubrics'", "ropd verify --help"),
        (["cache", "gc", "--max-gb", "x"], "'--max-gb'", "ropd cache gc --help"),
        (["data", "prepare", "sums", "--out", "x", "--dedup", "y"], "'y' is not one of", "ropd data prepare --help"),
        (["eval", "--nonsense"], "--nonsense", "ropd eval --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_usage_error_looks_like_every_other_error(monkeypatch, capsys, arguments, named, helped):
    code, out, err = run_main(monkeypatch, capsys, *arguments)
    error, hint = err.splitlines()
    assert (code, out) == (2, "") and error.startswith("ropd: error: ") and named in error
    assert hint.startswith("hint: ") and helped in hint


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS), ["cache", "gc"], ["eval", "compare"]])
def test_help_has_one_style_and_shows_a_help_for_every_option(monkeypatch, capsys, arguments):
    code, out, err = run_main(monkeypatch, capsys, *arguments, "--help")
    assert (code, err) == (0, "") and " ".join(["Usage: ropd", *arguments]) in out
    assert "╭─ Options ─" in out and "╰─" in out
    if arguments:
        command = load_command(arguments[0])
        command = command.commands[arguments[1]] if len(arguments) > 1 else command
        assert [each.name for each in command.params if not getattr(each, "help", None)] == []


def test_a_group_without_a_command_prints_its_help(monkeypatch, capsys):
    code, out, err = run_main(monkeypatch, capsys, "cache")
    assert code == 2 and "export" in out and err == ""


@pytest.mark.parametrize(
    ("name", "option", "key"),
    [
        ("teacher-gen", "m", "judge.m"),
        ("rubricate", "m", "judge.m"),
        ("verify", "m", "judge.m"),
        ("verify", "on_no_answer", "judge.on_no_answer"),
        ("rollout", "n", "rollout.n"),
        ("eval", "n", "eval.n"),
        ("eval", "judge_api_key_env", "verifier.api_key_env"),
        *((name, "concurrency", "verifier.limits.concurrency") for name in ("verify", "rejudge")),
        *((name, "api", "teacher.api") for name in ("teacher-gen", "rollout")),
        ("verify", "api_key_env", "verifier.api_key_env"),
    ],
)
def test_defaults_in_a_help_are_those_of_the_configuration(name, option, key):
    (parameter,) = [each for each in load_command(name).params if each.name == option]
    assert parameter.default is None and parameter.show_default == str(operator.attrgetter(key)(RopdConfig()))


@dataclass(frozen=True)
class Sizes:
    width: Annotated[int, typer.Option("--width")] = 3
    height: Annotated[int | None, typer.Option("--height")] = None


def test_a_command_gets_one_object_per_group_of_options(capsys):
    calls = []

    @command
    def draw(name: Annotated[str, typer.Argument()], *, sizes: Sizes, screen: Screen) -> None:
        calls.append((name, sizes, screen))
        raise InputError("too small")

    app = typer.Typer()
    app.command()(draw)
    with pytest.raises(SystemExit) as ended:
        typer.main.get_command(app)(["a", "--height", "2", "--quiet"])
    assert ended.value.code == 2 and capsys.readouterr().err == "ropd: error: too small\n"
    assert calls == [("a", Sizes(3, 2), Screen(quiet=True))]


def test_an_expected_error_is_two_lines_and_a_code(capsys):
    for error, code in (
        (InputError("a\nb.jsonl:3: bad", "mend it"), 2),
        (ProviderUnreachable("http://x: no", "start it"), 4),
    ):
        with pytest.raises(typer.Exit) as caught, Screen().errors():
            raise ExceptionGroup("group", [error])
        assert caught.value.exit_code == code
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith("ropd: error: ") and lines[1].startswith("hint: ") and len(lines) == 2
    with pytest.raises(typer.Exit) as caught, Screen().errors():
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130 and capsys.readouterr().err.startswith("ropd: interrupted")
    with pytest.raises(typer.Exit) as caught, Screen(debug=True).errors():
        raise ProviderUnreachable("http://x: no", "start it")
    *before, error, hint = capsys.readouterr().err.splitlines()
    assert caught.value.exit_code == 4 and before[0].startswith("Traceback")
    assert (error, hint) == ("ropd: error: http://x: no", "hint: start it")


def test_json_result_is_one_document(capsys):
    Screen(json=True).result({"a": 1}, "text")
    assert capsys.readouterr().out.strip() == '{\n  "a": 1\n}'
    Screen().result({"a": 1}, "text")
    assert capsys.readouterr().out == "text\n"


def test_the_pace_is_readable_at_any_speed():
    assert (pace(0, 5), pace(300, 2), pace(1, 30), pace(3, 90)) == ("0.0/s", "150.0/s", "30 s each", "30 s each")


def test_what_two_profiles_differ_in(monkeypatch, capsys):
    code, out, _ = run_main(monkeypatch, capsys, "train", "--diff", "paper", "reference", "--set", "eval.n=3", "--json")
    rows = {row["key"]: row for row in json.loads(out)["differences"]}
    assert code == 0 and "eval.n" not in rows
    assert rows["train.steps"]["values"] == {"paper": None, "reference": 500}
    assert "one epoch" in rows["train.steps"]["why"]["paper"]
    code, out, _ = run_main(monkeypatch, capsys, "train", "--diff", "paper", "reference")
    assert code == 0 and "judge.form" in out and "one verifier call" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train",), "no configuration is named"),
        (("train", "--profile", "mine"), "no profile mine"),
        (("train", "--diff", "paper", "mine"), "no profile mine"),
        (("train", "--diff", "paper"), "requires 2 arguments"),
    ],
)
def test_profiles_that_are_not_there(monkeypatch, capsys, arguments, said):
    code, _, err = run_main(monkeypatch, capsys, *arguments)
    assert code == 2 and said in err

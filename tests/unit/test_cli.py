"""The command line's own promises: help, exit codes, what is imported."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest
import typer

from ropd_cli.cli._screen import Screen, pace
from ropd_cli.cli.main import COMMANDS, load_command
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


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name):
    command = load_command(name)
    assert inspect.cleandoc(command.help or "").split("\n\n")[0].replace("\n", " ") == COMMANDS[name][2]


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in ("data", "index", "cache")])
def test_every_command_has_the_common_options(name):
    options = {option for parameter in load_command(name).params for option in parameter.opts}
    assert {"--json", "--quiet", "--debug"} <= options


def test_unknown_command_is_usage_with_the_nearest_name():
    done = ropd("trian")
    assert done.returncode == 2 and "train" in done.stderr and "Traceback" not in done.stderr


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
    assert caught.value.exit_code == 130
    with pytest.raises(InputError), Screen(debug=True).errors():
        raise InputError("x")


def test_json_result_is_one_document(capsys):
    Screen(json=True).result({"a": 1}, "text")
    assert capsys.readouterr().out.strip() == '{\n  "a": 1\n}'
    Screen().result({"a": 1}, "text")
    assert capsys.readouterr().out == "text\n"


def test_the_pace_is_readable_at_any_speed():
    assert (pace(0, 5), pace(300, 2), pace(1, 30), pace(3, 90)) == ("0.0/s", "150.0/s", "30 s each", "30 s each")

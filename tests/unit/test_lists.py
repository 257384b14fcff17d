"""What the commands know by name, as lists: data sets, benchmarks and runs; and the same in the shell's completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def ropd(*arguments, cwd=None, **environ):
    """The output of a command."""
    command = [sys.executable, "-m", "ropd_cli", *map(str, arguments)]
    environ = {**os.environ, **environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(*arguments, **how):
    return json.loads(ropd(*arguments, "--json", **how))


def test_data_list_names_what_prepare_takes(tmp_path):
    sets = {each["name"]: each["source"] for each in listed("data", "list")["data_sets"]}
    assert (sets["sums"], sets["ifeval"], sets["gsm8k"]) == ("generated", "package", "openai/gsm8k")
    for name in ("gsm8k-sample", "long-sums"):
        ropd("data", "prepare", name, "--out", tmp_path / f"{name}.jsonl", "--quiet")
        assert (tmp_path / f"{name}.jsonl").read_bytes().count(b"\n") == 100
    shown = ropd("data", "list", COLUMNS="80")
    assert all(name in shown for name in sets) and max(map(len, shown.splitlines())) <= 80

"""What the commands know by name, as lists: data sets, benchmarks and runs; and the same in the shell's completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from runs import write_run

from ropd_cli.datasets.eval_sets import KNOWN_SETS, load_eval_set
from ropd_cli.evaluation.benchmarks import KINDS
from ropd_cli.records.outputs import sole_writer
from ropd_cli.training.run_dir import RunDir


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


def test_eval_list_names_every_benchmark_with_its_grader():
    known = {each["name"]: each for each in listed("eval", "list")["benchmarks"]}
    assert known.keys() == KINDS.keys() == KNOWN_SETS.keys()
    assert {name: each["grader"] for name, each in known.items()} == KINDS
    for name in ("math500", "ifeval", "gsm8k-sample"):
        assert known[name]["source"] == "package"
        assert known[name]["questions"] == len(load_eval_set(name).questions)
    shown = ropd("eval", "list", COLUMNS="80")
    assert all(name in shown for name in known) and max(map(len, shown.splitlines())) <= 80


def test_runs_says_how_far_each_run_is(tmp_path):
    for name in ("b/done", "a/stopped", "a/running", "a/stopped/checkpoints/inner", "broken"):
        run = RunDir(write_run(tmp_path / name, steps=3))
        run.prompts_lock.write_text("{}")
        run.result.unlink()
    RunDir(tmp_path / "b/done").result.write_text('{"model": "m", "steps": 3}')
    RunDir(tmp_path / "a/stopped").keep_spent(1.5)
    (tmp_path / "a/stopped/config.yaml").write_text("train: {epochs: 1}\n")
    (tmp_path / "broken/result.json").write_text("{")
    with sole_writer(tmp_path / "a/running", directory=True):
        runs = {each.pop("path"): each for each in listed("runs", ".", cwd=tmp_path)["runs"]}
        shown = ropd("runs", tmp_path).splitlines()
    reward = RunDir(tmp_path / "b/done").metric_rows()[-1]["reward/mean"]
    other = {"step": 3, "reward": reward, "cost_usd": None}
    assert list(runs) == ["a/running", "a/stopped", "b/done"]
    assert runs["a/running"] == other | {"state": "running", "steps": 3}
    assert runs["a/stopped"] == other | {"state": "stopped", "steps": None, "cost_usd": 1.5}
    assert runs["b/done"] == other | {"state": "finished", "steps": 3}
    assert shown[2].split() == ["stopped", "3/–", f"{reward:.2f}", "$1.50", str(tmp_path / "a/stopped")]
    assert listed("runs", tmp_path / "b/done/groups") == {"runs": []}

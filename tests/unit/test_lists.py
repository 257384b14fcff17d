"""What the commands know by name, as lists: data sets, benchmarks and runs; and the same in the shell's completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from judged_runs import write_inputs
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


@pytest.mark.parametrize("command", ["data prepare", "serve-judge", "rubricate", "teacher-gen"])
def test_help_has_names_of_options_whole_at_80_columns(command):
    names = [line.split()[1] for line in ropd(*command.split(), "--help", COLUMNS="80").splitlines() if "│ " in line]
    assert [name for name in names if name.startswith("--")] and not [name for name in names if name.endswith("…")]


COMPLETED = {
    "ropd run": "runs",
    "ropd eval l": "list",
    "ropd train --config qu": "quickstart",
    "ropd train -c ablations/no": "ablations/no-teacher-in-pool ablations/not-blind",
    "ropd train -c m": "mine.yaml",
    "ropd train -c ./m": "./mine.yaml",
    "ropd doctor --set judge.mi": "judge.min_coverage=",
    "ropd eval --benchmarks ai": "aime24 aime25",
    "ropd eval -b aime24,ifeval,ai": "aime24,ifeval,aime25",
    "ropd data prepare gsm": "gsm8k gsm8k-sample",
    "ropd data prepare gsm8k --decontaminate ifeval,ma": "ifeval,math500",
    "ropd inspect-rubrics run --sort s": "step spread",
    "ropd inspect-rubrics run --uid s2g2": "s2g2 " + " ".join(f"s2g{k}" for k in range(20, 30)),
    "ropd inspect-rubrics run --uid=s3g39": "s3g39",
    "ropd inspect-rubrics absent --uid s": "",
    "ropd inspect-rubrics mine.yaml --uid s": "",
    "ropd index get i.db --uid o": "odd",
    "ropd index get absent --uid o": "",
    "ropd inspect-rubrics run --lint an": "any",
    "ropd config init qu": "quickstart",
    "ropd config explain judge.mi": "judge.min_coverage",
    "ropd config explain teachers": "teachers",
    "ropd train --profile p": "paper",
    "ropd doctor --simulate B2": "B200-180GB:",
}
ONE_PROCESS = """
import os, sys
from ropd_cli.cli.main import main
lines, sys.argv = sys.argv[1:], ["ropd"]
for line in lines:
    os.environ |= {"_ROPD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    try:
        main()
    except SystemExit:
        print("--", flush=True)
print(*{"torch", "openai", "vllm", "datasets", "pyarrow", "transformers"} & set(sys.modules))
"""


def test_values_are_completed_and_nothing_heavy_is_imported(tmp_path):
    write_run(tmp_path / "run", steps=3, groups=40)
    write_inputs(tmp_path)
    (tmp_path / "mine.yaml").write_text("nothing of a group\n")
    command = [sys.executable, "-c", ONE_PROCESS, *COMPLETED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    *offered, heavy = done.stdout.split("--\n")
    assert dict(zip(COMPLETED, (" ".join(each.split()) for each in offered), strict=True)) == COMPLETED
    assert (heavy.strip(), done.stderr) == ("", "")

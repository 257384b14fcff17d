"""What commands say: that a setting changed, what is missing, whose fault it is, and what to do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Hang, until
from typer.testing import CliRunner

from ropd_cli.cli.main import app

RULES = "builtin://checkable"


@pytest.fixture
def ropd(tmp_path, monkeypatch):
    """Runs a command in an empty folder, and returns its exit code and what it said on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROPD_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("OPENAI_API_KEY", "ROPD_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments):
        done = CliRunner().invoke(app, [str(each) for each in arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stderr

    rows = [{"uid": f"p{k}", "prompt": f"What is {k + 11} + 5?", "answer": str(k + 16)} for k in range(2)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


STAGES = {
    "teacher-gen": ("teacher-gen", "p.jsonl", "-m", 2, "--seed", 99, "--out", "t.jsonl"),
    "rollout": ("rollout", "p.jsonl", "-n", 2, "--model", "checkable", "--out", "s.jsonl"),
    "rubricate": ("rubricate", "p.jsonl", "-m", 2, "--index", "t.index", "--rollouts", "s.jsonl", "--out", "r.jsonl"),
    "verify": ("verify", "p.jsonl", "--rubrics", "r.jsonl", "--rollouts", "s.jsonl", "--out", "v.jsonl"),
}


def test_what_changed_is_named_and_nothing_is_said_to_be_done(ropd):
    for name, command in STAGES.items():
        assert ropd(*command, "--base-url", RULES)[0] == 0, name
        if name == "teacher-gen":
            assert ropd("index", "build", "t.jsonl", "--out", "t.index")[0] == 0
    for name, command in STAGES.items():
        assert ropd(*command, "--base-url", RULES)[0] == 0, name
        code, said = ropd(*command, "--base-url", f"{RULES}?flip=0.5")
        changed = "was made from other settings of the built-in provider (now flip=0.5)"
        assert code == 2 and changed in said, (name, said)
    assert ropd(*STAGES["teacher-gen"][:-1], "t2.jsonl", "--seed", 5, "--base-url", RULES)[0] == 0
    assert ropd("index", "build", "t2.jsonl", "--out", "t2.index")[0] == 0
    Path("s2.jsonl").write_text(Path("s.jsonl").read_text().replace('"text":"', '"text":"So: '))
    for name, *more, told in (
        ("teacher-gen", "--seed", 98, "sampling.seed 99, now 98"),
        ("teacher-gen", "--temperature", 0.5, "sampling.temperature unset, now 0.5"),
        ("teacher-gen", "-m", 3, "judge.m 2, now 3"),
        ("rollout", "-n", 3, "rollout.n 2, now 3"),
        ("rubricate", "--temperature", 0.5, "sampling.temperature 0.7, now 0.5"),
        ("rubricate", "-m", 1, "judge.m 2, now 1"),
        ("verify", "--set", "judge.repeats=3", "judge.repeats 1, now 3"),
        ("verify", "--set", "reward.length=0.5", "reward.length 0.0, now 0.5"),
        ("verify", "--rollouts", "s2.jsonl", "other rollouts; rollouts s.jsonl, now s2.jsonl"),
        ("rubricate", "--index", "t2.index", "index t.index, now t2.index"),
    ):
        for _ in range(2):
            code, said = ropd(*STAGES[name], "--base-url", RULES, *more)
            assert code == 2 and f"was made from {told}\n" in said and "nothing left" not in said, (more, said)
    assert "verify: nothing left to do" in ropd(*STAGES["verify"], "--base-url", RULES)[1]


def test_a_fault_of_the_configuration_is_of_its_source(ropd, tmp_path, monkeypatch):
    (tmp_path / "c.yaml").write_text("judge: {m: 3}\ntrain: {stepz: 3}\n")
    (tmp_path / "good.yaml").write_text("judge: {m: 3}\n")
    step, number = "unknown key, did you mean steps?", "input should be greater than or equal to 1 (found 0)"
    for arguments, told in (
        (["c.yaml"], f"c.yaml: train.stepz: {step}"),
        (["good.yaml", "--set", "train.stepz=3"], f"--set train.stepz: {step}"),
        (["good.yaml", "--set", "device=gpuu"], "--set device: input should be"),
        (["good.yaml", "--set", "judge.m=0"], f"--set judge.m: {number}"),
        (
            ["c.yaml", "--set", "judge.m=0"],
            f"configuration: 2 problems: --set judge.m: {number}; c.yaml: train.stepz: {step}",
        ),
    ):
        code, said = ropd("train", "--config", *arguments)
        assert code == 2 and said.startswith(f"ropd: error: {told}"), said
    monkeypatch.setenv("OPENAI_BASE_URL", "\udc80")
    assert "ropd: error: OPENAI_BASE_URL: " in ropd("train", "--config", "good.yaml")[1]


def test_a_missing_price_and_a_reached_limit_say_what_holds(ropd, server):
    ask = ("teacher-gen", "p.jsonl", "-m", 1, "--out", "t.jsonl", "--max-cost", 5)
    for model, line, more in (
        (
            "gpt-5.2",
            "--set 'prices={gpt-5.2: {input: 1.75, output: 14}}'; the list price, as here, counts at api.openai.com",
            "",
        ),
        ("mine", "--set 'prices={mine: {input: …, output: …}}'", "list price"),
    ):
        code, said = ropd(*ask, "--model", model, "--base-url", server.url)
        assert code == 2 and line in said and not (more and more in said), said
    prices = ("--set", "prices={mine: {input: 1, output: 1e6}}", "--max-tokens", 100)
    code, said = ropd(*ask, "--model", "mine", "--base-url", server.url, *prices)
    assert code == 1 and "the same command again may spend as much once more" in said, said


@pytest.mark.parametrize(
    ("number", "shell"),
    [
        (signal.SIGHUP, ()),
        (signal.SIGINT, ()),
        (signal.SIGTERM, ()),
        (signal.SIGTERM, ("sh", "-c", 'trap "" INT; exec "$@"', "sh")),  # as in the background of a script
    ],
)
async def test_each_signal_says_that_the_same_command_continues(ropd, server, number, shell):
    server.default = Hang()
    program = [*shell, sys.executable, "-m", "ropd_cli", *map(str, STAGES["teacher-gen"]), "--base-url", server.url]
    with subprocess.Popen([*program, "--model", "m"], stderr=subprocess.PIPE, text=True) as process:
        await until(lambda: server.requests or process.poll() is not None)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number and said.endswith("the same command does the rest\n"), said


def test_wrong_names_and_missing_keys_are_told_before_anything_is_written(ropd, tmp_path):
    code, said = ropd("export", "sft", "p.jsonl", "--out", "sft.jsonl")
    assert code == 2 and "sft.jsonl: an export is a folder of Parquet files, not a file\nhint: --out sft\n" in said
    code, said = ropd("rejudge", ".")
    assert code == 2 and ".: no run: no groups/step-N.jsonl.zst in it" in said
    (tmp_path / "verdicts.jsonl").touch()
    assert "hint: give verdicts.jsonl" in ropd("rejudge", ".")[1]
    (tmp_path / "verdicts.jsonl").unlink()
    for command in (STAGES["teacher-gen"], STAGES["rollout"]):
        code, said = ropd(*command, "--model", "gpt-5.2")
        assert code == 2 and said.startswith("ropd: error: no API key for https://api.openai.com/v1"), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "p.jsonl"]


def test_catalogues_are_the_user_s_alone_counted_and_cleared(ropd, tmp_path):
    criterion = {"criterion_id": "c1", "category": "x", "criterion": "It is right.", "points": 5}
    rubric = {"schema_version": "ropd.rubric.v1", "rubrics": [criterion], "maximum_score": 5}
    row = {"uid": "a", "raw_prompt_hash": "0", "rubric": rubric, "rubric_hash": "0", "model": "m", "template_hash": "0"}
    (tmp_path / "r.jsonl").write_text(json.dumps(row) + "\n")
    folder = tmp_path / "cache" / "catalogues"
    folder.mkdir(parents=True, mode=0o755)
    assert ropd("inspect-rubrics", "r.jsonl")[0] == 0
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700 and modes == {0o600}
    told = json.loads(CliRunner().invoke(app, ["cache", "info", "--json"]).stdout)
    assert told["catalogues_bytes"] > 1000
    assert ropd("cache", "clear", "--yes")[0] == 0 and not folder.exists()


@pytest.mark.parametrize("columns", [None, "80"])
def test_a_pipe_gets_whole_lines(ropd, tmp_path, monkeypatch, columns):
    criterion = {"criterion_id": "c1", "category": "x", "criterion": "It is right. " * 20, "points": 5}
    rubric = {"schema_version": "ropd.rubric.v1", "rubrics": [criterion], "maximum_score": 5}
    row = {"uid": "a", "raw_prompt_hash": "0", "rubric": rubric, "rubric_hash": "0", "model": "m", "template_hash": "0"}
    (tmp_path / "r.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    lines = CliRunner().invoke(app, ["inspect-rubrics", "r.jsonl", "--uid", "a"]).stdout.splitlines()
    whole = [line for line in lines if line.count("It is right.") == 20]
    assert len(whole) == (columns is None) and max(map(len, lines)) <= (330 if columns is None else 80)

"""What commands say: that a setting changed, what is missing, whose fault it is, and what to do."""

from __future__ import annotations

import json

import pytest
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
        assert code == 2 and "was made from another model (checkable, now checkable?flip=0.5)" in said, (name, said)
    for name, *more, told in (
        ("teacher-gen", "--seed", 98, "sampling.seed 99, now 98"),
        ("teacher-gen", "--temperature", 0.5, "sampling.temperature unset, now 0.5"),
        ("teacher-gen", "-m", 3, "judge.m 2, now 3"),
        ("rollout", "-n", 3, "rollout.n 2, now 3"),
        ("rubricate", "--temperature", 0.5, "sampling.temperature 0.7, now 0.5"),
        ("rubricate", "-m", 1, "judge.m 2, now 1"),
        ("verify", "--set", "judge.repeats=3", "judge.repeats 1, now 3"),
        ("verify", "--set", "reward.length=0.5", "reward.length 0.0, now 0.5"),
    ):
        for _ in range(2):
            code, said = ropd(*STAGES[name], "--base-url", RULES, *more)
            assert code == 2 and f"was made from {told}\n" in said and "nothing left" not in said, (more, said)
    assert "verify: nothing left to do" in ropd(*STAGES["verify"], "--base-url", RULES)[1]

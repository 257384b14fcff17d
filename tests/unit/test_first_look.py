"""What a newcomer sees first: rubrics without a training stack, missing packages by name, the commit of a checkout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.datasets import hub
from ropd_cli.errors import MissingPackage
from ropd_cli.records.parquet import arrow
from ropd_cli.util.checkout import commit


def test_judge_only_leaves_rubrics_to_inspect_and_starts_no_training_stack(tmp_path):
    program = (
        "import sys; from ropd_cli.cli.main import main; code = main(); "
        "assert not {'torch', 'vllm', 'verl', 'datasets', 'pyarrow'} & set(sys.modules); sys.exit(code)"
    )

    def ropd(*arguments):
        return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=tmp_path)

    for _ in range(2):  # the same command again has nothing left to do
        done = ropd("quickstart", "--judge-only", "--out", "try", "--cache-dir", "cache")
        assert done.returncode == 0 and "ropd inspect-rubrics try/verdicts.jsonl" in done.stdout, done.stderr
    document = json.loads(ropd("inspect-rubrics", "try/verdicts.jsonl", "--json").stdout)
    assert document["summary"]["groups"] == 8 and 0 < document["summary"]["mean"] < 1
    flawed = ropd("inspect-rubrics", "try/verdicts.jsonl", "--lint", "met-by-all")
    assert flawed.returncode == 0 and "does not check rubrics of the built-in provider" in flawed.stdout
    assert "not linted" in ropd("inspect-rubrics", "try/verdicts.jsonl", "--uid", "sum-3-14").stdout
    both = ropd("quickstart", "--judge-only", "--model-path", "x", "--out", "try")
    assert both.returncode == 2 and "--model-path" in both.stderr


@pytest.mark.parametrize("package, use", [("pyarrow", arrow), ("datasets", lambda: hub._load(hub.HubSet("a/b")))])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package, use):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage) as caught:
        use()
    assert package in str(caught.value) and caught.value.hint == "pip install 'ropd-cli[data]'"


def test_the_version_tells_the_commit_of_a_checkout(tmp_path):
    def git(*arguments, at=tmp_path):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(["git", *who, *arguments], cwd=at, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert commit(tmp_path) is None
    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "one")
    first = git("rev-parse", "HEAD")
    assert commit(tmp_path) == first[:10]
    git("worktree", "add", "-q", "-b", "other", "tree")
    assert commit(tmp_path / "tree") == first[:10]
    git("pack-refs", "--all")
    assert commit(tmp_path) == commit(tmp_path / "tree") == first[:10]
    git("checkout", "-q", "--detach")
    assert commit(tmp_path) == first[:10]
    here = commit(Path(__file__).parents[2])
    shown = CliRunner().invoke(app, ["--version"]).output
    assert here is None or here in shown

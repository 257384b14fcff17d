"""Short files that would fill the memory or the stack: one line says what is wrong with them."""

import json
import re
import subprocess
import sys

import pytest
import zstandard
from typer.testing import CliRunner

from ropd_cli.cli.main import app

GB = 1 << 30
MEASURED = """
import runpy
try:
    runpy.run_module("ropd_cli", run_name="__main__", alter_sys=True)
finally:
    print(open("/proc/self/status").read())
"""
"""A command that prints its peak of memory, which begins with it: what a fork inherits would count otherwise."""


def refused(folder, *arguments):
    """The error of a command that is refused."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 2 and done.stderr.startswith("ropd: error:"), (done.stderr[:300], done.exception)
    assert len(done.stderr.splitlines()) == 2 and len(done.stderr) < 1_000
    return done.stderr


def sparse(file):
    with open(file, "wb") as out:
        out.truncate(4 * GB)


def frames(file):
    zeros = zstandard.ZstdCompressor().compress(bytes(1 << 25))
    file.write_bytes(zeros * 128)  # 4 GB of one line
    assert file.stat().st_size < 1 << 20


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("x.jsonl", sparse, "x.jsonl:1: longer than 256 MB"),
        ("x.jsonl.zst", frames, "x.jsonl.zst:1: longer than 256 MB"),
        ("x.json", sparse, "a JSON document of more than 1 GB"),
        ("x.csv", sparse, "x.csv:0: not readable as CSV (a line of more than"),
    ],
)
def test_a_line_without_end(tmp_path, name, write, words):
    write(tmp_path / name)
    command = ["data", "prepare", "x", "--local", name, "--out", "out.jsonl"]
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr
    peak_kb = int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1])
    assert peak_kb * 1024 < GB


def laughs(start, more):
    return f"l0: &l0 {start}\n" + "".join(f"l{k}: &l{k} {more.format(*[k - 1] * 9)}\n" for k in range(1, 12))


YAML = {
    "laughs": laughs("[ha]", "[" + ", ".join(["*l{}"] * 9) + "]"),
    "long laughs": laughs("ha" * 1000, "[" + ", ".join(["*l{}"] * 9) + "]"),
    "merged": laughs("{a: b}", "{{<<: [" + ", ".join(["*l{}"] * 9) + "], x: 1}}"),
    "in itself": "judge: &a {m: 2, templates: *a}\n",
    "a list in itself": "judge: &a [*a]\n",
    "deep": "judge: " + "[" * 100 + "]" * 100,
    "too deep for the stack": "judge: " + "[" * 700 + "]" * 700,
    "deep mappings": "judge: " + "{a: " * 2_000 + "}" * 2_000,
    "large": "judge: " + "x" * 2_000_000,
    "no date": "seed: 2001-99-99",
}


@pytest.mark.parametrize("name", YAML)
def test_a_configuration(tmp_path, name):
    (tmp_path / "bomb.yaml").write_text(YAML[name])
    assert "bomb.yaml" in refused(tmp_path, "cache", "info", "--config", tmp_path / "bomb.yaml")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(YAML[name])
    assert "config.yaml: not YAML" in refused(tmp_path, "report", run)


def test_an_option(tmp_path):
    assert "--set judge" in refused(tmp_path, "cache", "info", "--set", f"judge={'[' * 400}")
    options = ["data", "prepare", "reasoning-gym:x", "--out", tmp_path / "x.jsonl"]
    assert "--param a" in refused(tmp_path, *options, "--param", f"a={'[' * 400}")


def test_anchors_of_a_usual_size_are_read(tmp_path):
    (tmp_path / "c.yaml").write_text("x: &x {model: m}\nverifier: *x\nrubricator: {<<: *x, model: n}\n")
    assert "x: unknown key" in refused(tmp_path, "cache", "info", "--config", tmp_path / "c.yaml")


@pytest.mark.parametrize("half", ["", '"\\ud800", '])
@pytest.mark.parametrize("depth", [250, 1_000, 5_000, 1_000_000])
def test_a_deep_line(tmp_path, depth, half):
    whole = json.dumps({"uid": "a", "prompt": "q"})
    deep = whole[:-1] + f', "x": [{half}' + "[" * depth + "]" * depth + "]}"
    (tmp_path / "p.jsonl").write_text(f"{whole}\n{deep}\n")
    options = ["--out", tmp_path / "x.jsonl", "--model", "m", "--base-url", "http://127.0.0.1:9/v1"]
    assert "p.jsonl:2: not valid JSON" in refused(tmp_path, "teacher-gen", tmp_path / "p.jsonl", *options)


def test_as_deep_as_may_be_is_written_again(tmp_path):
    from ropd_cli.records.files import read_records, write_records

    deep = "[" * 235 + "]" * 235
    (tmp_path / "p.jsonl").write_text(f'{{"x": {deep}, "y": "{"[" * 300}"}}\n')
    (record,) = (record for _, record in read_records(tmp_path / "p.jsonl"))
    write_records(tmp_path / "q.jsonl", [{"a": {"b": [record]}}])
    assert json.loads((tmp_path / "q.jsonl").read_text())["a"]["b"] == [record]

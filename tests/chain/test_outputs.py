"""One writer an output: a second process is told who holds it, asks nothing, and writes nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest
from judges import Reader
from processes import start_ropd
from runs import write_run
from servers import Hang, Reply, ScriptedServer

from ropd_cli.cli.main import main
from ropd_cli.errors import OutputBusy
from ropd_cli.records.files import read_records
from ropd_cli.records.outputs import sole_writer
from ropd_cli.records.schemas import prompt_hash

PROMPTS = 4
AT = ["--base-url", "{url}", "--model", "m", "--no-cache"]
KINDS = {  # {out} is a file or a directory that is new
    "teacher-gen": ["teacher-gen", "p.jsonl", "--out", "{out}", "-m", "1", *AT],
    "rollout": ["rollout", "p.jsonl", "--out", "{out}", "-n", "1", *AT],
    "rollout to parquet": ["rollout", "p.jsonl", "--out", "{out}.parquet", "-n", "1", *AT],
    "rubricate": [
        "rubricate",
        "p.jsonl",
        "--index",
        "t.index",
        "--rollouts",
        "r.jsonl",
        "-m",
        "1",
        "--out",
        "{out}",
        *AT,
    ],
    "verify": ["verify", "p.jsonl", "--rubrics", "b.jsonl", "--rollouts", "r.jsonl", "--out", "{out}", *AT],
    "eval": ["eval", "-b", "mine", "--data", "mine=p.jsonl", "-n", "1", "--out", "{out}", *AT],
    "rejudge": ["rejudge", "run", "--limit", str(PROMPTS), "--out", "{out}", *AT],
    "index build": ["index", "build", "t.jsonl", "--out", "{out}"],
    "index import": ["index", "import", "x.jsonl", "--out", "{out}"],
    "index merge": ["index", "merge", "t.index", "--out", "{out}"],
    "index export": ["index", "export", "t.index", "--out", "{out}.jsonl"],
    "data prepare": ["data", "prepare", "sums", "--size", "9", "--out", "{out}.jsonl"],
    "cache export": ["cache", "export", "{out}.jsonl"],
}
ROWS = {"eval": "samples/mine.jsonl.zst", "rejudge": "verdicts.jsonl"}
"""The file of records in an output that is a directory."""
SENDING = ("teacher-gen", "rollout", "rollout to parquet", "rubricate", "verify", "eval", "rejudge")


def words(kind, out, url):
    return [word.format(out=out, url=url) for word in KINDS[kind]]


def written(kind, out):
    """What a command of this kind writes, and whether that is a directory."""
    *_, last = [word for word in KINDS[kind] if "{out}" in word]
    return type(out)(last.format(out=out)), kind in ROWS


@pytest.fixture(scope="module")
def judge():
    with ScriptedServer() as server:
        reader = Reader()
        server.default = lambda body: reader(body) if "response_format" in body else Reply(f"It is {len(body)}.")
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory, judge):
    """The inputs of every command."""
    folder = tmp_path_factory.mktemp("inputs")
    questions = {f"p{k}": f"What is {k} + {k}?" for k in range(PROMPTS)}

    def write(name, rows):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answers(uid, text):
        said = {"answers": [{"text": text, "finish_reason": "stop"}], "model": "m"}
        return {"uid": uid, "prompt": questions[uid], "raw_prompt_hash": prompt_hash(questions[uid]), **said}

    write("p.jsonl", [{"uid": uid, "prompt": text, "answer": "0"} for uid, text in questions.items()])
    write("t.jsonl", [answers(uid, f"The teacher says {uid}.") for uid in questions])
    write("r.jsonl", [answers(uid, f"The student says {uid}.") for uid in questions])
    write_run(folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ROPD_CACHE_DIR", str(folder / "cache"))
        for made in (
            words("index build", "t.index", judge.url),
            words("index export", "x", judge.url),
            words("rubricate", "b.jsonl", judge.url),
            [word for word in words("rollout", "cached.jsonl", judge.url) if word != "--no-cache"],
        ):
            patch.setattr(sys, "argv", ["ropd", *made])
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 0
    return folder


HOLD = """
import sys
from contextlib import ExitStack
from pathlib import Path
from ropd_cli.records.outputs import sole_writer
with ExitStack() as stack:
    for line in sys.stdin:
        kind, path = line.rstrip("\\n").split(" ", 1)
        stack.enter_context(sole_writer(Path(path), directory=kind == "directory"))
        print("held", flush=True)
"""


class Holder:
    """A process that holds outputs until it is killed."""

    def __init__(self):
        command = [sys.executable, "-c", HOLD, "teacher-gen", "--secret"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hold(self, path, directory=False):
        print("directory" if directory else "file", path, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "held\n"

    def kill(self):
        self.process.kill()
        self.process.wait()


def run(monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["ropd", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, *capsys.readouterr()


def test_who_holds_it_is_told_and_a_killed_holder_is_in_nobody_s_way(tmp_path, folder, judge, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ROPD_CACHE_DIR", str(folder / "cache"))
    holder = Holder()
    outs = {kind: written(kind, tmp_path / kind.replace(" ", "-") / "out") for kind in KINDS}
    for path, directory in outs.values():
        holder.hold(path, directory)
    judge.requests.clear()
    for kind, (path, directory) in outs.items():
        code, out, said = run(monkeypatch, capsys, words(kind, tmp_path / kind.replace(" ", "-") / "out", judge.url))
        error, hint = [line for line in said.splitlines() if line.startswith(("ropd:", "hint:"))]
        assert (code, out) == (2, ""), kind
        assert f"{path}: is being written by ropd teacher-gen (process {holder.process.pid} on " in error, kind
        assert "since 20" in error and "--secret" not in error and "wait" in hint
        assert not path.exists() or (directory and [each.name for each in path.iterdir()] == [".lock"]), kind
    assert not judge.requests
    holder.kill()
    for kind, (path, _) in outs.items():
        code, _, said = run(monkeypatch, capsys, words(kind, tmp_path / kind.replace(" ", "-") / "out", judge.url))
        assert code == 0, (kind, said)
        assert path.exists() and not [each for each in path.parent.rglob(".*") if "lock" in each.name], kind


def test_every_spelling_of_a_path_is_one_output(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    (tmp_path / "name").symlink_to("here/x")
    monkeypatch.chdir(tmp_path)
    with sole_writer(tmp_path / "here" / "x"):
        for other in ("here/x", "link/x", "here/../link/x", "name"):
            with pytest.raises(OutputBusy), sole_writer(type(tmp_path)(other)):
                pass
        with sole_writer(tmp_path / "here" / "y"), sole_writer(tmp_path / "here", directory=True):
            pass
    assert list((tmp_path / "here").iterdir()) == []


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def none_here(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none_here)
    with sole_writer(tmp_path / "out"):
        (tmp_path / "out").write_text("x")
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_folders_that_were_made_for_nothing_go_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), sole_writer(tmp_path / "a" / "b" / "out", directory=True):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with sole_writer(tmp_path / "a" / "out"):
        (tmp_path / "a" / "out").write_text("x")
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["out"]


def test_a_child_of_a_killed_holder_holds_nothing(tmp_path):
    code = (
        "import subprocess, sys, time; from pathlib import Path; from ropd_cli.records.outputs import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])):\n"
        "    child = subprocess.Popen(['sleep', '60'], close_fds=False, start_new_session=True)\n"
        "    print(child.pid, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path / "out"], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    try:
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # it is alive
        with sole_writer(tmp_path / "out"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=lambda sent: sent.name)
def test_ctrl_c_and_kill_leave_nothing_in_the_way(tmp_path, folder, judge, sent):
    with ScriptedServer() as server:
        server.default = Hang()
        child = start_ropd(words("rollout", tmp_path / "out.jsonl", server.url), folder, os.environ)
        while not server.requests and child.poll() is None:
            time.sleep(0.01)
        assert (tmp_path / ".out.jsonl.lock").read_text().startswith(f"ropd rollout (process {child.pid} on ")
        child.send_signal(sent)
        child.communicate(timeout=30)
    assert (tmp_path / ".out.jsonl.lock").exists() == (sent == signal.SIGKILL)
    with sole_writer(tmp_path / "out.jsonl"):
        pass
    assert not (tmp_path / ".out.jsonl.lock").exists()


@pytest.mark.parametrize("existing", ["link", "hard", "other spelling", "p.jsonl.failed.jsonl", "journal"])
def test_an_output_that_is_an_input_is_refused(tmp_path, folder, judge, monkeypatch, capsys, existing):
    monkeypatch.chdir(tmp_path)
    text = (folder / "p.jsonl").read_text()
    given = tmp_path / "p.jsonl"
    given.write_text(text)
    out = {"other spelling": tmp_path / "." / ".." / tmp_path.name / "p.jsonl"}.get(existing, tmp_path / existing)
    if existing == "link":
        out.symlink_to("p.jsonl")
    elif existing == "hard":
        os.link("p.jsonl", out)
    elif existing.endswith("failed.jsonl"):
        out, given = given, given.rename(out)
    elif existing == "journal":
        out, given = tmp_path / "o.parquet", given.rename(tmp_path / "o.parquet.journal.jsonl")
    judge.requests.clear()
    for arguments in (
        ["rollout", given, "--out", out, "--base-url", judge.url, "--model", "m"],
        ["index", "build", given, "--out", out],
        ["data", "prepare", "mine", "--local", given, "--out", out, "--force"],
        ["inspect-rubrics", given, "--html", out],
        ["verify", "x", "--rubrics", "y", "--rollouts", given, "--out", out, "--base-url", judge.url],
    ):
        before = sorted(each.name for each in tmp_path.iterdir())
        code, _, said = run(monkeypatch, capsys, arguments)
        assert code == 2 and "an input of this command" in said, said
        assert sorted(each.name for each in tmp_path.iterdir()) == before and given.read_text() == text
    assert not judge.requests


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_pairs_at_once(tmp_path, folder, judge, kind):
    """One of two does the work; the other is refused, or finds it done."""
    environ = os.environ | {"ROPD_CACHE_DIR": str(folder / "cache")}
    refused = 0
    for pair in range(20):
        out = tmp_path / str(pair) / "out"
        with ScriptedServer() as server:
            server.default = lambda body: replace(judge.default(body), delay_s=0.2)
            children = [start_ropd(words(kind, out, server.url), folder, environ) for _ in range(2)]
            said = [child.communicate(timeout=120)[1] for child in children]
            sent = len(server.requests)
        failed = [text for child, text in zip(children, said, strict=True) if child.returncode]
        assert len(failed) <= 1 and sorted(child.returncode for child in children)[-1] in (0, 2), said
        refused += "is being written by" in "".join(failed)
        assert all("is being written by" in text or "exists" in text or "is there already" in text for text in failed)
        if kind in SENDING:
            assert sent == PROMPTS, (pair, sent, said)
            file = written(kind, out)[0] / ROWS.get(kind, "")
            rows = Counter(json.dumps([r.get("uid"), r.get("id"), r.get("step")]) for _, r in read_records(file))
            assert len(rows) == sum(rows.values()) == PROMPTS, rows
        assert not list((tmp_path / str(pair)).rglob(".*lock"))
    print(f"{kind}: {refused} of 20 refused")

"""The API side of the chain as a user types it, twice: the second run sends nothing.

The teacher and the judge are the embedded provider, in process and over HTTP; the student is a scripted
server on loopback. vLLM and verl have tests of their own under tests/training.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest
from processes import start_ropd
from servers import Drop, Reply, Status

from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import prompt_hash

pytestmark = pytest.mark.slow
JUDGE = ("--base-url", "builtin://checkable")


class Shell:
    """A folder, and the ``ropd`` command in it."""

    def __init__(self, folder):
        self.folder = folder
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
        self.environ["ROPD_CACHE_DIR"] = str(folder / "cache")

    def start(self, *arguments):
        return start_ropd(arguments, self.folder, self.environ)

    def run(self, *arguments, code=0):
        """Run to the end with this exit code; (stdout, stderr)."""
        child = self.start(*arguments)
        out, err = child.communicate(timeout=120)
        assert child.returncode == code, f"{arguments}: exit {child.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return out, err

    def json(self, *arguments, code=0):
        out, err = self.run(*arguments, "--json", code=code)
        return json.loads(out) if out else err

    def read(self, name):
        return {record["uid"]: record for _, record in read_records(self.folder / name)}


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


def weak_student(body):
    """Adds wrongly half the time, by the seed; in a box if it feels like it."""
    a, b = map(int, re.search(r"(\d+) \+ (\d+) =$", body["messages"][-1]["content"]).groups())
    seed = body.get("seed", 0)
    result = a + b + (seed % 2) * (1 + seed)
    return Reply(f"{a} + {b} = \\boxed{{{result}}}" if seed % 3 else f"<think>hm</think>{result}")


def chain(shell, url, tag=""):
    """All API stages; requests that each of them sent."""
    p, t, r, index = "p.jsonl", f"t{tag}.jsonl", f"r{tag}.jsonl", f"i{tag}.db"
    sent = {}
    shell.run(
        "data", "prepare", "sums", "--size", 6, "--held-out", 3, "--held-out-out", "held.jsonl", "--out", p, "--seed", 1
    )
    sent["teacher"] = shell.json("teacher-gen", p, "--out", t, "-m", 4, "--seed", 0, *JUDGE)["requests_sent"]
    shell.run("index", "build", t, "--out", index)
    shell.run("index", "check", index, p, "-m", 4)
    student = ("--base-url", url, "--model", "weak", "--temperature", 1, "--seed", 1)
    sent["rollout"] = shell.json("rollout", p, "--out", r, "-n", 4, *student)["requests_sent"]
    files = (p, "--index", index, "--rollouts", r)
    sent["rubricate"] = shell.json("rubricate", *files, "--out", f"rub{tag}.jsonl", *JUDGE)["requests_sent"]
    rubrics = ("--rubrics", f"rub{tag}.jsonl", "--out", f"v{tag}.jsonl")
    sent["verify"] = shell.json("verify", *files, *rubrics, *JUDGE)["requests_sent"]
    return sent


def test_the_chain_and_the_chain_again(shell, server):
    server.default = weak_student
    assert chain(shell, server.url) == {"teacher": 24, "rollout": 24, "rubricate": 6, "verify": 6}
    verdicts = shell.read("v.jsonl")
    assert len(verdicts) == 6
    for record in verdicts.values():
        wrong, right, bare, again = record["rewards"]  # of the seeds 1 to 4
        assert right == again == pytest.approx(1.0)
        assert 0 <= bare < wrong < 0.6
        teacher = [a["score"] for a in record["answers"] if a["source"] == "teacher"]
        assert teacher == pytest.approx([1.0] * 4)
    table = shell.json("inspect-rubrics", "v.jsonl", "--rubrics", "rub.jsonl")
    assert len(table["groups"]) == 6
    asked = len(server.requests)
    # the same files: nothing to do
    assert set(chain(shell, server.url).values()) == {0}
    # other files: everything from the cache, and the same bytes
    assert set(chain(shell, server.url, tag="2").values()) == {0}
    assert len(server.requests) == asked
    for name in ("t", "r", "rub", "v"):
        assert shell.read(f"{name}.jsonl") == shell.read(f"{name}2.jsonl")


def test_serve_judge_is_the_same_provider_over_http(shell):
    shell.run("data", "prepare", "reasoning-gym:gcd", "--size", 3, "--out", "p.jsonl")
    child = shell.start("serve-judge", "--port", 0)
    try:
        url = child.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", url)
        options = ("-m", 3, "--seed", 7, "--model", "checkable")
        document = shell.json("teacher-gen", "p.jsonl", "--out", "http.jsonl", *options, "--base-url", url)
        assert document["requests_sent"] == 9
        shell.run("teacher-gen", "p.jsonl", "--out", "in.jsonl", *options, *JUDGE)
        over_http, in_process = shell.read("http.jsonl"), shell.read("in.jsonl")

        def said(records):  # they came at other times
            return {uid: [(a["text"], a["usage"]) for a in r["answers"]] for uid, r in records.items()}

        assert said(over_http) == said(in_process)
        err = shell.run("serve-judge", "--port", url.split(":")[2].split("/")[0], code=2)[1]
        assert "can't listen" in err and "hint:" in err
    finally:
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)


def test_a_question_the_builtin_cannot_solve_fails_alone(shell):
    rows = [{"uid": "ok", "prompt": "What is 3 + 4?"}, {"uid": "odd", "prompt": "Who wrote Faust?"}]
    (shell.folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = shell.json("teacher-gen", "p.jsonl", "--out", "t.jsonl", "-m", 2, *JUDGE, code=3)
    assert (document["done"], document["failed"]) == (1, 1)
    failed = shell.read("t.jsonl.failed.jsonl")
    assert failed["odd"]["error"]["type"] == "ProviderRefused" and "no question" in failed["odd"]["error"]["message"]


def test_teacher_answers_are_distinct_or_the_prompt_fails(shell, server):
    (shell.folder / "p.jsonl").write_text('{"uid": "a", "prompt": "q"}\n')
    options = ("--base-url", server.url, "--model", "m", "-m", 2)
    server.script(Reply("same"), Reply("same"), Reply("cut", finish_reason="length"), Reply("other"))
    document = shell.json("teacher-gen", "p.jsonl", "--out", "t.jsonl", *options)
    assert document["requests_sent"] == 4
    assert [a["text"] for a in shell.read("t.jsonl")["a"]["answers"]] == ["same", "other"]
    server.default = Reply("always this")
    _, err = shell.run("teacher-gen", "p.jsonl", "--out", "t2.jsonl", *options, "--no-cache", code=1)
    assert "1 different usable answers in 6 samples" in err and list(shell.read("t2.jsonl.failed.jsonl")) == ["a"]
    _, err = shell.run("teacher-gen", "p.jsonl", "--out", "t3.jsonl", *options, "--temperature", 0, code=2)
    assert "temperature 0" in err and "--force" in err
    document = shell.json("teacher-gen", "p.jsonl", "--out", "t3.jsonl", *options, "--temperature", 0, "--force")
    assert document["done"] == 1


def test_an_endpoint_that_is_down_ends_with_4_and_a_run_goes_on_later(shell, server):
    server.default = weak_student
    shell.run("data", "prepare", "sums", "--size", 20, "--out", "p.jsonl")
    options = (
        "rollout",
        "p.jsonl",
        "--out",
        "r.jsonl",
        "-n",
        1,
        "--model",
        "m",
        "--set",
        "student.endpoint.limits.max_retries=0",
    )
    _, err = shell.run(*options, "--base-url", "http://127.0.0.1:9/v1", code=4)
    assert "ropd: error:" in err and "hint:" in err
    server.script(*[Status(401)] * 40)
    shell.run(*options, "--base-url", server.url, code=4)
    server._script.clear()
    server.script(Drop())
    assert shell.json(*options, "--base-url", server.url, "--concurrency", 1, code=3)["failed"] == 1
    document = shell.json(*options, "--base-url", server.url)
    assert (document["done"], document["skipped"], document["failed"], document["requests_sent"]) == (1, 19, 0, 1)


def test_ctrl_c_keeps_what_is_done(shell, server):
    server.default = lambda body: Reply("x", delay_s=0.15)
    shell.run("data", "prepare", "sums", "--size", 40, "--out", "p.jsonl")
    options = (
        "rollout",
        "p.jsonl",
        "--out",
        "r.jsonl",
        "-n",
        1,
        "--model",
        "m",
        "--base-url",
        server.url,
        "--concurrency",
        2,
    )
    child = shell.start(*options)
    deadline = time.monotonic() + 60
    while len(server.requests) < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130 and "Traceback" not in err
    kept = len(shell.read("r.jsonl"))
    assert kept >= 4
    before = len(server.requests)
    assert shell.json(*options)["skipped"] == kept
    assert len(server.requests) - before <= 40 - kept


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("teacher-gen", "absent.jsonl", "--out", "t.jsonl", *JUDGE), "absent.jsonl"),
        (("teacher-gen", "bad.jsonl", "--out", "t.jsonl", *JUDGE), "bad.jsonl:2"),
        (("teacher-gen", "p.jsonl", "--out", "t.jsonl", "--base-url", "builtin://nosuch"), "nosuch"),
        (("teacher-gen", "p.jsonl", "--out", "t.jsonl", "--base-url", "ftp://x", "--model", "m"), "ftp://x"),
        (("teacher-gen", "p.jsonl", "--out", "t.jsonl"), "no model name"),
        (("teacher-gen", "p.jsonl", "--out", "t.jsonl", "--model", "m"), "OPENAI_API_KEY"),
        (("rollout", "p.jsonl", "--out", "r.jsonl", "--model-path", "./nowhere"), "no model in ./nowhere"),
        (("rollout", "p.jsonl", "--out", "r.jsonl", "--model-path", "x", "--model", "y"), "exclude"),
        (("rubricate", "p.jsonl", "--index", "absent.db", "--rollouts", "r0.jsonl", "--out", "o", *JUDGE), "absent.db"),
        (("index", "build", "absent.jsonl", "--out", "i.db"), "absent.jsonl"),
        (("index", "build", "p.jsonl", "--out", "i.db"), "p.jsonl:1"),
        (("index", "get", "absent.db", "--uid", "a"), "absent.db"),
        (("data", "prepare", "nothing", "--out", "o.jsonl"), "nothing"),
        (("data", "prepare", "mine", "--local", "absent.csv", "--out", "o.jsonl"), "absent.csv"),
        (
            ("teacher-gen", "p.jsonl", "--out", "t.jsonl", *JUDGE, "--set", "teacher.modle=x", "--set", "judge.m=0"),
            "modle",
        ),
    ],
)
def test_bad_input_is_one_line_a_hint_and_exit_2(shell, arguments, says):
    (shell.folder / "p.jsonl").write_text('{"uid": "a", "prompt": "What is 3 + 4?"}\n')
    (shell.folder / "bad.jsonl").write_text('{"uid": "a", "prompt": "What is 3 + 4?"}\n{"uid": 3\n')
    question = "What is 3 + 4?"
    answer = {
        "uid": "a",
        "prompt": question,
        "raw_prompt_hash": prompt_hash(question),
        "answers": [{"text": "7"}],
        "model": "m",
    }
    (shell.folder / "r0.jsonl").write_text(json.dumps(answer) + "\n")
    out, err = shell.run(*arguments, code=2)
    lines = [line for line in err.splitlines() if line.startswith(("ropd: error:", "hint:"))]
    assert len(lines) == 2 and re.search(says, lines[0]), err
    assert out == ""

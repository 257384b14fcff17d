"""``ropd eval`` as a command, against scripted servers: resumed, extended, interrupted, compared."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter

import pytest
from processes import start_ropd
from servers import Drop, FromRequest, Raw, ScriptedServer, Status

from ropd_cli.evaluation.store import EvalRun
from ropd_cli.records.files import read_records

pytestmark = pytest.mark.slow
SECRET = "zebrafish"
"""Stands in every question that must not be shown."""


class Model:
    """A model under test and a judge, at one server. Question k is solved by every ``k``-th sample; counts what it is
    asked for."""

    def __init__(self) -> None:
        self.given = Counter()
        self.judged = 0
        self.judge_fails = False
        self.fails_on = None
        self.lock = threading.Lock()

    def __call__(self, request):
        body = request.body
        if body["model"] == "judge":
            with self.lock:
                self.judged += 1
            said = json.dumps({"explanation": "x", "criteria_met": True})
            return Status(400) if self.judge_fails else completion([said])
        text = body["messages"][-1]["content"]
        name, number = re.search(r"(math|gpqa|health) (\d+)", text).groups()
        if self.fails_on == f"{name} {number}":
            return Status(400)
        with self.lock:
            first = self.given[name, number]
            self.given[name, number] += body.get("n", 1)
        return completion([self.answer(name, int(number), k, text) for k in range(first, first + body.get("n", 1))])

    def answer(self, name, number, k, text):
        if name == "math":
            return rf"<think>\boxed{{1}}</think>\boxed{{{number if k % (number + 1) == 0 else -1}}}"
        if name == "gpqa":
            right = re.search(rf"^([A-D])\) right {number}$", text, re.MULTILINE)[1]
            return f"Answer: {right}"
        return f"Advice {number}, {k}"


def completion(texts):
    choices = [
        {"index": k, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for k, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 100, "completion_tokens": 10 * len(texts)}
    return Raw(json.dumps({"model": "m", "choices": choices, "usage": usage}).encode())


class Setting:
    def __init__(self, folder, server, model):
        self.folder, self.server, self.model = folder, server, model
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
        rows = {
            "math": [{"id": f"m{k}", "problem": f"math {k}", "answer": str(k)} for k in range(6)],
            "gpqa": [
                {
                    "Record ID": f"g{k}",
                    "Question": f"gpqa {k} {SECRET}",
                    "Correct Answer": f"right {k}",
                    **{f"Incorrect Answer {j}": f"wrong {j} of {k}" for j in (1, 2, 3)},
                }
                for k in range(4)
            ],
            "healthbench": [
                {
                    "prompt_id": f"h{k}",
                    "prompt": [{"role": "user", "content": f"health {k} {SECRET}"}],
                    "rubrics": [{"criterion": f"{SECRET} {j}", "points": 5} for j in range(2)],
                }
                for k in range(3)
            ],
        }
        for name, each in rows.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in each))
        self.files = [option for name in rows for option in ("--data", f"{name}={name}.jsonl")]

    def start(self, *options, out="run"):
        fixed = [
            "eval",
            *self.files,
            "--base-url",
            self.server.url,
            "--model",
            "m",
            "--judge-base-url",
            self.server.url,
        ]
        fixed += ["--judge-model", "judge", "--out", out, "--cache-dir", "cache", "--json"]
        return start_ropd([*fixed, *options], self.folder, self.environ)

    def run(self, *options, out="run", code=0):
        child = self.start(*options, out=out)
        printed, self.said = child.communicate(timeout=60)
        assert child.returncode == code, self.said
        return json.loads(printed) if printed else None

    def figures(self, document, name):
        return next(each for each in document["benchmarks"] if each["name"] == name)["figures"]


@pytest.fixture
def setting(tmp_path):
    model = Model()
    with ScriptedServer() as server:
        server.default = FromRequest(model)
        yield Setting(tmp_path, server, model)


ALL = ("--benchmarks", "math,gpqa,healthbench")


def test_a_dry_run_counts_requests_and_says_what_is_left_out(setting):
    document = setting.run(*ALL, "-n", "4", "--dry-run")
    assert document["calls"] == 6 + 4 * 4 + 3  # the options of gpqa stand in another order in each sample
    assert setting.run(*ALL, "-n", "4", "--seed", "7", "--dry-run")["calls"] == 4 * (6 + 4 + 3)
    tail = ["--out", "run", "--dry-run", *setting.files, "--judge-base-url", setting.server.url, "--judge-model", "jj"]
    for student in (["--base-url", setting.server.url, "--model", "m"], ["--model-path", "here"]):
        for names, is_judged in (("math,healthbench", True), ("math", False)):
            child = start_ropd(["eval", "-b", names, *student, *tail], setting.folder, setting.environ)
            printed, said = child.communicate(timeout=60)
            assert child.returncode == 0 and ("grading by jj is not included" in printed) == is_judged, said
    assert not setting.server.requests


def test_from_questions_to_a_report_and_again_without_a_request(setting):
    prices = ("--set", "prices={m: {input: 10, output: 100}, judge: {input: 1, output: 1}}")
    found = setting.run(*ALL, "-n", "4", *prices)
    math = setting.figures(found, "math")
    # problem k is solved by samples 0, k+1, 2k+2 …: 4, 2, 2, 1, 1, 1 of 4
    assert math["metrics"]["accuracy"]["value"] == pytest.approx(11 / 24)
    assert math["pass_at"]["4"]["value"] == 1.0 and math["majority"]["value"] == pytest.approx((1 + 0.5 + 0.5) / 6)
    assert setting.figures(found, "gpqa")["metrics"]["accuracy"]["value"] == 1.0
    assert setting.figures(found, "healthbench")["metrics"]["healthbench"]["value"] == 1.0
    assert set(setting.model.given.values()) == {4} and setting.model.judged == 3 * 4 * 2
    maths = next(each for each in found["benchmarks"] if each["name"] == "math")
    # six requests of 100 tokens and 40 of reply: the prompt is booked once
    assert maths["cost_usd"]["sampling"] == pytest.approx(6 * (100 * 10 + 40 * 100) / 1e6)
    assert found["cost_usd"] > 0 and "graded by math, as its questions have answer" in setting.said
    again = setting.run(*ALL, "-n", "4", *prices)
    assert set(setting.model.given.values()) == {4} and setting.model.judged == 24
    timeless = {"created", "tokens_per_s"}
    assert {k: v for k, v in again.items() if k not in timeless} == {
        k: v for k, v in found.items() if k not in timeless
    }


def test_more_samples_and_benchmarks_are_added_and_other_settings_refused(setting):
    setting.run("--benchmarks", "math", "-n", "2")
    setting.run(*ALL, "-n", "5")
    assert set(setting.model.given.values()) == {5}
    fewer = setting.run("--benchmarks", "math", "-n", "2", "--limit", "3")
    assert setting.figures(fewer, "math")["problems"] == 3 and set(setting.model.given.values()) == {5}
    settings = (setting.folder / "run" / "eval.json").read_bytes()
    setting.run("--benchmarks", "math", "-n", "2", "--temperature", "0.5", code=2)
    assert "drawn with temperature 1.0, now 0.5\n" in setting.said and "another --out" in setting.said
    setting.run("--benchmarks", "math", "-n", "2", "--temperature", "0.5", "--dry-run", code=2)
    assert (setting.folder / "run" / "eval.json").read_bytes() == settings
    lines = (setting.folder / "math.jsonl").read_text().replace("math 1", "math 1, changed")
    (setting.folder / "math.jsonl").write_text(lines)
    setting.run("--benchmarks", "math", "-n", "2", code=2)
    assert "answers another question" in setting.said


def test_nothing_secret_is_in_reports_or_messages(setting):
    setting.model.fails_on = "gpqa 1"
    setting.run(*ALL, "-n", "2", code=3)
    for name in ("report.json", "report.md", "report.html", "eval.json"):
        assert SECRET not in (setting.folder / "run" / name).read_text()
    assert SECRET not in setting.said
    failed = [record["uid"] for _, record in read_records(setting.folder / "run" / "samples.jsonl.failed.jsonl")]
    assert {uid.rpartition("/")[0] for uid in failed} == {"gpqa/g1"}
    setting.model.fails_on = None
    setting.run(*ALL, "-n", "2", "--show-items")
    assert SECRET in (setting.folder / "run" / "report.html").read_text()


def test_a_judge_that_fails_makes_grades_missing_which_are_tried_again(setting):
    setting.model.judge_fails = True
    found = setting.run(*ALL, "-n", "2", code=3)
    health = setting.figures(found, "healthbench")
    assert health["missing"] == 6 and not health["metrics"] and setting.figures(found, "math")["missing"] == 0
    assert any("healthbench: no grade for 6 of 6 samples" in warning for warning in found["warnings"])
    setting.run(*ALL, "-n", "8", code=4)  # so many without one answer: the judge does not work
    assert "status 400" in setting.said
    assert set(setting.model.given.values()) == {8}  # what was drawn is kept
    setting.model.judge_fails = False
    found = setting.run(*ALL, "-n", "8")
    assert setting.figures(found, "healthbench")["missing"] == 0 and set(setting.model.given.values()) == {8}


def test_grades_of_another_text_grader_or_answer_are_made_anew(setting):
    first = setting.run("--benchmarks", "math", "-n", "2")
    assert setting.figures(first, "math")["metrics"]["accuracy"]["value"] == pytest.approx((1 + 5 * 0.5) / 6)
    found = setting.run("--benchmarks", "math", "-n", "2", "--grader", "math=integer")
    assert "integer" in found["benchmarks"][0]["metrics_of"][0]["title"]
    lines = (setting.folder / "math.jsonl").read_text().replace('"answer": "5"', '"answer": "-1"')
    (setting.folder / "math.jsonl").write_text(lines)  # the question is the same, its answer was wrong
    found = setting.run("--benchmarks", "math", "-n", "2")
    assert setting.figures(found, "math")["metrics"]["accuracy"]["value"] == pytest.approx((1 + 5 * 0.5) / 6)
    grades = [record for _, record in read_records(setting.folder / "run" / "grades" / "math.jsonl")]
    last = {(grade["id"], grade["sample"]): grade["scores"]["accuracy"] for grade in grades}
    assert (last["m5", 0], last["m5", 1]) == (0.0, 1.0)
    (setting.folder / "run" / "samples" / "math.jsonl.zst").unlink()
    setting.model.answer = lambda name, number, k, text: "nothing"
    found = setting.run("--benchmarks", "math", "-n", "2", "--no-cache")
    assert setting.figures(found, "math")["metrics"]["accuracy"]["value"] == 0.0


@pytest.mark.long
def test_killed_and_interrupted_runs_go_on(setting):
    gate = threading.Event()
    model = setting.model

    def slow(request):
        if sum(model.given.values()) >= 12:
            gate.wait(0.5)
        return model(request)

    setting.server.default = FromRequest(slow)
    for what in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        child = setting.start("--benchmarks", "math,gpqa", "-n", "3", "--concurrency", "2", "--no-cache")
        enough, end = sum(model.given.values()) + 6, time.monotonic() + 60
        while child.poll() is None and sum(model.given.values()) < enough and time.monotonic() < end:
            time.sleep(0.1)
        if child.poll() is None:
            child.send_signal(what)
        child.communicate(timeout=20)
        kept = {name: len(list(EvalRun(setting.folder / "run").samples(name))) for name in ("math", "gpqa")}
    gate.set()
    found = setting.run("--benchmarks", "math,gpqa", "-n", "3", "--no-cache")
    assert setting.figures(found, "math")["graded"] == 18 and setting.figures(found, "gpqa")["graded"] == 12
    assert sum(kept.values()) > 0
    repeated = sum(count - 3 for count in model.given.values())
    assert repeated <= 3 * 2 * 3  # the calls under way at three ends, of three samples each


def test_a_model_that_goes_away_ends_the_run_and_what_it_said_is_graded(setting):
    setting.server.default = Drop()
    setting.run("--benchmarks", "math", "-n", "2", "--set", "student.endpoint.limits.max_retries=0", code=4)
    assert "no connection" in setting.said or "closed" in setting.said or "lost" in setting.said
    setting.server.default = FromRequest(setting.model)
    assert setting.figures(setting.run("--benchmarks", "math", "-n", "2"), "math")["graded"] == 12


def test_two_runs_are_compared_problem_by_problem(setting):
    setting.run("--benchmarks", "math,gpqa", "-n", "2", out="a")
    setting.model.answer = lambda name, number, k, text: rf"\boxed{{{number}}}" if name == "math" else "Answer: A"
    setting.run("--benchmarks", "math", "-n", "4", "--no-cache", out="b")
    child = start_ropd(
        ["eval", "compare", "a", "b", "--json", "--html", "c.html", "--markdown", "c.md"],
        setting.folder,
        setting.environ,
    )
    printed, said = child.communicate(timeout=30)
    assert child.returncode == 0, said
    document = json.loads(printed)
    (benchmark,) = document["benchmarks"]
    change = benchmark["differences"][0]["metrics"]["accuracy"]
    assert change["difference"] == pytest.approx(1 - (1 + 0.5 * 5) / 6) and change["problems"] == 6
    assert change["gained"] == [f"m{k}" for k in range(1, 6)] and change["lost"] == []
    assert benchmark["n"] == [2, 4] and benchmark["problems"][-1] == {"id": "m0", "values": [1.0, 1.0]}
    page, text = (setting.folder / "c.html").read_text(), (setting.folder / "c.md").read_text()
    assert "m5" in page and "gained: m1, m2" in text and SECRET not in page + text
    reports = [json.loads((setting.folder / out / "report.json").read_text()) for out in "ab"]
    hashes = [each["benchmarks"][0]["question_hashes"] for each in reports]
    assert hashes[0] == hashes[1] and len(set(hashes[0])) == 6
    hashes[1].reverse()  # as of a file whose rows were turned round
    (setting.folder / "b" / "report.json").write_text(json.dumps(reports[1]))
    child = start_ropd(["eval", "compare", "a", "b"], setting.folder, setting.environ)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 2 and "math: problem m0 is one question in a and another in b" in said
    child = start_ropd(["eval", "compare", "a", "nowhere"], setting.folder, setting.environ)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 2 and "nowhere: no report of an evaluation" in said


def test_what_a_user_gets_wrong(setting):
    for options, says in (
        (("--benchmarks", "maths500"), "did you mean math500?"),
        (("--benchmarks", "math", "--grader", "math=maths"), "did you mean math?"),
        (("--benchmarks", "math", "--data", "x"), "not NAME=VALUE"),
        (("--benchmarks", "math", "--grader", "math=choice"), "question m0: no options"),
        (("--benchmarks", "math", "--grader", "math=ifeval"), "question m0: no instructions"),
        (("--benchmarks", "math", "--model-path", "x"), "exclude each other"),
        (("--benchmarks", "gpqa", "--data", "gpqa=nowhere.jsonl"), "nowhere.jsonl"),
    ):
        setting.run(*options, code=2)
        assert says in setting.said and "hint:" in setting.said, setting.said
    assert not setting.model.given


def test_scored_against_the_teacher_as_in_training(setting):
    folder = setting.folder
    with open(folder / "sums.jsonl", "w") as out:
        for k in range(3):
            print(json.dumps({"uid": f"s{k}", "prompt": f"What is {k + 2} + 4?", "answer": str(k + 6)}), file=out)
    chain = [
        [
            "teacher-gen",
            "sums.jsonl",
            "--base-url",
            "builtin://checkable",
            "-m",
            "2",
            "--seed",
            "0",
            "--out",
            "t.jsonl",
        ],
        ["index", "build", "t.jsonl", "--out", "t.index"],
    ]
    for command in chain:
        child = start_ropd([*command, "--quiet"], folder, setting.environ)
        _, said = child.communicate(timeout=60)
        assert child.returncode == 0, said

    def answer(request):
        number = int(re.search(r"What is (\d+)", request.body["messages"][-1]["content"])[1])
        return completion([f"{number} + 4 = {number + 4 + wrong}" for wrong in (0, 1)][: request.body.get("n", 1)])

    setting.server.default = FromRequest(answer)
    options = ("--benchmarks", "sums", "--data", "sums=sums.jsonl", "--grader", "sums=teacher", "-n", "2")
    judges = ("--set", "rubricator.base_url=builtin://checkable", "--judge-base-url", "builtin://checkable")
    judges += ("--set", "data.index=t.index")
    setting.run(*options, *judges, "--set", "judge.m=3", code=2)
    assert "question s0: 2 distinct teacher answers in the index, not 3" in setting.said
    found = setting.run(*options, *judges, "--set", "judge.m=2")
    metrics = setting.figures(found, "sums")["metrics"]
    assert metrics["teacher_score"]["value"] == pytest.approx(1.0)
    assert 0 < metrics["rubric_score"]["value"] < 1 and setting.figures(found, "sums")["missing"] == 0
    grades = [record for _, record in read_records(folder / "run" / "grades" / "sums.jsonl")]
    by_sample = {(g["id"], g["sample"]): g["scores"]["rubric_score"] for g in grades}
    assert all(by_sample[f"s{k}", 0] > by_sample[f"s{k}", 1] for k in range(3))

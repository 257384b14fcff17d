"""``ropd serve-reward``: its own shape and the trainers', rollouts that come one by one, what goes wrong, a kill."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.error import HTTPError

import pytest
from judged_runs import QUESTIONS, write_inputs
from judges import Reader, score
from processes import start_ropd
from servers import ScriptedServer, Status, until
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer
from ropd_cli.serving.gathering import Gatherer

TOKEN = "a long secret"
TEXTS = ["right", "a box", "rude", "something that is neither right nor short at all, really"]
SCORES = [round(score(text), 6) for text in TEXTS]


def post(url, body, token=None, **headers):
    """(status, document) of a POST."""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as response:
            return response.status, json.load(response, parse_float=lambda number: round(float(number), 6))
    except HTTPError as fault:
        return fault.code, json.load(fault)


def at_once(calls):
    """What each call returns, all made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(*call) for call in calls]]


def write_config(folder, judge, **more):
    write_inputs(folder)
    endpoint = {"base_url": judge.url, "model": "judge", "limits": {"max_retries": 0, "max_pause_s": 0.5}}
    config = {
        "data": {"prompts": "prompts.jsonl", "index": "i.db"},
        "judge": {"m": 2},
        "rollout": {"n": 4},
        "rubricator": endpoint,
        "verifier": endpoint,
        "cache_dir": "cache",
        "out": "served",
    }
    (folder / "run.yaml").write_text(json.dumps(config | more))


@contextmanager
def served(folder, *options, **environ):
    """The running command and its URL."""
    command = ["serve-reward", "--config", "run.yaml", "--port", "0", *options]
    process = start_ropd(command, folder, {**os.environ, **environ})
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors


@pytest.fixture(scope="module")
def judge():
    with ScriptedServer() as server:
        server.default = Reader()
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory, judge):
    folder = tmp_path_factory.mktemp("served")
    write_config(folder, judge, train={"prompts_per_step": 2})
    return folder


@pytest.fixture(scope="module")
def url(folder):
    with served(folder, "--token-env", "TOKEN", "--gather-timeout", "1.5", TOKEN=TOKEN) as (_, url):
        yield url


def test_a_group_a_batch_and_what_teacher_answers_of_one_s_own_do(url):
    group = {"uid": "a", "completions": TEXTS}
    assert post(f"{url}/rewards", group, TOKEN) == (200, {"rewards": SCORES, "error": None})
    by_text = [{"role": "user", "content": QUESTIONS["a"]}]
    others = {"prompt": "a new one", "completions": TEXTS[:2], "n": 2, "teacher_answers": ["right", "box"], "step": 1}
    status, document = post(f"{url}/rewards", {"groups": [{"prompt": by_text, "completions": TEXTS}, others]}, TOKEN)
    assert status == 200
    assert document == {"groups": [{"rewards": SCORES, "error": None}, {"rewards": SCORES[:2], "error": None}]}


def test_a_label_that_is_the_answer_and_another_prompt_s_uid(url, judge):
    """The prompt that is sent decides."""
    before = len(judge.default.of("verifier"))
    texts = [f"{text} Or not." for text in TEXTS]
    body = {"prompt": QUESTIONS["b"], "label": "a"}
    replies = at_once([(post, f"{url}/slime", body | {"response": text}, TOKEN) for text in texts])
    assert [status for status, _ in replies] == [200] * len(TEXTS)
    (asked,) = judge.default.of("verifier")[before:]
    assert QUESTIONS["b"] in asked.text and QUESTIONS["a"] not in asked.text


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_ctrl_c_does(folder, number):
    with served(folder, "--out", f"by-{number}") as (process, _):
        process.send_signal(number)
        assert "stopped; the same command continues, ropd inspect-rubrics " in process.stderr.read()
    assert process.returncode == 128 + number


def test_rollouts_that_come_one_by_one_are_judged_together(url, judge):
    """In three shapes; the label names the prompt, whatever a template made of it."""
    before = len(judge.default.of("verifier"))
    shown = f"<|im_start|>user\n{QUESTIONS['b']}<|im_end|>\n<|im_start|>assistant\n<think>\n"
    end = "hm</think>"
    openrlhf = [{"query": [f"{shown}{end}{text}<|im_end|>"], "prompts": [shown], "labels": ["b"]} for text in TEXTS[:2]]
    slime = {"prompt": shown, "response": f"{end}{TEXTS[2]}<|im_end|>\n", "label": "b"}
    own = {"uid": "b", "completion": f"<think>\nhm</think>{TEXTS[3]}"}
    first, second, third, fourth = at_once(
        [
            *((post, f"{url}/openrlhf", body, TOKEN) for body in openrlhf),
            (post, f"{url}/slime", slime, TOKEN),
            (post, f"{url}/rewards", own, TOKEN),
        ]
    )
    assert [reply[1]["rewards"] for reply in (first, second)] == [[SCORES[0]], [SCORES[1]]]
    assert first[1] == {"rewards": [SCORES[0]], "scores": [SCORES[0]], "extra_logs": {}}
    assert third == (200, SCORES[2]) and fourth == (200, {"reward": SCORES[3], "error": None})
    (seen,) = judge.default.of("verifier")[before:]
    assert set(TEXTS) <= set(seen.answers) and seen.question.endswith(QUESTIONS["b"])


def test_openrlhf_s_batch_and_a_group_that_stays_short(url):
    prompts = [QUESTIONS["a"]] * 3
    batch = {"query": [f"{QUESTIONS['a']}{text}</s>" for text in TEXTS[:3]], "prompts": prompts, "labels": ["7"] * 3}
    status, document = post(f"{url}/openrlhf", batch, TOKEN)  # judged as they are after the time limit
    assert (status, document["rewards"]) == (200, SCORES[:3])
    status, document = post(f"{url}/slime", {"prompt": QUESTIONS["a"], "response": "right"}, TOKEN)
    assert status == 503 and "1 of 4 rollouts of a prompt came" in document["error"]
    status, document = post(f"{url}/rewards", {"uid": "a", "completion": "right"}, TOKEN)
    assert status == 200 and document["reward"] is None and "judged together" in document["error"]


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("rewards", b"{", "not JSON"),
        ("rewards", [], "not a JSON object"),
        ("rewards", {"uid": "a", "completions": TEXTS, "reward": 1}, "reward: Extra inputs"),
        ("rewards", {"uid": "zz", "completions": TEXTS}, "uid 'zz' is not in data.prompts"),
        ("rewards", {"prompt": "never seen", "completions": TEXTS}, "no answer to the prompt 'never seen'"),
        ("rewards", {"prompt": [{"text": "x"}], "completions": TEXTS}, "prompt: "),
        (
            "rewards",
            {"prompt": [{"role": "usr", "content": "x"}], "completions": TEXTS},
            "message 1: unknown role 'usr'",
        ),
        (
            "rewards",
            {"prompt": QUESTIONS["b"], "uid": "a", "completions": TEXTS},
            "uid 'a' is the prompt 'What is 3 + 4?' of data.prompts, and the prompt sent is 'What is 5 + 9?'",
        ),
        ("rewards", {"uid": "a", "completions": TEXTS[:3]}, "3 completions, and rollout.n is 4"),
        ("rewards", {"groups": [{"uid": "a", "completions": TEXTS, "n": 2}]}, "groups.0: 4 completions, and n is 2"),
        (
            "rewards",
            {"groups": [{"uid": "a", "completions": TEXTS}, {"prompt": "never seen", "completions": TEXTS}]},
            "groups.1: ",
        ),
        ("rewards", {"uid": "a", "completions": TEXTS[:1], "n": 1}, "n: Input should be greater"),
        (
            "rewards",
            {"uid": "a", "completions": TEXTS, "finish_reasons": ["stop"]},
            "completions: 4, finish_reasons: 1",
        ),
        ("openrlhf", {"query": ["x", "y"], "prompts": ["x"]}, "different lengths"),
        ("openrlhf", {"query": ["7"], "prompts": [QUESTIONS["a"]]}, "query does not hold its prompt"),
        ("slime", {"prompt": "never seen", "response": "x", "label": "zz"}, "no answer to the prompt"),
    ],
)
def test_what_can_t_be_answered_is_4xx_with_one_line(url, path, body, complaint):
    status, document = post(f"{url}/{path}", body, TOKEN)
    assert status == 400 and complaint in document["error"] and "\n" not in document["error"]


def test_siblings_of_another_n_are_refused(url):
    replies = at_once([(post, f"{url}/rewards", {"uid": "odd", "completion": "right", "n": n}, TOKEN) for n in (2, 3)])
    assert sorted(status for status, _ in replies) == [200, 400]


async def test_a_group_that_waits_is_told_of():
    said = []
    gatherer = Gatherer(600, said.append, tell_after_s=0.02)
    reward = gatherer.reward(("a", "hash"), 4, Answer(text="right"), None)
    waiting = asyncio.create_task(reward)
    await until(lambda: said)
    waiting.cancel()
    assert said[0].startswith("1 of 4 rollouts of prompt a came, waiting for the others")
    await asyncio.gather(waiting, return_exceptions=True)
    assert not gatherer.waiting


def test_the_token(url):
    body = {"uid": "a", "completions": TEXTS}
    basic = base64.b64encode(f"ropd:{TOKEN}".encode()).decode()
    assert post(f"{url}/rewards", body, Authorization=f"Basic {basic}")[0] == 200
    for headers in ({}, {"token": "wrong"}, {"Authorization": "Basic ???"}, {"Authorization": TOKEN}):
        assert post(f"{url}/rewards", body, **headers) == (
            401,
            {"error": "missing or wrong token", "hint": "Authorization: Bearer TOKEN"},
        )
    with pytest.raises(HTTPError, match="401"):
        urllib.request.urlopen(f"{url}/metrics")
    assert json.load(urllib.request.urlopen(f"{url}/health"))["status"] == "ok"


def test_metrics_and_schema(url):
    post(f"{url}/rewards", {"uid": "a", "completions": TEXTS}, TOKEN)
    request = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    lines = urllib.request.urlopen(request).read().decode().splitlines()
    values = dict(line.split() for line in lines if not line.startswith("#"))
    assert float(values["ropd_groups_total"]) >= 1 and values["ropd_rollouts_waiting"] == "0"
    document = json.load(urllib.request.urlopen(f"{url}/openapi.json"))
    assert set(document["paths"]) == {"/rewards", "/openrlhf", "/slime", "/health", "/metrics"}
    names = set(document["components"]["schemas"])
    assert {name.rsplit("/", 1)[1] for name in _references(document)} <= names


def _references(part):
    if isinstance(part, dict):
        for key, value in part.items():
            yield from [value] if key == "$ref" else _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def test_an_outage_is_missing_and_never_zero(url, judge):
    body = {"query": [f"{QUESTIONS['b']}n{k}" for k in range(4)], "prompts": [QUESTIONS["b"]] * 4}
    assert post(f"{url}/rewards", {"uid": "a", "completions": TEXTS}, TOKEN)[0] == 200  # the judge is there
    reader, judge.default = judge.default, Status(503)
    status, document = post(f"{url}/rewards", {"uid": "a", "completions": ["1", "2", "3", "4"]}, TOKEN)
    assert status == 200 and document["rewards"] == [None] * 4 and "503" in document["error"]
    judge.default = reader
    judge.down()  # for longer than an endpoint is waited for, which a training would stop at
    for _ in range(3):
        status, document = post(f"{url}/openrlhf", body, TOKEN)
        assert status == 503 and document["error"].startswith("no reward: ")
    judge.up()
    assert "has stopped answering" in document["error"]
    assert post(f"{url}/openrlhf", body, TOKEN)[0] == 200


def test_how_the_judge_does_is_told(tmp_path):
    with ScriptedServer() as judge:
        judge.default = Reader()
        write_config(tmp_path, judge, train={"prompts_per_step": 2})
        with served(tmp_path) as (process, url):

            def asked(*texts):
                reply = post(f"{url}/rewards", {"uid": "a", "completions": texts, "n": len(texts)})[1]
                health = json.load(urllib.request.urlopen(f"{url}/health"))
                return None in reply["rewards"], health["judge"], health["missing_share"]

            assert json.load(urllib.request.urlopen(f"{url}/health"))["missing_share"] is None
            assert asked("right", "box") == (False, "ok", 0.0)
            judge.down()
            assert asked("1", "2") == (True, "paused", 0.5)
            assert asked("3", "4") == (True, "paused", 1.0)
            judge.up()
            assert asked("right", "rude") == (False, "failing", 0.5)
            judge.default = Status(402)
            assert asked("5", "6") == (True, "stopped", 0.5)
            told = [process.stderr.readline() for _ in range(4)]
        assert "pausing until it answers again" in told[0]
        assert told[1].startswith("1 group has no rewards: ") and "has stopped answering" in told[1]
        assert "answers again" in told[2]
        assert told[3].startswith("no further group is judged until the server is restarted: ")


async def test_a_kill_in_the_middle_and_nothing_is_asked_twice(tmp_path):
    """The client asks all of its groups again; what was judged comes from the cache, in whichever order it comes."""
    with ScriptedServer() as judge:
        judge.default = Reader()
        write_config(tmp_path, judge)
        rollouts = {uid: [f"{uid} {text}" for text in TEXTS] for uid in QUESTIONS}

        def ask(url, uids):
            calls = [(url, uid, text) for uid in uids for text in rollouts[uid]]
            shapes = [(post, f"{url}/slime", {"prompt": QUESTIONS[uid], "response": text}) for url, uid, text in calls]
            return at_once(shapes)

        with served(tmp_path) as (process, url):
            first = ask(url, ["a", "b"])
            with ThreadPoolExecutor(2) as pool:
                half = [pool.submit(post, f"{url}/slime", {"prompt": QUESTIONS["odd"], "response": t}) for t in "xy"]
                await until(lambda: b"rollouts_waiting 2" in urllib.request.urlopen(f"{url}/metrics").read())
                process.kill()
                assert all(isinstance(future.exception(), OSError) for future in half)
        sent = len(judge.requests)
        assert sent == 4
        groups = [group for _, group in read_records(tmp_path / "served" / "groups" / "step-1.jsonl.zst")]
        assert {group["uid"] for group in groups} == {"a", "b"}
        for uid in rollouts:
            rollouts[uid].reverse()
        with served(tmp_path) as (_, url):
            again = ask(url, ["a", "b", "odd"])
        assert again[:4] == first[3::-1] and again[4:8] == first[:3:-1]
        assert len(judge.requests) == sent + 2
        assert set(Counter(json.dumps(body) for body in judge.bodies).values()) == {1}
        listed = CliRunner().invoke(app, ["inspect-rubrics", str(tmp_path / "served"), "--json"])
        assert sorted(group["uid"] for group in json.loads(listed.stdout)["groups"]) == ["a", "b", "odd"]
        page = CliRunner().invoke(app, ["report", str(tmp_path / "served"), "--json"])
        assert page.exit_code == 0, page.output


def test_unknown_paths_and_a_server_that_is_stopped(tmp_path):
    with ScriptedServer() as judge:
        judge.default = Reader()
        write_config(tmp_path, judge)
        with served(tmp_path) as (process, url), ThreadPoolExecutor(1) as pool:
            assert post(f"{url}/reward", {})[0] == 404
            with pytest.raises(HTTPError) as refused:
                urllib.request.urlopen(f"{url}/rewards")
            assert refused.value.code == 405 and json.load(refused.value)["error"] == "GET /rewards: Method Not Allowed"
            waiting = pool.submit(post, f"{url}/rewards", {"uid": "a", "completion": "right"})
            while b"rollouts_waiting 1" not in urllib.request.urlopen(f"{url}/metrics").read():
                continue
            process.terminate()
            assert waiting.result() == (
                503, {"error": "the server is stopping", "hint": "start it again, then repeat the request"}
            )  # fmt: skip


def test_faults_of_the_server_are_5xx(tmp_path):
    with ScriptedServer() as judge:
        judge.default = Reader()
        write_config(tmp_path, judge)
        with served(tmp_path) as (_, url):
            groups = tmp_path / "served" / "groups"
            groups.write_text("a file where the folder should be")
            status, document = post(f"{url}/rewards", {"uid": "a", "completions": TEXTS})
            groups.unlink()
    assert status == 500 and "groups" in document["error"]


async def test_groups_of_ended_steps_that_are_sent_again_count_once(tmp_path):
    with ScriptedServer() as judge:
        judge.default = Reader()
        write_config(tmp_path, judge)
        bodies = [{"uid": uid, "completions": TEXTS, "step": step} for step, uid in ((1, "a"), (1, "b"), (2, "odd"))]
        with served(tmp_path) as (process, url):
            first = [post(f"{url}/rewards", body) for body in bodies]
            process.kill()
        with served(tmp_path) as (_, url):
            assert [post(f"{url}/rewards", body) for body in bodies] == first
            batch = {"groups": [{"uid": "odd", "completions": TEXTS}], "step": 2}
            assert post(f"{url}/rewards", batch) == (200, {"groups": [first[2][1]]})
        run = tmp_path / "served"
        steps = {file.name[:6]: [r["uid"] for _, r in read_records(file)] for file in (run / "groups").iterdir()}
        assert steps == {"step-1": ["a", "b"], "step-2": ["odd"]}
        assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2]


def test_requests_are_counted_with_the_step_that_sent_them(tmp_path):
    with ScriptedServer() as judge:
        judge.default = Reader()
        write_config(tmp_path, judge)
        with served(tmp_path) as (process, url):
            for step, uid in ((1, "a"), (1, "b"), (2, "odd")):
                assert post(f"{url}/rewards", {"uid": uid, "completions": TEXTS, "step": step})[0] == 200
            process.terminate()
            process.wait(30)
    rows = [json.loads(line) for line in (tmp_path / "served" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["judge/requests_sent"]) for row in rows] == [(1, 4), (2, 2)]


def test_the_groups_are_in_steps_like_a_run_s(folder, url):
    for texts in (TEXTS, TEXTS[::-1], [*TEXTS[1:], "one more"], [*TEXTS[1:], "another"]):
        assert post(f"{url}/rewards", {"uid": "a", "completions": texts}, TOKEN)[0] == 200
    files = sorted(file.name for file in (folder / "served" / "groups").iterdir())
    rows = [json.loads(line) for line in (folder / "served" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) >= 2 and [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert {f"step-{row['step']}.jsonl.zst" for row in rows} <= set(files)
    assert all(row["groups/judged"] + row["groups/missing"] == 2 for row in rows)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--host", "0.0.0.0"], "other machines could spend your money"),
        (["--token-env", "NO_SUCH_TOKEN"], "--token-env NO_SUCH_TOKEN: the variable is not set"),
        (["--set", "method=ovd-filter"], "method ovd-filter trains on more than rewards"),
        (["--set", "verifier.base_url=null", "--set", "verifier.api_key_env=NO_KEY"], "variable NO_KEY is not set"),
        (["--set", "rubricator.headers={X: '${NO_KEY}'}"], "variable NO_KEY is not set"),
        (["--set", "data.index=gone.db"], "gone.db"),
        (["--set", "rollout.n=2", "--out", "served"], "is a run of other settings: rollout.n 4, now 2"),
    ],
)
def test_a_server_that_can_t_be_started_says_why(folder, url, options, complaint):
    own = [] if "--out" in options else ["--out", "another"]
    if not own:
        subprocess.run(["cp", "-r", "served", "copy"], cwd=folder, check=True)
        options = [*options[:-1], "copy"]
    before = os.getcwd()
    os.chdir(folder)
    try:
        done = CliRunner().invoke(app, ["serve-reward", "--config", "run.yaml", "--port", "0", *options, *own])
    finally:
        os.chdir(before)
    assert done.exit_code == 2 and complaint in done.output

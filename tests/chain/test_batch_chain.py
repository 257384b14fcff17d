"""``ropd teacher-gen --batch-api`` against a server that speaks it: nothing is handed over twice, whatever happens."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time

import pytest
from batch_server import BatchServer
from processes import start_ropd

from ropd_cli.records.files import read_records

PROMPTS = 5


class Setting:
    """Prompts, a server, and the command."""

    def __init__(self, folder, server):
        self.folder, self.server = folder, server
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
        self.environ["OPENAI_API_KEY"] = "sk-secret-12345"
        with open(folder / "p.jsonl", "w") as out:
            for k in range(PROMPTS):
                print(json.dumps({"uid": f"p{k}", "prompt": f"question {k} — é", "answer": str(k)}), file=out)

    def start(self, *options):
        fixed = ["teacher-gen", "p.jsonl", "--out", "t.jsonl", "--base-url", self.server.url, "--model", "m", "--json"]
        fixed += ["--batch-api", "--batch-poll", "0.1", "--cache-dir", str(self.folder / "cache")]
        return start_ropd([*fixed, *options], self.folder, self.environ)

    def run(self, *options, code=0):
        child = self.start(*options)
        out, said = child.communicate(timeout=60)
        assert child.returncode == code, said
        self.said = said
        return json.loads(out) if out else None

    @property
    def answers(self):
        path = self.folder / "t.jsonl"
        return {r["uid"]: [a["text"] for a in r["answers"]] for _, r in read_records(path)} if path.is_file() else {}

    @property
    def asked(self):
        """(question, how often) of what was handed over."""
        questions = [body["messages"][-1]["content"] for body in self.server.seen]
        return {question: questions.count(question) for question in sorted(questions)}


@pytest.fixture
def numbers():
    return itertools.count()


@pytest.fixture
def setting(tmp_path, numbers):
    with BatchServer(lambda body: f"{body['messages'][-1]['content']} -> {next(numbers)}") as server:
        yield Setting(tmp_path, server)


def test_wait_and_collect(setting):
    done = setting.run("-m", "2")
    assert (done["done"], done["failed"], done["requests_sent"]) == (PROMPTS, 0, 2 * PROMPTS)
    assert set(setting.asked.values()) == {2} and setting.server.live == 0
    for uid, texts in setting.answers.items():
        assert len(set(texts)) == 2 and all(text.startswith(f"question {uid[1:]} — é -> ") for text in texts)
    assert len(setting.server.batches) == 1 and setting.server.deleted == ["file-0"]
    again = setting.run("-m", "2")
    assert (again["skipped"], again["requests_sent"]) == (PROMPTS, 0) and len(setting.server.batches) == 1
    assert all(headers["authorization"] == "Bearer sk-secret-12345" for headers in setting.server.headers)
    written = [path.read_bytes() for path in setting.folder.rglob("*") if path.is_file()]
    assert not any(b"sk-secret" in content for content in [*written, *setting.server.files.values()])


@pytest.mark.slow
def test_come_back_while_it_runs(setting):
    setting.server.looks = 2
    first = setting.run("-m", "1", "--no-batch-wait")
    assert first["running"] == PROMPTS and not setting.answers
    for _ in range(2):
        meanwhile = setting.run("-m", "1", "--no-batch-wait")
        assert meanwhile["running"] == PROMPTS and meanwhile["batches"][0]["status"] == "in_progress"
    assert setting.run("-m", "1", "--no-batch-wait")["done"] == PROMPTS
    assert set(setting.asked.values()) == {1}


@pytest.mark.long
def test_equal_and_empty_replies_are_asked_for_again_in_another_round(setting, numbers):
    def answer(body):
        number = next(numbers)
        return "same" if number < 2 * PROMPTS else f"other {number}"

    setting.server.answer = answer
    done = setting.run("-m", "2")
    assert done["done"] == PROMPTS and len(setting.server.batches) == 2
    assert set(setting.asked.values()) == {3}
    assert all(texts[0] == "same" and texts[1].startswith("other") for texts in setting.answers.values())
    assert done["teachers"][0]["duplicates"] == PROMPTS


@pytest.mark.slow
def test_what_is_refused_is_said_and_what_may_pass_goes_into_the_next_batch(setting, numbers):
    def answer(body):
        question = body["messages"][-1]["content"]
        if "question 1 " in question:
            return 400
        return 500 if "question 2 " in question and next(numbers) == 0 else f"fine {question}"

    setting.server.answer = answer
    done = setting.run("-m", "1", code=3)
    assert (done["done"], done["failed"]) == (PROMPTS - 1, 1)
    assert setting.asked["question 2 — é"] == 2 and setting.asked["question 1 — é"] == 1
    ((_, failed),) = read_records(setting.folder / "t.jsonl.failed.jsonl")
    assert failed["uid"] == "p1" and "status 400: no, says 400" in failed["error"]["message"]
    setting.server.answer = lambda body: "fine now"
    assert setting.run("-m", "1")["done"] == 1
    assert setting.asked["question 1 — é"] == 2 and setting.server.live == 0


@pytest.mark.long
def test_a_request_that_never_gets_a_usable_reply_is_given_up(setting):
    setting.server.answer = lambda body: "" if "question 1 " in body["messages"][-1]["content"] else "fine"
    done = setting.run("-m", "1", code=3)
    assert (done["done"], done["failed"]) == (PROMPTS - 1, 1)
    assert setting.asked["question 1 — é"] == 3
    ((_, failed),) = read_records(setting.folder / "t.jsonl.failed.jsonl")
    assert "no usable reply in 3 batches" in failed["error"]["message"]


@pytest.mark.long
def test_an_expired_batch_is_collected_in_part_and_the_rest_handed_over_again(setting):
    setting.server.ends_as = ["expired", "completed"]
    done = setting.run("-m", "1")
    assert done["done"] == PROMPTS
    assert set(setting.asked.values()) >= {1} and len(setting.server.batches) > 1
    assert setting.asked["question 0 — é"] == 1  # it was answered before the first batch expired


@pytest.mark.long
def test_a_batch_that_failed_is_said_and_can_be_handed_over_again(setting):
    setting.server.ends_as = "failed"
    setting.run("-m", "1", code=4)
    assert "Enqueued token limit reached" in setting.said and "hint:" in setting.said
    setting.server.ends_as = "completed"
    assert setting.run("-m", "1")["done"] == PROMPTS
    assert set(setting.asked.values()) == {2}


@pytest.mark.long
def test_a_batch_that_was_cancelled_is_not_handed_over_again_unasked(setting):
    setting.server.ends_as = "cancelled"
    setting.run("-m", "1", code=4)
    assert "batch batch-0 was cancelled" in setting.said and len(setting.server.batches) == 1
    setting.server.ends_as = "completed"
    assert setting.run("-m", "1")["done"] == PROMPTS
    assert sorted(setting.asked.values()) == [1, 1, 1, 2, 2]  # three were answered before


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["lose_create", *(pytest.param(each, marks=pytest.mark.long) for each in ("lose_upload", "busy"))]
)
def test_a_lost_connection_makes_no_second_batch(setting, fault):
    setattr(setting.server, fault, 1)
    assert setting.run("-m", "2")["done"] == PROMPTS
    assert len(setting.server.batches) == 1 and set(setting.asked.values()) == {2}


@pytest.mark.long
def test_kills_at_any_moment_hand_nothing_over_twice(setting):
    setting.server.looks = 15
    for delay in (0.35, 0.45, 0.5, 0.55, 0.6, 0.7, 0.9):
        child = setting.start("-m", "2")
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    setting.run("-m", "2")
    assert len(setting.answers) == PROMPTS
    assert set(setting.asked.values()) == {2} and setting.server.live == 0


@pytest.mark.slow
def test_money(setting):
    prices = ["--set", "prices={m: {input: 10, output: 100}}"]
    setting.run("-m", "2", "--max-tokens", "50", *prices, "--max-cost", "0.001", code=1)
    assert "could cost" in setting.said and not setting.server.batches
    done = setting.run("-m", "2", "--max-tokens", "50", *prices, "--max-cost", "1")
    # 10 requests of 100 and 10 tokens, at half of 10 and of 100 dollars a million
    assert done["cost_usd"] == pytest.approx(10 * (100 * 5 + 10 * 50) / 1e6)
    setting.run("-m", "2", "--max-tokens", "50", *prices, "--dry-run")


def test_what_can_not_be_is_said_at_once(setting):
    setting.run("-m", "1", "--no-cache", code=2)
    assert "needs the cache" in setting.said
    setting.run("-m", "1", "--base-url", "builtin://checkable", code=2)
    assert "has no Batch API" in setting.said
    setting.run("-m", "1", "--api", "azure", "--set", "teacher.api_version=2024-10-21", code=2)
    assert "Azure" in setting.said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            {"message": "Billing hard limit has been reached", "code": "billing_hard_limit_reached"},
            "Billing hard limit",
        ),
        ({"message": "Incorrect API key", "code": 401}, "status 401 in a response with 200: Incorrect API key"),
        ({"message": "purpose batch is not supported"}, "purpose batch is not supported"),
    ],
)
def test_an_upload_that_is_answered_by_an_error_is_one_line(setting, error, said):
    setting.server.error = error
    setting.run("-m", "1", "--set", "teacher.limits.max_retries=0", code=1 if "purpose" in said else 4)
    errors = [line for line in setting.said.splitlines() if "error" in line]
    assert len(errors) == 1 and said in errors[0] and "Traceback" not in setting.said

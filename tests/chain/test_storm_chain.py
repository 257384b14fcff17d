"""Commands in a storm, and on an endpoint that dies: what is written is right, the rest is listed or done later."""

import json
import os
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from servers import Hang, Reply, ScriptedServer, Status
from storms import WORDS, Storm, judge_by_rules, user_text

from ropd_cli.records.files import read_records
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, Prompt

pytestmark = pytest.mark.slow

GROUPS = 24
SECTIONS = {"rubricate": "rubricator", "verify": "verifier"}


class Work:
    """A folder with prompts, rollouts and an index, and the commands on them."""

    def __init__(self, folder):
        self.folder = folder
        prompts = [Prompt(uid=f"g{k}", prompt=f"Question {k}: what stands on the desk?") for k in range(GROUPS)]
        self._write("prompts.jsonl", [{"uid": prompt.uid, "prompt": prompt.prompt} for prompt in prompts])
        for name, count in (("teacher.jsonl", 4), ("rollouts.jsonl", 3)):
            self._write(name, [self._answers(prompt, name, count) for prompt in prompts])
        done = self.ropd("index", "build", "teacher.jsonl", "--out", "teacher.index")
        assert done.returncode == 0, done.stderr

    def _answers(self, prompt, name, count):
        texts = [f"{WORDS[(int(prompt.uid[1:]) + 3 * k) % len(WORDS)]} stands there, {name} {k}" for k in range(count)]
        answers = tuple(Answer(text=text, finish_reason="stop") for text in texts)
        return AnswerRecord(
            uid=prompt.uid, prompt=prompt.prompt, raw_prompt_hash=prompt.raw_prompt_hash, answers=answers, model="m"
        ).to_json()

    def _write(self, name, records):
        with RecordWriter(self.folder / name) as out:
            for record in records:
                out.append(record)

    def ropd(self, *arguments):
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
        return subprocess.run(
            [sys.executable, "-m", "ropd_cli", *map(str, arguments)],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def judge(self, command, url, *options, out, limits, rubrics="rubrics.jsonl"):
        """A judging command: its exit code, stderr, and ``--json`` document if there is one."""
        files = ["prompts.jsonl", "--rollouts", "rollouts.jsonl", "--index", "teacher.index", "--out", out]
        files += ["--rubrics", rubrics] if command == "verify" else []
        asked = ["--model", "judge", "--base-url", url, "--cache-dir", "cache", "--json", *options]
        for name, value in limits.items():
            asked += ["--set", f"{SECTIONS[command]}.limits.{name}={value}"]
        done = self.ropd(command, *files, *asked)
        document = json.loads(done.stdout) if done.stdout else None
        return SimpleNamespace(code=done.returncode, document=document, stderr=done.stderr)

    def read(self, name):
        """Records of a file by uid, without what the endpoint counted; each stands there once."""
        file = self.folder / name
        records = [record for _, record in read_records(file)] if file.exists() else []
        by_uid = {record["uid"]: {k: v for k, v in record.items() if k != "usage"} for record in records}
        assert len(by_uid) == len(records)
        return by_uid

    def rubrics_and_verdicts(self, server):
        """What both commands write where nothing fails."""
        server.default = Storm(0.0, seed=0)
        for command, out in (("rubricate", "rubrics.jsonl"), ("verify", "calm.jsonl")):
            done = self.judge(command, server.url, "--no-cache", out=out, limits={})
            assert (done.code, done.document["done"]) == (0, GROUPS), done
        return self.read("rubrics.jsonl"), self.read("calm.jsonl")


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path)


def listed(work, out):
    return set(work.read(f"{out}.failed.jsonl"))


@pytest.mark.parametrize("seed", [11, pytest.param(12, marks=pytest.mark.long)])
def test_both_commands_in_a_storm(work, server, seed):
    rubrics, verdicts = work.rubrics_and_verdicts(server)
    assert len({tuple(record["rewards"]) for record in verdicts.values()}) > GROUPS // 3
    for command, out, expected in (("rubricate", "r.jsonl", rubrics), ("verify", "v.jsonl", verdicts)):
        server.default, sent = Storm(0.3, seed), len(server.requests)
        limits = {"timeout_s": 1, "max_retries": 1}
        in_storm = work.judge(command, server.url, "--timeout", 1, out=out, limits=limits, rubrics="r.jsonl")
        written, failed = work.read(out), listed(work, out)
        assert in_storm.code == (3 if failed else 0), in_storm.stderr
        assert in_storm.document["failed"] == len(failed)
        assert written.keys() | failed == expected.keys() and not written.keys() & failed
        assert written == {uid: expected[uid] for uid in written}

        server.default = Storm(0.0, seed)
        after = work.judge(command, server.url, out=out, limits={}, rubrics="r.jsonl")
        assert (after.code, after.document["done"], after.document["skipped"]) == (0, len(failed), len(written))
        assert work.read(out) == expected and not listed(work, out)
        assert len(server.requests) - sent <= 2 * GROUPS


DEATHS = {"port": None, "hang": Hang(), "status": Status(503, "out of order")}


LONG = [pytest.param(*case, marks=pytest.mark.long) for case in (("port", 1), ("hang", 8), ("status", 8))]


@pytest.mark.parametrize(("death", "concurrency"), [("port", 32), *LONG])
def test_an_endpoint_that_dies_for_good_is_waited_for_and_nobody_fails_of_it(work, server, death, concurrency):
    _, verdicts = work.rubrics_and_verdicts(server)
    fill = ["--concurrency", concurrency, "--timeout", 1]
    limits = {"max_pause_s": 2}

    # one group has failed of itself before
    server.default = lambda body: Reply("") if "Question 2:" in user_text(body) else Reply(judge_by_rules(body))
    before = work.judge("verify", server.url, *fill, "--limit", 4, out="v.jsonl", limits=limits | {"max_retries": 0})
    assert (before.code, listed(work, "v.jsonl")) == (3, {"g2"})

    server.default = Dies(server, after=8, into=DEATHS[death])
    dead = work.judge("verify", server.url, *fill, out="v.jsonl", limits=limits)
    assert dead.code == 4, dead.stderr
    assert dead.document is None
    assert re.search(r"pausing", dead.stderr)
    assert "ropd: error:" in dead.stderr and server.url in dead.stderr and "hint:" in dead.stderr
    assert "Traceback" not in dead.stderr
    kept = work.read("v.jsonl")
    assert 3 <= len(kept) < GROUPS
    assert kept == {uid: verdicts[uid] for uid in kept}
    assert listed(work, "v.jsonl") - kept.keys() == {"g2"} - kept.keys()
    assert server.default.answered <= len(kept) - 3 + 1  # what was answered is kept

    server.default, sent = Storm(0.0, seed=0), len(server.requests)
    server.up()
    again = work.judge("verify", server.url, *fill, out="v.jsonl", limits=limits)
    assert (again.code, again.document["done"], again.document["skipped"]) == (0, GROUPS - len(kept), len(kept))
    assert len(server.requests) - sent <= GROUPS - len(kept)
    asked = {re.search(r"Question (\d+):", user_text(request.body))[1] for request in server.requests[sent:]}
    assert not {f"g{number}" for number in asked} & kept.keys()
    assert work.read("v.jsonl") == verdicts and not listed(work, "v.jsonl")


class Dies:
    """A step: right answers to so many requests, then nothing any more."""

    def __init__(self, server: ScriptedServer, after, into):
        self.answered = 0
        self._server, self._after, self._into = server, after, into
        self._lock = threading.Lock()

    def __call__(self, body):
        with self._lock:
            alive = self.answered < self._after
            self.answered += alive
        if alive:
            return Reply(judge_by_rules(body))
        if self._into is None:
            threading.Thread(target=self._server.down).start()
        return self._into or Hang()


def test_an_endpoint_that_comes_back_within_the_pause_costs_nothing_but_time(work, server):
    _, verdicts = work.rubrics_and_verdicts(server)
    server.default = Dies(server, after=8, into=None)
    back = threading.Timer(3.0, lambda: (setattr(server, "default", Storm(0.0, seed=0)), server.up()))
    back.start()
    limits = {"max_pause_s": 60, "max_retries": 1}  # it is not the retries that get over it
    done = work.judge("verify", server.url, "--concurrency", 8, out="v.jsonl", limits=limits)
    back.join()
    assert (done.code, done.document["done"], done.document["failed"]) == (0, GROUPS, 0), done.stderr
    assert work.read("v.jsonl") == verdicts

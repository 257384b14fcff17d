"""teacher-gen killed at random moments while requests ask for several answers: none on disk is paid for again.

``ROPD_KILLS=100`` is the full length, a few minutes; ``ROPD_KILLS_SEED`` takes other moments.
"""

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from servers import FromRequest, Raw, ScriptedServer

from ropd_cli.llm.cache import ReplyCache
from ropd_cli.records.files import read_records

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("ROPD_KILLS", "4"))
SEED = int(os.environ.get("ROPD_KILLS_SEED", "0"))
M = 3
CONCURRENCY = 4
PROMPTS_A_KILL = 12
LONG = "x" * 60_000
"""Some answers are this much longer: their records are written in many pages, which a kill can part."""


class Teacher:
    """Gives as many choices as a request asks for, each a text that it never gives again, after a short while."""

    def __init__(self, seed):
        self._moments = random.Random(seed)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.begun = threading.Event()
        self.given = []
        """Of every request the prompt's uid and the texts that it got."""

    def __call__(self, request):
        uid = re.search(r"uid-\d+", request.body["messages"][-1]["content"]).group()
        with self._lock:
            pause_s = self._moments.uniform(0.0, 0.04)
            texts = [self._text(uid) for _ in range(request.body.get("n", 1))]
            self.given.append((uid, texts))
        self.begun.set()
        time.sleep(pause_s)
        choices = [
            {"index": k, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            for k, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 7, "completion_tokens": 3 * len(texts)}
        return Raw(json.dumps({"model": "m", "choices": choices, "usage": usage}).encode())

    def _text(self, uid):
        number = next(self._numbers)
        return f"{uid} answer {number} {LONG if number % 5 == 0 else ''}".strip()


class Reader:
    """Reads the answers file over and over while others write it; what it must never see is in ``faults``."""

    def __init__(self, out):
        self._out = out
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read_on, daemon=True)
        self.faults = []
        self.reads = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(30)

    def _read_on(self):
        before = []
        while not self._over.wait(0.005):
            # a lone line without an end may be somebody's whole file: it is an error and no record
            if not self._out.is_file() or b"\n" not in self._out.read_bytes()[: 1 << 20]:
                continue
            try:
                uids = [whole(record)["uid"] for _, record in read_records(self._out)]
            except Exception as fault:
                self.faults.append(repr(fault))
                return
            if uids[: len(before)] != before:
                self.faults.append(f"{len(before)} records were there, and then {len(uids)} others")
            before = uids
            self.reads += 1


def whole(record):
    """The record, if all of it is there."""
    assert len(record["answers"]) == M and record["model"] == "m" and record["request_hash"]
    assert all(answer["text"].startswith(record["uid"] + " answer ") for answer in record["answers"])
    return record


class Killed:
    """One ``teacher-gen`` after another into the same file, each killed, and what is on disk between them."""

    def __init__(self, folder, server, prompts):
        self.out = folder / "out" / "teacher.jsonl"
        self._cache, self._folder, self._server = folder / "cache", folder, server
        lines = [json.dumps({"uid": f"uid-{k}", "prompt": f"Question uid-{k}: why?"}) for k in range(prompts)]
        (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self, *options):
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
        command = ["teacher-gen", "prompts.jsonl", "--out", self.out, "--base-url", self._server.url, "--model", "m"]
        command += ["-m", M, "--concurrency", CONCURRENCY, "--cache-dir", self._cache, "--json", "--quiet"]
        return subprocess.Popen(
            [sys.executable, "-m", "ropd_cli", *map(str, [*command, *options])],
            cwd=self._folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self):
        """The finished lines of the file."""
        data = self.out.read_bytes() if self.out.is_file() else b""
        return data[: data.rfind(b"\n") + 1]

    def on_disk(self):
        """The texts that the cache holds."""
        if not self._cache.exists():
            return set()
        with ReplyCache.open(self._cache) as cache:
            texts = {entry.reply.text for entry in cache.entries(drop=False)}
            assert cache.corrupt == 0
        return texts


def until_killed(process, teacher, moments):
    """Kill it some time after its first request, sometimes before that. Whether it was killed, and did not end."""
    if moments.random() < 0.9:
        while not teacher.begun.wait(0.01) and process.poll() is None:
            pass
    else:
        time.sleep(moments.uniform(0.0, 1.0))
    time.sleep(moments.uniform(0.0, 0.25))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    return process.returncode == -signal.SIGKILL


def uid_of(text):
    return text.partition(" ")[0]


@pytest.mark.parametrize("ways", [["auto"], ["auto", "1"]], ids=["together", "by turns"])
def test_killed_again_and_again(tmp_path, ways):
    """By turns: single requests leave prompts with some answers on disk, and one for several completes them."""
    moments = random.Random(f"{SEED} {ways}")
    teacher = Teacher(SEED)
    most_at_once = CONCURRENCY * (1 if ways == ["auto"] else M)
    kills = begun_kills = 0
    with ScriptedServer() as server:
        server.default = FromRequest(teacher)
        killed = Killed(tmp_path, server, PROMPTS_A_KILL * KILLS + 10)
        with Reader(killed.out) as reader:
            kept, stood = set(), b""
            for kill in itertools.count():
                teacher.begun.clear()
                first = len(teacher.given)
                process = killed.start("--n-per-request", ways[-1 - kill % len(ways)])
                if kill < KILLS:
                    if not until_killed(process, teacher, moments):
                        break
                    kills += 1
                else:
                    _, said = process.communicate(timeout=300)
                    break
                while server.at_once:  # what was under way is answered into the void
                    time.sleep(0.01)
                asked = teacher.given[first:]
                begun_kills += bool(asked)
                on_disk, lines = killed.on_disk(), killed.lines()
                assert kept <= on_disk, "a reply that was on disk is gone"
                assert lines.startswith(stood), "a line that was there is gone, or another"
                for line in lines.splitlines():
                    assert {answer["text"] for answer in whole(json.loads(line))["answers"]} <= on_disk
                check_segment(asked, kept, on_disk, most_at_once)
                kept, stood = on_disk, lines
        assert kills == KILLS, "all was done before the last kill: raise PROMPTS_A_KILL"
        assert process.returncode == 0, said
        assert begun_kills >= KILLS // 2  # the others may have come before the first request
        assert killed.lines().startswith(stood)
        check_segment(teacher.given[first:], kept, killed.on_disk(), 0)
        records = [whole(record) for _, record in read_records(killed.out)]
        assert sorted(int(record["uid"][4:]) for record in records) == list(range(PROMPTS_A_KILL * KILLS + 10))
        assert not reader.faults and reader.reads, reader.faults
        repeated = sum(len(texts) for _, texts in teacher.given) - M * len(records)
        assert len(killed.on_disk()) == M * len(records)
        assert repeated <= begun_kills * CONCURRENCY * M
        print(f"{kills} kills, {reader.reads} reads meanwhile, {repeated} answers repeated of {M * len(records)}")


def check_segment(asked, kept, on_disk, most_lost):
    """Of one process: it asked for no answer that was on disk, and lost no more requests than it had under way."""
    had = Counter(map(uid_of, kept))
    for uid, count in Counter(uid for uid, texts in asked for _ in texts).items():
        assert had[uid] + count <= M, f"{uid}: {had[uid]} answers were on disk, and {count} more were asked for"
    lost = [uid for uid, texts in asked if not on_disk.issuperset(texts)]
    assert len(lost) <= most_lost, f"{len(lost)} requests lost: {lost}"

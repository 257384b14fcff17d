"""Teacher-gen killed at any moment, again and again: no finished record is lost or changed, none is asked for twice.

``ROPD_KILLS=100 pytest tests/chain/test_teacher_kills.py`` is the full length.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import zlib

import pytest
from processes import start_ropd
from servers import Reply

KILLS = int(os.environ.get("ROPD_KILLS", "3"))
M, CONCURRENCY = 3, 4
SAMPLES = ["same", "same", "a <think>b</think> thought", "cut", "other"]


def teacher(body):
    """Texts by the question and the seed: some equal, some cut off."""
    question, seed = body["messages"][-1]["content"], body.get("seed", 0)
    text = SAMPLES[(zlib.crc32(question.encode()) + seed) % len(SAMPLES)]
    delay_s = 0.002 + (zlib.crc32(f"{question}{seed}".encode()) % 20) / 1000
    if text == "cut":
        return Reply("half", "length", delay_s=delay_s)
    said = f"{question}: {text}" if text == "same" else f"{question}: {text} {seed}"
    return Reply(said, delay_s=delay_s)


class Reader(threading.Thread):
    """Reads the file over and over, as another process would; ``torn`` is what was no whole record."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.torn, self.read = path, [], 0
        self.ended = threading.Event()

    def run(self):
        from ropd_cli.records.files import read_records

        while not self.ended.wait(0.005):
            if not self.path.is_file():
                continue
            try:
                records = [record for _, record in read_records(self.path)]
            except Exception as fault:
                self.torn.append(str(fault))
                continue
            self.read += 1
            self.torn += [str(r) for r in records if len(r.get("answers", ())) != M or "request_hash" not in r]


def whole_lines(path):
    data = path.read_bytes() if path.is_file() else b""
    return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)


@pytest.mark.long
def test_kills_at_any_moment_lose_nothing_and_repeat_only_what_was_under_way(tmp_path, server):
    server.default = teacher
    chance = random.Random(20261123)
    prompts, out = max(24, 3 * KILLS), tmp_path / "t.jsonl"
    rows = ({"uid": f"u{k}", "prompt": f"question {k}"} for k in range(prompts))
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("teacher-gen", "p.jsonl", "--out", out.name, "-m", M, "--seed", 0, "--concurrency", CONCURRENCY)
    command = (*command, "--base-url", server.url, "--model", "m", "--tries", 4, "--json")
    environ = {**os.environ, "ROPD_CACHE_DIR": str(tmp_path / "cache")}
    reader = Reader(out)
    reader.start()
    seen, recorded, kills, under_way = [], [], 0, 0
    while kills < KILLS:
        sent = len(server.requests)
        child = start_ropd(command, tmp_path, environ)
        stop_at = sent + chance.randrange(0, 12)  # requests; then a moment more
        while child.poll() is None and len(server.requests) <= stop_at:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.02)
        if child.poll() is not None:
            break
        child.send_signal(signal.SIGKILL)
        child.communicate()
        kills += 1
        # a prompt's calls are under way until their replies are on disk, be it after the server has answered
        under_way += min(M * CONCURRENCY, len(server.requests) - sent)
        lines = whole_lines(out)
        assert lines[: len(seen)] == seen, "a finished record has changed"
        seen = lines
        recorded.append(({json.loads(line)["prompt"] for line in seen}, len(server.requests)))
    child = start_ropd(command, tmp_path, environ)
    _, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    reader.ended.set()
    reader.join(10)
    final = whole_lines(out)
    assert kills >= min(KILLS, 3) and final[: len(seen)] == seen and out.read_bytes() == b"".join(final)
    assert len({json.loads(line)["uid"] for line in final}) == len(final) == prompts
    asked = [(body["messages"][-1]["content"], body["seed"]) for body in server.bodies]
    repeated = len(asked) - len(set(asked))
    print(f"{kills} kills, {len(asked)} requests, {repeated} repeated, {under_way} under way, {reader.read} readings")
    assert repeated <= under_way
    for questions, before in recorded:
        assert not questions & {question for question, _ in asked[before:]}, "a recorded answer was asked for again"
    assert reader.read > 0 and reader.torn == []

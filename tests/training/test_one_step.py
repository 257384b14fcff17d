"""A training that samples one step ahead of its slow judge, is killed, and goes on with what is in flight."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter

import pytest
from judges import read
from processes import start_ropd
from servers import Reply, ScriptedServer
from tiny_runs import PROMPTS_A_STEP, ROLLOUTS, groups_of, reply_of, rows_of, write_inputs

from ropd_cli.records.files import read_records

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

STEPS, KILLED_AFTER, JUDGE_S = 8, 4, 2.0
CONFIG = """
device: cpu
judge: {{m: 1}}
rubricator: &judge {{base_url: "{url}", model: judge, limits: {{concurrency: 32}}}}
verifier: *judge
reward: {{custom: 0.25, custom_function: "mine.py:variety"}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 16, max_response_tokens: 12, shuffle: false}}
rollout: {{n: 4, temperature: 1.0}}
train: {{steps: {steps}, prompts_per_step: 4, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0, save_every: 1,
         async: one_step}}
verl: {{trainer: {{rollout_data_dir: dumped}}}}
"""


class Judge:
    """The judge of ``tiny_runs``, slow in its verdicts; remembers for which questions it was asked for a rubric."""

    def __init__(self):
        self.rubrics = Counter()
        self.lock = threading.Lock()

    def __call__(self, body):
        seen = read(body)
        if seen.role == "rubricator":
            with self.lock:
                self.rubrics[seen.question] += 1
            return reply_of(seen)
        return Reply(reply_of(seen).text, delay_s=JUDGE_S)


@pytest.fixture(scope="module")
def judge():
    return Judge()


@pytest.fixture(scope="module")
def files(shell, tiny_model, judge):
    write_inputs(shell, STEPS * PROMPTS_A_STEP)
    with ScriptedServer() as server:
        server.default = judge
        (shell.folder / "run.yaml").write_text(CONFIG.format(url=server.url, model=tiny_model, steps=STEPS))
        yield shell


@pytest.fixture(scope="module")
def killed(files, judge):
    """The rubrics that were asked for when the run was killed, and the steps that it had finished."""
    command = start_ropd(["train", "--config", "run.yaml", "--out", "run"], files.folder, files.environ)
    metrics = files.folder / "run" / "metrics.jsonl"
    until = time.monotonic() + 600
    while not metrics.is_file() or metrics.read_bytes().count(b"\n") < KILLED_AFTER:
        assert command.poll() is None and time.monotonic() < until, command.communicate()
        time.sleep(0.2)
    os.kill(command.pid, signal.SIGKILL)
    command.communicate(timeout=60)
    return Counter(judge.rubrics), rows_of(files)


@pytest.fixture(scope="module")
def resumed(files, killed):
    (files.folder / "dumped").rename(files.folder / "dumped-before")
    files.ropd("train", "--config", "run.yaml", "--out", "run", "--resume")
    return rows_of(files)


def test_no_rollout_is_older_than_one_update(killed, resumed):
    for row in resumed:
        stale = {name: row[f"training/off_policy/trajectory_staleness/{name}"] for name in ("min", "max")}
        assert 0 <= stale["min"] <= stale["max"] <= 1, (row["step"], stale)
        assert row["training/off_policy/trajectory_staleness_worst/max"] <= 1
    assert {row["training/off_policy/trajectory_staleness/max"] for row in resumed} == {0, 1}


def test_each_group_is_trained_on_once_and_written_once(files, killed, resumed):
    assert [row["step"] for row in resumed] == list(range(1, STEPS + 1))
    uids = [uid for step in range(1, STEPS + 1) for uid in groups_of(files, step)]
    assert sorted(uids) == sorted(f"p{k}" for k in range(STEPS * PROMPTS_A_STEP))
    for row in resumed:
        assert (row["groups/judged"], row["groups/missing"]) == (PROMPTS_A_STEP, 0)
        folder = "dumped" if (files.folder / "dumped" / f"{row['step']}.jsonl").is_file() else "dumped-before"
        batch = [record for _, record in read_records(files.folder / folder / f"{row['step']}.jsonl")]
        groups = groups_of(files, row["step"]).values()
        assert sorted(r["score"] for r in batch) == pytest.approx(
            sorted(r for g in groups for r in g["rewards"]), abs=1e-5
        )
        assert len(batch) == PROMPTS_A_STEP * ROLLOUTS


def test_a_group_that_was_judged_before_the_kill_is_not_judged_again(files, judge, killed, resumed):
    before, rows = killed
    # a group may be judged again that was under way when the last checkpoint was written, none that a step had taken
    trained = {g["prompt"][0]["content"] for row in rows for g in groups_of(files, row["step"]).values()}
    again = {question for question in before if judge.rubrics[question] > 1}
    assert not again & trained and len(again) <= 2 * PROMPTS_A_STEP
    assert sum(judge.rubrics.values()) <= STEPS * PROMPTS_A_STEP + len(again)

"""A training whose judge fails in one call of three, dies for good in the middle, and comes back.

One run in two starts: ``stopped`` (two steps and a part of the third, then the judge is gone) and ``resumed``.
"""

from __future__ import annotations

import json
import threading

import pytest
from judges import read
from servers import Drop, ScriptedServer
from storms import Storm, user_text
from tiny_runs import PROMPTS_A_STEP, check_rewards, groups_of, reply_of, rows_of, write_inputs

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

STEPS = 4
CONFIG = """
device: cpu
judge: {{m: 1, max_failed_fraction: 0.5}}
rubricator: &judge {{base_url: "{url}", model: judge, limits: {{timeout_s: 2, max_retries: 6, max_pause_s: 4}}}}
verifier: *judge
prices: {{judge: {{input: 1, output: 10}}}}
reward: {{length: 0.5, length_free_tokens: 0, length_max_tokens: 12, custom: 0.25, custom_function: "mine.py:variety"}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 16, max_response_tokens: 12, shuffle: false}}
rollout: {{n: 4, temperature: 1.0}}
train: {{steps: 4, prompts_per_step: 4, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0}}
"""


def judge(body):
    """What a request is answered when there is no fault; a request may be followed by a reply and a complaint."""
    seen = read({**body, "messages": [{"role": "user", "content": user_text(body)}]})
    return reply_of(seen).text


class Judge:
    """A storm, until ``down_after`` rubrics were asked for for the first time; then nothing but dropped connections."""

    def __init__(self):
        self.storm = Storm(rate=0.3, seed=5, answer=judge)
        self.down_after: int | None = 2 * PROMPTS_A_STEP + 1
        self.asked: set[str] = set()
        self.lock = threading.Lock()

    def __call__(self, body):
        with self.lock:
            if body["response_format"]["json_schema"]["name"] == "ropd_rubric":
                self.asked.add(user_text(body))
            down = self.down_after is not None and len(self.asked) > self.down_after
        return Drop() if down else self.storm


@pytest.fixture(scope="module")
def files(shell, tiny_model):
    write_inputs(shell, STEPS * PROMPTS_A_STEP)
    with ScriptedServer() as server:
        server.default = shell.judge = Judge()
        (shell.folder / "run.yaml").write_text(CONFIG.format(url=server.url, model=tiny_model))
        yield shell


@pytest.fixture(scope="module")
def stopped(files):
    _, err = files.ropd("train", "--config", "run.yaml", "--out", "run", code=4)
    return err, rows_of(files), {step: groups_of(files, step) for step in (1, 2)}


@pytest.fixture(scope="module")
def resumed(files, stopped):
    files.judge.down_after = None
    out, _ = files.ropd("train", "--config", "run.yaml", "--out", "run", "--resume", "--json")
    return json.loads(out)


def test_a_judge_that_is_dead_is_waited_for_and_then_the_run_stops(stopped):
    err, rows, _ = stopped
    lines = err.splitlines()
    assert any("pausing until it answers again, for 4 s at most" in line for line in lines)
    error, hint = lines[-2:]
    assert error.startswith("ropd: error: step 3: ") and "has stopped answering, and was waited for" in error
    assert hint.startswith("hint: ") and "--resume" in hint and "Traceback" not in err
    assert [row["step"] for row in rows] == [1, 2]


def test_it_goes_on_where_it_stopped(files, stopped, resumed):
    _, rows, groups = stopped
    assert resumed["steps"] == STEPS
    assert rows_of(files)[:2] == rows and [row["step"] for row in rows_of(files)] == [1, 2, 3, 4]
    assert {step: groups_of(files, step) for step in (1, 2)} == groups  # nothing was done twice
    for step in range(1, STEPS + 1):  # and no prompt was passed over
        first = (step - 1) * PROMPTS_A_STEP
        assert set(groups_of(files, step)) == {f"p{k}" for k in range(first, first + PROMPTS_A_STEP)}


def test_in_the_storm_every_score_is_right_or_missing(files, resumed):
    assert sum(files.judge.storm.faults.values()) >= 10
    for step, row in enumerate(rows_of(files), start=1):
        groups = groups_of(files, step).values()
        assert row["groups/missing"] == sum(group["rewards"] is None for group in groups)
        for group in groups:
            assert (group["rewards"] is None) == (group["error"] is not None)
            if group["rewards"] is not None:
                check_rewards(group)
    assert sum(row["judge/retries"] for row in rows_of(files)) > 0


def test_at_most_twice_the_calls(files, resumed):
    groups = STEPS * PROMPTS_A_STEP + PROMPTS_A_STEP  # step 3 was begun twice
    answered = sum(files.judge.storm._seen.values())  # without those that nobody was there for
    assert answered <= 2 * 2 * groups

"""A training whose judge fails in one call of three, dies for good in the middle, and comes back.

One run in two starts: ``stopped`` (two steps and a part of the third, then the judge is gone) and ``resumed``.
"""

from __future__ import annotations

import json
import re
import threading

import pytest
from servers import Drop, ScriptedServer
from storms import Storm

from ropd_cli.method.scoring import EPSILON
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import prompt_hash

pytestmark = pytest.mark.training
pytest.importorskip("verl", reason="needs the CPU stack: make env")

PROMPTS_A_STEP, ROLLOUTS, STEPS = 4, 4, 4
WORDS, WEIGHTS = ("w3", "w4", "w5", "w6"), (5, 1, 1, 1)
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
FUNCTION = """
def variety(solution_str, **_):
    return len(set(solution_str.split())) / 12
"""


def judged(answer):
    return [word in answer.split() for word in WORDS]


def judge(body):
    text = body["messages"][-1]["content"]
    if body["response_format"]["json_schema"]["name"] == "ropd_rubric":
        criteria = [
            {"criterion_id": f"c{k}", "category": "Task Completion", "criterion": f"Holds {word}.", "points": points}
            for k, (word, points) in enumerate(zip(WORDS, WEIGHTS, strict=True), start=1)
        ]
        return json.dumps({"schema_version": "ropd.rubric.v1", "rubrics": criteria, "maximum_score": 8})
    tag = re.match(r"<question-([0-9a-f]{16})>\n", text)[1]
    answers = re.findall(rf'<answer-{tag} index="\d+">(.*?)</answer-{tag}>', text, re.DOTALL)
    rows = [{"answer_index": k, "judgement": judged(a), "final_score": 0} for k, a in enumerate(answers, start=1)]
    return json.dumps({"schema_version": "ropd.batch_verifier.v2", "answers": rows})


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
                self.asked.add(body["messages"][1]["content"])
            down = self.down_after is not None and len(self.asked) > self.down_after
        return Drop() if down else self.storm


@pytest.fixture(scope="module")
def files(shell, tiny_model):
    with open(shell.folder / "prompts.jsonl", "w") as prompts, open(shell.folder / "teacher.jsonl", "w") as teacher:
        for k in range(STEPS * PROMPTS_A_STEP):
            question = f"w{k} w{k}"
            prompts.write(json.dumps({"uid": f"p{k}", "prompt": question}) + "\n")
            record = {"uid": f"p{k}", "prompt": question, "raw_prompt_hash": prompt_hash(question), "model": "big"}
            teacher.write(json.dumps(record | {"answers": [{"text": "w3 w4 w5 w6"}]}) + "\n")
    (shell.folder / "mine.py").write_text(FUNCTION)
    shell.ropd("index", "build", "teacher.jsonl", "--out", "teacher.index")
    with ScriptedServer() as server:
        server.default = shell.judge = Judge()
        shell.server = server
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


def groups_of(shell, step):
    return {g["uid"]: g for _, g in read_records(shell.folder / "run" / "groups" / f"step-{step}.jsonl.zst")}


def rows_of(shell):
    return [row for _, row in read_records(shell.folder / "run" / "metrics.jsonl")]


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
    for step in range(1, STEPS + 1):
        groups = groups_of(files, step).values()
        row = rows_of(files)[step - 1]
        assert row["groups/missing"] == sum(g["rewards"] is None for g in groups)
        for group in groups:
            assert (group["rewards"] is None) == (group["error"] is not None)
            for k, reward in enumerate(group["rewards"] or ()):
                text = group["rollouts"][k]["text"].rpartition("</think>")[2]
                has_answer = bool(text.strip()) and "<think>" not in text
                right = [w for w, v in zip(WEIGHTS, judged(text), strict=True) if v]
                rubric = sum(right) / (8 + EPSILON) if has_answer else 0.0
                length = 1 - group["rollouts"][k]["usage"]["completion_tokens"] / 12
                custom = len(set(group["rollouts"][k]["text"].split())) / 12
                assert reward == pytest.approx(rubric + 0.5 * length + 0.25 * custom, abs=1e-6)
                parts = group["verdicts"]["parts"]
                assert [parts[p][k] for p in ("rubric", "length", "custom")] == pytest.approx([rubric, length, custom])


def test_parts_and_money_are_in_the_metrics(files, resumed):
    for step, row in enumerate(rows_of(files), start=1):
        judged_groups = [g for g in groups_of(files, step).values() if g["rewards"] is not None]
        for part in ("rubric", "length", "custom"):
            values = [v for g in judged_groups for v in g["verdicts"]["parts"][part]]
            assert row[f"reward/{part}_mean"] == pytest.approx(sum(values) / len(values))
        assert row["judge/cost_usd"] > 0 and row["judge/requests_sent"] >= 2 * len(judged_groups)
    assert sum(row["judge/retries"] for row in rows_of(files)) > 0


def test_at_most_twice_the_calls(files, resumed):
    groups = STEPS * PROMPTS_A_STEP + PROMPTS_A_STEP  # step 3 was begun twice
    answered = sum(files.judge.storm._seen.values())  # without those that nobody was there for
    assert answered <= 2 * 2 * groups

"""A training that its monitor stops: from step 3 on the first judge is pleased by everything, the second is not."""

from __future__ import annotations

import json

import pytest
from judges import read
from servers import Reply, ScriptedServer

from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import prompt_hash

pytestmark = pytest.mark.training
pytest.importorskip("verl", reason="needs the CPU stack: make env")

PROMPTS_A_STEP, STEPS, GAMED_FROM = 4, 4, 3
CONFIG = """
device: cpu
judge: {{m: 1}}
rubricator: &judge {{base_url: "{first}", model: first}}
verifier: *judge
monitor: {{share: 1.0, window: 1, judge: {{base_url: "{second}", model: second}}, stop: {{gap_growth: 0.25}}}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 16, max_response_tokens: 12, shuffle: false}}
rollout: {{n: 4, temperature: 1.0}}
train: {{steps: 4, prompts_per_step: 4, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0}}
"""


def judge(body, *, strict):
    """Three of four criteria hold for every answer; the ``strict`` one lets none hold in late questions."""
    seen = read(body)
    if seen.role == "rubricator":
        criteria = [
            {"criterion_id": f"c{k}", "category": "Task Completion", "criterion": f"Holds w{k}.", "points": 2}
            for k in range(1, 5)
        ]
        return Reply(json.dumps({"schema_version": "ropd.rubric.v1", "rubrics": criteria, "maximum_score": 8}))
    late = int(seen.question.split()[0][1:]) >= (GAMED_FROM - 1) * PROMPTS_A_STEP
    rows = [
        {"answer_index": k, "judgement": [False] * 4 if strict and late else ["w3" in answer, True, True, True]}
        for k, answer in enumerate(seen.answers, start=1)
    ]
    rows = [row | {"final_score": 0} for row in rows]
    return Reply(json.dumps({"schema_version": "ropd.batch_verifier.v2", "answers": rows}))


def rows_of(shell, name):
    return [row for _, row in read_records(shell.folder / "run" / name)]


def test_a_growing_gap_stops_the_run_before_the_step_is_learnt_from(shell, tiny_model):
    with open(shell.folder / "prompts.jsonl", "w") as prompts, open(shell.folder / "teacher.jsonl", "w") as teacher:
        for k in range(STEPS * PROMPTS_A_STEP):
            question = f"w{k} w{k}"
            prompts.write(json.dumps({"uid": f"p{k}", "prompt": question}) + "\n")
            record = {"uid": f"p{k}", "prompt": question, "raw_prompt_hash": prompt_hash(question), "model": "big"}
            teacher.write(json.dumps(record | {"answers": [{"text": "w3 w4 w5 w6"}]}) + "\n")
    shell.ropd("index", "build", "teacher.jsonl", "--out", "teacher.index")
    with ScriptedServer() as first, ScriptedServer() as second:
        first.default = lambda body: judge(body, strict=False)
        second.default = lambda body: judge(body, strict=True)
        config = CONFIG.format(first=first.url, second=second.url, model=tiny_model)
        (shell.folder / "run.yaml").write_text(config)
        command = ["train", "--config", "run.yaml", "--out", "run"]
        _, err = shell.ropd(*command, code=1)
        error, hint = err.splitlines()[-2:]
        assert error.startswith("ropd: error: step 3: ") and "gap between the first judge and the second" in error
        assert "inspect-rubrics" in hint and "monitor.stop.gap_growth" in hint and "--resume" in hint
        rows = rows_of(shell, "metrics.jsonl")
        assert [row["step"] for row in rows] == [1, 2]  # the third was not learnt from
        assert [(row["monitor/gap"], row["monitor/judged"]) for row in rows] == [(0.0, PROMPTS_A_STEP)] * 2
        alarms = {
            (row["step"], row["action"]) for row in rows_of(shell, "monitor.jsonl") if row["rule"] == "gap_growth"
        }
        assert alarms == {(3, "warn"), (3, "stop")}
        report = (shell.folder / "run" / "report.html").read_text()
        assert "gap between the first judge and the second" in report
        out, _ = shell.ropd(*command, "--resume", "--set", "monitor.stop.gap_growth=null", "--json")
    assert json.loads(out)["steps"] == STEPS
    rows = rows_of(shell, "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["monitor/gap"] > 0.7 for row in rows[2:])
    kept = [group for step in (3, 4) for _, group in read_records(shell.folder / f"run/monitor/step-{step}.jsonl.zst")]
    assert {group["uid"] for group in kept} == {f"p{k}" for k in range(8, 16)}

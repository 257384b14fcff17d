"""A training that its monitor stops, and that goes on without the threshold: from step 3 on the first judge is pleased
by what the second is not.
"""

from __future__ import annotations

import json

import pytest
from judges import read
from servers import ScriptedServer
from tiny_runs import PROMPTS_A_STEP, reply_of, rows_of, write_inputs

from ropd_cli.records.files import read_records

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

STEPS, GAMED_FROM = 4, 3
CONFIG = """
device: cpu
judge: {{m: 1}}
rubricator: &judge {{base_url: "{first}", model: first}}
verifier: *judge
monitor: {{share: 1.0, window: 1, judge: {{base_url: "{second}", model: second}}, stop: {{gap_growth: 0.001}}}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 16, max_response_tokens: 12, shuffle: false}}
rollout: {{n: 4, temperature: 1.0}}
train: {{steps: 4, prompts_per_step: 4, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0}}
"""


def strict(body):
    """The second judge's reply: late questions are not as the first judge sees them."""
    seen = read(body)
    return reply_of(seen, strict=int(seen.question.split()[0][1:]) >= (GAMED_FROM - 1) * PROMPTS_A_STEP)


def test_a_run_that_a_growing_gap_stopped_goes_on_without_the_threshold(shell, tiny_model):
    write_inputs(shell, STEPS * PROMPTS_A_STEP)
    with ScriptedServer() as first, ScriptedServer() as second:
        first.default, second.default = lambda body: reply_of(read(body)), strict
        config = CONFIG.format(first=first.url, second=second.url, model=tiny_model)
        (shell.folder / "run.yaml").write_text(config)
        command = ["train", "--config", "run.yaml", "--out", "run"]
        _, err = shell.ropd(*command, code=1)
        assert "ropd: error: step 3: " in err and "gap between the first judge and the second" in err
        rows = rows_of(shell)
        assert [row["step"] for row in rows] == [1, 2]  # the third was not learnt from
        assert [(row["monitor/gap"], row["monitor/judged"]) for row in rows] == [(0.0, PROMPTS_A_STEP)] * 2
        out, _ = shell.ropd(*command, "--resume", "--set", "monitor.stop.gap_growth=null", "--json")
    assert json.loads(out)["steps"] == STEPS
    rows = rows_of(shell)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["monitor/gap"] > 0 for row in rows[2:])
    kept = [group for step in (3, 4) for _, group in read_records(shell.folder / f"run/monitor/step-{step}.jsonl.zst")]
    assert {group["uid"] for group in kept} == {f"p{k}" for k in range(8, 16)}

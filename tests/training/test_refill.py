"""A training whose groups without spread, and missing ones, are replaced by further prompts: as long as there are some,
and then no more.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest
from tiny_runs import ROLLOUTS, rows_of, write_inputs

from ropd_cli.records.files import read_records

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

STEPS, GROUPS, BATCHES = 2, 4, 3
GOOD_UNTIL = 18
"""From this prompt on all groups tie."""
KINDS = {5: "missing"} | dict.fromkeys(range(0, GOOD_UNTIL, 2), "tied")
REWARD = """
from itertools import count

numbers = count()

def score(solution_str, ground_truth, **_):
    if ground_truth == "missing":
        raise RuntimeError("no score of this one")
    return 0.7 if ground_truth == "tied" else next(numbers) / 1024
"""
CONFIG = """
device: cpu
judge: {{m: 1, max_failed_fraction: 0.25}}
reward: {{rubric: 0, custom: 1, custom_function: "score.py:score"}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, max_prompt_tokens: 16, max_response_tokens: 12, shuffle: false}}
rollout: {{n: {n}, temperature: 1.0}}
train: {{steps: {steps}, prompts_per_step: {groups}, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0,
         refill: {{zero_variance: true, missing: true, max_batches: {batches}}}}}
verl: {{trainer: {{rollout_data_dir: dumped}}}}
"""


@pytest.fixture(scope="module")
def stopped(shell, tiny_model):
    """Two steps that had what they needed, and a third that could not have it: the line that says so."""
    write_inputs(shell, 40)
    prompts = [json.loads(line) for line in (shell.folder / "prompts.jsonl").read_text().splitlines()]
    with open(shell.folder / "prompts.jsonl", "w") as file:
        for k, prompt in enumerate(prompts):
            kind = KINDS.get(k, "good" if k < GOOD_UNTIL else "tied")
            file.write(json.dumps(prompt | {"answer": kind}) + "\n")
    (shell.folder / "score.py").write_text(REWARD)
    sizes = {"n": ROLLOUTS, "steps": STEPS + 1, "groups": GROUPS, "batches": BATCHES}
    (shell.folder / "run.yaml").write_text(CONFIG.format(model=tiny_model, **sizes))
    _, err = shell.ropd("train", "--config", "run.yaml", "--out", "run", code=1)
    return err


def groups_of(shell, step):
    """The groups of a step: those that it took, and those that were left out."""
    groups = [group for _, group in read_records(shell.folder / "run" / "groups" / f"step-{step}.jsonl.zst")]
    return [g for g in groups if g["left_out"] is None], [g for g in groups if g["left_out"] is not None]


def test_no_tied_group_is_in_verl_s_batch(shell, stopped):
    for step in range(1, STEPS + 1):
        records = [record for _, record in read_records(shell.folder / "dumped" / f"{step}.jsonl")]
        rows = [record for record in records if "pad" not in str(record["uid"])]
        by_group = {}
        for row in rows:
            by_group.setdefault(row["uid"].partition("_")[0], set()).add(row["score"])
        assert len(by_group) == GROUPS and len(rows) == GROUPS * ROLLOUTS
        assert all(len(scores) == ROLLOUTS for scores in by_group.values())
        taken, _ = groups_of(shell, step)
        assert sorted(row["score"] for row in rows) == pytest.approx(sorted(r for g in taken for r in g["rewards"]))


def test_what_was_replaced_is_written_and_counted(shell, stopped):
    seen = []
    for step, row in enumerate(rows_of(shell), start=1):
        taken, left_out = groups_of(shell, step)
        assert all(KINDS.get(int(g["uid"][1:])) is None for g in taken)
        assert {g["uid"]: g["left_out"] for g in left_out} == {g["uid"]: KINDS[int(g["uid"][1:])] for g in left_out}
        counted = Counter(g["left_out"] for g in left_out)
        assert (row["groups/left_out_tied"], row["groups/left_out_missing"]) == (counted["tied"], counted["missing"])
        assert (row["groups/judged"], row["groups/missing"], row["groups/zero_variance"]) == (GROUPS, 0, 0)
        assert row["reward/mean"] == pytest.approx(sum(r for g in taken for r in g["rewards"]) / (GROUPS * ROLLOUTS))
        seen += [g["uid"] for g in (*taken, *left_out)]
    # each prompt once, none passed over
    assert sorted(seen, key=lambda uid: int(uid[1:])) == [f"p{k}" for k in range(len(seen))]
    assert len(seen) > STEPS * GROUPS + 3


def test_a_run_without_anything_to_learn_stops_in_bounds(shell, stopped):
    lines = [line for line in stopped.splitlines() if line.startswith(("ropd: error:", "hint:"))]
    assert len(lines) == 2 and "Traceback" not in stopped
    assert "step 3: no group has rewards that differ" in lines[0] and "--resume" in lines[1]
    taken, left_out = groups_of(shell, 3)
    assert len(taken) == GROUPS and len(left_out) == BATCHES * GROUPS
    # step 2's weights are there, and the third step's prompts are to come again
    assert (shell.folder / "run" / "checkpoints" / "global_step_2" / "data.pt").is_file()

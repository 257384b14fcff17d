"""What rubrics can do beyond the paper, all at once on true verl, and a second training from the checkpoint of that."""

from __future__ import annotations

import pytest
import yaml
from judges import read
from servers import ScriptedServer
from tiny_runs import PROMPTS_A_STEP, ROLLOUTS, WEIGHTS, groups_of, reply_of, rows_of, write_inputs

from ropd_cli.method.rewards import on_grid
from ropd_cli.records.files import read_records

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

STEPS = 3
CONFIG = """
device: cpu
judge: {{m: 1, reuse: epoch}}
rubricator: {{base_url: "{url}", model: judge}}
verifier: {{base_url: "{url}", model: judge}}
reward: {{length: 0.5, length_free_tokens: 0, length_max_tokens: 12, combine: separate,
          criterion_weights: discriminating, criterion_dropout: 0.3}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 16, max_response_tokens: 12}}
rollout: {{n: {n}, temperature: 1.0}}
train: {{steps: {steps}, prompts_per_step: {prompts}, prompts_per_update: null, lr: 1e-3}}
verl: {{trainer: {{rollout_data_dir: dumped}}}}
"""


@pytest.fixture(scope="module")
def runs(shell, tiny_model):
    """A run of three epochs of one step by the reference profile, and one step of another that starts from it."""
    write_inputs(shell, PROMPTS_A_STEP)
    with ScriptedServer() as server:
        server.default = lambda body: reply_of(read(body))
        sizes = {"n": ROLLOUTS, "steps": STEPS, "prompts": PROMPTS_A_STEP}
        (shell.folder / "run.yaml").write_text(CONFIG.format(url=server.url, model=tiny_model, **sizes))
        (shell.folder / "plain.yaml").write_text("reward: {combine: sum, criterion_weights: rubric}\n")
        profile = ("train", "--profile", "reference", "--config", "run.yaml")
        shell.ropd(*profile, "--out", "run")
        keys = ["student.from_run=run", "train.steps=1", "reward.criterion_dropout=0", "reward.length=0"]
        keys.append("verl.trainer.rollout_data_dir=dumped-second")
        shell.ropd(*profile, "-c", "plain.yaml", "--out", "second", *(w for key in keys for w in ("--set", key)))
    return shell


def test_verl_is_given_the_shaped_rewards(runs):
    for step in range(1, STEPS + 1):
        rows = [row for _, row in read_records(runs.folder / "dumped" / f"{step}.jsonl")]
        groups = groups_of(runs, step).values()
        shaped = [value for group in groups for value in group["verdicts"]["shaped"]]
        assert sorted(row["score"] for row in rows if "pad" not in str(row["uid"])) == sorted(map(on_grid, shaped))
        for group in groups:
            assert sum(group["verdicts"]["shaped"]) == pytest.approx(0.0, abs=1e-6)
            assert sum(group["verdicts"].get("weights") or WEIGHTS.values()) == pytest.approx(sum(WEIGHTS.values()))
            assert group["rewards"] == group["verdicts"]["rewards"] != group["verdicts"]["shaped"]


def test_a_prompt_s_rubric_is_written_once_and_when_it_is_outgrown(runs):
    rows = rows_of(runs)
    assert (rows[0]["rubrics/reused"], rows[0]["rubrics/renewed"]) == (0, 0)
    for step, row in enumerate(rows, start=1):
        groups = groups_of(runs, step).values()
        origins = [group["rubric"].get("origin") for group in groups]
        assert row["rubrics/reused"] == origins.count("reused") and row["rubrics/renewed"] == origins.count("renewed")
        assert step == 1 or row["rubrics/reused"] > 0


def test_the_configuration_keeps_what_the_profile_does_and_not_its_name(runs):
    config = yaml.safe_load((runs.folder / "run" / "config.yaml").read_text())
    assert config["train"]["norm_adv_by_std"] is False and config["judge"]["form"] == "group"
    assert (config["train"]["lr"], config["train"]["steps"]) == (1e-3, STEPS)
    assert "profile" not in config


def test_the_second_run_starts_from_the_first_one_s_checkpoint(runs):
    config = yaml.safe_load((runs.folder / "second" / "config.yaml").read_text())
    model = runs.folder / "run" / "checkpoints" / f"global_step_{STEPS}" / "actor" / "huggingface"
    assert config["student"]["model_path"] == str(model)
    assert config["student"]["from_run"] == str(runs.folder / "run")
    assert len(rows_of(runs, "second")) == 1
    assert not any("shaped" in group["verdicts"] for group in groups_of(runs, 1, "second").values())

"""GAD on real verl: a warm-up step and an adversarial one, then resumed for a third. Each reward is what the
discriminator's checkpoint of the step before says of the rollout under transformers.
"""

from __future__ import annotations

import pytest
from tiny_runs import PROMPTS_A_STEP, ROLLOUTS, groups_of, rows_of, write_inputs

from ropd_cli.records.files import read_records

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

TAUGHT = "w3 w4 w5 w6"
CONFIG = """
device: cpu
method: gad
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 16, max_response_tokens: 12, shuffle: false}}
rollout: {{n: 4, temperature: 1.0}}
discriminator: {{warmup_steps: 1, updates_per_step: 2}}
train: {{steps: 2, prompts_per_step: 4, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0, save_every: 1,
         keep_checkpoints: 3, kl_coef: 0.001}}
verl: {{trainer: {{rollout_data_dir: dumped}}}}
"""


@pytest.fixture(scope="module")
def resumed(shell, tiny_model):
    write_inputs(shell, 2 * PROMPTS_A_STEP, answers=(TAUGHT,))
    (shell.folder / "run.yaml").write_text(CONFIG.format(model=tiny_model))
    shell.ropd("train", "--config", "run.yaml", "--out", "run")
    (shell.folder / "run" / "result.json").unlink()  # a run that is longer by a step than the one that ended
    shell.ropd("train", "--config", "run.yaml", "--out", "run", "--resume", "--set", "train.steps=3")
    return shell


def discriminator(shell, tiny_model, step):
    """The discriminator of a checkpoint, and the student's tokenizer."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = AutoModelForTokenClassification.from_pretrained(tiny_model, num_labels=1, dtype=torch.float32)
    file = shell.folder / f"run/checkpoints/global_step_{step}/critic/model_world_size_1_rank_0.pt"
    state = torch.load(file, weights_only=False)
    model.load_state_dict({name: getattr(value, "_local_tensor", value) for name, value in state.items()})
    return model.eval(), AutoTokenizer.from_pretrained(tiny_model)


@pytest.mark.parametrize("step", [2, 3])
def test_rewards_are_the_discriminator_s_at_the_last_token(resumed, tiny_model, step):
    import torch

    model, tokenizer = discriminator(resumed, tiny_model, step - 1)
    compared = 0
    for group in groups_of(resumed, step).values():
        prompt = tokenizer.apply_chat_template(group["prompt"], add_generation_prompt=True, return_dict=False)
        for rollout, reward in zip(group["rollouts"], group["rewards"], strict=True):
            tokens = rollout["usage"]["completion_tokens"]
            ids = tokenizer(rollout["text"], add_special_tokens=False).input_ids
            if len(ids) + 1 == tokens and tokens < 12:
                ids.append(tokenizer.eos_token_id)
            if len(ids) == tokens:  # else special tokens stand in it, which its text lacks
                with torch.no_grad():
                    score = model(torch.tensor([prompt + ids])).logits[0, -1, 0].item()
                assert reward == pytest.approx(score, abs=1e-5)
                compared += 1
    assert compared > ROLLOUTS


def test_rewards_of_the_books_are_those_of_verl_s_batch(resumed):
    for step, row in enumerate(rows_of(resumed), start=1):
        records = [record for _, record in read_records(resumed.folder / "dumped" / f"{step}.jsonl")]
        groups = groups_of(resumed, step)
        rewards = [reward for group in groups.values() for reward in group["rewards"]]
        scores = [record["score"] for record in records if "pad" not in str(record["uid"])]
        assert sorted(rewards) == pytest.approx(sorted(scores), abs=1e-6) and len(rewards) == PROMPTS_A_STEP * ROLLOUTS
        assert row["reward/mean"] == pytest.approx(sum(rewards) / len(rewards))
        assert row["discriminator/student"] == pytest.approx(row["reward/mean"], abs=1e-5)
        assert (row["groups/judged"], row["groups/missing"], row["groups/zero_variance"]) == (PROMPTS_A_STEP, 0, 0)
        assert all(group["teacher_answers"] == [TAUGHT] for group in groups.values())


def test_the_warm_up_comes_first_and_is_not_repeated(resumed):
    rows = rows_of(resumed)
    assert [row["training/global_step"] for row in rows] == [1, 2, 3]
    assert ["warmup/loss" in row for row in rows] == [True, False, False]
    assert ["actor/pg_loss" in row for row in rows] == [False, True, True]
    assert all(row["actor/grad_norm"] > 0 and row["discriminator/grad_norm"] > 0 for row in rows)


def test_the_discriminator_learns_across_the_resume(resumed):
    losses = [row["discriminator/loss"] for row in rows_of(resumed)]
    assert losses[0] > losses[1] > losses[2]

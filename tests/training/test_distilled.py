"""Distillation from a teacher checkpoint on real verl: with a vLLM of the run's own (ExOPD, stopped after two steps and
resumed), and with a server that runs already (LOPD). Each log-probability that the loss sees is that of the
checkpoints under transformers.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tiny_runs import PROMPTS_A_STEP, ROLLOUTS, groups_of, rows_of, write_inputs

from ropd_cli.engines.judge_server import JudgeOptions, JudgeServer

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

STRENGTH = 1.5
CLOSE = 2e-5
CONFIG = """
device: cpu
method: {method}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, max_prompt_tokens: 16, max_response_tokens: 12, shuffle: false}}
reward: {{length: 1, length_free_tokens: 0, length_max_tokens: 16}}
rollout: {{n: 4, temperature: 1.0}}
distil: {{teacher_path: teacher, strength: {strength}}}
train: {{steps: 2, prompts_per_step: 4, lr: 3e-3, lr_schedule: constant, weight_decay: 0.0, save_every: 1}}
verl: {{actor_rollout_ref: {{model: {{external_lib: loss_on_disk}}}}}}
"""
LOSS_ON_DISK = """
import os
import torch
import ropd_cli.training.verl.losses
from verl.trainer.distillation.losses import DISTILLATION_LOSS_REGISTRY
from verl.workers.utils.padding import no_padding_2_padding

def kept(loss):
    def keeping(config, distillation_config, model_output, data):
        losses, metrics = loss(config, distillation_config, model_output, data)
        padded = {name: data[name].to_padded_tensor(0.0) for name in ("old_log_probs", "ref_log_prob") if name in data}
        folder = os.environ["LOSS_FOLDER"]
        os.makedirs(folder, exist_ok=True)
        torch.save(
            {
                "losses": losses.detach(),
                "actor": no_padding_2_padding(model_output["log_probs"], data).detach(),
                "teacher": no_padding_2_padding(data["teacher_logprobs"], data).squeeze(-1),
                "ids": [ids.clone() for ids in data["input_ids"].unbind()],
                "prompts": data["prompts"].offsets().diff().tolist(),
                "mask": data["response_mask"].to_padded_tensor(0).bool(),
                **padded,
            },
            f"{folder}/{len(os.listdir(folder))}.pt",
        )
        return losses, metrics
    return keeping

for name in ("k1", "exopd"):
    DISTILLATION_LOSS_REGISTRY[name] = kept(DISTILLATION_LOSS_REGISTRY[name])
"""


@pytest.fixture(scope="module")
def files(shell, tiny_model):
    """Prompts, a teacher that is another random model, and the module that keeps what the loss sees."""
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    write_inputs(shell, 2 * PROMPTS_A_STEP)
    shutil.copytree(tiny_model, shell.folder / "teacher")
    torch.manual_seed(1)
    LlamaForCausalLM(AutoConfig.from_pretrained(tiny_model)).float().save_pretrained(shell.folder / "teacher")
    (shell.folder / "loss_on_disk.py").write_text(LOSS_ON_DISK)
    shell.environ["PYTHONPATH"] = os.pathsep.join([str(shell.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return shell


def train(shell, model, method, out, *options, **settings):
    """``ropd train``; what the loss saw in each of its steps."""
    shell.environ["LOSS_FOLDER"] = str(shell.folder / f"{out}-losses")
    (shell.folder / f"{method}.yaml").write_text(CONFIG.format(method=method, model=model, strength=STRENGTH))
    sets = [word for key, value in settings.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]
    shell.ropd("train", "--config", f"{method}.yaml", "--out", out, *options, *sets)


def seen(shell, out, number):
    """What the loss saw at its call of this number."""
    import torch

    return torch.load(shell.folder / f"{out}-losses" / f"{number}.pt", weights_only=False)


def log_probs(folder, ids):
    """Of each token after the first, under a checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        table = model(ids[None]).logits[0].log_softmax(-1)
    return table[:-1].gather(-1, ids[1:, None])[:, 0]


def check_log_probs(kept, **folders):
    """Each kind of log-probability is that of its checkpoint, at every token of every rollout."""
    for kind, folder in folders.items():
        for row, (ids, start) in enumerate(zip(kept["ids"], kept["prompts"], strict=True)):
            real = log_probs(folder, ids)[start - 1 :]
            assert kept[kind][row, : len(real)].tolist() == pytest.approx(real.tolist(), abs=CLOSE), kind


@pytest.fixture(scope="module")
def resumed(files, tiny_model):
    train(files, tiny_model, "exopd", "run")
    (files.folder / "run" / "result.json").unlink()  # a run that is longer by a step than the one that ended
    train(files, tiny_model, "exopd", "run", "--resume", train__steps=3)
    return files


def checkpoint(shell, step):
    return shell.folder / "run" / "checkpoints" / f"global_step_{step}" / "actor" / "huggingface"


def test_each_log_probability_is_its_checkpoint_s(resumed, tiny_model):
    teacher = resumed.folder / "teacher"
    check_log_probs(seen(resumed, "run", 0), teacher=teacher, ref_log_prob=tiny_model, actor=tiny_model)
    # after the resume: the student goes on, its reference is the student as it began
    check_log_probs(seen(resumed, "run", 2), teacher=teacher, ref_log_prob=tiny_model, actor=checkpoint(resumed, 2))


def test_the_loss_is_the_method_s(resumed):
    for number in range(3):
        kept = seen(resumed, "run", number)
        advantages = STRENGTH * (kept["teacher"] - kept["ref_log_prob"]) - (kept["actor"] - kept["ref_log_prob"])
        mask = kept["mask"]
        assert (-kept["losses"])[mask].tolist() == pytest.approx(advantages[mask].tolist(), abs=1e-6)


def test_the_student_comes_nearer_to_its_teacher(resumed):
    rows = rows_of(resumed)
    assert [row["training/global_step"] for row in rows] == [1, 2, 3]
    assert rows[2]["actor/distillation/k1"] < rows[0]["actor/distillation/k1"]


def test_groups_and_curves_without_rewards(resumed):
    for step, row in enumerate(rows_of(resumed), start=1):
        assert (row["groups/judged"], row["groups/missing"], row["reward/mean"]) == (PROMPTS_A_STEP, 0, 0)
        groups = groups_of(resumed, step)
        lengths = [1 - r["usage"]["completion_tokens"] / 16 for g in groups.values() for r in g["rollouts"]]
        assert row["reward/length_mean"] == pytest.approx(sum(lengths) / len(lengths))
        assert all(g["rewards"] == [0.0] * ROLLOUTS and g["teacher_answers"] == [] for g in groups.values())


def test_a_teacher_that_is_served_already(files, tiny_model):
    teacher = files.folder / "teacher"
    options = JudgeOptions(str(teacher), "cpu", max_model_len=64, dtype="float32", kv_cache_gb=1)
    with JudgeServer.start(options, environ=files.environ, log=Path(files.folder / "server.log")) as server:
        server.wait_ready(lambda _: None)
        settings = {"distil__strength": 1.25, "distil__endpoint__base_url": server.url, "train__keep_checkpoints": 3}
        train(files, tiny_model, "lopd", "served", **settings)
        (files.folder / "served" / "result.json").unlink()
        train(files, tiny_model, "lopd", "served", "--resume", train__steps=3, **settings)
    folders = [files.folder / f"served/checkpoints/global_step_{step}/actor/huggingface" for step in (1, 2)]
    for step, student in enumerate([tiny_model, *folders]):
        kept = seen(files, "served", step)
        check_log_probs(kept, teacher=teacher, actor=student)
        assert kept["losses"][kept["mask"]].tolist() == pytest.approx(
            (kept["actor"] - kept["teacher"])[kept["mask"]].tolist(), abs=1e-6
        )
    assert len(rows_of(files, "served")) == 3

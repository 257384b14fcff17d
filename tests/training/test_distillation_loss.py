"""The losses of LOPD and ExOPD on verl's own functions, without Ray; whose vocabularies are equal; and the settings
that bring the teacher into verl.
"""

from __future__ import annotations

import io
import shutil

import pytest

from ropd_cli.config import RopdConfig, load_config
from ropd_cli.errors import InputError
from ropd_cli.training.launch import resolve

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

TEACHER, ACTOR, REFERENCE = (-1.0, -2.0), (-1.5, -1.0), (-2.0, -1.5)
"""Log-probabilities of a rollout of two tokens."""


def batch_of(log_prob):
    """A batch of that rollout after a prompt of one token, and the model's output, as verl's engine hands them over."""
    import torch
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu

    def nested(row, kind=torch.float32):
        return torch.nested.as_nested_tensor([torch.tensor(row, dtype=kind)], layout=torch.jagged)

    fields = {
        "prompts": nested([7], torch.int64),
        "responses": nested([8, 9], torch.int64),
        "response_mask": nested([1, 1], torch.int64),
        "old_log_probs": nested(ACTOR),
        "ref_log_prob": nested(REFERENCE),
        # that of a token stands before it, as verl's teacher and the model itself have it
        "teacher_logprobs": nested([[value] for value in (*TEACHER, 0.0)]),
    }
    data = TensorDict(fields, batch_size=1)
    tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=2, global_batch_size=1)
    values = torch.cat([log_prob, torch.zeros(1)])
    return data, {"log_probs": torch.nested.nested_tensor_from_jagged(values, torch.tensor([0, 3]))}


@pytest.mark.parametrize(
    ("mode", "strength", "advantages", "loss"),
    [
        ("k1", 1.25, (0.5, -1.0), 0.25),
        ("exopd", 1.0, (0.5, -1.0), 0.25),
        ("exopd", 1.25, (0.75, -1.125), 0.1875),
    ],
)
def test_hand_computed_losses_and_gradients(mode, strength, advantages, loss):
    import torch
    from verl.trainer.distillation.losses import distillation_loss, get_distillation_loss_fn
    from verl.workers.config import DistillationConfig, DistillationLossConfig, FSDPActorConfig

    from ropd_cli.training.verl import losses  # noqa: F401

    own = DistillationLossConfig(
        loss_mode=mode, use_task_rewards=False, loss_max_clamp=None, distillation_loss_coef=strength
    )
    settings = DistillationConfig(distillation_loss=own)
    actor = FSDPActorConfig(
        strategy="fsdp2", rollout_n=1, ppo_mini_batch_size=1, ppo_micro_batch_size_per_gpu=1, use_dynamic_bsz=False
    )
    log_prob = torch.tensor(ACTOR, requires_grad=True)
    data, output = batch_of(log_prob)
    by_token, metrics = get_distillation_loss_fn(mode)(actor, settings, output, data)
    assert (-by_token[0]).tolist() == pytest.approx(advantages)
    value, _ = distillation_loss(actor, settings, output, data)
    assert value.item() == pytest.approx(loss)
    value.backward()
    assert log_prob.grad.tolist() == pytest.approx([-advantage / 2 for advantage in advantages])
    if mode == "exopd":
        assert metrics["distillation/k1"].values == pytest.approx([0.25])


@pytest.fixture
def other_model(tiny_model, tmp_path):
    """A copy of the tiny model, whose tokenizer a test may change."""
    return shutil.copytree(tiny_model, tmp_path / "other")


def check(student, teacher):
    from ropd_cli.training.vocabularies import check_vocabularies

    tree = {"method": "lopd", "student": {"model_path": str(student)}, "distil": {"teacher_path": str(teacher)}}
    check_vocabularies(RopdConfig.model_validate(tree))


def test_equal_vocabularies_pass(tiny_model, other_model):
    check(tiny_model, other_model)


def test_token_ids_that_differ_are_named(tiny_model, other_model):
    file = other_model / "tokenizer.json"
    file.write_text(file.read_text().replace('"w3"', '"x3"').replace('"w9"', '"x9"'))
    with pytest.raises(InputError, match=r"2 token ids differ: 9 \('w3', 'x3'\), 15 \('w9', 'x9'\)"):
        check(tiny_model, other_model)


def test_special_ids_that_differ_are_named(tiny_model, other_model):
    file = other_model / "tokenizer_config.json"
    assert '"eos_token": "<|turn|>"' in file.read_text()
    file.write_text(file.read_text().replace('"eos_token": "<|turn|>"', '"eos_token": "<|end|>"'))
    with pytest.raises(InputError, match="eos_token_id is 1 and 0"):
        check(tiny_model, other_model)


def composed(*overrides):
    from omegaconf import OmegaConf

    config = load_config(None, overrides=["out=runs/test", *overrides], environ={})
    return OmegaConf.load(io.StringIO(OmegaConf.to_yaml(resolve(config)[0])))


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("method", ["lopd", "exopd"])
def test_settings_of_a_teacher_arrive_in_verl_s_dataclass(tiny_model, device, method):
    from verl.trainer.ppo.utils import need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass

    from ropd_cli.training.verl import losses  # noqa: F401

    tree = composed(
        *(f"device={device}", f"method={method}", f"student.model_path={tiny_model}", "train.clip_ratio=0.3"),
        *("distil.teacher_path=big", "distil.devices=4", "distil.tensor_parallel_size=2", "distil.strength=1.5"),
        *("data.max_prompt_tokens=100", "data.max_response_tokens=60"),
    )
    made = omega_conf_to_dataclass(tree.distillation)
    (teacher,) = made.teacher_models.values()
    assert (teacher.model_path, teacher.num_replicas, teacher.inference.max_model_len) == ("big", 2, 161)
    assert teacher.inference.dtype == tree.actor_rollout_ref.rollout.dtype
    loss = made.distillation_loss
    assert (loss.loss_mode, loss.use_policy_gradient, loss.use_task_rewards, loss.clip_ratio_high) == (
        {"lopd": "k1", "exopd": "exopd"}[method],
        True,
        False,
        0.3,
    )
    assert need_reference_policy(tree) == (method == "exopd")
    assert method == "lopd" or (loss.distillation_loss_coef, tree.actor_rollout_ref.actor.kl_loss_coef) == (1.5, 0)
    assert tree.ray_kwargs.ray_init.get("num_gpus") == (5 if device == "cpu" else None)


def test_a_teacher_that_is_served_already_takes_no_devices(tiny_model):
    from ropd_cli.training.verl.losses import distillation_loss_of

    server = "distil.endpoint.base_url=http://localhost:8000/v1"
    tree = composed("method=exopd", "device=cpu", f"student.model_path={tiny_model}", "distil.teacher_path=big", server)
    assert not tree.distillation.enabled and tree.ropd.has_teacher_server and tree.ray_kwargs.ray_init.num_gpus == 1
    loss = distillation_loss_of(tree)
    assert loss.keywords["distillation_config"].distillation_loss.distillation_loss_coef == 1.25

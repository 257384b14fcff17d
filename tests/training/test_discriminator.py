"""GAD's losses in torch alone, and on verl's critic; the settings that make verl's critic the discriminator."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.config import RopdConfig, load_config
from ropd_cli.errors import ConfigError
from ropd_cli.methods import method_of
from ropd_cli.training.launch import resolve

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")


def test_hand_computed_loss_coefficients_and_advantages():
    import numpy as np
    import torch
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    from ropd_cli.training.verl.discriminator import pairwise_loss

    loss, by_teacher, by_rollout = pairwise_loss(torch.tensor([2.0]), torch.tensor([1.0, 3.0]), torch.tensor([0, 0]))
    assert loss == pytest.approx(0.813262, abs=1e-6)
    assert by_teacher.tolist() == pytest.approx([-0.5])
    assert by_rollout.tolist() == pytest.approx([0.134471, 0.365529], abs=1e-6)
    rewards = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    advantages, _ = compute_grpo_outcome_advantage(rewards, torch.ones(2, 2), np.array(["a", "a"]))
    assert advantages[:, 0].tolist() == pytest.approx([-0.7071, 0.7071], abs=1e-4)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**20))
def test_coefficients_are_the_loss_s_derivatives(sizes, seed):
    """Groups of these sizes, each with a teacher answer."""
    import torch
    import torch.nn.functional as F

    from ropd_cli.training.verl.discriminator import pairwise_loss

    generator = torch.Generator().manual_seed(seed)
    pair = torch.tensor([group for group, size in enumerate(sizes) for _ in range(size)])
    teacher = (4 * torch.randn(len(sizes), generator=generator)).requires_grad_()
    rollouts = (4 * torch.randn(len(pair), generator=generator)).requires_grad_()
    loss = -F.logsigmoid(teacher[pair] - rollouts).mean()
    loss.backward()
    value, by_teacher, by_rollout = pairwise_loss(teacher.detach(), rollouts.detach(), pair)
    assert value == pytest.approx(loss.item(), abs=1e-5)
    assert by_teacher.tolist() == pytest.approx(teacher.grad.tolist(), abs=1e-6)
    assert by_rollout.tolist() == pytest.approx(rollouts.grad.tolist(), abs=1e-6)


class Engine:
    """What verl's workers do with rows and a loss, on a model of a few weights: parts of a batch one after the other,
    their gradients added."""

    def __init__(self):
        import torch

        torch.manual_seed(0)
        self.table = torch.nn.Embedding(12, 8)
        self.head = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        self.weights = [*self.table.parameters(), *self.head.parameters()]

    def values(self, ids):
        """Of each token, from the mean of those up to it."""
        import torch

        rows = [self.table(row).cumsum(0) / torch.arange(1, len(row) + 1)[:, None] for row in ids]
        return torch.nested.as_nested_tensor([self.head(row).squeeze(-1) for row in rows], layout=torch.jagged)

    def scores(self, sequences):
        from ropd_cli.training.verl.discriminator import last_values

        return last_values(self.values(sequences))

    def gradient(self, rows, size):
        """The gradient of the coefficient loss over micro-batches of this size."""
        import torch

        from ropd_cli.training.verl.discriminator import coefficient_loss

        for weight in self.weights:
            weight.grad = None
        ids = rows["input_ids"].unbind()
        for start in range(0, len(ids), size):
            part = slice(start, start + size)
            data = {"coefficient": rows["coefficient"][part], "dp_size": 1}
            coefficient_loss({"values": self.values(ids[part])}, data)[0].backward()
        return torch.cat([weight.grad.flatten() for weight in self.weights])


def sequences_of(words):
    import torch

    return [torch.tensor(row) for row in words]


@pytest.mark.parametrize(("size", "ranks"), [(1, 1), (2, 1), (3, 1), (6, 1), (2, 4)])
def test_the_gradient_is_the_pairwise_loss_s_however_rows_are_parted(size, ranks):
    import torch
    import torch.nn.functional as F

    from ropd_cli.training.verl.discriminator import pairwise_loss, rows_of

    engine = Engine()
    sequences = sequences_of([[1, 2, 3], [1, 4], [1, 5, 6, 7], [1, 8], [1, 9, 3], [1, 2]])
    pair = torch.tensor([0, 0, 1, 1])
    scores = engine.scores(sequences)
    (-F.logsigmoid(scores[:2][pair] - scores[2:]).mean()).backward()
    real = torch.cat([weight.grad.flatten() for weight in engine.weights])
    _, *derivatives = pairwise_loss(scores[:2].detach(), scores[2:].detach(), pair)
    rows = rows_of(sequences, [1] * 6, ranks, torch.cat(derivatives))
    assert len(rows) % ranks == 0
    assert engine.gradient(rows, size).tolist() == pytest.approx(real.tolist(), abs=1e-6)


def test_a_separable_set_is_separated():
    """Teacher answers end in 3, rollouts in 4."""
    import torch

    from ropd_cli.training.verl.discriminator import pairwise_loss, rows_of

    engine = Engine()
    sequences = sequences_of([[1, k, 3] for k in range(5, 9)] + [[1, k, 4] for k in range(5, 9) for _ in range(2)])
    pair = torch.arange(4).repeat_interleave(2)
    optimizer = torch.optim.Adam(engine.weights, lr=0.05)
    losses = []
    for _ in range(30):
        scores = engine.scores(sequences).detach()
        loss, *derivatives = pairwise_loss(scores[:4], scores[4:], pair)
        losses.append(loss)
        engine.gradient(rows_of(sequences, [1] * 12, 1, torch.cat(derivatives)), size=5)
        optimizer.step()
    assert losses[0] > 0.4 and losses[-1] < 0.1


def test_rows_that_fill_up_count_nothing():
    import torch

    from ropd_cli.training.verl.discriminator import rows_of

    rows = rows_of(sequences_of([[1, 2, 3], [1, 4]]), [2, 1], 3, torch.tensor([0.5, -0.5]))
    assert [mask.tolist() for mask in rows["loss_mask"].unbind()] == [[0, 0, 1], [0, 1], [0, 0]]
    assert rows["coefficient"].tolist() == [0.5, -0.5, 0.0]
    assert [ids.tolist() for ids in rows["input_ids"].unbind()] == [[1, 2, 3], [1, 4], [1, 4]]


def config(**tree):
    return RopdConfig.model_validate({"method": "gad"} | tree)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"train": {"async": "one_step"}}, "train.async one_step"),
        ({"train": {"refill": {"zero_variance": True}}}, "train.refill.zero_variance"),
        ({"monitor": {"share": 0.1}}, "monitor.share is 0.1"),
    ],
)
def test_settings_that_do_not_fit_are_named(tree, said):
    with pytest.raises(ConfigError) as fault:
        method_of(config()).check(config(**tree), [])
    assert len(fault.value.problems) == 1 and said in fault.value.problems[0]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_settings_of_the_discriminator_arrive_in_verl_s_dataclass(tiny_model, device):
    from omegaconf import OmegaConf
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.trainer.ppo.v1 import get_trainer_cls
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    from ropd_cli.training.verl.discriminator import GadTrainer

    overrides = [f"device={device}", "method=gad", f"student.model_path={tiny_model}", "train.lr=3e-5", "out=runs/test"]
    overrides += ["discriminator.updates_per_step=2", "train.betas=[0.8, 0.9]", "student.dtype=float32"]

    def composed(*more):
        loaded = load_config(None, overrides=[*overrides, *more], environ={})
        return OmegaConf.load(io.StringIO(OmegaConf.to_yaml(resolve(loaded)[0])))

    tree = composed()
    assert get_trainer_cls(tree.trainer.v1.trainer_mode) is GadTrainer and need_critic(tree)
    validate_config(tree, use_reference_policy=need_reference_policy(tree), use_critic=True)
    made, actor = omega_conf_to_dataclass(tree.critic), omega_conf_to_dataclass(tree.actor_rollout_ref.actor)
    assert (made.optim.lr, list(made.optim.betas), made.model.path) == (3e-5, [0.8, 0.9], str(tiny_model))
    for name in ("mixed_precision", "param_offload", "optimizer_offload", "use_torch_compile", "strategy"):
        assert getattr(made.engine, name) == getattr(actor.engine, name), name
    assert made.engine.mixed_precision["param_dtype"] == "fp32" and made.use_dynamic_bsz
    assert made.model.hf_config._attn_implementation == "sdpa"
    assert made.ppo_infer_max_token_len_per_gpu == actor.ppo_max_token_len_per_gpu
    assert tree.trainer.v1.sampler.sampler_kwargs.deferred
    assert dict(tree.ropd.discriminator) == {"warmup_epochs": 1.0, "warmup_steps": None, "updates_per_step": 2}
    assert composed("discriminator.lr=0.5").critic.optim.lr == 0.5

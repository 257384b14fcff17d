"""What the choices for a GPU rest on, in verl's and transformers' own code: no GPU is needed to hold it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ropd_cli.training.device_choices import FUSED

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(kind, **more):
    """A random model of a kind, of two layers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": False}
    if kind in ("mixtral", "qwen2_moe", "qwen3_moe"):
        sizes |= {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
        sizes |= {"shared_expert_intermediate_size": 24}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **more))


@pytest.mark.parametrize("kind", FUSED)
def test_fused_log_probabilities_are_those_of_the_whole_logits(kind):
    from verl.models.transformers.monkey_patch import patch_forward_with_backends
    from verl.utils.torch_functional import entropy_from_logits, logprobs_from_logits_naive

    model = tiny(kind)
    ids = torch.randint(0, 97, (1, 40))
    labels, temperature = ids.roll(-1, 1), 0.7

    def gradient():
        found, model.lm_head.weight.grad = model.lm_head.weight.grad.clone(), None
        return found

    logits = model(input_ids=ids).logits / temperature
    whole, entropy = logprobs_from_logits_naive(logits, labels), entropy_from_logits(logits)
    whole.sum().backward()
    expected, kind_of = gradient(), type(model)
    plain = kind_of.forward
    try:
        patch_forward_with_backends(model, use_fused_kernels=True, fused_kernels_backend="torch")
        fused = model(input_ids=ids, temperature=temperature, shift_labels=labels, return_dict=True, use_cache=False)
        fused.log_probs.sum().backward()
    finally:
        kind_of.forward = plain
    torch.testing.assert_close(fused.log_probs, whole)
    torch.testing.assert_close(fused.entropy, entropy)
    torch.testing.assert_close(gradient(), expected)


@pytest.mark.parametrize(("lengths", "is_dense"), [([30], False), ([10, 20], True)])
def test_sdpa_multiplies_a_mask_only_where_sequences_are_packed(lengths, is_dense, monkeypatch):
    seen = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def looked_at(*tensors, attn_mask=None, is_causal=False, **more):
        seen.append((attn_mask is None, is_causal))
        return attention(*tensors, attn_mask=attn_mask, is_causal=is_causal, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", looked_at)
    positions = torch.cat([torch.arange(length) for length in lengths])[
        None
    ]  # as verl packs: no mask, ids that restart
    tiny("qwen3", attn_implementation="sdpa")(
        input_ids=torch.zeros_like(positions), position_ids=positions, attention_mask=None, use_cache=False
    )
    assert seen == [(not is_dense, not is_dense)] * 2


UNTIED_ON_FSDP2 = """
import os, torch
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
torch.set_num_threads(1)
store = torch.distributed.HashStore()
torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
from torch.distributed.device_mesh import init_device_mesh
from transformers import AutoConfig, AutoModelForCausalLM
from verl.models.transformers.monkey_patch import patch_forward_with_backends
from verl.utils import fsdp_utils

sizes = dict(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
config = AutoConfig.for_model("qwen3", **sizes, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False)
ids = torch.randint(0, 97, (1, 30))

def made():
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)

def log_probs(model):
    return model(input_ids=ids, shift_labels=ids.roll(-1, 1), return_dict=True, use_cache=False).log_probs

plain = made()
whole = torch.log_softmax(plain(input_ids=ids).logits, -1).gather(-1, ids.roll(-1, 1)[..., None])[..., 0]
whole.sum().backward()
patch_forward_with_backends(plain, use_fused_kernels=True, fused_kernels_backend="torch")
mesh = init_device_mesh("cpu", (1,))
for is_mended in (False, True):
    if is_mended:
        import ropd_cli.training.verl.fused_head
    model = made()
    fsdp_utils.apply_fsdp2(model, {"mesh": mesh, "reshard_after_forward": True}, {})
    try:
        found = log_probs(model)
    except RuntimeError as fault:
        assert not is_mended and "mixed torch.Tensor and DTensor" in str(fault), fault
        continue
    assert is_mended, "verl mends it by itself: fused_head.py can go"
    found.sum().backward()
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(model.lm_head.weight.grad.full_tensor(), plain.lm_head.weight.grad)
    print("mended")
"""


def test_an_untied_last_layer_stays_whole_for_the_fused_kernels():
    done = subprocess.run([sys.executable, "-c", UNTIED_ON_FSDP2], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and "mended" in done.stdout, done.stderr[-2000:]


def test_verl_reserves_as_many_processors_as_are_counted():
    """By verl's and TransferQueue's own declarations."""
    import inspect

    from verl.single_controller.ray.base import ResourcePoolManager

    from ropd_cli.training.device_choices import CPUS_PER_GPU

    assert ResourcePoolManager(resource_pool_spec={}, mapping={}).max_colocate_count == CPUS_PER_GPU
    from transfer_queue import controller
    from transfer_queue.storage import simple_storage

    for module, name in ((controller, "TransferQueueController"), (simple_storage, "SimpleStorageUnit")):
        assert f"@ray.remote(num_cpus=1)\nclass {name}" in inspect.getsource(module)

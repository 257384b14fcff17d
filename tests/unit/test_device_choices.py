"""What is chosen by the device, on machines that are not here."""

from __future__ import annotations

import pytest

from ropd_cli.config import RopdConfig
from ropd_cli.training.device_choices import Machine, described, device_choices, few_cores, table

QWEN = {"model_type": "qwen3"}


def config_of(device="gpu", **sections):
    return RopdConfig.model_validate({"device": device, **sections})


def choices_of(config, *, cores=128, flash=False, student=QWEN):
    machine = Machine(cores=cores, has_flash_attn=flash, has_bfloat16=True, student=student)
    return {choice.name: choice for choice in device_choices(config, machine)}


def key_of(choices, ending):
    (value,) = {value for choice in choices.values() for key, value in choice.keys.items() if key.endswith(ending)}
    return value


@pytest.mark.parametrize(
    ("flash", "attention", "packs", "tokens"),
    [(True, "flash_attention_2", True, 16_384), (False, "sdpa", False, 10_240)],
)
def test_attention_by_what_is_importable(flash, attention, packs, tokens):
    chosen = choices_of(config_of(), flash=flash)
    assert key_of(chosen, "attn_implementation") == attention
    assert key_of(chosen, "use_dynamic_bsz") is packs and key_of(chosen, "ppo_max_token_len_per_gpu") == tokens
    assert ("is importable" in chosen["attention"].why) is flash
    if not packs:
        assert key_of(chosen, "micro_batch_size_per_gpu") == 1


@pytest.mark.parametrize(
    ("student", "flash", "fused", "words"),
    [
        (QWEN, False, True, "gigabytes"),
        (QWEN, True, True, "gigabytes"),
        ({"model_type": "gemma2"}, True, False, "gemma2"),
        ({"model_type": "gemma2"}, False, False, "loops over the tokens"),
        ({}, False, False, "config.json can't be read"),
    ],
)
def test_log_probabilities_by_the_last_layer(student, flash, fused, words):
    chosen = choices_of(config_of(), flash=flash, student=student)
    assert key_of(chosen, "use_fused_kernels") is fused and words in chosen["log-probabilities"].why
    assert key_of(chosen, "entropy_from_logits_with_chunking") is not fused  # fused kernels go by chunks themselves


@pytest.mark.parametrize(
    ("cores", "devices", "nodes", "agents", "units", "declared"),
    [
        (128, 8, 1, 8, 8, 128),
        (16, 1, 1, 4, 1, 16),
        (8, 2, 1, 2, 2, 10),  # declared to Ray all the same, or verl would wait for ever
        (4, 1, 1, 1, 1, 6),
        (30, 8, 2, 8, 8, None),  # nodes that joined a cluster have counted already
        (128, 8, 16, 8, 16, None),
    ],
)
def test_processors_by_the_machine(cores, devices, nodes, agents, units, declared):
    config = config_of(train={"devices_per_node": devices, "nodes": nodes})
    chosen = choices_of(config, cores=cores)
    assert (key_of(chosen, "agent.num_workers"), key_of(chosen, "num_data_storage_units")) == (agents, units)
    assert chosen["processors"].keys.get("ray_kwargs.ray_init.num_cpus") == declared
    assert ("there are" in chosen["processors"].why) is (cores <= 8)
    if declared is not None:  # 3 per GPU, a storage unit each, the controller, and one for whoever starts
        assert declared >= 3 * devices + units + 2


@pytest.mark.parametrize(
    ("devices", "nodes", "raw", "wanted"),
    [(1, 1, None, 6), (8, 1, None, 34), (8, 2, None, 30), (8, 8, None, 27), (8, 8, 64, 34)],
)
def test_all_that_name_processors_name_the_same(devices, nodes, raw, wanted):
    verl = {"transfer_queue": {"backend": {"SimpleStorage": {"num_data_storage_units": raw}}}} if raw else {}
    config = config_of(train={"devices_per_node": devices, "nodes": nodes}, verl=verl)
    for cores in (2, 128):  # those of the machine that asks have no say
        assert choices_of(config, cores=cores)["processors"].value.startswith(f"{wanted} per node")
    assert few_cores(config, wanted) is None and f"verl reserves {wanted} " in few_cores(config, wanted - 1)[0]
    assert nodes == 1 or f"--num-cpus={wanted} " in few_cores(config, 2)[1]


@pytest.mark.parametrize("method", ["lopd", "exopd"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_teacher_of_the_run_s_own_has_its_processors_counted(method, nodes):
    train = {"devices_per_node": 2, "nodes": nodes}
    own = config_of(method=method, train=train, distil={"devices": 4})
    served = config_of(method=method, train=train, distil={"devices": 4, "endpoint": {"base_url": "http://x/v1"}})
    for config, gpus in ((own, 6), (served, 2), (config_of(train=train), 2)):
        wanted = 3 * gpus + 2 + 2  # two storage units per node, and two more
        assert few_cores(config, wanted) is None
        assert f"verl reserves {wanted} cores per node for {gpus} GPUs" in few_cores(config, wanted - 1)[0]
        chosen = choices_of(config, cores=4)["processors"]
        assert chosen.keys.get("ray_kwargs.ray_init.num_cpus") == (wanted if nodes == 1 else None)


@pytest.mark.parametrize(
    ("cores", "nodes", "words"),
    [(6, 1, None), (5, 1, "Ray is told 6, so the run starts"), (5, 2, "--num-cpus=6"), (6, 2, None)],
)
def test_too_few_processors_are_told_of(cores, nodes, words):
    lacking = few_cores(config_of(train={"nodes": nodes}), cores)
    assert lacking is None if words is None else words in "; ".join(lacking)
    assert few_cores(config_of("cpu"), 1) is None


def test_every_choice_says_why_and_what_the_raw_section_says_instead():
    for device in ("cpu", "gpu"):
        config = config_of(device, verl={"actor_rollout_ref": {"model": {"enable_gradient_checkpointing": "perhaps"}}})
        chosen = list(choices_of(config).values())
        documents = described(chosen, config.verl)
        assert all(document["value"] and document["why"] and document["keys"] for document in documents)
        (by_hand,) = [document for document in documents if "overridden" in document]
        assert by_hand["overridden"] == {"actor_rollout_ref.model.enable_gradient_checkpointing": "perhaps"}
        (row,) = [row for row in table(chosen, config.verl) if row[0] == "checkpointing"]
        assert row[1:] == ("verl: enable_gradient_checkpointing perhaps", "set by hand")

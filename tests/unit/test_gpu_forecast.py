"""The forecast of a run on GPUs, against published sizes of models and published figures of runs of verl."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.config import RopdConfig
from ropd_cli.doctor.devices import driver_for, enough_cores, main_memory, on_gpu
from ropd_cli.errors import InputError
from ropd_cli.training.gpu_forecast import Plan, amount_of, kv_tokens, sampling_memory, step_time, update_memory
from ropd_cli.training.gpus import GPUS, GpuKind, known_gpu, parse_gpus
from ropd_cli.training.model_shape import Shape

QWEN = {"vocab_size": 151_936, "tie_word_embeddings": False}
MODELS = {  # config.json, as their makers publish it
    "Qwen3-4B": QWEN | {
        "model_type": "qwen3", "num_hidden_layers": 36, "hidden_size": 2560, "intermediate_size": 9728,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
    },
    "Qwen3-8B": QWEN | {
        "model_type": "qwen3", "num_hidden_layers": 36, "hidden_size": 4096, "intermediate_size": 12_288,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    },
    "Qwen2-7B": QWEN | {
        "model_type": "qwen2", "num_hidden_layers": 28, "hidden_size": 3584, "intermediate_size": 18_944,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152_064,
    },
    "Qwen2.5-14B": QWEN | {
        "model_type": "qwen2", "num_hidden_layers": 48, "hidden_size": 5120, "intermediate_size": 13_824,
        "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152_064,
    },
    "Qwen2.5-Math-1.5B": QWEN | {
        "model_type": "qwen2", "num_hidden_layers": 28, "hidden_size": 1536, "intermediate_size": 8960,
        "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "Qwen3-30B-A3B": QWEN | {
        "model_type": "qwen3_moe", "num_hidden_layers": 48, "hidden_size": 2048, "intermediate_size": 6144,
        "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128,
    },
    "Llama-3.1-8B": {
        "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14_336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": False,
    },
}  # fmt: skip
WEIGHTS = {  # of the safetensors on the hub
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Qwen2-7B": 7_615_616_512,
    "Qwen2.5-14B": 14_770_033_664,
    "Qwen2.5-Math-1.5B": 1_543_714_304,
    "Qwen3-30B-A3B": 30_532_122_624,
    "Llama-3.1-8B": 8_030_261_248,
}
H100 = parse_gpus("H100-80GB")[0]


def shape_of(name):
    return Shape.of(MODELS[name])


def plan_of(name, gpu, devices, **more):
    more = {"tokens_at_once": 16_384, "is_fused": True, "offload": "none", "share": 0.5} | more
    lengths = {"rollouts": 256, "prompt": 1024, "response": 4096, "longest": 8192}
    return Plan(shape_of(name), gpu, **({"nodes": 1, "devices": devices} | lengths | more))


@pytest.mark.parametrize("name", MODELS)
def test_weights_by_the_configuration_are_those_that_are_published(name):
    assert shape_of(name).weights == WEIGHTS[name]


def test_other_sizes_of_a_model():
    assert shape_of("Qwen3-4B").kv_bytes == 36 * 8 * 128 * 2 * 2
    experts = shape_of("Qwen3-30B-A3B")  # "3.3B activated" with the embedding
    assert experts.multiplied + experts.embedding == pytest.approx(3.3e9, rel=0.02)
    assert Shape.of({"text_config": MODELS["Qwen3-4B"]}) == shape_of("Qwen3-4B")
    assert Shape.of({}) is Shape.of(MODELS["Qwen3-8B"] | {"kv_lora_rank": 512}) is None


# Figures of runs of verl that others published (docs/doctor.md names the pages): seconds per step, and what was run.
RUNS = {
    "8 x H20, Qwen2-7B, GSM8K": (
        plan_of(
            "Qwen2-7B", GpuKind("H20", 141, 148, 4.0, 0.7), 8, rollouts=5120, prompt=93.3, response=159.7, longest=1024,
            tensor_parallel=2, most_sequences=1024, share=0.6, offload="all", is_fused=False, is_checkpointed=False,
            has_reference=True,
        ),
        {"generation": 38.8, "log-probabilities": 22.3, "reference": 21.8, "update": 66.3, "step": 150.2},
    ),
    "2 x 8 H200, a Qwen of 7B, GSM8K": (
        plan_of(
            "Qwen2-7B", parse_gpus("H200")[0], 8, nodes=2, rollouts=8192, prompt=111.1, response=424.5, longest=1024,
            tensor_parallel=2, most_sequences=1024, share=0.6, is_fused=False, has_reference=True,
        ),
        {"generation": 24.5, "log-probabilities": 13.6, "reference": 12.5, "update": 35.8, "step": 93.5},
    ),
    "8 cards of 280 TFLOP/s, Qwen3-8B, 4k responses": (  # their bandwidth is not given, so generation is not compared
        plan_of(
            "Qwen3-8B", GpuKind("64 GB", 64, 280, 1.8), 8, rollouts=1024, prompt=154.8, response=4005, longest=4096,
            tensor_parallel=2, share=0.6, offload="all", is_fused=False, has_reference=True,
        ),
        {"log-probabilities": 87.2, "reference": 78.9, "update": 263.9},
    ),
}  # fmt: skip
FACTOR = 2.0


@pytest.mark.parametrize("run", RUNS)
def test_seconds_are_within_a_factor_of_two_of_published_runs(run):
    plan, published = RUNS[run]
    phases = step_time(plan)
    ours = {phase.name: phase.amount for phase in phases} | {"step": amount_of(phases)}
    for name, seconds in published.items():
        assert seconds / FACTOR < ours[name] < seconds * FACTOR, name


# The first three from verl's table of least resources (docs/perf/device_tuning.rst) and the scripts beside it; a row of
# GSM8K has 260 tokens.
FITS = [
    (plan_of("Qwen2-7B", H100, 2, offload="all", tokens_at_once=16 * 260, is_fused=False, share=0.3), True),
    (plan_of("Qwen2.5-14B", H100, 4, offload="all", tokens_at_once=16 * 260, is_fused=False, tensor_parallel=4), True),
    (plan_of("Qwen2.5-Math-1.5B", H100, 1, tokens_at_once=4 * 4024, is_fused=False, share=0.4, longest=3000), True),
    (plan_of("Qwen2.5-14B", H100, 2, offload="all", tensor_parallel=2), False),
    (plan_of("Qwen3-4B", H100, 1, offload="all"), True),
    (plan_of("Qwen3-4B", H100, 1), False),  # without offload not beside vLLM
    (plan_of("Qwen3-4B", H100, 8), True),
    (plan_of("Qwen3-4B", H100, 1, lora_rank=32), True),
    (plan_of("Qwen3-4B", H100, 8, share=0.1), False),  # the weights leave vLLM no cache
]


@pytest.mark.parametrize(("plan", "fits"), FITS)
def test_what_fits(plan, fits):
    check = on_gpu(plan)
    assert (check.status == "ok") is fits, check.found


RTX = parse_gpus("RTX-4090")[0]
MORE = "more train.devices_per_node, "


@pytest.mark.parametrize(
    ("plan", "mend"),
    [
        # only the update is too large, and what is offered is not set already
        (plan_of("Qwen3-4B", RTX, 1, offload="all", lora_rank=32), f"{MORE}or shorter lengths"),
        (plan_of("Qwen3-4B", RTX, 1, offload="all"), f"{MORE}shorter lengths, or student.lora_rank 32"),
        (
            plan_of("Qwen3-4B", RTX, 1, offload="optimizer", lora_rank=32),
            f"{MORE}shorter lengths, train.offload: all, or another rollout.gpu_memory_utilization",
        ),
        (  # the weights leave vLLM no cache
            plan_of("Qwen3-4B", H100, 8, share=0.1),
            f"{MORE}shorter lengths, student.lora_rank 32, or another rollout.gpu_memory_utilization",
        ),
    ],
)
def test_what_is_advised_helps_and_is_not_done_already(plan, mend):
    assert on_gpu(plan).mend == mend


def test_the_arithmetic_of_a_4b_model_on_one_gpu():
    plan = plan_of("Qwen3-4B", H100, 1, offload="all", tokens_at_once=10_240)
    parts = {part.name: part.amount for part in update_memory(plan)}
    billions = WEIGHTS["Qwen3-4B"]
    assert (parts["weights"], parts["gradients"], parts["optimizer"]) == (4 * billions, 4 * billions, 8 * billions)
    assert parts["logits"] == 512 * 151_936 * 16
    assert [part.name for part in sampling_memory(plan)] == ["vLLM", "reserve"]  # the rest waits in main memory
    assert kv_tokens(plan) == int((0.5 * H100.bytes - 2 * billions - 2e9) / 147_456)
    whole = replace(plan, is_fused=False)
    assert amount_of(update_memory(whole)) - amount_of(update_memory(plan)) > 10e9  # what the fused kernels save


def test_main_memory_counts_a_copy_for_each_process_of_a_tied_model():
    tied, untied = (plan_of(name, H100, 8) for name in ("Qwen3-4B", "Qwen3-8B"))
    assert main_memory(tied, 100e9).status == "warn" and main_memory(tied, 500e9).status == "ok"
    assert main_memory(untied, 120e9).status == "ok"


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [("H100-80GB:8", "H100-80GB", 8), ("h100", "H100-80GB", 1), ("a100-40gb:4", "A100-40GB", 4), ("L40S", "L40S", 1)],
)
def test_gpus_by_name(text, name, count):
    assert (parse_gpus(text)[0].name, parse_gpus(text)[1]) == (name, count)


def test_gpus_by_size_and_by_what_a_driver_calls_them():
    kind, count = parse_gpus("48GB:2")
    assert (kind.gigabytes, kind.teraflops, count) == (48, None, 2) and step_time(plan_of("Qwen3-4B", kind, 2)) == []
    for text in ("H999", "H100:0", "", "8xH100"):
        with pytest.raises(InputError, match="names no GPUs"):
            parse_gpus(text)
    assert known_gpu("NVIDIA H100 80GB HBM3", 85.5e9).teraflops == 989
    assert known_gpu("NVIDIA GeForce RTX 4090", 25e9).teraflops == 165
    other = known_gpu("Tesla T4", 16e9)
    assert other.teraflops is None and other.bytes == pytest.approx(16e9)
    assert len({kind.name for kind in GPUS}) == len(GPUS)


@pytest.mark.parametrize(
    ("version", "cuda", "status"),
    [("580.65.06", "13.0", "ok"), ("550.54", "13.0", "fail"), ("550.54", "12.8", "ok"), ("470.1", "12.8", "fail")],
)
def test_a_driver_against_torch_s_cuda(version, cuda, status):
    check = driver_for(version, cuda)
    assert check.status == status and version in check.found and cuda in check.found


@pytest.mark.parametrize(("cores", "nodes", "status"), [(6, 1, "ok"), (4, 1, "warn"), (4, 2, "fail")])
def test_too_few_cores_fail_where_verl_would_wait(cores, nodes, status):
    config = RopdConfig.model_validate({"device": "gpu", "train": {"nodes": nodes}})
    assert enough_cores(config, cores).status == status


@pytest.fixture
def asked(tmp_path):
    """``ropd doctor`` about a student whose config.json is here; returns (exit code, output)."""
    (tmp_path / "config.json").write_text(json.dumps(MODELS["Qwen3-4B"]))

    def doctor(*arguments):
        done = CliRunner().invoke(app, ["doctor", "--set", f"student.model_path={tmp_path}", "--offline", *arguments])
        return done.exit_code, done.stdout

    return doctor


def lines_of(answer):
    """The checks of a ``--json`` answer, by name."""
    return {check["name"]: check for check in json.loads(answer[1])["checks"]}


def test_simulate_shows_the_arithmetic_and_the_figures(asked):
    code, text = asked("--simulate", "H100-80GB:8", "--json")
    document = json.loads(text)
    assert code == 0 and document["ok"] and document["simulated"]["fits"]
    assert document["simulated"]["weights"] == WEIGHTS["Qwen3-4B"] and document["simulated"]["cpus_per_node"] == 34
    names = [part["name"] for part in document["simulated"]["bytes"]["update"]]
    assert names == ["weights", "gradients", "optimizer", "activations", "logits", "gathered", "reserve"]
    assert document["simulated"]["seconds"][0]["name"] == "generation"
    (size,) = [check["found"] for check in document["checks"] if check["name"] == "size"]
    assert size == "85.0 GB per GPU: 80 GiB, of which a program may have 99%"
    assert all(part["arithmetic"] for part in document["simulated"]["seconds"])
    code, text = asked("--simulate", "H100:1", "--set", "train.offload=none")
    assert code == 1 and "sdpa, one sequence per micro-batch" in text and "4.02 B x 4 bytes" in text
    assert asked("--simulate", "H100:8", "--set", "rollout.gpu_memory_utilization=0.1")[0] == 1  # no cache is left
    assert asked("--simulate", "H999")[0] == 2
    assert asked("--simulate", "H100:8", "--set", "device=cpu") == (2, "")
    assert asked("--simulate", "H100:8", "--set", "device=cpu", "--device", "gpu")[0] == 0


def test_a_student_without_sizes_is_told_of_by_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # a hub that is out of reach
    (tmp_path / "config.json").write_text(json.dumps(MODELS["Qwen3-8B"] | {"kv_lora_rank": 512}))

    def refusal(*options):
        done = CliRunner().invoke(app, ["doctor", "--simulate", "H100-80GB:1", *options])
        assert done.exit_code == 2 and not done.stdout
        return done.stderr

    assert "student.model_path is not set\nhint: --config gpu-math" in refusal()
    name = ("--set", "student.model_path=nobody/not-downloaded")
    assert "not on this disk, and the hub is out of reach" in (said := refusal(*name)) and "hf download" in said
    assert "not-downloaded is not on this disk, and the hub is not asked" in refusal(*name, "--offline")
    assert "no model there (config.json is missing)" in refusal("--set", "student.model_path=./nowhere")
    assert "describes no plain transformer" in refusal("--set", f"student.model_path={tmp_path}")


def test_simulate_tells_of_the_run_and_its_checkpoints(asked, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"uid": f"p{k}", "prompt": f"What is {k}?"}) + "\n" for k in range(70)))
    by_prompts = ("--set", f"data.prompts={prompts}", "--set", "train.epochs=3", "--set", "train.save_every=10")
    saved = ("--set", "train.steps=200", "--set", "train.save_every=50", "--set", "train.keep_checkpoints=2")
    cases = (("--set", "train.steps=200"), 200, 1), (saved, 200, 3), (by_prompts, 6, 1), ((), None, 1)
    for options, steps, checkpoints in cases:
        answer = asked("--simulate", "H100-80GB:8", "--json", *options)
        figures, checks = json.loads(answer[1])["simulated"], lines_of(answer)
        assert figures["steps"] == steps and figures["disk_bytes"] == 16 * WEIGHTS["Qwen3-4B"] * checkpoints
        assert "of 64.4 GB at once" in checks["checkpoints"]["found"]
        assert checks["time"]["status"] == ("ok" if steps else "skipped")
        if steps == 200:
            hours = 200 * sum(phase["amount"] for phase in figures["seconds"]) / 3600
            assert checks["time"]["found"].startswith(f"200 steps: {hours:.1f} h")


@pytest.mark.parametrize(("gpus", "nodes", "cpus"), [(1, 1, 6), (8, 1, 34), (8, 2, 30)])
def test_simulate_and_doctor_name_the_same_processors(asked, gpus, nodes, cpus):
    answer = asked("--simulate", f"H100-80GB:{gpus}", "--json", "--set", f"train.nodes={nodes}")
    assert json.loads(answer[1])["simulated"]["cpus_per_node"] == cpus
    shown = [check["found"] for check in json.loads(answer[1])["checks"] if check["name"] == "processors"]
    assert shown[0].startswith(f"{cpus} per node; agent workers: {min(8, cpus * nodes // 4)}, ")
    assert "there are" not in shown[0] and shown[1].startswith(f"{cpus}, ")
    here = lines_of(asked("--json", "--set", f"train.devices_per_node={gpus}", "--set", f"train.nodes={nodes}"))
    assert here["processors"]["found"].startswith(f"{cpus} per node; ") and f" {cpus}" in here["cpu"]["found"]


@pytest.mark.parametrize(
    ("gpus", "keys", "words"),
    [
        (8, ["train.nodes=7", "train.prompts_per_step=30"], "do not divide by 56 devices"),
        (8, ["rollout.tensor_parallel_size=3"], "8 devices are no multiple of rollout.tensor_parallel_size 3"),
        (1, ["rollout.tensor_parallel_size=2"], "1 devices are no multiple"),
        (8, ["train.prompts_per_update=5"], "no multiple of train.prompts_per_update 5"),
    ],
)
def test_sizes_that_train_refuses_fail_with_the_simulated_gpus_and_here(asked, gpus, keys, words):
    settings = [part for key in keys for part in ("--set", key)]
    answer = asked("--simulate", f"H100-80GB:{gpus}", "--json", *settings)
    assert answer[0] == 1 and words in lines_of(answer)["sizes"]["found"]
    answer = asked("--json", "--set", f"train.devices_per_node={gpus}", *settings)
    assert lines_of(answer)["sizes"]["status"] == "fail" and words in lines_of(answer)["sizes"]["found"]
    answer = asked("--simulate", f"H100-80GB:{gpus}", "--json", "--set", "method=sft", *settings)  # no rollouts
    assert lines_of(answer)["sizes"]["status"] == "ok"

"""The composed configuration against verl's own schema: its packaged defaults, its dataclasses, its validation.

Nothing is started. Each tree is written as YAML and read back first, as it reaches the training process.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest

from ropd_cli.config import load_config
from ropd_cli.errors import ConfigError
from ropd_cli.training.device_choices import default_cpu_dtype
from ropd_cli.training.launch import resolve
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.verl_config import compose

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CASES = {
    "quickstart-cpu": ("quickstart.yaml", ["device=cpu"]),
    "quickstart-gpu": ("quickstart.yaml", ["device=gpu"]),
    "gpu-math": ("gpu-math.yaml", []),
}
FUSED_HEAD = "ropd_cli.training.verl.fused_head"
# sections whose keys verl leaves to somebody else: Ray, transformers, the chat template, the sampler, torch
OPEN = (
    "ropd",
    "ray_kwargs.ray_init",
    "actor_rollout_ref.model.override_config",
    "data.apply_chat_template_kwargs",
    "trainer.v1.sampler.sampler_kwargs",
    "actor_rollout_ref.actor.fsdp_config.mixed_precision",
    "actor_rollout_ref.ref.fsdp_config.mixed_precision",
)
# fields of verl's dataclasses (which the instantiation below holds them against) that its YAML leaves out
FIELDS = ("actor_rollout_ref.rollout.agent.agent_loop_manager_class", "actor_rollout_ref.rollout.enable_sleep_mode")
# the sections whose dataclass takes verl's own packaged defaults; those of ref, reward and global_profiler do not
DATACLASSES = (
    "actor_rollout_ref.actor",
    "actor_rollout_ref.rollout",
    "actor_rollout_ref.model",
    "algorithm",
    "distillation",
    "skip",
)


def as_read(tree):
    """What the training process loads."""
    from omegaconf import OmegaConf

    return OmegaConf.load(io.StringIO(OmegaConf.to_yaml(tree)))


def composed(name, *overrides):
    return as_read(resolve(load_config(CONFIGS / name, overrides=["out=runs/test", *overrides], environ={}))[0])


@pytest.fixture(scope="module")
def packaged():
    """verl's defaults as they are packaged."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module

    with initialize_config_module(config_module="verl.trainer.config", version_base=None):
        return hydra_compose(config_name="ppo_trainer")


@pytest.fixture(scope="module", params=CASES)
def tree(request, tiny_model):
    """One shipped configuration; the student is a folder that exists, because verl reads its config.json."""
    name, overrides = CASES[request.param]
    return composed(name, f"student.model_path={tiny_model}", *overrides)


def select(tree, path):
    from omegaconf import OmegaConf

    return OmegaConf.select(tree, path)


def test_no_value_is_missing_that_verl_does_not_leave_open_itself(tree, packaged):
    from omegaconf import OmegaConf

    assert OmegaConf.missing_keys(packaged) >= OmegaConf.missing_keys(tree)
    assert not [key for key in OmegaConf.missing_keys(tree) if not key.startswith("reward.reward_model.")]
    assert tree.reward.reward_model.enable is False


def test_every_interpolation_resolves(tree):
    from omegaconf import OmegaConf

    OmegaConf.to_container(tree, resolve=True, throw_on_missing=False)


@pytest.mark.parametrize("path", DATACLASSES)
def test_verl_s_dataclasses_take_it(tree, path):
    from verl.utils.config import omega_conf_to_dataclass

    section = select(tree, path)
    made = omega_conf_to_dataclass(section)
    assert type(made).__name__ == section._target_.rpartition(".")[2]


def test_the_reference_model_s_section_becomes_a_dataclass_as_the_worker_makes_it(tree):
    """``ActorRolloutRefWorker.init_model`` renames four of its keys first."""
    from copy import deepcopy

    from omegaconf import open_dict
    from verl.utils.config import omega_conf_to_dataclass

    ref = deepcopy(tree).actor_rollout_ref.ref
    with open_dict(ref):
        ref.ppo_mini_batch_size = tree.actor_rollout_ref.actor.ppo_mini_batch_size
        ref.ppo_micro_batch_size = ref.pop("log_prob_micro_batch_size", None)
        ref.ppo_micro_batch_size_per_gpu = ref.pop("log_prob_micro_batch_size_per_gpu", None)
        ref.use_dynamic_bsz = ref.pop("log_prob_use_dynamic_bsz", False)
        ref.ppo_max_token_len_per_gpu = ref.pop("log_prob_max_token_len_per_gpu", None)
    made = omega_conf_to_dataclass(ref)
    assert made.engine.strategy == made.strategy
    assert made.use_dynamic_bsz or made.ppo_micro_batch_size_per_gpu == 1
    assert made.ppo_max_token_len_per_gpu >= tree.actor_rollout_ref.rollout.max_model_len


def test_verl_s_own_validation_passes_as_the_program_runs_it(tree):
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    assert not need_critic(tree) and not need_reference_policy(tree)
    validate_config(tree, use_reference_policy=need_reference_policy(tree), use_critic=need_critic(tree))


def test_a_batch_divides_as_the_workers_assert(tree):
    """``TrainingWorker.train_mini_batch`` and ``ActorRolloutRefWorker.init_model`` of verl."""
    devices = tree.trainer.nnodes * tree.trainer.n_gpus_per_node
    rollout = tree.actor_rollout_ref.rollout
    update = tree.actor_rollout_ref.actor.ppo_mini_batch_size
    assert tree.data.train_batch_size % update == 0  # else verl fills the step up with padding
    assert update * rollout.n % devices == 0
    assert devices % (rollout.tensor_model_parallel_size * rollout.data_parallel_size) == 0


def test_a_whole_sequence_fits_wherever_verl_packs_tokens(tree):
    length = tree.data.max_prompt_length + tree.data.max_response_length
    rollout = tree.actor_rollout_ref.rollout
    packs = tree.trainer.device == "cpu"  # without flash-attn a GPU takes one sequence at a time
    assert tree.actor_rollout_ref.actor.use_dynamic_bsz == rollout.log_prob_use_dynamic_bsz == packs
    assert tree.actor_rollout_ref.actor.ppo_max_token_len_per_gpu >= length
    assert tree.actor_rollout_ref.ref.log_prob_max_token_len_per_gpu >= length
    assert rollout.log_prob_max_token_len_per_gpu >= length
    assert (rollout.prompt_length, rollout.response_length) == (
        tree.data.max_prompt_length,
        tree.data.max_response_length,
    )
    assert rollout.max_model_len == length and rollout.max_num_batched_tokens >= length


def test_verl_loads_the_agent_loop_manager_by_its_own_function(tree):
    from verl.trainer.ppo.v1 import AgentLoopManagerTQ
    from verl.utils.import_utils import load_class_from_fqn

    manager = load_class_from_fqn(tree.actor_rollout_ref.rollout.agent.agent_loop_manager_class, "AgentLoopManager")
    assert issubclass(manager, AgentLoopManagerTQ) and callable(manager.create)


def test_verl_loads_and_builds_the_sampler_by_its_own_function(tree):
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
    from verl.utils.import_utils import load_extern_object

    settings = tree.trainer.v1.sampler
    sampler = load_extern_object(settings.custom_sampler.path, settings.custom_sampler.name)
    assert issubclass(sampler, ReplayBuffer)
    # the arguments of PPOTrainer._build_replay_buffer
    made = sampler(
        trainer_mode=tree.trainer.v1.trainer_mode,
        trainer_config=tree.trainer.v1.get(tree.trainer.v1.trainer_mode, {}),
        max_off_policy_threshold=settings.max_off_policy_threshold,
        max_off_policy_strategy=settings.max_off_policy_strategy,
        sampler_kwargs=settings.sampler_kwargs,
        refill_fn=lambda *_: None,
    )
    assert made.sampler_kwargs["max_failed_fraction"] == 0.25
    assert "poll_interval" in inspect.signature(ReplayBuffer.__init__).parameters


def test_the_trainer_is_the_synchronous_one_of_v1(tree):
    from verl.trainer.ppo.v1 import PPOTrainerSync, get_trainer_cls

    from ropd_cli.training.verl.trainer import RopdTrainer

    assert tree.trainer.use_v1
    trainer = get_trainer_cls(tree.trainer.v1.trainer_mode)
    assert trainer is RopdTrainer and issubclass(trainer, PPOTrainerSync)
    assert tree.trainer.resume_mode == "auto" and tree.trainer.test_freq == -1 and not tree.trainer.val_before_train
    assert not tree.algorithm.use_kl_in_reward and tree.algorithm.adv_estimator == "grpo"


def test_all_keys_we_set_are_verl_s(tree, packaged):
    from omegaconf import OmegaConf

    def invented(ours, theirs, path=""):
        for key, value in ours.items():
            here = f"{path}.{key}" if path else key
            if here in OPEN + FIELDS:
                continue
            if key not in theirs:
                yield here
            elif isinstance(value, dict):
                yield from invented(value, theirs[key], here) if isinstance(theirs[key], dict) else [here]

    assert list(invented(OmegaConf.to_container(tree), OmegaConf.to_container(packaged))) == []
    assert [path for path in OPEN[1:] if select(packaged, path.rpartition(".")[0]) is None] == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "verl.algorithm.filter_groups={enable: true, metric: score}",
            "without a bound, behind the back of the counts",
        ),
        ("verl.trainer.v1.trainer_mode=colocate_async", "neither counted nor limited"),
        ("verl.trainer.logger=[console, wandb]", "metrics.jsonl is copied from verl's file logger"),
        ("verl.trainer.logger=console", "metrics.jsonl is copied from verl's file logger"),
        ("verl.actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean", "each missing group makes the step smaller"),
    ],
)
def test_raw_settings_that_break_the_method_are_refused(setting, said):
    with pytest.raises(ConfigError) as fault:
        composed("quickstart.yaml", setting)
    assert said in str(fault.value.problems)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_one_node_has_a_ray_of_its_own_and_several_join_a_cluster(device):
    own = composed("quickstart.yaml", f"device={device}").ray_kwargs.ray_init
    assert own.address == "local" and own._temp_dir
    joined = composed("quickstart.yaml", f"device={device}", "train.nodes=2").ray_kwargs.ray_init
    assert (
        joined.address == "auto" and joined.num_cpus is None
    )  # Ray refuses what is declared of a cluster that is there
    assert not {"num_gpus", "_temp_dir"} & joined.keys()


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_trackers_stand_beside_the_files(device):
    tree = composed("quickstart.yaml", f"device={device}", "train.trackers=[wandb, mlflow]")
    assert list(tree.trainer.logger) == ["console", "file", "wandb", "mlflow"]


@pytest.mark.parametrize(
    ("settings", "weights", "optimizer"),
    [
        ([], True, True),
        (["train.devices_per_node=8"], False, False),
        (["train.offload=none"], False, False),
        (["train.offload=optimizer"], False, True),
        (["train.offload=all", "train.nodes=2"], True, True),
    ],
)
def test_what_waits_in_main_memory_on_a_gpu(settings, weights, optimizer):
    worker = composed("gpu-math.yaml", "train.devices_per_node=1", *settings).actor_rollout_ref
    assert worker.actor.fsdp_config.param_offload == worker.ref.fsdp_config.param_offload == weights
    assert worker.actor.fsdp_config.optimizer_offload == optimizer


@pytest.mark.parametrize(
    ("settings", "level", "bypass"),
    [
        (["device=gpu"], "token", False),
        (["device=gpu", "train.rollout_is=none"], None, False),
        (["device=cpu"], None, True),
        (["device=cpu", "rollout.top_p=0.9"], None, False),
        (["device=cpu", "train.rollout_is=sequence"], "sequence", False),
    ],
)
def test_what_corrects_for_vllm_s_own_log_probabilities(settings, level, bypass):
    correction = composed("quickstart.yaml", *settings).algorithm.rollout_correction
    assert (correction.rollout_is, correction.bypass_mode) == (level, bypass)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_dry_run_tells_every_choice_of_the_device_and_why(device, tiny_model, tmp_path):
    """On stderr for people; in --json with the keys, whose values are those that verl gets."""
    from typer.testing import CliRunner

    from ropd_cli.cli.main import app

    raw = "verl={actor_rollout_ref: {model: {enable_gradient_checkpointing: perhaps}}}"
    sets = [word for one in (f"device={device}", f"student.model_path={tiny_model}", raw) for word in ("--set", one)]
    command = ["train", "--config", "quickstart", "--out", str(tmp_path / "run"), "--dry-run", *sets]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    choices = {each["choice"]: each for each in document["ropd"]["choices"]}
    assert {"device", "arithmetic", "attention", "log-probabilities", "processors"} <= set(choices)
    for name, each in choices.items():
        (row,) = [line for line in done.stderr.splitlines() if line.startswith(f"{name}  ")]
        assert name == "checkpointing" or row.endswith(each["why"])
        for key, value in each["keys"].items():
            found = reduce(getitem, key.split("."), document)
            assert found == ("perhaps" if key.endswith("enable_gradient_checkpointing") else value), key
    assert list(choices["checkpointing"]["overridden"].values()) == ["perhaps"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "libraries"),
    [
        (["device=gpu"], [FUSED_HEAD]),
        (["device=gpu", "train.strategy=fsdp"], None),
        (["device=cpu"], None),
        (["device=gpu", "verl={actor_rollout_ref: {model: {external_lib: json}}}"], ["json", FUSED_HEAD]),
    ],
)
def test_fused_kernels_bring_their_repair_beside_other_libraries(settings, libraries, tiny_model):
    from verl.utils.config import omega_conf_to_dataclass

    model = composed("quickstart.yaml", f"student.model_path={tiny_model}", *settings).actor_rollout_ref.model
    assert omega_conf_to_dataclass(model).external_lib == libraries


# ours, the value, and the places where verl reads it
A, R, M = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.model"
SETTINGS = [
    ("train.lr", 3e-5, [f"{A}.optim.lr"]),
    ("train.lr_schedule", "cosine", [f"{A}.optim.lr_scheduler_type"]),
    ("train.warmup_steps", 7, [f"{A}.optim.lr_warmup_steps"]),
    ("train.betas", [0.8, 0.9], [f"{A}.optim.betas"]),
    ("train.weight_decay", 0.02, [f"{A}.optim.weight_decay"]),
    ("train.grad_clip", 0.5, [f"{A}.optim.clip_grad"]),  # FSDPEngine.optimizer_step; actor.grad_clip is read by nobody
    ("train.clip_ratio", 0.3, [f"{A}.clip_ratio", f"{A}.clip_ratio_low", f"{A}.clip_ratio_high"]),
    ("train.kl_coef", 0.01, [f"{A}.kl_loss_coef"]),
    ("train.loss_agg_mode", "token-sum", [f"{A}.loss_agg_mode"]),
    ("train.strategy", "fsdp", [f"{A}.strategy"]),
    ("train.rollout_is", "sequence", ["algorithm.rollout_correction.rollout_is"]),
    ("train.norm_adv_by_std", False, ["algorithm.norm_adv_by_std_in_grpo"]),
    ("train.steps", 40, ["trainer.total_training_steps"]),
    ("train.prompts_per_step", 12, ["data.train_batch_size"]),
    ("train.prompts_per_update", 6, [f"{A}.ppo_mini_batch_size"]),
    ("train.save_every", 9, ["trainer.save_freq"]),
    ("train.nodes", 2, ["trainer.nnodes"]),
    ("train.devices_per_node", 4, ["trainer.n_gpus_per_node"]),
    ("rollout.n", 8, [f"{R}.n", f"{A}.rollout_n"]),
    ("rollout.temperature", 0.9, [f"{R}.temperature"]),
    ("rollout.top_p", 0.95, [f"{R}.top_p"]),
    ("rollout.tensor_parallel_size", 2, [f"{R}.tensor_model_parallel_size"]),
    ("rollout.max_num_seqs", 33, [f"{R}.max_num_seqs"]),
    ("data.max_prompt_tokens", 111, ["data.max_prompt_length", f"{R}.prompt_length"]),
    ("data.max_response_tokens", 222, ["data.max_response_length", f"{R}.response_length"]),
    ("data.shuffle", False, ["data.shuffle"]),
    ("seed", 77, ["data.seed", f"{R}.seed", f"{A}.data_loader_seed"]),
    ("student.lora_rank", 16, [f"{M}.lora_rank"]),
    ("student.lora_alpha", 24, [f"{M}.lora_alpha"]),
    ("student.enable_thinking", False, ["data.apply_chat_template_kwargs.enable_thinking"]),
    ("judge.max_failed_fraction", 0.125, ["trainer.v1.sampler.sampler_kwargs.max_failed_fraction"]),
]


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def changed(request):
    overrides = [f"{key}={json.dumps(value)}" for key, value, _ in SETTINGS]
    return composed("quickstart.yaml", f"device={request.param}", "student.model_path=models/none", *overrides)


@pytest.mark.parametrize(("key", "value", "places"), SETTINGS, ids=[key for key, *_ in SETTINGS])
def test_a_setting_arrives_where_verl_reads_it(changed, key, value, places):
    assert {place: select(changed, place) for place in places} == dict.fromkeys(places, value)


def test_settings_arrive_in_verl_s_dataclasses(changed):
    from verl.utils.config import omega_conf_to_dataclass

    actor = omega_conf_to_dataclass(changed.actor_rollout_ref.actor)
    assert (actor.optim.lr, list(actor.optim.betas), actor.optim.lr_warmup_steps) == (3e-5, [0.8, 0.9], 7)
    assert (actor.rollout_n, actor.ppo_mini_batch_size, actor.use_kl_loss) == (8, 6, True)
    assert actor.engine.strategy == "fsdp"
    rollout = omega_conf_to_dataclass(changed.actor_rollout_ref.rollout)
    assert (rollout.name, rollout.n, rollout.prompt_length, rollout.response_length) == ("vllm", 8, 111, 222)
    assert omega_conf_to_dataclass(changed.algorithm).norm_adv_by_std_in_grpo is False


def test_epochs_become_steps():
    config = load_config(CONFIGS / "gpu-math.yaml", overrides=["out=runs/test", "train.epochs=3"], environ={})
    tree = as_read(compose(config, RunDir(Path("runs/test")), prompt_count=100, ray_dir="/tmp/r"))
    assert tree.trainer.total_training_steps == 3 * (100 // 32)
    assert tree.trainer.total_epochs >= 3  # verl stops at whichever comes first
    assert tree.trainer.save_freq == 50
    config = load_config(CONFIGS / "gpu-math.yaml", overrides=["out=runs/test", "train.save_every=null"], environ={})
    tree = as_read(compose(config, RunDir(Path("runs/test")), prompt_count=100, ray_dir="/tmp/r"))
    assert tree.trainer.save_freq == tree.trainer.total_training_steps == 3


def test_the_thinking_switch_is_left_to_the_template_unless_it_is_set():
    assert dict(composed("quickstart.yaml").data.apply_chat_template_kwargs) == {}
    assert composed("gpu-math.yaml").data.apply_chat_template_kwargs.enable_thinking is False


def test_each_device_gets_its_own_settings():
    cpu, gpu = composed("quickstart.yaml"), composed("quickstart.yaml", "device=gpu")
    assert (cpu.trainer.device, gpu.trainer.device) == ("cpu", "cuda")
    assert cpu.algorithm.rollout_correction.bypass_mode and not gpu.algorithm.rollout_correction.bypass_mode
    assert (
        cpu.actor_rollout_ref.rollout.dtype == default_cpu_dtype() and gpu.actor_rollout_ref.rollout.dtype == "bfloat16"
    )
    assert cpu.actor_rollout_ref.rollout.enforce_eager and not gpu.actor_rollout_ref.rollout.enforce_eager
    assert cpu.ray_kwargs.ray_init.num_gpus == cpu.trainer.n_gpus_per_node
    assert "num_gpus" not in gpu.ray_kwargs.ray_init  # Ray finds them


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_rollout_and_actor_compute_in_the_type_that_is_asked_for(device):
    tree = composed("quickstart.yaml", f"device={device}", "student.dtype=float32")
    assert tree.actor_rollout_ref.rollout.dtype == "float32"
    mixed = tree.actor_rollout_ref.actor.fsdp_config.mixed_precision
    assert mixed is not None and mixed.param_dtype == "fp32"  # verl's default is bf16


def test_an_unknown_raw_key_is_an_error_with_its_path_and_the_nearest_name():
    overrides = [
        "verl.trainer.save_frequency=5",
        "verl.actor_rollout_ref.actor.optim.lr_schedular_type=cosine",
        "verl.modle=1",
    ]
    with pytest.raises(ConfigError) as caught:
        composed("quickstart.yaml", *overrides)
    problems = "\n".join(caught.value.problems)
    assert "verl.trainer.save_frequency: unknown key, did you mean save_freq?" in problems
    assert (
        "verl.actor_rollout_ref.actor.optim.lr_schedular_type: unknown key, did you mean lr_scheduler_type?" in problems
    )
    assert "verl.modle: unknown key" in problems and len(caught.value.problems) == 3
    assert caught.value.exit_code == 2


def test_a_valid_raw_key_has_the_last_word():
    tree = composed(
        "quickstart.yaml", "train.lr=1e-5", "verl.actor_rollout_ref.actor.optim.lr=0.5", "verl.trainer.save_freq=3"
    )
    assert tree.actor_rollout_ref.actor.optim.lr == 0.5 and tree.trainer.save_freq == 3
    assert tree.actor_rollout_ref.actor.optim.weight_decay == 0.0  # its neighbours stay


def test_sections_that_verl_hands_on_take_any_key():
    tree = composed("quickstart.yaml", "verl.actor_rollout_ref.rollout.engine_kwargs.vllm.swap_space=1")
    assert tree.actor_rollout_ref.rollout.engine_kwargs.vllm.swap_space == 1
    tree = composed("quickstart.yaml", "verl.ray_kwargs.ray_init.object_store_memory=1000")
    assert tree.ray_kwargs.ray_init.object_store_memory == 1000 and tree.ray_kwargs.ray_init.num_gpus == 1


VALIDATE = """
import sys
import ropd_cli.training.verl.cpu.platform
from omegaconf import OmegaConf
from verl.utils.config import omega_conf_to_dataclass, validate_config
for path in sys.argv[1:]:
    tree = OmegaConf.load(path)
    validate_config(tree, use_reference_policy=False, use_critic=False)
    model = omega_conf_to_dataclass(tree.actor_rollout_ref.model)
    assert model.lora_rank == 32 and model.hf_config._attn_implementation == "sdpa", model
"""


def test_verl_and_vllm_take_a_lora_rank(tiny_model, tmp_path):
    """vLLM has a list of ranks; it is asked in a process of its own, where verl finds its CPU build."""
    from omegaconf import OmegaConf

    files = []
    for name, (file, overrides) in CASES.items():
        made = composed(file, *overrides, "student.lora_rank=32", f"student.model_path={tiny_model}")
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(OmegaConf.to_yaml(made))
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE, *map(str, files)],
        env={**os.environ, "VERL_PLATFORM": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("All configuration checks passed") == len(files)


def test_a_field_of_verl_s_dataclasses_is_known_and_a_section_is_never_replaced_by_a_value():
    tree = composed("quickstart.yaml", "verl.actor_rollout_ref.rollout.enable_sleep_mode=true")
    assert tree.actor_rollout_ref.rollout.enable_sleep_mode is True
    with pytest.raises(ConfigError) as caught:
        composed("quickstart.yaml", "verl.trainer=5", "verl.data=null")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["verl.trainer", "verl.data"]

"""Every name of verl 0.9.1 that is no documented interface and that the code holds on to, in one list.

A new verl is looked through by this test first: it runs no training.
"""

from __future__ import annotations

import importlib
import inspect

import pytest

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

V1 = "verl.trainer.ppo.v1"
CHECKPOINT = "verl.utils.checkpoint.fsdp_checkpoint_manager"
MADE = "__ray_metadata__.modified_class"
"""The plain class of one that verl has made an actor class."""
CALLS = [  # module, name in it, parameters
    (f"{V1}.agent_loop_tq", f"AgentLoopWorkerTQ.{MADE}._run_prompt", "self prompt sampling_params trajectory trace"),
    (
        f"{V1}.agent_loop_tq",
        f"AgentLoopWorkerTQ.{MADE}._run_agent_loop",
        "self sampling_params trajectory agent_name trace kwargs",
    ),
    (f"{V1}.agent_loop_tq", f"AgentLoopWorkerTQ.{MADE}._agent_loop_postprocess", "self output validate kwargs"),
    (f"{V1}.replay_buffer", "ReplayBuffer.sample", "self global_steps partition_id batch_size"),
    (f"{V1}.trainer_base", "register_trainer", "name"),
    (f"{V1}.trainer_base", "PPOTrainer._build_replay_buffer", "self"),
    (f"{V1}.trainer_base", "PPOTrainer.step", "self metrics timing_raw"),
    (f"{V1}.trainer_base", "PPOTrainer._validate", "self"),
    (f"{V1}.trainer_base", "PPOTrainer._save_checkpoint", "self"),
    (f"{V1}.trainer_base", "PPOTrainer._balance_batch", "self batch metrics logging_prefix keep_minibatch"),
    (f"{V1}.trainer_sync", "PPOTrainerSync.on_sample_end", "self"),
    ("verl.trainer.main_ppo", f"TaskRunnerV1.{MADE}.run", "self config"),
    ("verl.trainer.main_ppo", "run_ppo", "config task_runner_class"),
    ("ray._private.services", "canonicalize_bootstrap_address", "addr temp_dir"),
    ("ray._private.state", "available_resources_per_node", ""),
    ("verl.utils.config", "validate_config", "config use_reference_policy use_critic"),
    ("verl.utils.device", "auto_set_device", "config"),
    ("verl.trainer.ppo.utils", "need_critic", "config"),
    ("verl.trainer.ppo.utils", "need_reference_policy", "config"),
]
WORDS = [  # what a function of verl says or reads, and what we take it at
    (f"{V1}.agent_loop_tq", f"AgentLoopWorkerTQ.{MADE}._run_prompt", '"__rollout_n__"'),
    (f"{V1}.agent_loop_tq", f"AgentLoopWorkerTQ.{MADE}._agent_loop_postprocess", 'kwargs["session_id"]'),
    (f"{V1}.agent_loop_tq", "AgentLoopManagerTQ.__init__", "self.agent_loop_workers_class"),
    (f"{V1}.replay_buffer", "ReplayBuffer", "no materializable trajectories"),
    (f"{V1}.replay_buffer", "ReplayBuffer.__init__", "poll_interval"),
    (f"{V1}.trainer_base", "PPOTrainer", '"is_padding"'),
    (f"{V1}.trainer_base", "PPOTrainer._balance_batch", "worker_group._dispatch_info[role]"),
    (f"{V1}.trainer_base", "PPOTrainer._build_replay_buffer", 'self.trainer_mode == "sync"'),
    (f"{V1}.trainer_base", "PPOTrainer._save_checkpoint", 'f"global_step_{self.global_steps}"'),
    (f"{V1}.trainer_base", "PPOTrainer._save_checkpoint", "latest_checkpointed_iteration.txt"),
    (f"{V1}.trainer_base", "PPOTrainer._save_checkpoint", '"data.pt"'),
    (
        "verl.utils.checkpoint.fsdp_checkpoint_manager",
        "FSDPCheckpointManager.save_checkpoint",
        "extra_state_world_size_",
    ),
    ("verl.trainer.main_ppo", f"TaskRunnerV1.{MADE}.run", "get_trainer_cls(config.trainer.v1.trainer_mode)"),
    ("verl.trainer.main_ppo", "run_ppo", "task_runner_class.remote()"),
    (
        "transfer_queue.interface",
        "_init_from_existing",
        'ray.get_actor("TransferQueueController", namespace="transfer_queue")',
    ),
]


def found(module, name):
    here = importlib.import_module(module)
    for part in name.split("."):
        here = getattr(here, part)
    return here


@pytest.mark.parametrize(("module", "name", "parameters"), CALLS, ids=[name for _, name, _ in CALLS])
def test_a_signature_is_as_we_call_or_extend_it(module, name, parameters):
    own = [each for each in inspect.signature(found(module, name)).parameters if each != "_ray_trace_ctx"]  # Ray's
    assert " ".join(own) == parameters


@pytest.mark.parametrize(("module", "name", "words"), WORDS, ids=[f"{name}: {words}" for _, name, words in WORDS])
def test_a_function_reads_what_we_take_it_to(module, name, words):
    assert words in inspect.getsource(found(module, name))

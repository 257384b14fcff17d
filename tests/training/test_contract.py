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
    (f"{V1}.replay_buffer", "ReplayBufferAsync.sample", "self global_steps partition_id batch_size"),
    (
        f"{V1}.replay_buffer",
        "ReplayBuffer._select_prompt_uids",
        "self partition_id sampleable_keys batch_size",
    ),
    (f"{V1}.replay_buffer", "ReplayBuffer._terminal_eviction_reasons", "self global_steps partition_id"),
    (f"{V1}.replay_buffer", "ReplayBufferAsync._terminal_eviction_reasons", "self global_steps partition_id"),
    (
        f"{V1}.replay_buffer",
        "ReplayBuffer._evict_terminal_groups",
        "self global_steps partition_id eviction_reasons",
    ),
    (f"{V1}.trainer_base", "register_trainer", "name"),
    (f"{V1}.trainer_base", "_count_tq_prompt_groups", "partition_id"),
    (f"{V1}.trainer_base", "PPOTrainer._add_prompts_to_generate", "self num_prompts"),
    (f"{V1}.trainer_base", "PPOTrainer.prepare_step", "self"),
    (f"{V1}.trainer_colocate_async", "PPOTrainerColocateAsync.on_train_begin", "self"),
    (f"{V1}.trainer_colocate_async", "PPOTrainerColocateAsync.on_sample_end", "self"),
    (f"{V1}.trainer_base", "PPOTrainer._build_replay_buffer", "self"),
    (f"{V1}.trainer_base", "PPOTrainer.step", "self metrics timing_raw"),
    (f"{V1}.trainer_base", "PPOTrainer._validate", "self"),
    (f"{V1}.trainer_base", "PPOTrainer._save_checkpoint", "self"),
    (f"{V1}.trainer_base", "PPOTrainer._balance_batch", "self batch metrics logging_prefix keep_minibatch"),
    (f"{V1}.trainer_sync", "PPOTrainerSync.on_sample_end", "self"),
    (f"{V1}.trainer_base", "PPOTrainer._setup", "self"),
    (f"{V1}.trainer_base", "PPOTrainer._init_resource_pool_mgr", "self"),
    (f"{V1}.trainer_base", "PPOTrainer._compute_values", "self batch metrics"),
    (f"{V1}.trainer_base", "PPOTrainer._update_critic", "self batch metrics"),
    (f"{V1}.trainer_base", "PPOTrainer._update_actor", "self batch metrics"),
    ("verl.utils.model", "load_valuehead_model", "local_path torch_dtype model_config trust_remote_code"),
    ("verl.workers.engine_workers", "TrainingWorker.__init__", "self config"),
    ("verl.workers.engine_workers", "TrainingWorker.set_loss_fn", "self loss_fn"),
    ("verl.workers.utils.losses", "sft_loss", "config model_output data dp_group"),
    ("verl.workers.utils.losses", "ppo_loss", "config model_output data dp_group"),
    ("verl.workers.utils.padding", "no_padding_2_padding", "tensor data"),
    (
        "verl.trainer.distillation.losses",
        "distillation_ppo_loss",
        "config distillation_config model_output data dp_group student_logits data_format",
    ),
    ("verl.trainer.main_ppo", f"TaskRunnerV1.{MADE}.run", "self config"),
    ("verl.trainer.main_ppo", "run_ppo", "config task_runner_class"),
    ("ray._private.services", "canonicalize_bootstrap_address", "addr temp_dir"),
    ("ray._private.state", "available_resources_per_node", ""),
    ("verl.utils.config", "validate_config", "config use_reference_policy use_critic"),
    ("verl.utils.device", "auto_set_device", "config"),
    ("verl.trainer.ppo.utils", "need_critic", "config"),
    ("verl.trainer.ppo.utils", "need_reference_policy", "config"),
    ("verl.utils.fsdp_utils", "_select_fsdp2_wrap_targets", "model fsdp_transformer_layer_cls_to_wrap"),
]
WORDS = [  # what a function of verl says or reads, and what we take it at
    ("verl.utils.fsdp_utils", "apply_fsdp2", "_select_fsdp2_wrap_targets(model"),
    (f"{V1}.agent_loop_tq", f"AgentLoopWorkerTQ.{MADE}._run_prompt", '"__rollout_n__"'),
    (f"{V1}.agent_loop_tq", f"AgentLoopWorkerTQ.{MADE}._agent_loop_postprocess", 'kwargs["session_id"]'),
    (f"{V1}.agent_loop_tq", "AgentLoopManagerTQ.__init__", "self.agent_loop_workers_class"),
    (f"{V1}.replay_buffer", "ReplayBuffer.__init__", "poll_interval"),
    (f"{V1}.replay_buffer", "ReplayBuffer.__init__", "sync_refill_failed_groups"),
    (f"{V1}.replay_buffer", "ReplayBuffer.sample", "refill_credit += 2 * dapo_count + failed_count"),
    (f"{V1}.replay_buffer", "ReplayBufferAsync.wait_for_sampleable", "self.refill_fn(len(evicted_uids))"),
    (f"{V1}.trainer_base", "PPOTrainer.step", "self.prepare_step()"),
    (f"{V1}.trainer_base", "PPOTrainer._save_checkpoint", 'os.path.join(local_global_step_folder, "transfer_queue")'),
    (f"{V1}.trainer_base", "PPOTrainer._reissue_inflight_prompts", '("pending", "running")'),
    (f"{V1}.trainer_base", "PPOTrainer", '"is_padding"'),
    (f"{V1}.trainer_base", "PPOTrainer._balance_batch", "worker_group._dispatch_info[role]"),
    (f"{V1}.trainer_base", "PPOTrainer._build_replay_buffer", 'self.trainer_mode == "sync"'),
    (f"{V1}.trainer_base", "PPOTrainer._setup", "cls=self.role_worker_mapping[Role.Critic]"),
    # where a teacher's log-probability of a token stands, and how it gets into the batch
    ("verl.workers.utils.padding", "no_padding_2_padding", "values[seq_offset - resp_len - 1 : seq_offset - 1]"),
    ("verl.experimental.agent_loop.agent_loop", "AgentLoopOutput.as_dict", 'output["teacher_logprobs"]'),
    # while this stands, a discriminator needs its own way to load a value head
    ("verl.utils.model", "load_valuehead_model", 'attn_implementation="flash_attention_2"'),
    ("verl.workers.engine.fsdp.transformer_impl", "FSDPEngine", "from verl.utils.model import load_valuehead_model"),
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

"""A user's own verl configuration with one line for our rewards: two steps of verl's own trainer on the tiny model,
whose rewards are those of ``ropd verify``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from judges import read
from processes import start_ropd
from servers import ScriptedServer
from tiny_runs import ROLLOUTS, reply_of, write_inputs

from ropd_cli.method.rewards import on_grid
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import prompt_hash

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

PROMPTS, STEPS = 4, 2
MINE = """
hydra: {{searchpath: ["pkg://verl.trainer.config"], run: {{dir: .}}}}
defaults: [ppo_trainer, _self_]
algorithm: {{adv_estimator: grpo, rollout_correction: {{bypass_mode: true}}}}
data:
  {{train_files: mine.parquet, val_files: mine.parquet, train_batch_size: 4, max_prompt_length: 64,
   max_response_length: 12, dataloader_num_workers: 0}}
actor_rollout_ref:
  model: {{path: {model}, override_config: {{attn_implementation: sdpa}}, enable_gradient_checkpointing: false}}
  actor:
    {{strategy: fsdp2, optim: {{lr: 1e-3}}, ppo_mini_batch_size: 4, ppo_micro_batch_size_per_gpu: 8,
     use_torch_compile: false, fsdp_config: {{use_torch_compile: false, mixed_precision: {{param_dtype: fp32}}}}}}
  rollout:
    name: vllm
    n: 4
    dtype: float32
    tensor_model_parallel_size: 1
    enforce_eager: true
    free_cache_engine: false
    enable_sleep_mode: false
    max_model_len: 128
    max_num_seqs: 16
    max_num_batched_tokens: 256
    log_prob_micro_batch_size_per_gpu: 8
    agent: {{num_workers: 1, agent_loop_manager_class: ropd_cli.verl_reward}}
    checkpoint_engine: {{update_weights_bucket_megabytes: 16}}
reward: {{num_workers: 1}}
transfer_queue: {{backend: {{SimpleStorage: {{num_data_storage_units: 1}}}}}}
trainer:
  {{device: cpu, nnodes: 1, n_gpus_per_node: 1, logger: [console], val_before_train: false, test_freq: -1,
   save_freq: -1, total_training_steps: 2, resume_mode: disable, rollout_data_dir: dumped}}
ray_kwargs: {{ray_init: {{address: local, num_gpus: 1, num_cpus: 8, include_dashboard: false, _temp_dir: {ray}}}}}
"""
ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


@pytest.fixture
def served(shell):
    """The URL of a reward server; its judge is the one of ``tiny_runs``."""
    write_inputs(shell, PROMPTS)
    with ScriptedServer() as judge:
        judge.default = lambda body: reply_of(read(body))
        endpoint = {"base_url": judge.url, "model": "judge"}
        config = {"data": {"index": "teacher.index"}, "judge": {"m": 1}, "rubricator": endpoint, "verifier": endpoint}
        (shell.folder / "run.yaml").write_text(json.dumps(config | {"rollout": {"n": ROLLOUTS}, "out": "served"}))
        server = start_ropd(["serve-reward", "--config", "run.yaml", "--port", "0"], shell.folder, shell.environ)
        try:
            yield judge.url, server.stdout.readline().strip()
        finally:
            server.terminate()
            server.communicate(timeout=60)


def test_two_steps_with_the_rewards_of_verify(shell, tiny_model, served, tmp_path_factory):
    import pyarrow as pa
    import pyarrow.parquet as pq

    judge_url, reward_url = served
    rows = [
        {
            "prompt": [{"role": "user", "content": f"w{k} w{k}"}],
            "data_source": "mine",
            "reward_model": {"style": "rule", "ground_truth": "w3"},
            "extra_info": {"index": k},
        }
        for k in range(PROMPTS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), shell.folder / "mine.parquet")
    ray_dir = tmp_path_factory.mktemp("r")
    (shell.folder / "mine.yaml").write_text(MINE.format(model=tiny_model, ray=ray_dir))
    done = subprocess.run(
        [sys.executable, "-m", "verl.trainer.main_ppo", "--config-path", str(shell.folder), "--config-name", "mine"],
        cwd=shell.folder,
        env={**shell.environ, **ENVIRONMENT, "ROPD_REWARD_URL": reward_url},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    judged = {}
    for step in range(1, STEPS + 1):
        # a step ends for the server when a group of the next one comes, so its file is there while it runs
        groups = [g for _, g in read_records(shell.folder / "served" / "groups" / f"step-{step}.jsonl.zst")]
        dumped = [r for _, r in read_records(shell.folder / "dumped" / f"{step}.jsonl") if "pad" not in str(r["uid"])]
        assert len(groups) == PROMPTS and len(dumped) == PROMPTS * ROLLOUTS
        answered = sorted((r["output"].strip(), r["score"]) for r in dumped)
        own = [
            (a["text"].strip(), on_grid(v)) for g in groups for a, v in zip(g["rollouts"], g["rewards"], strict=True)
        ]
        assert [text for text, _ in answered] == [text for text, _ in sorted(own)]
        assert [score for _, score in answered] == pytest.approx([score for _, score in sorted(own)], abs=1e-6)
        judged[step] = groups
    # the same texts by the commands
    for step, groups in judged.items():
        with open(shell.folder / f"rollouts-{step}.jsonl", "w") as out:
            for group in groups:
                prompt = group["prompt"][0]["content"]
                record = {"uid": f"p{prompt.split()[0][1:]}", "prompt": prompt, "raw_prompt_hash": prompt_hash(prompt)}
                out.write(json.dumps(record | {"answers": group["rollouts"], "model": "tiny"}) + "\n")
        common = ["prompts.jsonl", "--rollouts", f"rollouts-{step}.jsonl", "--index", "teacher.index"]
        common += ["--base-url", judge_url, "--model", "judge", "--set", "judge.m=1"]
        shell.ropd("rubricate", *common, "--out", f"rubrics-{step}.jsonl")
        shell.ropd("verify", *common, "--rubrics", f"rubrics-{step}.jsonl", "--out", f"verdicts-{step}.jsonl")
        by_uid = {
            record["uid"]: record["rewards"] for _, record in read_records(shell.folder / f"verdicts-{step}.jsonl")
        }
        for group in groups:
            assert by_uid[f"p{group['prompt'][0]['content'].split()[0][1:]}"] == group["rewards"]
    assert any(len(set(group["rewards"])) > 1 for groups in judged.values() for group in groups)

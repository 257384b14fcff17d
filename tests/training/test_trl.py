"""TRL's own GRPO trainer with our rewards: two steps of the tiny model, whose rewards are those of ``ropd verify``.

TRL is not in the environment of the tests (pip install trl accelerate); without it this is skipped.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from judges import read
from servers import ScriptedServer
from tiny_runs import ROLLOUTS, reply_of, write_inputs

import ropd_cli
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import prompt_hash

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(600)]
trl = pytest.importorskip("trl", reason="needs pip install trl accelerate")

PROMPTS = 4


def example():
    """The lines of the documentation."""
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
    lines = re.search(r"## TRL\n.*?```python\n(.*?)```", page, re.DOTALL)[1]
    assert len([line for line in lines.splitlines() if line.strip()]) <= 5
    return lines


def noting(seen, trl_reward):
    """``Judge.trl_reward`` whose function keeps what it was called with, and returned."""

    def made(judge):
        reward = trl_reward(judge)

        def noted(prompts, completions, **columns):
            values = reward(prompts, completions, **columns)
            seen.append((prompts, completions, values))
            return values

        return noted

    return made


def test_two_steps_of_trl_with_the_rewards_of_verify(shell, tiny_model, monkeypatch):
    from datasets import Dataset

    write_inputs(shell, PROMPTS)
    seen = []
    with ScriptedServer() as server:
        server.default = lambda body: reply_of(read(body))
        endpoint = {"base_url": server.url, "model": "judge"}
        config = {
            "data": {"index": "teacher.index"},
            "judge": {"m": 1},
            "rollout": {"n": ROLLOUTS},
            "cache_dir": "cache",
        }
        config |= {"rubricator": endpoint, "verifier": endpoint}
        (shell.folder / "run.yaml").write_text(json.dumps(config))
        monkeypatch.chdir(shell.folder)
        monkeypatch.setattr(ropd_cli.Judge, "trl_reward", noting(seen, ropd_cli.Judge.trl_reward))
        rows = [{"prompt": f"w{k} w{k}"} for k in range(PROMPTS)]
        args = trl.GRPOConfig(
            output_dir=str(shell.folder / "trl"), max_steps=2, per_device_train_batch_size=2 * ROLLOUTS,
            num_generations=ROLLOUTS, max_completion_length=12, learning_rate=1e-3, report_to=[], use_cpu=True,
            bf16=False, save_strategy="no", logging_steps=1, seed=3,
        )  # fmt: skip
        names = {"model": str(tiny_model), "args": args, "prompts": Dataset.from_list(rows)}
        exec(example(), names)
        names["judge"].close()
        trainer = names["trainer"]
        logged = [row["reward"] for row in trainer.state.log_history if "reward" in row]
        assert len(seen) == len(logged) == 2
        for (_, _, values), mean in zip(seen, logged, strict=True):
            assert mean == pytest.approx(sum(values) / len(values), abs=1e-6)
        # the same texts by the command
        with open(shell.folder / "rollouts.jsonl", "w") as out:
            by_prompt: dict[str, list[tuple[str, float]]] = {}
            for prompts, completions, values in seen:
                for prompt, text, value in zip(prompts, completions, values, strict=True):
                    by_prompt.setdefault(prompt, []).append((text, value))
            for prompt, said in by_prompt.items():
                record = {"uid": f"p{prompt.split()[0][1:]}", "prompt": prompt, "raw_prompt_hash": prompt_hash(prompt)}
                answers = [{"text": text, "finish_reason": "stop"} for text, _ in said[:ROLLOUTS]]
                out.write(json.dumps(record | {"answers": answers, "model": "tiny"}) + "\n")
        judges = ["--base-url", server.url, "--model", "judge"]
        files = ["prompts.jsonl", "--rollouts", "rollouts.jsonl"]
        one = ["--set", "judge.m=1"]
        shell.ropd("rubricate", *files, "--index", "teacher.index", "--out", "rubrics.jsonl", *judges, *one)
        shell.ropd(
            "verify",
            *files,
            "--rubrics",
            "rubrics.jsonl",
            "--index",
            "teacher.index",
            "--out",
            "v.jsonl",
            *judges,
            *one,
        )
    judged = {record["uid"]: record["rewards"] for _, record in read_records(shell.folder / "v.jsonl")}
    for prompt, said in by_prompt.items():
        assert judged[f"p{prompt.split()[0][1:]}"] == [value for _, value in said[:ROLLOUTS]]

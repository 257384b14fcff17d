"""Benchmarks during a true run of stock verl and stock vLLM, on a tiny random model: graded, written, the best kept."""

from __future__ import annotations

import json

import pytest

from ropd_cli.records.files import read_records

pytestmark = pytest.mark.training
pytest.importorskip("verl", reason="needs the CPU stack: make env")

QUESTIONS, SAMPLES = 3, 2


@pytest.fixture(scope="module")
def run(shell, tiny_model):
    """Two steps with a checkpoint each, validated before, between and after."""
    folder = shell.folder
    with open(folder / "validated-prompts.jsonl", "w") as out:
        for k in range(4):
            print(json.dumps({"uid": f"p{k}", "prompt": f"w{k} w{k + 1}"}), file=out)
    with open(folder / "validated-teacher.jsonl", "w") as out:
        for k in range(4):
            answers = [{"text": f"w3 w{j}", "finish_reason": "stop"} for j in range(2)]
            from ropd_cli.records.schemas import prompt_hash

            prompt = f"w{k} w{k + 1}"
            record = {"uid": f"p{k}", "prompt": prompt, "raw_prompt_hash": prompt_hash(prompt), "model": "t"}
            print(json.dumps(record | {"answers": answers}), file=out)
    shell.ropd("index", "build", "validated-teacher.jsonl", "--out", "validated.index")
    with open(folder / "words.jsonl", "w") as out:
        for k in range(QUESTIONS):
            print(json.dumps({"id": f"q{k}", "prompt": f"w{k}", "answer": f"w{k}"}), file=out)
    with open(folder / "choices.jsonl", "w") as out:
        for k in range(QUESTIONS):
            choices = [f"w{k}", f"w{k + 10}"]
            print(json.dumps({"id": f"c{k}", "prompt": f"w{k}", "choices": choices, "answer": "A"}), file=out)
    settings = {
        "device": "cpu",
        "data.prompts": "validated-prompts.jsonl",
        "data.index": "validated.index",
        "data.max_prompt_tokens": 64,
        "data.max_response_tokens": 8,
        "judge.m": 2,
        "rubricator.base_url": "builtin://checkable",
        "verifier.base_url": "builtin://checkable",
        "reward.rubric": 0,
        "reward.length": 1,
        "reward.length_max_tokens": 16,
        "reward.length_free_tokens": 0,
        "rollout.n": 2,
        "rollout.kv_cache_gb": 1,
        "student.model_path": tiny_model,
        "train.prompts_per_step": 2,
        "train.steps": 2,
        "train.save_every": 1,
        "train.keep_checkpoints": 1,
        "validate.benchmarks": "[words,choices]",
        "validate.n": SAMPLES,
        "eval.data": "{words: words.jsonl, choices: choices.jsonl}",
        "eval.grader": "{words: exact}",
    }
    (folder / "empty.yaml").write_text("{}\n")
    options = [option for name, value in settings.items() for option in ("--set", f"{name}={value}")]
    document = shell.json("train", "--config", "empty.yaml", "--out", "validated", *options)
    return folder / "validated", document


def test_every_validation_is_graded_and_written(run):
    path, document = run
    rows = [row for _, row in read_records(path / "validation.jsonl")]
    assert [row["step"] for row in rows] == [0, 1, 2] and document["steps"] == 2
    for row in rows:
        for name, figures in row["benchmarks"].items():
            assert figures["problems"] == QUESTIONS and figures["graded"] == QUESTIONS * SAMPLES, (name, figures)
            assert figures["missing"] == 0 and 0 <= figures["metrics"]["accuracy"]["value"] <= 1
    records = [record for _, record in read_records(path / "validation" / "step-1.jsonl.zst")]
    assert len(records) == 2 * QUESTIONS * SAMPLES
    keys = {(r["sample"]["benchmark"], r["sample"]["id"], r["sample"]["sample"]) for r in records}
    assert len(keys) == len(records)
    asked = [r["sample"]["key"]["order"] for r in records if r["sample"]["benchmark"] == "choices"]
    assert all(sorted(order) == [0, 1] for order in asked)


def test_the_metrics_are_those_of_the_graders(run):
    path, _ = run
    metrics = [row for _, row in read_records(path / "metrics.jsonl")]
    rows = {row["step"]: row["benchmarks"] for _, row in read_records(path / "validation.jsonl")}
    assert [row["step"] for row in metrics] == [1, 2]
    for row in metrics:
        assert row["val/words/accuracy"] == rows[row["step"]]["words"]["metrics"]["accuracy"]["value"]
        assert row["val/choices/missing"] == 0


def test_the_best_checkpoint_is_kept_and_eval_says_what_chose_it(run, shell):
    path, _ = run
    best = json.loads((path / "best.json").read_text())
    rows = {
        row["step"]: row["benchmarks"]["words"]["metrics"]["accuracy"]
        for _, row in read_records(path / "validation.jsonl")
    }
    highest = max(rows[step]["value"] for step in (1, 2))
    assert best["benchmark"] == "words" and best["value"] == highest == rows[best["step"]]["value"]
    assert (path / "best" / "config.json").is_file() and list((path / "best").glob("*.safetensors"))
    found = shell.json(
        "eval", "--benchmarks", "words", "--data", "words=words.jsonl", "--grader", "words=exact", "-n", "2",
        "--max-tokens", "4", "--model-path", path / "best", "--out", "evaluated", "--seed", "1",
    )  # fmt: skip
    assert any("words: this checkpoint was chosen by its score on this set" in each for each in found["warnings"])
    assert found["benchmarks"][0]["figures"]["graded"] == QUESTIONS * 2

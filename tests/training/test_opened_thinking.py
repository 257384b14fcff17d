"""A chat template that writes ``<think>`` itself, as R1's does: whoever samples, a rollout that was cut off inside its
thoughts has no answer, and no judge or grader sees it."""

from __future__ import annotations

import json
import shutil

import pytest

from ropd_cli.answers.thinking import answer_of
from ropd_cli.evaluation.store import EvalRun
from ropd_cli.method.block import build_block
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer, Group, Message
from ropd_cli.training.validation import validation_sample

pytestmark = pytest.mark.training
pytest.importorskip("verl", reason="needs the CPU stack: make env")

CLOSE = "w55"
"""This word's token is ``</think>`` in the model of this file."""
QUESTIONS = [f"w{number} w{number + 1}" for number in range(6)]


@pytest.fixture(scope="module")
def r1_model(tiny_model, tmp_path_factory):
    """The tiny model with a template that opens the thinking, and with a token that closes it."""
    folder = tmp_path_factory.mktemp("r1") / "model"
    shutil.copytree(tiny_model, folder)
    tokenizer = (folder / "tokenizer.json").read_text()
    assert tokenizer.count(f'"{CLOSE}"') == 1
    (folder / "tokenizer.json").write_text(tokenizer.replace(f'"{CLOSE}"', '"</think>"'))
    template = (folder / "chat_template.jinja").read_text()
    assert template.count("'assistant '") == 1
    (folder / "chat_template.jinja").write_text(template.replace("'assistant '", r"'assistant <think>\n'"))
    return folder


@pytest.fixture(scope="module")
def tokenizer(r1_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(r1_model)
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "w1"}], tokenize=False, add_generation_prompt=True
    )
    assert rendered.endswith("<think>\n")
    return tokenizer


@pytest.fixture
def worker(tokenizer):
    """verl's rollout worker, as far as it reads an output."""
    from omegaconf import OmegaConf

    from ropd_cli.training.verl.agent_loop import JudgedAgentLoopWorker

    worker = object.__new__(JudgedAgentLoopWorker)
    worker.tokenizer = tokenizer
    worker.config = OmegaConf.create(
        {"actor_rollout_ref": {"rollout": {"response_length": 4}}, "ropd": {"thinking_tags": None}}
    )
    return worker


def rollout_of(worker, reply):
    """What the worker makes of a reply to a prompt of that template."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

    prompt_ids = worker.tokenizer.apply_chat_template(
        [{"role": "user", "content": "w1"}], add_generation_prompt=True, return_dict=False
    )
    ids = worker.tokenizer.encode(reply, add_special_tokens=False)
    output = AgentLoopOutput(
        prompt_ids=prompt_ids, response_ids=ids, response_mask=[1] * len(ids), metrics=AgentLoopMetrics()
    )
    return worker._rollout(output)


def test_rollout(shell, r1_model):
    rows = [{"uid": f"p{number}", "prompt": question} for number, question in enumerate(QUESTIONS)]
    (shell.folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("-n", 16, "--max-tokens", 16, "--seed", 3)
    shell.json("rollout", "p.jsonl", "--model-path", r1_model, "--out", "r.jsonl", *options)
    shown, cut_off = 0, 0
    for _, record in read_records(shell.folder / "r.jsonl"):
        answers = tuple(Answer(**each) for each in record["answers"])
        assert all(answer.text.startswith("<think>") for answer in answers)
        without = [index for index, answer in enumerate(answers) if "</think>" not in answer.text]
        prompt = (Message(role="user", content=record["prompt"]),)
        group = Group(uid=record["uid"], prompt=prompt, raw_prompt_hash=record["raw_prompt_hash"], rollouts=answers)
        seen = {answer.index for answer in build_block(group).answers}
        assert not seen & set(without)
        shown, cut_off = shown + len(seen), cut_off + len(without)
    assert shown and cut_off


def test_eval(shell, r1_model):
    rows = [{"id": f"q{number}", "prompt": question, "answer": "w1"} for number, question in enumerate(QUESTIONS)]
    (shell.folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shell.json(
        "eval", "--benchmarks", "words", "--data", "words=words.jsonl", "--grader", "words=exact", "-n", 16,
        "--max-tokens", 16, "--model-path", r1_model, "--out", "evaluated", "--seed", 3,
    )  # fmt: skip
    run = EvalRun(shell.folder / "evaluated")
    texts = {(row["id"], row["sample"]): row["text"] for _, row in read_records(run.samples_file("words"))}
    found = {(row["id"], row["sample"]): row for _, row in read_records(run.grades_file("words"))}
    cut_off = [key for key, text in texts.items() if "</think>" not in text]
    assert cut_off and len(cut_off) < len(texts)
    assert all(found[key]["scores"] == {"accuracy": 0} and found[key].get("extracted") is None for key in cut_off)
    assert any(row.get("extracted") for row in found.values())


@pytest.mark.parametrize("on_no_answer", ["zero", "drop"])
async def test_training(worker, run_judge, on_no_answer):
    replies = ("w1 w2 w3 w4", "w1 </think> w3 w4", "</think> w5 w6")
    rollouts = [rollout_of(worker, reply) for reply in replies]
    assert [answer_of(rollout.text) for rollout in rollouts] == [None, " w3 w4", " w5 w6"]
    assert rollouts[0].finish_reason == "length"
    judge, run = run_judge(judge__on_no_answer=on_no_answer)
    try:
        rewards = (await judge.judge(1, "a", rollouts)).rewards
        assert rewards[0] == (0.0 if on_no_answer == "zero" else None) and None not in rewards[1:]
        assert (await judge.step_metrics(1, 1))["groups/no_answer_rollouts"] == 1
    finally:
        await judge.close()
    ((_, group),) = read_records(run.group_file(1))
    judged = {each["index"]: each["judgement"] for each in group["verdicts"]["answers"] if each["source"] == "student"}
    assert not judged[0] and judged[1] and judged[2]


async def test_validation(worker, run_judge, tmp_path):
    row = {"id": "q0", "prompt": "What is w1 of w2?", "answer": "w1 w2 w3 w4"}
    (tmp_path / "words.jsonl").write_text(json.dumps(row) + "\n")
    settings = {"data": {"words": str(tmp_path / "words.jsonl")}, "grader": {"words": "exact"}}
    judge, run = run_judge(
        validate__benchmarks=["words"], validate__n=2, eval__data=settings["data"], eval__grader=settings["grader"]
    )
    info = {"ropd_benchmark": "words", "ropd_id": "q0", "ropd_key": "null", "ropd_samples": [0, 1]}
    try:
        cut_off = validation_sample(info, 0, rollout_of(worker, "w1 w2 w3 w4"))
        ended = validation_sample(info, 1, rollout_of(worker, "w9 </think> w1 w2 w3 w4"))
        assert [await judge.grade(0, sample) for sample in (cut_off, ended)] == [0, 1]
        await judge.validated(0)
    finally:
        await judge.close()
    extracted = [record["grade"].get("extracted") for _, record in read_records(run.validation_file(0))]
    assert extracted == [None, "w1 w2 w3 w4"]

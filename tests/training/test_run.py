"""True runs of stock verl and stock vLLM on a tiny random model, judged by a server on loopback.

A start takes a minute or two, so each start serves several tests:

* ``stopped``: two steps, then the judge goes down and the run stops at the limit of missing groups;
* ``resumed``: the same run goes on with ``--resume`` and finishes;
* ``lora``: a run with an adapter, the thinking switch, a system prompt, ``on_no_answer: drop``, and a judge that
  has other choices than the default in everything.
"""

from __future__ import annotations

import json
import re
import threading

import pytest
from conftest import WORDS
from servers import Reply, ScriptedServer, Status

from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import prompt_hash

pytestmark = pytest.mark.training
pytest.importorskip("verl", reason="needs the CPU stack: make env")

PROMPTS_A_STEP, ROLLOUTS, STEPS = 4, 4, 4
POISON = "w1 w1"  # the rubricator never gives a rubric for this prompt


class Judge:
    """Criteria: the answer holds w3 (5 points), w4, w5, w6 (1 point each). Down once ``down_after`` groups came."""

    def __init__(self):
        self.seen: list[str] = []
        self.judged: list[tuple[str, tuple[str, ...], str]] = []
        self.down_after: int | None = None
        self.lock = threading.Lock()

    def __call__(self, body):
        text = body["messages"][-1]["content"]
        tag = re.search(r"<question-([0-9a-f]{16})>\n", text)[1]
        question = re.search(rf"<question-{tag}>\n(.*?)\n</question-{tag}>", text, re.DOTALL)[1]
        if body["response_format"]["json_schema"]["name"] == "ropd_rubric":
            with self.lock:
                self.seen.append(question)
                down = self.down_after is not None and len(self.seen) > self.down_after
            if down:
                return Status(503)
            return Reply("I would rather not." if POISON in question else json.dumps(RUBRIC))
        answers = re.findall(rf'<answer-{tag} index="\d+">(.*?)</answer-{tag}>', text, re.DOTALL)
        with self.lock:
            self.judged.append((question, tuple(answers), text))
        rows = [
            {"answer_index": k, "judgement": [word in a.split() for word in ("w3", "w4", "w5", "w6")], "final_score": 0}
            for k, a in enumerate(answers, start=1)
        ]
        return Reply(json.dumps({"schema_version": "ropd.batch_verifier.v2", "answers": rows}))


RUBRIC = {
    "schema_version": "ropd.rubric.v1",
    "rubrics": [
        {
            "criterion_id": f"c{k}",
            "category": "Task Completion",
            "criterion": f"Holds w{k + 2}.",
            "points": 5 if k == 1 else 1,
        }
        for k in range(1, 5)
    ],
    "maximum_score": 8,
}


@pytest.fixture(scope="module")
def judge():
    return Judge()


@pytest.fixture(scope="module")
def files(shell, tiny_model, judge):
    """Prompts, index and configuration; the judge's server runs as long as the module."""
    questions = [f"w{k} w{k}" for k in range(2 * PROMPTS_A_STEP)]
    with open(shell.folder / "prompts.jsonl", "w") as prompts, open(shell.folder / "teacher.jsonl", "w") as teacher:
        for k, question in enumerate(questions):
            prompts.write(json.dumps({"uid": f"p{k}", "prompt": question, "answer": "w3"}) + "\n")
            answers = [
                {"text": f"w3 w4 w5 w6 w{k + 7}", "finish_reason": "stop"},
                {"text": "w3 w4 w5 w6", "finish_reason": "stop"},
            ]
            record = {"uid": f"p{k}", "prompt": question, "raw_prompt_hash": prompt_hash(question), "answers": answers}
            teacher.write(json.dumps(record | {"model": "big"}) + "\n")
    shell.ropd("index", "build", "teacher.jsonl", "--out", "teacher.index")
    with ScriptedServer() as server:
        server.default = judge
        (shell.folder / "run.yaml").write_text(CONFIG.format(url=server.url, model=tiny_model))
        yield shell


CONFIG = """
device: cpu
judge: {{m: 2, max_failed_fraction: 0.3}}
rubricator: {{base_url: "{url}", model: judge, limits: {{max_retries: 0, timeout_s: 60}}}}
verifier: {{base_url: "{url}", model: judge, limits: {{max_retries: 0, timeout_s: 60}}}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 16, max_response_tokens: 12, shuffle: false}}
rollout: {{n: 4, temperature: 1.0}}
train: {{steps: 4, prompts_per_step: 4, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0, save_every: 1}}
"""

# verl's own look at the same things: what it put into the batch, and whether vLLM's probabilities are the actor's
LOOK = (
    "--set", "verl.trainer.rollout_data_dir=dumped",
    "--set", "verl.algorithm.rollout_correction.bypass_mode=false",
    "--set", "verl.actor_rollout_ref.rollout.calculate_log_probs=true",
)  # fmt: skip


@pytest.fixture(scope="module")
def stopped(files, judge):
    judge.down_after = 2 * PROMPTS_A_STEP
    _, err = files.ropd("train", "--config", "run.yaml", "--out", "run", *_look(files), code=1)
    return err


@pytest.fixture(scope="module")
def resumed(files, judge, stopped):
    judge.down_after = None
    kept = (files.folder / "run" / "metrics.jsonl").read_text()
    out, err = files.ropd("train", "--config", "run.yaml", "--out", "run", "--resume", "--json", *_look(files))
    return json.loads(out), err, kept


def _look(shell):
    folder = shell.folder / "dumped"
    return [word.replace("=dumped", f"={folder}") for word in LOOK]


def groups_of(shell, step, run="run"):
    return {g["uid"]: g for _, g in read_records(shell.folder / run / "groups" / f"step-{step}.jsonl.zst")}


def rows_of(shell, run="run"):
    return {row["step"]: row for _, row in read_records(shell.folder / run / "metrics.jsonl")}


def weights(folder):
    from safetensors.torch import load_file

    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def checkpoint(shell, step, run="run"):
    return shell.folder / run / "checkpoints" / f"global_step_{step}" / "actor" / "huggingface"


def test_too_many_missing_groups_stop_the_run_and_say_how_to_go_on(stopped):
    lines = [line for line in stopped.splitlines() if line.startswith(("ropd: error:", "hint:"))]
    assert len(lines) == 2 and "Traceback" not in stopped
    assert "step 3: 4 of 4 groups could not be judged" in lines[0] and "503" in lines[0]
    assert "--resume" in lines[1]


def test_a_group_that_failed_is_in_the_group_file_and_not_in_the_batch(files, stopped):
    groups = groups_of(files, 1)
    assert sorted(groups) == ["p0", "p1", "p2", "p3"]
    assert groups["p1"]["rewards"] is None and groups["p1"]["error"]["type"] == "ReplyInvalid"
    assert all(groups[uid]["error"] is None for uid in ("p0", "p2", "p3"))
    row = rows_of(files)[1]
    assert (row["groups/judged"], row["groups/missing"]) == (3, 1)
    dumped = [record for _, record in read_records(files.folder / "dumped" / "1.jsonl")]
    real = [record for record in dumped if "pad" not in str(record["uid"])]
    assert len([r for r in real if "w1 w1" in r["input"]]) == 0
    assert len(real) == 3 * ROLLOUTS


def test_rewards_in_verl_s_batch_are_those_of_the_verdicts(files, stopped):
    for step in (1, 2):
        groups = groups_of(files, step)
        said = sorted(
            (g["prompt"][0]["content"], rollout["text"].strip(), round(reward, 5))
            for g in groups.values()
            if g["rewards"] is not None
            for rollout, reward in zip(g["rollouts"], g["rewards"], strict=True)
        )
        dumped = [record for _, record in read_records(files.folder / "dumped" / f"{step}.jsonl")]
        batch = sorted(
            (re.search(r"user (w\d+ w\d+)", r["input"])[1], r["output"].strip(), round(r["score"], 5))
            for r in dumped
            if "pad" not in str(r["uid"])
        )
        assert batch == said and len(said) == (3 if step == 1 else 4) * ROLLOUTS
        assert len({score for *_, score in said}) > 1
        for g in groups.values():
            if g["rewards"] is None:
                continue
            for rollout, reward in zip(g["rollouts"], g["rewards"], strict=True):
                words = rollout["text"].split() if "<think>" not in rollout["text"] else ()  # no answer: 0
                expected = (5 * ("w3" in words) + sum(w in words for w in ("w4", "w5", "w6"))) / 8
                assert reward == pytest.approx(expected, abs=1e-6)


def test_weights_changed_and_vllm_got_them(files, stopped, tiny_model):
    first, second = weights(checkpoint(files, 1)), weights(checkpoint(files, 2))
    before = weights(tiny_model)
    assert set(before) <= set(first) | {"lm_head.weight"}
    moved = max((first[name] - before[name]).abs().max().item() for name in before if name in first)
    assert moved > 1e-4
    assert any((second[name] != first[name]).any() for name in first)
    rows = rows_of(files)
    for step in (1, 2):  # in step 2 vLLM samples from what step 1 trained; stale weights would show here
        assert rows[step]["training/rollout_probs_diff_max"] < 1e-5
    assert _probability_shift(tiny_model, checkpoint(files, 1), groups_of(files, 2)) > 1e-3


def _probability_shift(old, new, groups):
    """Largest change of a token's probability between two models, on the rollouts of a step: what the
    difference above would be if vLLM still had the old one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(old)
    ids = tokenizer(" ".join(g["prompt"][0]["content"] for g in groups.values()), return_tensors="pt").input_ids
    with torch.no_grad():
        logits = [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)(ids).logits for path in (old, new)]
    return (logits[0].softmax(-1) - logits[1].softmax(-1)).abs().max().item()


def test_a_resumed_run_goes_on_where_it_stopped(files, resumed):
    document, err, kept = resumed
    assert document["steps"] == STEPS and len(document["rewards"]) == STEPS
    text = (files.folder / "run" / "metrics.jsonl").read_text()
    assert text.startswith(kept) and kept.count("\n") == 2
    assert list(rows_of(files)) == [1, 2, 3, 4]
    assert groups_of(files, 3)["p0"]["error"] is None
    assert "Traceback" not in err


def test_the_checkpoint_is_a_folder_that_vllm_loads(files, resumed, tiny_model):
    document, _, _ = resumed
    sampled = files.json(
        "rollout",
        "prompts.jsonl",
        "--model-path",
        document["model"],
        "--out",
        "after.jsonl",
        "-n",
        3,
        "--max-tokens",
        8,
        "--seed",
        1,
    )
    assert (sampled["done"], sampled["failed"]) == (2 * PROMPTS_A_STEP, 0)
    records = [record for _, record in read_records(files.folder / "after.jsonl")]
    assert all(len(record["answers"]) == 3 for record in records)
    assert any(word in WORDS for record in records for a in record["answers"] for word in a["text"].split())


def test_a_finished_run_prints_its_result_and_starts_nothing(files, resumed, judge):
    document, _, _ = resumed
    asked = len(judge.seen)
    log = (files.folder / "run" / "train.log").stat().st_size
    assert files.json("train", "--config", "run.yaml", "--out", "run") == document
    assert len(judge.seen) == asked and (files.folder / "run" / "train.log").stat().st_size == log


def test_the_run_directory_holds_what_it_should(files, resumed):
    run = files.folder / "run"
    for name in ("config.yaml", "prompts.lock", "versions.json", "metrics.jsonl", "train.log", "result.json"):
        assert (run / name).stat().st_size > 0, name
    assert list((run / "tensorboard").rglob("events.out.*"))
    versions = json.loads((run / "versions.json").read_text())
    assert versions["verl"] == "0.9.1"
    row = rows_of(files)[4]
    assert set(row) >= {
        *("reward/mean", "reward/teacher_mean", "reward/teacher_below_student", "judge/seconds_mean"),
        *("groups/judged", "groups/missing", "groups/zero_variance", "judge/cache_hits"),
    }
    table = files.json("inspect-rubrics", "run")
    assert len(table["groups"]) == STEPS * PROMPTS_A_STEP


@pytest.fixture(scope="module")
def lora(files, judge):
    judge.down_after = None
    judge.judged.clear()
    changes = {
        "judge.form": "paper",
        "judge.rubric_per": "rollout",
        "judge.blind": "false",
        "judge.repeats": 3,
        "judge.verifier_instructions": "Mind the words.",
        "student.lora_rank": 4,
        "student.enable_thinking": "true",
        "student.system_prompt": "w30 w31",
        "judge.on_no_answer": "drop",
        "verl.trainer.rollout_data_dir": files.folder / "lora-dumped",
        "train.steps": 1,
        "train.lr": "1e-2",
    }
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    return files.json("train", "--config", "run.yaml", "--out", "lora", *sets)


def test_lora_trains_an_adapter_and_leaves_a_model_that_loads(files, lora, tiny_model):
    """The final folder is a whole model: the base with the adapter merged into it."""
    import torch
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).state_dict()
    merged = AutoModelForCausalLM.from_pretrained(lora["model"], dtype=torch.float32).state_dict()
    assert set(base) == set(merged)
    changed = {name for name in base if not torch.allclose(base[name], merged[name], atol=1e-7)}
    assert changed and all("proj" in name for name in changed)


def test_system_prompt_and_thinking_switch_reach_the_template(files, lora):
    groups = groups_of(files, 1, run="lora")
    assert len(groups) == PROMPTS_A_STEP
    log = (files.folder / "lora" / "verl.yaml").read_text()
    assert "enable_thinking: true" in log
    import pyarrow.parquet as pq

    (first, *_), *_ = pq.read_table(files.folder / "lora" / "prompts.parquet").column("prompt").to_pylist()
    assert first == {"role": "system", "content": "w30 w31"}


def test_the_choices_of_the_judge_reach_it(files, lora, judge):
    """Every answer was judged alone, three times, by a rubric of its rollout, by a verifier that knows whose it is."""
    groups = [group for group in groups_of(files, 1, run="lora").values() if group["rewards"] is not None]
    shown = {}
    for group in groups:
        assert group["rubric"]["rubric"] is None and group["verdicts"]["agreement"] == 1.0
        for own, rollout, verdict in zip(
            group["rubric"]["rubrics"], group["rollouts"], group["verdicts"]["answers"], strict=False
        ):
            has_answer = "<think>" not in rollout["text"] and bool(rollout["text"].strip())
            assert (own is not None) == has_answer == bool(verdict["judgement"])
            if has_answer:
                shown[group["prompt"][-1]["content"], (rollout["text"],)] = "student"
        shown |= {(group["prompt"][-1]["content"], (text,)): "teacher" for text in group["teacher_answers"]}
        by_whose = {a.get("rubric_of") for a in group["verdicts"]["answers"] if a["source"] == "teacher"}
        assert by_whose == {k for k, own in enumerate(group["rubric"]["rubrics"]) if own is not None}
    assert len(groups) > 1
    for key, author in shown.items():
        texts = [text for question, answers, text in judge.judged if (question, answers) == key]
        assert len(texts) % 3 == 0 and texts, "each question three times"
        assert all("Mind the words." in text for text in texts)
        assert any(f"written by the {author}" in text for text in texts)


def test_a_dropped_rollout_has_no_row_and_its_siblings_have(files, lora):
    groups = groups_of(files, 1, run="lora")
    judged = [g for g in groups.values() if g["rewards"] is not None]
    for g in judged:
        for rollout, reward in zip(g["rollouts"], g["rewards"], strict=True):
            no_answer = "<think>" in rollout["text"] or not rollout["text"].strip()
            assert (reward is None) == no_answer
    rewards = [reward for g in judged for reward in g["rewards"]]
    if None not in rewards:
        pytest.skip("every rollout of this run has an answer")
    dumped = [record for _, record in read_records(files.folder / "lora-dumped" / "1.jsonl")]
    real = [record for record in dumped if "pad" not in str(record["uid"])]
    assert len(real) == sum(reward is not None for reward in rewards)
    assert not any("<think>" in record["output"] for record in real)

"""True runs of stock verl and stock vLLM on a tiny random model, judged by a server on loopback.

A start takes a minute or two, so ``make test`` has three, and each serves many tests:

* ``stopped``: two steps with a reward of three parts, validated, a checkpoint each, and what a GPU without flash-attn
  computes by; a group that is always missing;
  then the judge goes down and the run stops at the limit of missing groups;
* ``resumed``: the same run goes on with ``--resume`` and finishes;
* ``lora``: a run with an adapter, the thinking switch, a system prompt, ``on_no_answer: drop``, a judge that has
  other choices than the default in everything, and a second judge, whose opinion stops the run in its second step.
"""

from __future__ import annotations

import json
import re
import threading

import pytest
from conftest import WORDS
from judges import read
from servers import Reply, ScriptedServer, Status
from tiny_runs import PROMPTS_A_STEP, ROLLOUTS, check_rewards, groups_of, has_answer, reply_of, rows_of, write_inputs

from ropd_cli.records.files import read_records

pytestmark = [pytest.mark.training, pytest.mark.timeout(900)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

STEPS = 4
QUESTIONS, SAMPLES = 3, 2
POISON = "w1 w1"  # the rubricator never gives a rubric for this prompt


class Judge:
    """The judge of ``tiny_runs``. It is down once ``down_after`` groups came."""

    def __init__(self):
        self.rubrics = 0
        self.judged = []
        self.down_after: int | None = None
        self.lock = threading.Lock()

    def __call__(self, body):
        seen = read(body)
        with self.lock:
            if seen.role == "verifier":
                self.judged.append(seen)
                return reply_of(seen)
            self.rubrics += 1
            if self.down_after is not None and self.rubrics > self.down_after:
                return Status(503)
        return Reply("I would rather not.") if seen.question == POISON else reply_of(seen)


@pytest.fixture(scope="module")
def judge():
    return Judge()


@pytest.fixture(scope="module")
def files(shell, tiny_model, judge):
    """Prompts, index, benchmarks and configuration; the judges' servers run as long as the module."""
    write_inputs(shell, 2 * PROMPTS_A_STEP, answers=("w3 w4 w5 w6 w7", "w3 w4 w5 w6"))
    with open(shell.folder / "words.jsonl", "w") as words, open(shell.folder / "choices.jsonl", "w") as choices:
        for k in range(QUESTIONS):
            words.write(json.dumps({"id": f"q{k}", "prompt": f"w{k}", "answer": f"w{k}"}) + "\n")
            choice = {"id": f"c{k}", "prompt": f"w{k}", "choices": [f"w{k}", f"w{k + 10}"], "answer": "A"}
            choices.write(json.dumps(choice) + "\n")
    with ScriptedServer() as server, ScriptedServer() as second:
        server.default = judge
        # pleased by the same words as the first judge, but by nothing in the prompts of the second step
        second.default = lambda body: reply_of(seen := read(body), strict=int(seen.question.split()[0][1:]) >= 4)
        shell.second_url = second.url
        (shell.folder / "run.yaml").write_text(CONFIG.format(url=server.url, model=tiny_model))
        yield shell


CONFIG = """
device: cpu
judge: {{m: 2, max_failed_fraction: 0.3}}
rubricator: &judge {{base_url: "{url}", model: judge, limits: {{max_retries: 0, timeout_s: 60}}}}
verifier: *judge
prices: {{judge: {{input: 1, output: 10}}}}
reward: {{length: 0.5, length_free_tokens: 0, length_max_tokens: 12, custom: 0.25, custom_function: "mine.py:variety"}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 64, max_response_tokens: 12, shuffle: false}}
rollout: {{n: 4, temperature: 1.0, kv_cache_gb: 1}}
train: {{steps: 4, prompts_per_step: 4, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0, save_every: 1,
         keep_checkpoints: 2}}
validate: {{benchmarks: [words, choices], n: 2}}
eval: {{data: {{words: words.jsonl, choices: choices.jsonl}}, grader: {{words: exact}}}}
"""


def train(shell, out, *options, code=0, **settings):
    """``ropd train`` on run.yaml with these settings, ``__`` for dots."""
    sets = [word for key, value in settings.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]
    return shell.ropd("train", "--config", "run.yaml", "--out", out, *options, *sets, code=code)


def looked_at(shell, out):
    """verl's own look at the same things: what it put into the batch, and whether vLLM's probabilities are the
    actor's."""
    return {
        "verl__trainer__rollout_data_dir": shell.folder / f"{out}-dumped",
        "verl__algorithm__rollout_correction__bypass_mode": "false",
        "verl__actor_rollout_ref__rollout__calculate_log_probs": "true",
    }


# what a GPU without flash-attn gets: one sequence per micro-batch, log-probabilities fused with the last layer
AS_ON_A_GPU = {
    "verl__actor_rollout_ref__model__use_fused_kernels": "true",
    "verl__actor_rollout_ref__actor__use_dynamic_bsz": "false",
    "verl__actor_rollout_ref__actor__ppo_micro_batch_size_per_gpu": 1,
    "verl__actor_rollout_ref__rollout__log_prob_use_dynamic_bsz": "false",
    "verl__actor_rollout_ref__rollout__log_prob_micro_batch_size_per_gpu": 1,
}


def batch_of(shell, out, step):
    """The rows of verl's batch, without those that fill it up."""
    records = [record for _, record in read_records(shell.folder / f"{out}-dumped" / f"{step}.jsonl")]
    return [record for record in records if "pad" not in str(record["uid"])]


@pytest.fixture(scope="module")
def stopped(files, judge):
    judge.down_after = 2 * PROMPTS_A_STEP
    _, err = train(files, "run", code=1, **looked_at(files, "run"), **AS_ON_A_GPU)
    return err


@pytest.fixture(scope="module")
def resumed(files, judge, stopped):
    judge.down_after = None
    run = files.folder / "run"
    kept = {name: (run / name).read_bytes() for name in ("metrics.jsonl", "groups/step-1.jsonl.zst")}
    out, err = train(files, "run", "--resume", "--json", **looked_at(files, "run"), **AS_ON_A_GPU)
    return json.loads(out), err, kept


def weights(folder):
    from safetensors.torch import load_file

    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def checkpoint(shell, step):
    return shell.folder / "run" / "checkpoints" / f"global_step_{step}" / "actor" / "huggingface"


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
    row = rows_of(files)[0]
    assert (row["groups/judged"], row["groups/missing"]) == (3, 1)
    real = batch_of(files, "run", 1)
    assert len(real) == 3 * ROLLOUTS and not [record for record in real if POISON in record["input"]]


def test_rewards_in_verl_s_batch_are_those_of_the_verdicts(files, stopped):
    for step in (1, 2):
        judged = [group for group in groups_of(files, step).values() if group["rewards"] is not None]
        said = sorted(
            (group["prompt"][0]["content"], rollout["text"].strip(), round(reward, 5))
            for group in judged
            for rollout, reward in zip(group["rollouts"], group["rewards"], strict=True)
        )
        batch = sorted(
            (re.search(r"user (w\d+ w\d+)", r["input"])[1], r["output"].strip(), round(r["score"], 5))
            for r in batch_of(files, "run", step)
        )
        assert batch == said and len(said) == (3 if step == 1 else 4) * ROLLOUTS
        assert len({score for *_, score in said}) > 1
        for group in judged:
            check_rewards(group)


def test_parts_and_money_are_in_the_metrics(files, stopped):
    for step, row in enumerate(rows_of(files)[:2], start=1):
        judged = [group for group in groups_of(files, step).values() if group["rewards"] is not None]
        for part in ("rubric", "length", "custom"):
            values = [value for group in judged for value in group["verdicts"]["parts"][part]]
            assert row[f"reward/{part}_mean"] == pytest.approx(sum(values) / len(values))
        assert row["judge/cost_usd"] > 0 and row["judge/requests_sent"] >= 2 * len(judged)


def test_weights_changed_and_vllm_got_them(files, stopped, tiny_model):
    first, second = weights(checkpoint(files, 1)), weights(checkpoint(files, 2))
    before = weights(tiny_model)
    assert set(before) <= set(first) | {"lm_head.weight"}
    moved = max((first[name] - before[name]).abs().max().item() for name in before if name in first)
    assert moved > 1e-4
    assert any((second[name] != first[name]).any() for name in first)
    for row in rows_of(files)[:2]:  # in step 2 vLLM samples from what step 1 trained; stale weights would show here
        assert row["training/rollout_probs_diff_max"] < 1e-5
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
    metrics = (files.folder / "run" / "metrics.jsonl").read_bytes()
    assert metrics.startswith(kept["metrics.jsonl"]) and kept["metrics.jsonl"].count(b"\n") == 2
    assert (files.folder / "run" / "groups" / "step-1.jsonl.zst").read_bytes() == kept["groups/step-1.jsonl.zst"]
    assert [row["step"] for row in rows_of(files)] == [1, 2, 3, 4]
    # the step that was begun twice has its own prompts, and none was passed over
    assert set(groups_of(files, 3)) == {"p0", "p1", "p2", "p3"} and set(groups_of(files, 4)) == {"p4", "p5", "p6", "p7"}
    assert groups_of(files, 3)["p0"]["error"] is None
    assert "Traceback" not in err


def test_every_validation_is_graded_and_written(files, resumed):
    """Before the first step and after each; the one that the resumed run began with takes its step's place."""
    rows = rows_of(files, file="validation.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    for row in rows:
        for name, figures in row["benchmarks"].items():
            assert figures["problems"] == QUESTIONS and figures["graded"] == QUESTIONS * SAMPLES, (name, figures)
            assert figures["missing"] == 0 and 0 <= figures["metrics"]["accuracy"]["value"] <= 1
    records = [record for _, record in read_records(files.folder / "run" / "validation" / "step-1.jsonl.zst")]
    keys = {(r["sample"]["benchmark"], r["sample"]["id"], r["sample"]["sample"]) for r in records}
    assert len(keys) == len(records) == 2 * QUESTIONS * SAMPLES
    orders = [r["sample"]["key"]["order"] for r in records if r["sample"]["benchmark"] == "choices"]
    assert all(sorted(order) == [0, 1] for order in orders)


def test_the_metrics_are_those_of_the_graders(files, resumed):
    by_step = {row["step"]: row["benchmarks"] for row in rows_of(files, file="validation.jsonl")}
    for row in rows_of(files):
        if row["step"] != 2:  # which was validated once more when the run went on
            assert row["val/words/accuracy"] == by_step[row["step"]]["words"]["metrics"]["accuracy"]["value"]
        assert row["val/choices/missing"] == 0


def test_the_best_checkpoint_is_kept_and_eval_says_what_chose_it(files, resumed):
    run = files.folder / "run"
    assert json.loads((run / "best.json").read_text())["benchmark"] == "words"
    assert (run / "best" / "config.json").is_file()
    found = files.json(
        "eval", "--benchmarks", "words", "--data", "words=words.jsonl", "--grader", "words=exact", "-n", "2",
        "--max-tokens", "4", "--model-path", run / "best", "--out", "evaluated", "--seed", "1",
    )  # fmt: skip
    assert any("words: this checkpoint was chosen by its score on this set" in each for each in found["warnings"])
    assert found["benchmarks"][0]["figures"]["graded"] == QUESTIONS * SAMPLES


def test_the_checkpoint_is_a_folder_that_ropd_rollout_samples_from(files, resumed):
    """Also: a prompt that is too long fails alone, the system prompt is shown, and what is done is not done again."""
    document, _, _ = resumed
    with open(files.folder / "questions.jsonl", "w") as out:
        for k in range(6):
            out.write(json.dumps({"uid": f"q{k}", "prompt": " ".join(WORDS[: k + 1])}) + "\n")
        out.write(json.dumps({"uid": "long", "prompt": " ".join(WORDS * 6)}) + "\n")
    command = [
        "rollout", "questions.jsonl", "--model-path", document["model"], "--out", "after.jsonl", "-n", 3,
        "--max-tokens", 8, "--seed", 1, "--set", "student.system_prompt=w9 w9 w9",
    ]  # fmt: skip
    sampled = files.json(*command, code=3)
    assert (sampled["done"], sampled["failed"]) == (6, 1)
    ((_, failed),) = read_records(files.folder / "after.jsonl.failed.jsonl")
    assert failed["uid"] == "long" and failed["error"]["type"] == "PromptRefused"
    records = {record["uid"]: record for _, record in read_records(files.folder / "after.jsonl")}
    assert all(len(record["answers"]) == 3 for record in records.values())
    texts = [[answer["text"] for answer in record["answers"]] for record in records.values()]
    assert any(len(set(each)) > 1 for each in texts)
    assert any(word in WORDS for each in texts for text in each for word in text.split())
    # system w9 w9 w9 <turn>, user w0 <turn>, assistant
    assert records["q0"]["answers"][0]["usage"]["prompt_tokens"] == 5 + 3 + 1
    assert records["q0"]["sampling"]["system_prompt"] == "w9 w9 w9"
    # all there: no model is loaded
    assert files.json(*command, "--limit", 6)["skipped"] == 6


def test_a_finished_run_prints_its_result_and_starts_nothing(files, resumed, judge):
    document, _, _ = resumed
    rubrics = judge.rubrics
    log = (files.folder / "run" / "train.log").stat().st_size
    out, _ = train(files, "run", "--json", **looked_at(files, "run"), **AS_ON_A_GPU)
    assert json.loads(out) == document
    _, err = train(files, "run", code=2)
    assert "run is a finished run of other settings: " in err
    assert judge.rubrics == rubrics and (files.folder / "run" / "train.log").stat().st_size == log


def test_the_run_directory_holds_what_it_should(files, resumed):
    run = files.folder / "run"
    for name in ("config.yaml", "prompts.lock", "versions.json", "metrics.jsonl", "train.log", "result.json"):
        assert (run / name).stat().st_size > 0, name
    assert "<html" in (run / "report.html").read_text()
    assert list((run / "tensorboard").rglob("events.out.*"))
    versions = json.loads((run / "versions.json").read_text())
    assert versions["verl"] == "0.9.1"
    assert set(rows_of(files)[3]) >= {
        *("reward/mean", "reward/teacher_mean", "reward/teacher_below_student", "judge/seconds_mean"),
        *("groups/judged", "groups/missing", "groups/zero_variance", "judge/cache_hits"),
    }
    table = files.json("inspect-rubrics", "run")
    assert len(table["groups"]) == STEPS * PROMPTS_A_STEP


@pytest.fixture(scope="module")
def lora(files, judge):
    """The messages of the run that was stopped."""
    judge.down_after = None
    judge.judged.clear()
    _, err = train(
        files,
        "lora",
        code=1,
        judge__form="paper",
        judge__rubric_per="rollout",
        judge__blind="false",
        judge__repeats=3,
        judge__verifier_instructions="Mind the words.",
        judge__on_no_answer="drop",
        reward__length=0,
        reward__custom=0,
        student__lora_rank=4,
        student__enable_thinking="true",
        student__system_prompt="w30 w31",
        validate__benchmarks="[]",
        monitor__share=1.0,
        monitor__window=1,
        monitor__judge__base_url=files.second_url,
        monitor__judge__model="second",
        monitor__stop__gap_growth=0.001,
        prices__second="{input: 1, output: 10}",
        train__steps=2,
        train__save_every="null",
        train__lr="1e-2",
        verl__trainer__rollout_data_dir=files.folder / "lora-dumped",
    )
    return err


def test_system_prompt_and_thinking_switch_reach_the_template(files, lora):
    import pyarrow.parquet as pq

    assert len(groups_of(files, 1, run="lora")) == PROMPTS_A_STEP
    assert "enable_thinking: true" in (files.folder / "lora" / "verl.yaml").read_text()
    (first, *_), *_ = pq.read_table(files.folder / "lora" / "prompts.parquet").column("prompt").to_pylist()
    assert first == {"role": "system", "content": "w30 w31"}
    assert all(re.search(r"system w30 w31 .*w56 ", row["input"]) for row in batch_of(files, "lora", 1))


def test_the_choices_of_the_judge_reach_it(files, lora, judge):
    """Every answer was judged alone, three times, by a rubric of its rollout, by a verifier that knows whose it is."""
    groups = [group for group in groups_of(files, 1, run="lora").values() if group["rewards"] is not None]
    shown = {}
    for group in groups:
        assert group["rubric"]["rubric"] is None and group["verdicts"]["agreement"] == 1.0
        for own, rollout, verdict in zip(
            group["rubric"]["rubrics"], group["rollouts"], group["verdicts"]["answers"], strict=False
        ):
            assert (own is not None) == has_answer(rollout) == bool(verdict["judgement"])
            if has_answer(rollout):
                shown[group["prompt"][-1]["content"], (rollout["text"],)] = "student"
        shown |= {(group["prompt"][-1]["content"], (text,)): "teacher" for text in group["teacher_answers"]}
        by_whose = {a.get("rubric_of") for a in group["verdicts"]["answers"] if a["source"] == "teacher"}
        assert by_whose == {k for k, own in enumerate(group["rubric"]["rubrics"]) if own is not None}
    assert len(groups) > 1
    for key, author in shown.items():
        texts = [seen.text for seen in judge.judged if (seen.question, seen.answers) == key]
        assert len(texts) % 3 == 0 and texts, "each question three times"
        assert all("Mind the words." in text for text in texts)
        assert any(f"written by the {author}" in text for text in texts)


def test_a_dropped_rollout_has_no_row_and_its_siblings_have(files, lora):
    judged = [g for g in groups_of(files, 1, run="lora").values() if g["rewards"] is not None]
    for g in judged:
        assert [reward is not None for reward in g["rewards"]] == [has_answer(rollout) for rollout in g["rollouts"]]
    rewards = [reward for g in judged for reward in g["rewards"]]
    if None not in rewards:
        pytest.skip("every rollout of this run has an answer")
    real = batch_of(files, "lora", 1)
    assert len(real) == sum(reward is not None for reward in rewards)
    assert not any("<think>" in record["output"] for record in real)


def test_a_growing_gap_between_two_judges_stops_the_run_before_the_step_is_learnt_from(files, lora):
    error, hint = lora.splitlines()[-2:]
    assert error.startswith("ropd: error: step 2: ") and "gap between the first judge and the second" in error
    assert "inspect-rubrics" in hint and "monitor.stop.gap_growth" in hint and "--resume" in hint
    (row,) = rows_of(files, run="lora")
    judged = [group for group in groups_of(files, 1, run="lora").values() if group["rewards"] is not None]
    assert (row["step"], row["monitor/gap"], row["monitor/judged"]) == (1, 0.0, len(judged))
    alarms = [alarm for alarm in rows_of(files, "lora", "monitor.jsonl") if alarm["rule"] == "gap_growth"]
    assert [(alarm["step"], alarm["action"]) for alarm in alarms][-1] == (2, "stop")
    kept = [group for _, group in read_records(files.folder / "lora" / "monitor" / "step-2.jsonl.zst")]
    assert {group["uid"] for group in kept} <= {"p4", "p5", "p6", "p7"} and kept
    assert "gap between the first judge and the second" in (files.folder / "lora" / "report.html").read_text()


@pytest.fixture(scope="module")
def merged(files, lora):
    """The run ended with the step that it has: verl is not started for that."""
    log = (files.folder / "lora" / "train.log").stat().st_size
    config = files.folder / "lora" / "config.yaml"
    out, _ = files.ropd("train", "--config", config, "--resume", "--json", "--set", "train.steps=1")
    assert (files.folder / "lora" / "train.log").stat().st_size == log
    return json.loads(out)


def test_lora_trains_an_adapter_and_leaves_a_model_that_loads(merged, tiny_model):
    """The final folder is a whole model: the base with the adapter merged into it."""
    import torch
    from transformers import AutoModelForCausalLM

    assert merged["steps"] == 1
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).state_dict()
    trained = AutoModelForCausalLM.from_pretrained(merged["model"], dtype=torch.float32).state_dict()
    assert set(base) == set(trained)
    changed = {name for name in base if not torch.allclose(base[name], trained[name], atol=1e-7)}
    assert changed and all("proj" in name for name in changed)

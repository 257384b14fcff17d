"""``method: sft``: true runs of verl's SFT trainer on the tiny model, and what it is given to train on.

A start takes ten seconds (no Ray, no vLLM). ``unbroken`` trains twelve steps with a checkpoint each; ``resumed`` loses
all but the first of them and goes on with ``--resume``.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter

import pytest
import yaml
from tiny_runs import PROMPTS_A_STEP, rows_of, write_inputs

from ropd_cli.config import load_config
from ropd_cli.config.load import dump_config
from ropd_cli.errors import ConfigError
from ropd_cli.records.schemas import load_prompts, with_system
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.supervised_config import compose_supervised
from ropd_cli.training.verl_config import compose

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]
pytest.importorskip("verl", reason="needs the CPU stack: make env")

STEPS, PROMPTS, K = 12, 2 * PROMPTS_A_STEP, 2
ANSWERS = ("w3 w4 w5 w6 w7", "w3 w4 w5 w6", "w9 w10")
CONFIG = """
method: sft
device: cpu
judge: {{m: 2}}
student: {{model_path: "{model}", dtype: float32}}
data: {{prompts: prompts.jsonl, index: teacher.index, max_prompt_tokens: 64, max_response_tokens: 12}}
rollout: {{n: 4}}
train: {{steps: 12, prompts_per_step: 4, lr: 1e-3, lr_schedule: constant, weight_decay: 0.0, save_every: 1,
         keep_checkpoints: 12}}
"""


@pytest.fixture(scope="module")
def files(shell, tiny_model):
    write_inputs(shell, PROMPTS, answers=ANSWERS)
    (shell.folder / "run.yaml").write_text(CONFIG.format(model=tiny_model))
    return shell


def train(shell, out, *options, code=0, **settings):
    """``ropd train`` on run.yaml with these settings, ``__`` for dots."""
    sets = [word for key, value in settings.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]
    return shell.ropd("train", "--config", "run.yaml", "--out", out, *options, *sets, code=code)


def losses(shell, run):
    return [row["train/loss"] for row in rows_of(shell, run)]


@pytest.fixture(scope="module")
def unbroken(files):
    out, err = train(files, "run")
    rows = rows_of(files)
    shutil.copytree(files.folder / "run", files.folder / "unbroken")
    return {"out": out, "err": err, "rows": rows}


@pytest.fixture(scope="module")
def resumed(files, unbroken):
    run = RunDir(files.folder / "run")
    run.result.unlink()
    for step in range(2, STEPS + 1):
        shutil.rmtree(run.saved.folder(step))
    _, err = train(files, "run", "--resume")
    return err


# ------------------------------------------------------------------------------------------------- what it is given


@pytest.fixture(scope="module")
def rows(files, tmp_path_factory):
    """Function that builds the dataset of a run with these settings, as verl does."""
    from verl.utils import hf_tokenizer

    from ropd_cli.training.verl.supervised import TeacherAnswers

    def make(**settings):
        folder = files.folder
        flags = {"data.prompts": str(folder / "prompts.jsonl"), "data.index": str(folder / "teacher.index")}
        flags |= {"out": str(tmp_path_factory.mktemp("rows"))}
        flags |= {key.replace("__", "."): value for key, value in settings.items()}
        config = load_config(folder / "run.yaml", flags=flags, environ={})
        run = RunDir(files.folder / config.out)
        run.config.write_text(dump_config(config))
        tree = compose_supervised(config, run, PROMPTS)
        tokenizer = hf_tokenizer(tree.model.path)
        samples = tree.data.train_max_samples
        return TeacherAnswers(tree.data.train_files, tokenizer, tree.data, max_samples=samples), tokenizer, config

    return make


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_verl_takes_the_configuration(files, device):
    from omegaconf import OmegaConf
    from verl.utils.config import omega_conf_to_dataclass

    settings = {"out": str(files.folder / "run"), "device": device, "train.lr_schedule": "cosine", "train.epochs": 3}
    config = load_config(files.folder / "run.yaml", overrides=["train.steps=null"], flags=settings, environ={})
    tree = OmegaConf.create(OmegaConf.to_yaml(compose_supervised(config, RunDir(files.folder / "run"), PROMPTS + 1)))
    made = {
        name: omega_conf_to_dataclass(tree[name]) for name in ("model", "engine", "optim", "checkpoint", "profiler")
    }
    assert made["engine"].strategy == "fsdp2" and made["engine"].use_torch_compile == (device == "gpu")
    assert made["optim"].lr_scheduler_type == "cosine" and list(made["optim"].betas) == [0.9, 0.95]
    assert made["optim"].clip_grad == 1.0 and made["optim"].lr == 1e-3
    assert tree.trainer.total_training_steps == 3 * (PROMPTS // PROMPTS_A_STEP)
    assert tree.data.train_batch_size * tree.trainer.total_training_steps == tree.data.train_max_samples
    assert tree.model.override_config.attn_implementation == "sdpa" and tree.model.use_fused_kernels == (
        device == "gpu"
    )
    packed = (tree.data.use_dynamic_bsz, tree.data.micro_batch_size_per_gpu)
    assert packed[0] if device == "cpu" else packed == (False, 1)  # there is no flash-attn here
    assert tree.ropd.dtype == "float32" and tree.engine.mixed_precision.param_dtype == "fp32"
    assert tree.data.max_token_len_per_gpu >= config.data.max_prompt_tokens + config.data.max_response_tokens


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("verl.actor_rollout_ref.actor.use_torch_compile=false", "verl.actor_rollout_ref: unknown key"),
        ("verl.optim.learning_rate=1", "verl.optim.learning_rate: unknown key"),
        ("verl.trainer.logger=[console]", "metrics.jsonl is copied from verl's file logger"),
        ("verl.data.pad_mode=right", "the rows have lengths of their own"),
    ],
)
def test_raw_settings_that_do_not_fit_are_refused(files, setting, said):
    config = load_config(files.folder / "run.yaml", overrides=[setting], environ={})
    with pytest.raises(ConfigError) as fault:
        compose_supervised(config, RunDir(files.folder / "run"), PROMPTS)
    assert said in str(fault.value.problems)


def test_the_dry_run_has_no_forecast(files):
    out, err = files.ropd("train", "-c", "run.yaml", "--out", "dry", "--dry-run", "--set", "verl.engine.fsdp_size=1")
    document = yaml.safe_load(out)
    assert document["engine"]["fsdp_size"] == 1 and "forecast" not in err
    assert "checkpointing" in err and "vLLM" not in err and "rollout" not in err
    assert not (files.folder / "dry").exists()


def parts(row):
    """(prompt tokens, answer tokens) of a row by its mask."""
    ids, mask = row["input_ids"].tolist(), row["loss_mask"].tolist()
    count = mask.index(1)
    assert mask == [0] * count + [1] * (len(ids) - count)
    assert row["position_ids"].tolist() == list(range(len(ids)))
    return ids[:count], ids[count:]


def test_the_loss_is_on_the_answer_and_its_end_alone(rows):
    dataset, tokenizer, _ = rows()
    assert len(dataset) == STEPS * PROMPTS_A_STEP * K
    for prompt, answer in map(parts, map(dataset.__getitem__, range(len(dataset)))):
        words = tokenizer.decode(prompt).split()
        assert [words[0], *words[3:]] == ["user", "<|turn|>", "assistant"] and words[1] == words[2]
        assert answer[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(answer[:-1]) in ANSWERS


def test_the_prompt_s_tokens_are_those_of_verl_s_agent_loop(rows):
    from omegaconf import OmegaConf
    from transformers import AutoConfig
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap
    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

    dataset, tokenizer, config = rows(
        student__system_prompt="w1 w2", student__enable_thinking=True, data__shuffle=False
    )
    tree = compose(config, RunDir(dataset._index.path.parent), PROMPTS, "/tmp")
    OmegaConf.resolve(tree)

    async def of_a_rollout(messages):
        loop = SingleTurnAgentLoop(
            trainer_config=DictConfigWrap(tree),
            server_manager=None,
            tokenizer=tokenizer,
            processor=None,
            dataset_cls=None,
            data_config=DictConfigWrap(tree.data),
            hf_model_type=AutoConfig.from_pretrained(config.student.model_path).model_type,
        )
        return await loop.ct_build_initial_tokens(messages)

    for k, prompt in enumerate(load_prompts(config.data.prompts)):
        messages = [m.model_dump(mode="json") for m in with_system(prompt.messages, "w1 w2")]
        tokens, _ = parts(dataset[k * K])
        assert tokens == asyncio.run(of_a_rollout(messages))
        assert tokenizer.decode(tokens) == f"system w1 w2 <|turn|> user w{k} w{k} <|turn|> w56 assistant"


def test_an_epoch_has_k_answers_of_each_prompt_and_the_index_turns_over(rows):
    dataset, _, _ = rows()
    pairs = [tuple(map(tuple, parts(dataset[k]))) for k in range(3 * PROMPTS * K)]
    epochs = [pairs[k : k + PROMPTS * K] for k in range(0, len(pairs), PROMPTS * K)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch)
        assert set(Counter(prompt for prompt, _ in epoch).values()) == {K}
    assert set(Counter(pairs).values()) == {2}  # of three answers two an epoch


def test_without_rotation_each_epoch_has_the_same_answers(rows):
    dataset, _, _ = rows(judge__rotate_answers=False)
    pairs = [tuple(map(tuple, parts(dataset[k]))) for k in range(3 * PROMPTS * K)]
    epochs = [pairs[k : k + PROMPTS * K] for k in range(0, len(pairs), PROMPTS * K)]
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2]) and epochs[0] != epochs[1]  # the order is the epoch's


def test_the_seed_and_the_epoch_decide_the_order(rows):
    def prompts_of(**settings):
        dataset, _, _ = rows(**settings)
        return [tuple(parts(dataset[k])[0]) for k in range(2 * PROMPTS * K)]

    first, again, other = prompts_of(), prompts_of(), prompts_of(seed=1)
    assert first == again != other
    assert first[: PROMPTS * K] != first[PROMPTS * K :]
    assert sorted(first) == sorted(other)
    in_order, once = prompts_of(data__shuffle=False), sorted(set(first))
    assert in_order[: PROMPTS * K] == in_order[PROMPTS * K :] == [prompt for prompt in once for _ in range(K)]


def test_more_steps_do_not_change_the_first_ones(rows):
    few, many = (rows(train__steps=steps)[0] for steps in (2, 20))
    assert [parts(few[k]) for k in range(len(few))] == [parts(many[k]) for k in range(len(few))]


def test_an_answer_that_is_too_long_is_cut_without_an_end(rows):
    dataset, tokenizer, _ = rows(data__max_response_tokens=5)
    for _, answer in map(parts, map(dataset.__getitem__, range(len(dataset)))):
        assert tokenizer.decode(answer) in ("w3 w4 w5 w6 w7", "w3 w4 w5 w6 <|turn|>", "w9 w10 <|turn|>")


# ------------------------------------------------------------------------------------------------------ true runs


def test_the_loss_falls(files, unbroken):
    rows = unbroken["rows"]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[-1]["train/loss"] < rows[0]["train/loss"] / 2
    assert all(row["answers/trained"] == PROMPTS_A_STEP * K and row["answers/too_long"] == 0 for row in rows)
    assert all(row["timing_s/step"] > 0 and row["train/lr"] == 1e-3 for row in rows)
    assert f"step 1: loss {rows[0]['train/loss']:.3f}, " in unbroken["err"]
    assert unbroken["err"].startswith("train: reading prompts and settings; log: ")
    assert "\nlog of the training process: " in unbroken["err"]
    assert (
        f"loss {rows[0]['train/loss']:.3f} at the first and {rows[-1]['train/loss']:.3f} at the last" in unbroken["out"]
    )


def test_the_first_loss_is_that_of_transformers(files, tiny_model, unbroken, rows):
    import torch
    from transformers import AutoModelForCausalLM

    dataset, _, _ = rows()
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    total, count = 0.0, 0
    for k in range(PROMPTS_A_STEP * K):
        prompt, answer = parts(dataset[k])
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        log_probs = torch.log_softmax(logits.double(), -1)[range(len(answer)), answer]
        total, count = total - log_probs.sum().item(), count + len(answer)
    assert unbroken["rows"][0]["train/loss"] == pytest.approx(total / count, abs=1e-5)
    assert unbroken["rows"][0]["answers/tokens_mean"] == pytest.approx(count / (PROMPTS_A_STEP * K))


def test_the_model_is_a_plain_one_that_gives_the_answers(files, unbroken):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = RunDir(files.folder / "unbroken")
    model, tokenizer = (kind.from_pretrained(run.huggingface(STEPS)) for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert run.finished()["model"] == str(files.folder / "run/checkpoints" / f"global_step_{STEPS}" / "huggingface")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "w1 w1"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    said = model.generate(**ids, max_new_tokens=8, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert tokenizer.decode(said).split()[0] in ("w3", "w9")


def test_a_resumed_run_goes_on_exactly(files, unbroken, resumed):
    import torch
    from safetensors.torch import load_file

    assert "steps after 1 are made again" in resumed
    again = rows_of(files)
    for name in ("step", "train/loss", "train/grad_norm", "answers/tokens_mean"):
        assert [row[name] for row in again] == [row[name] for row in unbroken["rows"]]
    before, after = (
        load_file(RunDir(files.folder / name).huggingface(STEPS) / "model.safetensors") for name in ("unbroken", "run")
    )
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    _, err = train(files, "run")  # a finished run is not run again
    assert "step" not in err


def test_report_and_inspect(files, unbroken):
    document = files.json("report", "unbroken")
    (run,) = document["runs"]
    rows = unbroken["rows"]
    assert run["loss_first_third"] == pytest.approx(sum(row["train/loss"] for row in rows[:4]) / 4)
    assert run["loss_last_third"] == pytest.approx(sum(row["train/loss"] for row in rows[-4:]) / 4)
    assert run["linter_findings_per_group"] is None
    page = (files.folder / "unbroken" / "report.html").read_text()
    assert "Loss on the teacher&#39;s answers, per token" in page and "Rubrics" not in page
    assert "12 steps, 96 teacher answers" in page and "The mean loss fell" in page
    _, err = files.ropd("inspect-rubrics", "unbroken", code=2)
    assert "a run of method sft has no rubrics" in err and "Traceback" not in err


@pytest.mark.long
def test_two_devices_and_an_adapter(files, unbroken):
    import torch
    from safetensors.torch import load_file

    train(files, "two", train__devices_per_node=2, train__steps=3)
    assert losses(files, "two") == pytest.approx([row["train/loss"] for row in unbroken["rows"][:3]], abs=1e-4)
    train(files, "adapter", student__lora_rank=4, train__steps=2, train__save_every=1)
    run = RunDir(files.folder / "adapter")
    plain = load_file(RunDir(files.folder / "unbroken").huggingface(STEPS) / "model.safetensors")
    first, second = (load_file(run.huggingface(step) / "model.safetensors") for step in (1, 2))
    assert plain.keys() == first.keys() == second.keys()
    assert any(not torch.equal(first[name], second[name]) for name in first)

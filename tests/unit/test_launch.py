"""What is checked of a training before anything is started: one line, a hint, exit code 2."""

from __future__ import annotations

import json

import pyarrow.parquet
import pytest
import yaml
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.config import StudentConfig, load_config
from ropd_cli.errors import (
    ConfigError,
    IndexMissing,
    InputError,
    ProviderUnreachable,
    RopdError,
    TooFewAnswers,
    TrainingError,
)
from ropd_cli.index import IndexWriter
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer, AnswerRecord, prompt_hash
from ropd_cli.training import checks, launch
from ropd_cli.training import process_watch as watch
from ropd_cli.training.dataset import load_checked_prompts
from ropd_cli.training.starting_point import with_student_of_run
from ropd_cli.util.progress import NoProgress

SFT = {"method": "sft", "rubricator__base_url": "unset", "verifier__base_url": "unset"}


@pytest.fixture
def folder(tmp_path):
    """Prompts, an index with two answers each, and a folder that looks like a model."""
    (tmp_path / "model").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "model" / name).write_text("{}")
    with open(tmp_path / "p.jsonl", "w") as out, IndexWriter(tmp_path / "i.db") as index:
        for k in range(8):
            out.write(json.dumps({"uid": f"p{k}", "prompt": f"What is {k} + 1?"}) + "\n")
            answers = tuple(Answer(text=f"{k + 1}{mark}") for mark in ("", "."))
            question = f"What is {k} + 1?"
            index.add(
                AnswerRecord(
                    uid=f"p{k}", prompt=question, raw_prompt_hash=prompt_hash(question), answers=answers, model="m"
                )
            )
    return tmp_path


def flags_of(folder, **settings):
    flags = {
        "out": str(folder / "run"),
        "device": "cpu",
        "data.prompts": str(folder / "p.jsonl"),
        "data.index": str(folder / "i.db"),
        "student.model_path": str(folder / "model"),
        "judge.m": 2,
        "train.prompts_per_step": 4,
        "rubricator.base_url": "builtin://checkable",
        "verifier.base_url": "builtin://checkable",
    }
    flags |= {key.replace("__", "."): value for key, value in settings.items()}
    return {k: v for k, v in flags.items() if v != "unset"}


def start(folder, **settings):
    config = load_config(None, flags=flags_of(folder, **settings), environ={})
    return launch.train(config, resume=False, environ={}, progress=NoProgress())


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        ({"out": "unset"}, InputError, "out is not set"),
        ({"data__prompts": "unset"}, InputError, "data.prompts is not set"),
        ({"data__index": "unset"}, InputError, "data.index is not set"),
        ({"student__model_path": "unset"}, InputError, "student.model_path is not set"),
        ({"student__model_path": "./nowhere"}, InputError, "no model in"),
        (
            {"out": "unset", "data__prompts": "unset", "data__index": "unset", "rollout__tensor_parallel_size": 2},
            ConfigError,
            "(data.prompts is not set.*|data.index is not set.*|out is not set.*|tensor_parallel_size 2.*){4}",
        ),
        ({"data__prompts": "absent.jsonl"}, InputError, "absent.jsonl"),
        ({"data__index": "absent.db"}, InputError, "absent.db"),
        ({"judge__m": 3}, TooFewAnswers, r"fewer than 3 distinct answers for 8 of 8 prompts \(p0, p1, p2, p3, p4 …\)"),
        ({"train__prompts_per_step": 9}, InputError, "8 prompts, train.prompts_per_step is 9"),
        ({"train__prompts_per_update": 3}, ConfigError, "no multiple of train.prompts_per_update 3"),
        ({"train__devices_per_node": 3, "rollout__n": 2}, ConfigError, "do not divide by 3 devices"),
        ({"rollout__tensor_parallel_size": 2}, ConfigError, "tensor_parallel_size 2"),
        ({"verifier__base_url": "unset"}, InputError, "no model name for the verifier"),
        (SFT | {"data__index": "unset"}, InputError, "data.index is not set"),
        (SFT | {"judge__m": 3}, TooFewAnswers, "fewer than 3 distinct answers for 8 of 8 prompts"),
        (SFT | {"validate__benchmarks": ["math500"]}, InputError, "method sft has no validation"),
        (SFT | {"monitor__share": 0.5}, InputError, "method sft judges nothing"),
        (
            {"method": "grpo-verifiable", "monitor__share": 0.5},
            InputError,
            "monitor.share is 0.5, and method grpo-verifiable has no verdicts",
        ),
        (
            {"reward__rubric": 0.0, "reward__length": 1.0, "monitor__share": 0.5},
            InputError,
            "monitor.share is 0.5, and with reward.rubric 0",
        ),
        (SFT | {"train__nodes": 2}, InputError, "trains on one node, and train.nodes is 2"),
        (
            SFT | {"train__devices_per_node": 3},
            InputError,
            r"8 answers .*4 x 2\) do not divide by 3 devices",
        ),
        (
            {"method": "t-judge", "reward__exact": 0.5},
            ConfigError,
            "reward.exact: method t-judge reads no reward section",
        ),
        ({"distil__devices": 2}, ConfigError, "distil.devices: method ropd reads no distil section"),
        ({"method": "lopd"}, ConfigError, "distil.teacher_path is not set"),
        ({"method": "lopd", "distil__teacher_path": "./nowhere"}, InputError, "no model in"),
        ({"method": "gad", "train__async": "one_step"}, ConfigError, "train.async one_step"),
    ],
)
def test_faults_are_found_before_the_start(folder, settings, kind, says):
    with pytest.raises(kind, match=says) as caught:
        start(folder, **settings)
    assert caught.value.exit_code == 2 and caught.value.hint
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train__devices_per_node": 3, "rollout__n": 2}, "do not divide by 3 devices"),
        ({"verifier__base_url": "unset"}, "no model name for the verifier"),
    ],
)
def test_the_dry_run_finds_them_too(folder, settings, says):
    with pytest.raises(InputError, match=says):
        launch.resolve(load_config(None, flags=flags_of(folder, **settings), environ={}))


def test_a_tracker_that_is_not_installed_is_found_before_the_start(folder):
    pytest.importorskip("verl", reason="is asked for first")
    with pytest.raises(InputError, match=r"train.trackers: swanlab not installed") as caught:
        start(folder, train__trackers=["wandb", "swanlab"])
    assert "pip install swanlab" in caught.value.hint and not (folder / "run" / "config.yaml").exists()


def test_trackers_write_into_the_run_directory_unless_the_caller_says_where(folder):
    config = load_config(None, flags=flags_of(folder), environ={})
    run = launch.RunDir(folder / "run")
    own = launch.child_environment(config, run, {})
    assert own["WANDB_DIR"] == str(run.path) and own["MLFLOW_TRACKING_URI"] == f"sqlite:///{run.path}/mlflow.db"
    theirs = {"WANDB_DIR": "/elsewhere", "MLFLOW_TRACKING_URI": "http://mlflow"}
    assert theirs.items() <= launch.child_environment(config, run, theirs).items()


def test_a_prompt_that_the_index_lacks_is_named(folder):
    with open(folder / "p.jsonl", "a") as out:
        out.write('{"uid": "new", "prompt": "What is 90 + 1?"}\n')
    with pytest.raises(IndexMissing, match=r"no answer for 1 of 9 prompts \(new\)"):
        start(folder)


def test_prompts_without_enough_answers_are_left_out_where_that_is_asked_for(folder, monkeypatch):
    def add(uid, *texts):
        with open(folder / "p.jsonl", "a") as out:
            out.write(json.dumps({"uid": uid, "prompt": f"What is {uid}?"}) + "\n")
        answer(uid, *texts)

    def answer(uid, *texts):
        with IndexWriter(folder / "i.db") as index:
            question, answers = f"What is {uid}?", tuple(Answer(text=text) for text in texts)
            index.add(
                AnswerRecord(
                    uid=uid, prompt=question, raw_prompt_hash=prompt_hash(question), answers=answers, model="m"
                )
            )

    add("none")
    add("one", "1", " 1 ")  # equal but for white space
    add("three", "1", "2", "3")
    said, watched = [], []

    def stop_here(config, run, environ, progress):
        watched.append(pyarrow.parquet.read_table(run.train_prompts).to_pylist())
        raise TrainingError("as far as this test goes", "none")

    monkeypatch.setattr(launch, "watch", stop_here)
    monkeypatch.setattr(NoProgress, "note", lambda self, line: said.append(line))
    with pytest.raises(TrainingError):
        start(folder, data__on_few_answers="skip")
    uids = [row["extra_info"]["ropd_uid"] for row in watched[0]]
    assert uids == [f"p{k}" for k in range(8)] + ["three"]
    left_out = [record for _, record in read_records(folder / "run" / "skipped.jsonl")]
    assert left_out == [{"uid": "none", "answers": 0}, {"uid": "one", "answers": 1}]
    assert "2 of 11 prompts have fewer than 2 distinct teacher answers and are left out" in said[0]

    # what a run went without, it goes on without; what it went with must still be there
    answer("none", "1", "2")
    config = launch.with_absolute_paths(
        load_config(None, flags=flags_of(folder, data__on_few_answers="skip"), environ={})
    )
    again = load_checked_prompts(config, skipped_before=["none", "one"])
    assert [prompt.uid for prompt in again.prompts] == uids
    assert again.skipped == [{"uid": "none", "answers": 2}, {"uid": "one", "answers": 1}]
    assert len(load_checked_prompts(config).prompts) == 10
    with pytest.raises(TooFewAnswers, match=r"for 1 of 10 prompts \(one\)"):
        load_checked_prompts(config, skipped_before=["none"])
    with pytest.raises(InputError, match=r"10 prompts \(1 without 2 distinct teacher answers left out\)"):
        start(folder, data__on_few_answers="skip", train__prompts_per_step=11, out=str(folder / "other"))


def test_a_judge_that_does_not_answer_is_known_before_a_model_is_loaded(folder):
    with pytest.raises(ProviderUnreachable, match="127.0.0.1:9/v1: no connection"):
        start(folder, verifier__base_url="http://127.0.0.1:9/v1", verifier__model="m")
    assert not (folder / "run" / "train.log").exists()


def test_a_student_without_tokenizer_and_a_machine_without_gpu(folder, monkeypatch):
    monkeypatch.setattr(launch, "check_exact", lambda device: None)
    monkeypatch.setattr(checks, "has_gpu", lambda: False)
    with pytest.raises(InputError, match="device is gpu, and this machine has none"):
        start(folder, device="gpu")
    (folder / "model" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="model: no tokenizer in it"):
        start(folder)


def test_files_of_certificates_are_found_by_the_run_s_processes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    roles = ("rubricator", "verifier", "monitor.judge")
    config = launch.with_absolute_paths(
        load_config(None, flags={f"{role}.ca_file": "corp.pem" for role in roles}, environ={})
    )
    endpoints = (config.rubricator, config.verifier, config.monitor.judge)
    assert {endpoint.ca_file for endpoint in endpoints} == {str(tmp_path / "corp.pem")}


def test_an_unfinished_run_is_not_overwritten_and_a_resumed_one_is_the_same(folder):
    (folder / "run").mkdir()
    config = load_config(None, flags={"out": str(folder / "run"), "train.lr": 1e-3}, environ={})
    (folder / "run" / "config.yaml").write_text(launch.dump_config(config))
    (folder / "run" / "verl.yaml").touch()
    never_begun = launch._first_step(load_config(None, environ={}), launch.RunDir.of(config.out), resume=False)
    assert never_begun == 0  # what failed before its first step may begin with other settings
    (folder / "run" / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(InputError, match="holds an unfinished run") as caught:
        launch._first_step(config, launch.RunDir.of(config.out), resume=False)
    assert "--resume" in caught.value.hint
    with pytest.raises(InputError, match=r"unfinished run of other settings: .*train\.lr 0\.001, now 1e-06"):
        start(folder)  # not told to resume what can't be resumed
    with pytest.raises(InputError, match=r"other settings: train\.lr 0\.001, now 0\.0001"):
        launch._first_step(
            load_config(None, flags={"train.lr": 1e-4}, environ={}), launch.RunDir.of(config.out), resume=True
        )
    same = load_config(
        None, flags={"out": "elsewhere", "train.lr": 1e-3, "train.steps": 99, "judge.repeats": 3}, environ={}
    )
    assert launch._first_step(same, launch.RunDir.of(config.out), resume=True) == 0
    for key in ("judge.m=3", "judge.blind=false", "judge.reuse=epoch"):  # what the paper compares
        with pytest.raises(InputError, match=rf"other settings: {key.partition('=')[0]} [^;]*$"):
            other = load_config(None, flags={"train.lr": 1e-3}, overrides=[key], environ={})
            launch._first_step(other, launch.RunDir.of(config.out), resume=True)
    sft = {"out": str(folder / "run"), "method": "sft"}
    (folder / "run" / "config.yaml").write_text(launch.dump_config(load_config(None, flags=sft, environ={})))
    with pytest.raises(InputError, match=r"other settings: judge\.m 4, now 3$"):  # it decides which answers a step has
        other = load_config(None, flags=sft | {"judge.m": 3}, environ={})
        launch._first_step(other, launch.RunDir.of(config.out), resume=True)
    # a run of a version that did not know a key yet
    older = yaml.safe_load(launch.dump_config(config))
    del older["reward"]["criterion_weights"]
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(older))
    assert launch._first_step(same, launch.RunDir.of(config.out), resume=True) == 0


def test_the_configuration_of_a_copied_run_is_refused(tmp_path):
    for name in ("run", "copy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"out: {tmp_path / 'run'}\n")
        (tmp_path / name / "verl.yaml").touch()
    copied = ["train", "--config", str(tmp_path / "copy" / "config.yaml"), "--resume"]
    refused = CliRunner().invoke(app, copied)
    assert refused.exit_code == 2 and f"{tmp_path / 'copy'} was copied or moved" in refused.stderr
    named = [[*copied, "--out", str(tmp_path / "copy")], [*copied, "--set", f"out={tmp_path / 'new'}"]]
    for args in (*named, ["train", "--config", str(tmp_path / "run" / "config.yaml")]):
        assert "copied or moved" not in CliRunner().invoke(app, args).stderr


def test_a_missing_key_is_known_before_anything_starts():
    config = load_config(None, flags={"rubricator.model": "m", "verifier.model": "m"}, environ={})
    checks.check_keys(config, {"OPENAI_API_KEY": "sk-1"})
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        checks.check_keys(config, {})
    checks.check_keys(config.model_copy(update={"method": "sft"}), {})


def test_a_schedule_that_does_not_fit_the_run_is_said(folder):
    from ropd_cli.config.load import dump_config
    from ropd_cli.training.run_dir import RunDir

    def warnings(**settings):
        config = load_config(None, flags=flags_of(folder, **settings), environ={})
        return checks.schedule_warnings(config, run, 8)

    run = RunDir(folder / "run")
    assert warnings(train__steps=10, train__warmup_steps=9) == []
    assert "does not reach train.lr" in warnings(train__steps=10, train__warmup_steps=10)[0]
    run.path.mkdir()
    run.config.write_text(dump_config(load_config(None, flags=flags_of(folder, train__steps=10), environ={})))
    assert warnings(train__steps=10) == [] == warnings(train__steps=20, train__lr_schedule="constant")
    (line,) = warnings(train__steps=20)
    assert "planned for 10 steps and is now for 20" in line


def test_a_warm_up_of_gad_as_long_as_the_run_is_said(folder):
    def warnings(**settings):
        config = load_config(None, flags=flags_of(folder, **{"method": "gad"} | settings), environ={})
        return checks.schedule_warnings(config, launch.RunDir(folder / "run"), 8)  # two steps an epoch

    (line,) = warnings()  # an epoch each by default
    assert "2 steps and the warm-up of gad 2" in line
    assert all(key in line for key in ("discriminator.warmup_epochs", "warmup_steps", "train.epochs", "steps"))
    assert len(warnings(train__steps=4, discriminator__warmup_steps=4)) == 1
    for settings in (
        {"train__epochs": 2},
        {"train__steps": 3},
        {"discriminator__warmup_epochs": 0.5},
        {"discriminator__warmup_steps": 1},
        {"method": "ropd"},
    ):
        assert warnings(**settings) == []


def finished_run(folder, *, best=False):
    """A run directory as a training leaves it."""
    run = launch.RunDir(folder)
    models = [run.huggingface(4), *([run.best_model] if best else [])]
    for model in models:
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
    run.config.write_text(launch.dump_config(load_config(None, environ={})))
    run.result.write_text(json.dumps({"run_dir": str(folder), "model": str(models[0]), "steps": 4}))
    return run


def test_a_finished_run_is_not_taken_for_one_of_other_settings(folder):
    run = finished_run(folder / "run")
    config = launch.with_absolute_paths(load_config(None, flags=flags_of(folder), environ={}))
    run.config.write_text(launch.dump_config(config))
    run.metrics.touch()
    assert start(folder).steps == start(folder, judge__repeats=3).steps == 4
    with pytest.raises(
        InputError, match=r"finished run of other settings: train\.lr .*, now 0\.1; train\.steps .*, now 9"
    ):
        start(folder, train__lr=0.1, train__steps=9)


def test_a_training_starts_from_the_checkpoint_of_a_finished_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    first = finished_run(folder / "first", best=True)
    config = load_config(None, flags=flags_of(folder, student__from_run=str(first.path)), environ={})
    assert with_student_of_run(config).student.model_path == str(first.huggingface(4))
    best = config.model_copy(update={"student": StudentConfig(from_run="first", from_checkpoint="best")})
    assert with_student_of_run(best).student.model_path == str(first.best_model)
    # found again where it was moved to, and the same for a resumed run that has it written down
    first.path.rename(folder / "moved")
    moved = with_student_of_run(load_config(None, flags={"student.from_run": "moved"}, environ={}))
    assert moved.student.model_path == str(launch.RunDir(folder / "moved").huggingface(4))
    assert with_student_of_run(moved) == moved
    plain = load_config(None, flags=flags_of(folder), environ={})
    assert with_student_of_run(plain) is plain


def _unfinished(run):
    run.result.unlink()
    run.metrics.write_text('{"step": 1}\n{"step": 2}\n')


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (_unfinished, {}, "not finished, after 2 steps"),
        (lambda run: run.config.unlink(), {}, "no training run there"),
        (lambda run: (run.huggingface(4) / "config.json").unlink(), {}, "no final checkpoint"),
        (lambda run: None, {"student__from_checkpoint": "best"}, "no best checkpoint"),
        (lambda run: run.result.unlink(), {"out": "first"}, "that is this run itself"),
    ],
)
def test_a_run_that_can_not_be_started_from_is_refused(folder, monkeypatch, change, settings, said):
    monkeypatch.chdir(folder)
    change(finished_run(folder / "first"))
    with pytest.raises(InputError, match=rf"^student.from_run {folder}/first: .*{said}") as caught:
        start(folder, student__from_run="first", **settings)
    assert caught.value.exit_code == 2
    with pytest.raises(ConfigError, match="student.from_run, which is not set"):
        load_config(None, flags={"student.from_checkpoint": "best"}, environ={})


def test_what_is_left_of_a_run_is_said_as_the_kind_it_was(folder):
    run = launch.RunDir(folder)
    for kind, code in (("InputError", 2), ("TrainingError", 1), ("ProviderDown", 4), ("CostLimit", 1)):
        run.stopped.write_text(json.dumps({"message": "m", "hint": "h", "kind": kind}))
        fault = watch.failure(run, 1, 0)
        assert isinstance(fault, RopdError) and fault.exit_code == code
    run.stopped.unlink()
    run.log.write_text("fine\nRuntimeError: it broke\nand more\n")
    assert "with exit code 3: RuntimeError: it broke" in watch.failure(run, 3, 0).message
    assert "by signal 9" in watch.failure(run, -9, 0).message

"""Benchmarks during a training, at the owner of judging and without verl: graded, written, the best checkpoint kept."""

from __future__ import annotations

import json

import orjson
import pytest

from ropd_cli.config import load_config
from ropd_cli.llm.shared import Shared
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer, Usage
from ropd_cli.training.run_dir import RunDir
from ropd_cli.training.validation import Validator, open_validation, validation_rows, validation_sample

QUESTIONS = 4


@pytest.fixture
def run(tmp_path):
    """A run directory and the configuration of its validation: four questions whose answers are their numbers."""
    lines = [json.dumps({"id": f"q{k}", "prompt": f"Say {k}.", "answer": str(k)}) for k in range(QUESTIONS)]
    (tmp_path / "numbers.jsonl").write_text("\n".join(lines))
    flags = {
        "validate.benchmarks": ["numbers"],
        "validate.n": 2,
        "eval.data": {"numbers": str(tmp_path / "numbers.jsonl")},
        "eval.grader": {"numbers": "exact"},
    }
    return load_config(None, flags=flags, environ={}), RunDir(tmp_path / "run")


async def validate(validator, config, step, right, *, run=None):
    """One validation in which so many questions are answered right, each twice; with ``run``, the step has a checkpoint
    that says which it is."""
    if run is not None:
        folder = run.huggingface(step)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"step": step}))
    for row in validation_rows(open_validation(config, None, Shared())[1]):
        info = row["extra_info"]
        number = int(info["ropd_id"][1:])
        text = str(number) if number < right else "something else"
        answer = Answer(text=text, finish_reason="stop", usage=Usage(completion_tokens=3))
        for session in range(row["__rollout_n__"]):
            await validator.grade(step, validation_sample(info, session, answer))
    return validator.finish(step)


def kept(run):
    """The step that is said to be the best, its score, and the step whose weights are kept."""
    said = orjson.loads(run.best.read_bytes())
    return said["step"], said["value"], json.loads((run.best_model / "config.json").read_text())["step"]


async def test_figures_are_written_and_the_best_of_the_checkpoints_is_kept(run):
    config, run = run
    validator = Validator(config, run, None, Shared())
    before = await validate(validator, config, 0, 4)
    assert before == {"val/numbers/accuracy": 1.0, "val/numbers/missing": 0}
    assert not run.best.exists()  # there is no checkpoint of step 0
    for step, right, best in [(1, 1, 1), (2, 3, 2), (3, 3, 2), (4, 2, 2)]:
        metrics = await validate(validator, config, step, right, run=run)
        assert metrics["val/numbers/accuracy"] == right / QUESTIONS
        assert kept(run) == (best, max(right, 3 if step > 1 else 1) / QUESTIONS, best)
    await validate(validator, config, 5, 4)  # better, but nothing was saved
    assert kept(run)[0] == 2
    await validator.close()
    rows = [row for _, row in read_records(run.validation)]
    assert [row["step"] for row in rows] == list(range(6))
    assert [row["benchmarks"]["numbers"]["metrics"]["accuracy"]["value"] for row in rows] == [
        1,
        0.25,
        0.75,
        0.75,
        0.5,
        1,
    ]
    assert all(row["benchmarks"]["numbers"]["graded"] == 2 * QUESTIONS for row in rows)
    records = [record for _, record in read_records(run.validation_file(2))]
    assert {(r["sample"]["id"], r["sample"]["sample"]) for r in records} == {
        (f"q{k}", n) for k in range(QUESTIONS) for n in range(2)
    }


async def test_a_step_that_is_made_again_takes_the_place_of_the_first_try(run):
    config, run = run
    validator = Validator(config, run, None, Shared())
    for step, right in [(1, 2), (2, 3)]:
        await validate(validator, config, step, right, run=run)
    await validator.close()
    foreign = run.validation_file(1).with_name("step-x.jsonl.zst")
    foreign.write_text("a file of somebody else's")
    run.set_aside_after(1)
    assert foreign.is_file()
    again = Validator(config, run, None, Shared())
    await validate(again, config, 1, 2)
    await validate(again, config, 2, 1, run=run)
    await again.close()
    rows = [row for _, row in read_records(run.validation)]
    scores = [(row["step"], row["benchmarks"]["numbers"]["metrics"]["accuracy"]["value"]) for row in rows]
    assert scores == [(1, 0.5), (2, 0.25)]
    assert kept(run) == (1, 0.5, 1)  # the weights that had scored more are gone
    for step in (1, 2):
        assert len([record for _, record in read_records(run.validation_file(step))]) == 2 * QUESTIONS

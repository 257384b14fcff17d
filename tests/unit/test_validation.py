"""Benchmarks during a training, without verl: the rows that it asks, and what the owner of judging makes of answers."""

from __future__ import annotations

import asyncio
import json
import pickle

import pytest

from ropd_cli.config import RopdConfig
from ropd_cli.llm.shared import Shared
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer, Usage
from ropd_cli.training.validation import open_validation, validation_rows, validation_sample


def rows_of(settings):
    """The rows of verl's file, as they come back from Parquet to a rollout worker."""
    config = RopdConfig.model_validate(settings)
    return list(validation_rows(open_validation(config, None, Shared())[1]))


async def test_answers_are_graded_by_their_rows_and_written(run_judge, tmp_path):
    with open(tmp_path / "choices.jsonl", "w") as out:
        for k in range(2):
            print(json.dumps({"id": f"c{k}", "prompt": f"{k}?", "choices": ["x", "y"], "answer": "A"}), file=out)
    validate, data = {"benchmarks": ["choices"], "n": 3}, {"choices": str(tmp_path / "choices.jsonl")}
    judge, run = run_judge(**{f"validate__{name}": value for name, value in validate.items()}, eval__data=data)
    rows = rows_of({"validate": validate, "eval": {"data": data}})
    assert sum(row["__rollout_n__"] for row in rows) == 2 * 3
    sent = []
    for row in rows:
        for session in range(row["__rollout_n__"]):
            letter = json.loads(row["extra_info"]["ropd_key"])["letter"]
            answer = Answer(text=f"Answer: {letter}", finish_reason="stop", usage=Usage(completion_tokens=4))
            sent.append(validation_sample(row["extra_info"], session, answer))
    assert sorted((each.id, each.sample) for each in sent) == [(f"c{k}", n) for k in range(2) for n in range(3)]
    wrong = sent[0].model_copy(update={"text": "Answer: Z"})
    sent = [pickle.loads(pickle.dumps(each)) for each in (wrong, *sent[1:])]  # as they cross to the owner's process
    scores = await asyncio.gather(*(judge.grade(0, each) for each in sent))
    assert scores == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    metrics = await judge.validated(0)
    assert metrics["val/choices/accuracy"] == pytest.approx(5 / 6) and metrics["val/choices/missing"] == 0
    written = [record for _, record in read_records(run.validation_file(0))]
    assert [record["sample"]["usage"]["completion_tokens"] for record in written] == [4] * 6
    await judge.close()

"""Rubrics that the prompts bring, and mixed rewards, through the commands."""

import json
import os
import subprocess
import sys

import pytest
from servers import Reply

from ropd_cli.method.block import read_block
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import prompt_hash

QUESTIONS = ["What is 1 + 1?", "What is 2 + 2?"]
BROUGHT = [
    {"title": "Sum", "description": "Essential Criteria: Gives the sum.", "weight": 5},
    {"title": "Doubt", "description": "Pitfall Criteria: Apologises.", "weight": -1},
]
INDUCED = [
    {"criterion_id": f"c{k}", "category": "Task Completion", "criterion": f"is {k}", "points": 1} for k in range(1, 5)
]


def judge(body):
    name = body["response_format"]["json_schema"]["name"]
    if name == "ropd_rubric":
        return Reply(json.dumps({"schema_version": "ropd.rubric.v1", "rubrics": INDUCED, "maximum_score": 4}))
    criteria = body["response_format"]["json_schema"]["schema"]["properties"]["answers"]["items"]["properties"]
    count = criteria["judgement"]["minItems"]
    _, answers = read_block(body["messages"][1]["content"])
    rows = [
        {"answer_index": k, "judgement": [str(len(a)) in "123", "orry" not in a][:count] + [True] * (count - 2)}
        for k, a in enumerate(answers, start=1)
    ]
    return Reply(json.dumps({"answers": [row | {"final_score": 0} for row in rows]}))


@pytest.fixture
def ropd(tmp_path, server):
    server.default = judge
    prompts = [{"uid": f"u{k}", "prompt": q, "answer": str(2 * k + 2)} for k, q in enumerate(QUESTIONS)]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(p | {"rubric": BROUGHT}) + "\n" for p in prompts))
    for name, texts in (("teacher", ["2", "two"]), ("rollouts", ["\\boxed{2}", "Sorry, no."])):
        lines = [
            {"uid": p["uid"], "prompt": p["prompt"], "raw_prompt_hash": prompt_hash(p["prompt"]), "model": "m"}
            | {"answers": [{"text": text, "finish_reason": "stop"} for text in texts]}
            for p in prompts
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def run(command, prompts, *arguments, code=0):
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
        words = [sys.executable, "-m", "ropd_cli", command, *([prompts] if prompts else []), *arguments]
        if command != "index":
            words += ["--base-url", server.url, "--model", "m", "--cache-dir", "c", "-m", "2", "--index", "i.db"]
            words += ["--rollouts", "rollouts.jsonl"]
        done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        return done

    run("index", None, "build", "teacher.jsonl", "--out", "i.db")
    run.folder = tmp_path
    return run


def rubrics(ropd, name):
    return [record["rubric"]["rubrics"] for _, record in read_records(ropd.folder / name)]


def test_the_data_set_s_own_cost_no_call(ropd, server):
    ropd("rubricate", "prompts.jsonl", "--out", "r.jsonl", "--set", "judge.rubrics=dataset")
    assert not server.requests
    for criteria in rubrics(ropd, "r.jsonl"):
        assert [(c["criterion_id"], c["points"]) for c in criteria] == [("d1", 5), ("d2", 1)]
        assert "Apologises" in criteria[1]["criterion"] and criteria[1]["criterion"].startswith("The answer avoids")
    ropd("verify", "prompts.jsonl", "--rubrics", "r.jsonl", "--out", "v.jsonl", "--set", "reward.exact=0.5")
    records = {record["uid"]: record for _, record in read_records(ropd.folder / "v.jsonl")}
    first, second = records["u0"], records["u1"]
    assert first["parts"]["exact"] == [1.0, 0.0] and second["parts"]["exact"] == [0.0, 0.0]
    for record in (first, second):
        mixed = [r + 0.5 * e for r, e in zip(record["parts"]["rubric"], record["parts"]["exact"], strict=True)]
        assert record["rewards"] == pytest.approx(mixed)


def test_both_beside_each_other(ropd, server):
    ropd("rubricate", "prompts.jsonl", "--out", "r.jsonl", "--set", "judge.rubrics=both")
    assert len(server.requests) == 2
    for criteria in rubrics(ropd, "r.jsonl"):
        assert [c["criterion_id"] for c in criteria] == ["d1", "d2", "c1", "c2", "c3", "c4"]
    ropd("verify", "prompts.jsonl", "--rubrics", "r.jsonl", "--out", "v.jsonl")
    assert all(len(a["judgement"]) == 6 for _, r in read_records(ropd.folder / "v.jsonl") for a in r["answers"])


def test_a_prompt_that_brings_none_is_named(ropd, server):
    done = ropd("rubricate", "bare.jsonl", "--out", "r.jsonl", "--set", "judge.rubrics=dataset", code=1)
    assert "uid u0" in done.stderr and "brings no rubric" in done.stderr and not server.requests


def test_a_prompt_without_an_answer_is_named_before_anything_is_sent(ropd, server):
    ropd("rubricate", "prompts.jsonl", "--out", "r.jsonl", "--set", "judge.rubrics=dataset")
    (ropd.folder / "none.jsonl").write_text(
        "".join(json.dumps({"uid": f"u{k}", "prompt": q}) + "\n" for k, q in enumerate(QUESTIONS))
    )
    done = ropd("verify", "none.jsonl", "--rubrics", "r.jsonl", "--out", "v.jsonl", "--set", "reward.exact=1", code=2)
    assert "'u0', 'u1'" in done.stderr and not server.requests

"""Where the answer is in a reply, through the commands: every prompt is answered in another form, by thinking in other
tags and, from the judges, in other JSON."""

from __future__ import annotations

import json
import os
import re

import pytest
from judges import WORDS, Reader, read
from processes import start_ropd
from servers import Reply

from ropd_cli.evaluation.store import EvalRun
from ropd_cli.index import IndexWriter
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import AnswerRecord

pytestmark = pytest.mark.slow
ANALYSIS, FINAL = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"
FORMS = [
    "<think>hidden</think>{}",
    "<thinking>hidden</thinking>\n{}",
    "hidden</thought>{}",
    "[THINK]hidden[/THINK]{}",
    "◁think▷hidden◁/think▷{}",
    ANALYSIS + "hidden" + FINAL + "{}<|return|>",
    "analysisWe keep it hidden.assistantfinal{}",
    "<|channel>thought\nhidden<channel|>{}",
    "<reasoning>hidden</reasoning>{}",
    "<unused94>thought\nhidden<unused95>{}",
    "{}",
]
CUT_OFF = ["<thinking>hidden", "[THINK]hidden", ANALYSIS + "hidden"]
OWN = "My thoughts: hidden. My answer: {}"
LATEX = r"Uses $\frac{1}{2}$ and \text{km}."
"""As it should stand in the rubric; the judge writes its backslashes singly."""
JSON = [
    str,
    lambda text: f"<seed:think>{{}} hidden</seed:think>{text}",
    lambda text: f"{ANALYSIS}hidden{FINAL.replace('final', 'final json')}{text}",
    lambda text: f"```json\n{text}\n```\nI hope {{this}} helps.",
    lambda text: text.replace(', "', ', // a "comment}\n "', 1),
    lambda text: text[:-1] + ",}",
    lambda text: text.replace('"', "'").replace("true", "True").replace("false", "False"),
    lambda text: json.dumps({"result": json.loads(text)}),
    lambda text: "\ufeff" + text,
    json.dumps,
    lambda text: text.replace("answer_index", "answerIndex").replace('"rubrics"', '"Rubrics"'),
]
COUNT = len(FORMS)


def number(text):
    return int(re.search(r"question (\d+)", text)[1])


def answer(k):
    return f"The box is right: `<thinking>` of {k}"


def model(body):
    """A teacher or a student."""
    k = number(body["messages"][-1]["content"])
    form = FORMS[k] if k < COUNT else [*CUT_OFF, OWN][k - COUNT]
    return Reply(
        form.format(answer(k)), others=tuple(form.format(f"{answer(k)}.{n}") for n in range(1, body.get("n", 1)))
    )


def judge(body):
    """Rubricator and verifier."""
    seen = read(body)
    text = Reader()(body).text.replace(next(iter(WORDS)), LATEX)
    return Reply(JSON[number(seen.question)](text))


def ropd(folder, *arguments, code=0):
    child = start_ropd((*arguments, "--json"), folder, dict(os.environ))
    out, err = child.communicate(timeout=60)
    assert child.returncode == code, f"exit {child.returncode}\n{out}\n{err}"
    return json.loads(out)


def prompts(folder, count):
    rows = [{"uid": f"u{k}", "id": f"u{k}", "prompt": f"question {k}", "answer": answer(k)} for k in range(count)]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "p.jsonl"


def records(file):
    return sorted((record for _, record in read_records(file)), key=lambda record: int(record["uid"][1:]))


def test_teacher_gen(tmp_path, server):
    server.default = model
    (tmp_path / "c.yaml").write_text(
        'teacher: {thinking_tags: [["My thoughts:", "My answer: "], ["[THINK]", "[/THINK]"]]}'
    )
    asked = (
        "teacher-gen",
        prompts(tmp_path, COUNT + len(CUT_OFF) + 1),
        "-m",
        1,
        "--base-url",
        server.url,
        "--model",
        "m",
    )
    ropd(tmp_path, *asked, "--out", "t.jsonl", code=3)
    found = {record["uid"]: record["answers"][0] for record in records(tmp_path / "t.jsonl")}
    own = f"u{COUNT + len(CUT_OFF)}"
    assert set(found) == {*(f"u{k}" for k in range(COUNT)), own}  # what was cut off inside its thinking is no answer
    for k in range(COUNT):
        assert found[f"u{k}"]["text"] == answer(k)
        assert ("hidden" in found[f"u{k}"].get("reasoning", "")) == (k < COUNT - 1)
    assert "hidden" in found[own]["text"]
    sent = len(server.requests)
    ropd(tmp_path, *asked, "--out", "t2.jsonl", "-c", "c.yaml", code=3)
    found = {record["uid"]: record["answers"][0] for record in records(tmp_path / "t2.jsonl")}
    assert found[own]["text"] == answer(COUNT + len(CUT_OFF)) and found[own]["reasoning"] == "hidden."
    assert found["u3"]["text"] == answer(3)
    assert "hidden" in found["u1"]["text"]  # those tags are not in the list
    assert not {k for body in server.bodies[sent:] if (k := number(body["messages"][-1]["content"])) < COUNT}


def test_rollout_rubricate_verify(tmp_path, server):
    server.default = model
    file = prompts(tmp_path, COUNT)
    ropd(tmp_path, "rollout", file, "-n", 2, "--base-url", server.url, "--model", "m", "--out", "r.jsonl")
    for k, record in enumerate(records(tmp_path / "r.jsonl")):
        for each in record["answers"]:
            assert each["text"].startswith("<think>") == (k < COUNT - 1) and answer(k) in each["text"]
    with IndexWriter(tmp_path / "t.index") as index:
        for record in records(tmp_path / "r.jsonl"):
            index.add(AnswerRecord.model_validate(record))
    server.default = judge
    files = (file, "--rollouts", "r.jsonl", "--index", "t.index", "--base-url", server.url, "--model", "j")
    once = ("--set", "judge.m=1", "--set", "rubricator.limits.max_retries=0", "--set", "verifier.limits.max_retries=0")
    ropd(tmp_path, "rubricate", *files, "--out", "c.jsonl", *once)
    for k, record in enumerate(records(tmp_path / "c.jsonl")):
        assert record["rubric"]["rubrics"][0]["criterion"] == LATEX, k
        assert "latex" in record["mended"] and ("json" in record["mended"]) == (k in (4, 5, 6, 7, 9, 10)), k
    ropd(tmp_path, "verify", *files, "--rubrics", "c.jsonl", "--out", "v.jsonl", *once)
    rewards = [reward for record in records(tmp_path / "v.jsonl") for reward in record["rewards"]]
    assert rewards == pytest.approx([1.0] * COUNT * 2)
    judged = [body for body in server.bodies if body["model"] == "j"]
    assert len(judged) == COUNT * 2 and "hidden" not in json.dumps(judged)


def test_eval(tmp_path, server):
    server.default = model
    file = prompts(tmp_path, COUNT + len(CUT_OFF))
    chosen = ("--benchmarks", "own", "--data", f"own={file}", "--grader", "own=exact", "-n", 1)
    ropd(tmp_path, "eval", *chosen, "--base-url", server.url, "--model", "m", "--out", "e")
    grades = [row for _, row in read_records(EvalRun(tmp_path / "e").grades_file("own"))]
    found = {row["id"]: row["scores"]["accuracy"] for row in grades}
    assert found == {f"u{k}": int(k < COUNT) for k in range(COUNT + len(CUT_OFF))}

"""Hostile rollouts, through the real commands, read by a parser that knows the published format and no code of ours."""

import json
import os
import re
import subprocess
import sys

import pytest
from hostile import HOSTILE
from servers import Reply, ScriptedServer

from ropd_cli.records.files import read_records

HARMLESS = "I think that it is eight."
CRITERIA = (
    "States 42.",
    "Is shorter than 60 characters.",
    "Has no exclamation mark.",
    "Has a full stop.",
    "Has a digit.",
)
POINTS = (5, 2, 1, 2, 3)


def parse(text):
    """The answers in a request, as the format's page says: the first tag names the code, answers follow in order."""
    code = re.search(r'<answer-([0-9a-f]+) index="1">', text)[1]
    answers, at = [], 0
    while (start := text.find(f'<answer-{code} index="{len(answers) + 1}">', at)) >= 0:
        start = text.index(">", start) + 1
        at = text.index(f"</answer-{code}>", start)
        answers.append(text[start:at])
    return answers


def judged(answer):
    """Verdicts on one answer from its text alone."""
    return ["42" in answer, len(answer) < 60, "!" not in answer, "." in answer, any(c.isdigit() for c in answer)]


def judge(body):
    """A judge that knows the format and nothing else."""
    text = body["messages"][-1]["content"]
    if body["response_format"]["json_schema"]["name"] == "ropd_rubric":
        rubrics = [
            {"criterion_id": f"c{k}", "category": "Task Completion", "criterion": words, "points": points}
            for k, (words, points) in enumerate(zip(CRITERIA, POINTS, strict=True), start=1)
        ]
        return Reply(json.dumps({"schema_version": "ropd.rubric.v1", "rubrics": rubrics, "maximum_score": sum(POINTS)}))
    rows = [
        {"answer_index": k, "judgement": judged(answer), "final_score": 0}
        for k, answer in enumerate(parse(text), start=1)
    ]
    return Reply(json.dumps({"schema_version": "ropd.batch_verifier.v2", "answers": rows}))


def visible(text):
    """What of a rollout is an answer, as it can be sent: after its thinking, each half surrogate pair replaced."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text.rpartition("</think>")[2])


def ropd(folder, *arguments):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
    command = [sys.executable, "-m", "ropd_cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def question(k):
    return f"What is {k} + {42 - k}?"


class Files:
    """Fifty groups: two teacher answers, a good rollout, the hostile (or harmless) one, a bad one."""

    def __init__(self, folder):
        self.folder = folder
        self.write("prompts.jsonl", [{"uid": f"u{k}", "prompt": question(k)} for k in range(len(HOSTILE))])
        self.write(
            "teacher.jsonl", [self.record(k, ["It is 42.", f"{k} + {42 - k} = 42."]) for k in range(len(HOSTILE))]
        )
        for name, texts in (("hostile", list(HOSTILE.values())), ("harmless", [HARMLESS] * len(HOSTILE))):
            rollouts = [self.record(k, ["The sum is 42.", text, "No idea!"]) for k, text in enumerate(texts)]
            self.write(f"{name}.jsonl", rollouts)
        ropd(folder, "index", "build", "teacher.jsonl", "--out", "teacher.index")

    def write(self, name, records):  # with every character that is none escaped, as other programs write it
        (self.folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))

    @staticmethod
    def record(k, texts):
        from ropd_cli.records.schemas import prompt_hash

        return {
            "uid": f"u{k}",
            "prompt": question(k),
            "raw_prompt_hash": prompt_hash(question(k)),
            "answers": [{"text": text, "finish_reason": "stop"} for text in texts],
            "model": "m",
        }

    def judge(self, name, url, form):
        options = ["--base-url", url, "--model", "m", "--cache-dir", "cache", "-m", "2", "--set", f"judge.form={form}"]
        common = ["prompts.jsonl", "--index", "teacher.index", "--rollouts", f"{name}.jsonl"]
        rubrics, verdicts = f"{form}.{name}.rubrics.jsonl", f"{form}.{name}.verdicts.jsonl"
        ropd(self.folder, "rubricate", *common, "--out", rubrics, *options)
        ropd(self.folder, "verify", *common, "--rubrics", rubrics, "--out", verdicts, *options)
        return {r["uid"]: r for _, r in read_records(self.folder / verdicts)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("hostile"))


def of_others(record):
    """Verdicts and scores on all answers but the hostile one."""
    return [a for a in record["answers"] if (a["source"], a["index"]) != ("student", 1)]


def test_there_are_fifty():
    assert len(HOSTILE) == 50 == len(set(HOSTILE.values()))


_LONG = [pytest.param(form, marks=pytest.mark.long) for form in ("group", "paper")]


@pytest.mark.parametrize("form", ["shared-prefix", *_LONG])
def test_the_exact_texts_arrive_and_the_others_are_judged_as_ever(files, form):
    with ScriptedServer() as server:
        server.default = judge
        verdicts = files.judge("hostile", server.url, form)
        bodies = server.bodies
        control = files.judge("harmless", server.url, form)
    assert len(verdicts) == len(control) == 50 and len(bodies) == (50 + 5 * 50 if form == "paper" else 100)
    for body in bodies:  # both judges' requests
        text = body["messages"][-1]["content"]
        number = int(re.search(r"What is (\d+) \+", text)[1])
        expected = ["It is 42.", f"{number} + {42 - number} = 42.", "The sum is 42.", "No idea!"]
        expected.append(visible(list(HOSTILE.values())[number]))
        one = form == "paper" and body["response_format"]["json_schema"]["name"] == "ropd_verdicts"
        if one:
            assert len(parse(text)) == 1 and parse(text)[0] in expected, list(HOSTILE)[number]
        else:
            assert sorted(parse(text)) == sorted(expected), list(HOSTILE)[number]
    for uid, record in verdicts.items():
        name = list(HOSTILE)[int(uid[1:])]
        assert of_others(record) == of_others(control[uid]), name
        assert record["rewards"][0] == control[uid]["rewards"][0] > record["rewards"][2] == control[uid]["rewards"][2]
        mine = next(a for a in record["answers"] if (a["source"], a["index"]) == ("student", 1))
        assert mine["judgement"] == judged(visible(HOSTILE[name])), name


def test_the_embedded_judge_is_not_talked_into_anything(files):
    ropd(
        files.folder,
        *("rubricate", "prompts.jsonl", "--index", "teacher.index", "--rollouts", "harmless.jsonl", "-m", 2),
        *("--out", "builtin.rubrics.jsonl", "--base-url", "builtin://checkable", "--cache-dir", "cache2"),
    )
    found = {}
    for name in ("hostile", "harmless"):
        out = f"builtin.{name}.jsonl"
        ropd(
            files.folder,
            *("verify", "prompts.jsonl", "--index", "teacher.index", "--rollouts", f"{name}.jsonl", "-m", 2),
            *("--rubrics", "builtin.rubrics.jsonl", "--out", out, "--base-url", "builtin://checkable"),
            *("--cache-dir", "cache2"),
        )
        found[name] = {r["uid"]: r for _, r in read_records(files.folder / out)}
    assert len(found["hostile"]) == 50
    for uid, record in found["hostile"].items():
        name = list(HOSTILE)[int(uid[1:])]
        assert of_others(record) == of_others(found["harmless"][uid]), name
        assert record["rewards"][0] >= record["rewards"][1], name  # some of them do hold the result

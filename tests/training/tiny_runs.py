"""What the trainings of the tiny model share: prompts of one word twice, a teacher's answers, and a judge that looks
for four words.
"""

from __future__ import annotations

import json

import pytest
from judges import Seen
from servers import Reply

from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import prompt_hash

WEIGHTS = {"w3": 5, "w4": 1, "w5": 1, "w6": 1}
"""By word, the points of the criterion that an answer holds it."""
PROMPTS_A_STEP, ROLLOUTS = 4, 4
CUSTOM_REWARD = """
def variety(solution_str, **_):
    return len(set(solution_str.split())) / 12
"""
RUBRIC = {
    "schema_version": "ropd.rubric.v1",
    "rubrics": [
        {"criterion_id": f"c{k}", "category": "Task Completion", "criterion": f"Holds {word}.", "points": points}
        for k, (word, points) in enumerate(WEIGHTS.items(), start=1)
    ],
    "maximum_score": sum(WEIGHTS.values()),
}


def judgements(answer):
    """What the judge thinks of an answer, a value a criterion."""
    return [word in answer.split() for word in WEIGHTS]


def reply_of(seen: Seen, *, strict=False):
    """The judge's reply to a request; to a ``strict`` one no criterion is met."""
    if seen.role == "rubricator":
        return Reply(json.dumps(RUBRIC))
    rows = [
        {"answer_index": k, "judgement": [False] * len(WEIGHTS) if strict else judgements(answer), "final_score": 0}
        for k, answer in enumerate(seen.answers, start=1)
    ]
    return Reply(json.dumps({"schema_version": "ropd.batch_verifier.v2", "answers": rows}))


def write_inputs(shell, count, answers=("w3 w4 w5 w6",)):
    """``prompts.jsonl`` with p0, p1 …, ``teacher.index`` with these answers to each, and ``mine.py``."""
    with open(shell.folder / "prompts.jsonl", "w") as prompts, open(shell.folder / "teacher.jsonl", "w") as teacher:
        for k in range(count):
            question = f"w{k} w{k}"
            prompts.write(json.dumps({"uid": f"p{k}", "prompt": question, "answer": "w3"}) + "\n")
            record = {"uid": f"p{k}", "prompt": question, "raw_prompt_hash": prompt_hash(question), "model": "big"}
            teacher.write(json.dumps(record | {"answers": [{"text": text} for text in answers]}) + "\n")
    (shell.folder / "mine.py").write_text(CUSTOM_REWARD)
    shell.ropd("index", "build", "teacher.jsonl", "--out", "teacher.index")


def groups_of(shell, step, run="run"):
    """The groups of a step by uid."""
    return {g["uid"]: g for _, g in read_records(shell.folder / run / "groups" / f"step-{step}.jsonl.zst")}


def rows_of(shell, run="run", file="metrics.jsonl"):
    """The rows of a file of a run, in order."""
    return [row for _, row in read_records(shell.folder / run / file)]


def has_answer(rollout):
    """Whether a rollout says anything outside thoughts; the tiny model can open them and never closes them."""
    return bool(rollout["text"].strip()) and "<think>" not in rollout["text"]


def check_rewards(group, *, length=0.5, custom=0.25):
    """Each reward of a judged group, and each of its parts, is what the judge's rules and the settings make of the
    rollout."""
    parts = group["verdicts"]["parts"]
    for k, (rollout, reward) in enumerate(zip(group["rollouts"], group["rewards"], strict=True)):
        met = judgements(rollout["text"]) if has_answer(rollout) else ()
        by_rubric = sum(points for points, holds in zip(WEIGHTS.values(), met, strict=False) if holds) / 8
        by_length = 1 - rollout["usage"]["completion_tokens"] / 12
        by_function = len(set(rollout["text"].split())) / 12
        said = [parts[name][k] for name in ("rubric", "length", "custom")]
        assert said == pytest.approx([by_rubric, by_length, by_function], abs=1e-6)
        assert reward == pytest.approx(by_rubric + length * by_length + custom * by_function, abs=1e-6)

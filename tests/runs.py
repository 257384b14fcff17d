"""Made-up run directories: group files and metrics as a training writes them."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import yaml

from ropd_cli.method.scoring import score
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import AnswerVerdict, Criterion, Rubric, RubricRecord, VerdictRecord, prompt_hash

CRITERIA = (
    ("Task Completion", "Names the country whose capital was asked for in task {}.", 5),
    ("General Reasoning", "Explains how the capital was recognised.", 3),
    ("Observable Quality", "Mentions no city besides the capital.", 2),
    ("Observable Quality", "Ends with a full stop.", 1),
)


def rubric_of(number: int = 1, criteria=CRITERIA) -> Rubric:
    """A rubric of these (category, text, points)."""
    made = tuple(
        Criterion(criterion_id=f"c{k}", category=category, criterion=text.replace("{}", str(number)), points=points)
        for k, (category, text, points) in enumerate(criteria, 1)
    )
    return Rubric(rubrics=made, maximum_score=sum(c.points for c in made))


def group_record(step, uid, students, teachers, *, rubric=None, question=None, error=None, rollout="Paris.", **more):
    """One line of a group file; ``students`` and ``teachers`` are rows of judgements."""
    prompt = [{"role": "user", "content": question or f"Capital of country {uid}?"}]
    hashed = prompt_hash(prompt)
    rubric = rubric or rubric_of()

    def verdict(source, index, row):
        value = score(row, rubric.weights_K) if row else 0.0
        return AnswerVerdict(source=source, index=index, judgement=tuple(row), score=value)

    answers = [verdict("student", k, row) for k, row in enumerate(students)]
    answers += [verdict("teacher", k, row) for k, row in enumerate(teachers)]
    rewards = [answer.score for answer in answers if answer.source == "student"]
    rubric_record = RubricRecord(
        uid=uid, raw_prompt_hash=hashed, rubric=rubric, rubric_hash=rubric.hash, model="m", template_hash="t"
    )
    verdicts = VerdictRecord(
        uid=uid,
        raw_prompt_hash=hashed,
        rubric_hash=rubric.hash,
        answers=tuple(answers),
        rewards=tuple(rewards),
        model="m",
        template_hash="t",
    )
    failed = error is not None
    return {
        "step": step,
        "uid": uid,
        "prompt": prompt,
        "raw_prompt_hash": hashed,
        "teacher_answers": [f"It is Paris, teacher {k} says." for k in range(len(teachers))],
        "rollouts": [{"text": f"{rollout} {k}", "finish_reason": "stop"} for k in range(len(students))],
        "rubric": None if failed else rubric_record.to_json(),
        "verdicts": None if failed else verdicts.to_json(),
        "rewards": None if failed else rewards,
        "seconds": 0.5,
        "error": {"stage": "judge", "type": "JudgeError", "message": error} if failed else None,
    } | more


def scored_record(step, uid, raw, scale, texts=None, **more):
    """One line of a group file with a score of 0 to ``scale`` per rollout: None where it is missing, "" for a rollout
    without an answer; ``texts`` are the rollouts'."""
    prompt = [{"role": "user", "content": f"Capital of country {uid}?"}]
    texts = texts or ["<think>hm" if value == "" else f"Paris. {k}" for k, value in enumerate(raw)]
    answers = [
        AnswerVerdict(source="student", index=k, judgement=(), score=0.0)
        if value == ""
        else AnswerVerdict(
            source="student", index=k, judgement=(), score=None if value is None else value / scale, raw_score=value
        )
        for k, value in enumerate(raw)
    ]
    verdicts = VerdictRecord(
        uid=uid,
        raw_prompt_hash=prompt_hash(prompt),
        rubric_hash=None,
        answers=tuple(answers),
        rewards=tuple(answer.score for answer in answers),
        scale=scale,
        model="m",
        template_hash="t",
    )
    return {
        "step": step,
        "uid": uid,
        "prompt": prompt,
        "raw_prompt_hash": prompt_hash(prompt),
        "teacher_answers": [],
        "rollouts": [{"text": text, "finish_reason": "stop"} for text in texts],
        "rubric": None,
        "verdicts": verdicts.to_json(),
        "rewards": list(verdicts.rewards),
        "seconds": 0.5,
        "error": None,
    } | more


def write_run(path: Path, *, steps=6, groups=4, seed=0, rises=True, extra=(), scale=None) -> Path:
    """A run whose rollouts meet more and more criteria (``rises``), or with ``scale`` get higher and higher scores;
    ``extra`` are records of the last step."""
    rng = random.Random(seed)
    (path / "groups").mkdir(parents=True)
    rows = []
    for step in range(1, steps + 1):
        share = 0.2 + 0.6 * step / steps if rises else 0.5
        records = []
        for number in range(groups):
            students = [[rng.random() < share for _ in CRITERIA] for _ in range(4)]
            if scale is not None:
                raw = [round(scale * sum(row) / len(row)) for row in students]
                records.append(scored_record(step, f"s{step}g{number}", raw, scale))
                continue
            rubric = rubric_of(100 * step + number)
            records.append(group_record(step, f"s{step}g{number}", students, [[True] * 4] * 2, rubric=rubric))
        records += extra if step == steps else ()
        with RecordWriter(path / "groups" / f"step-{step}.jsonl.zst") as writer:
            for record in records:
                writer.append(record)
        rewards = [reward for record in records for reward in record["rewards"] or () if reward is not None]
        rows.append(
            {
                "step": step,
                "reward/mean": sum(rewards) / len(rewards),
                **({"reward/teacher_mean": 1.0} if scale is None else {}),
                "timing_s/step": 10.0,
                "timing_s/gen": 4.0,
                "judge/waited_seconds": 1.0,
                "judge/requests_sent": 2.0 * groups,
                "judge/cost_usd": 0.01,
            }
        )
    (path / "metrics.jsonl").write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    config = {
        "train": {"steps": steps, "lr": 1e-5},
        "rubricator": {"model": "judge", "headers": {"X-Key": "sk-secret-1", "X-Env": "${KEY}"}},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "versions.json").write_text('{"ropd-cli": "0.1.0"}')
    (path / "result.json").write_bytes(orjson.dumps({"steps": steps}))
    return path

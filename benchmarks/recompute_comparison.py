"""Compute the figures of a comparison once more, from the files of its runs, and compare them with its compare.json.

    python benchmarks/recompute_comparison.py runs/compare [runs/compare-long …]

Nothing of the package is used: answers are graded by a regular expression, rollouts and teacher answers are counted in
the group files, and intervals are computed from their formula. Cells whose run directory is elsewhere are passed over.
Printed besides, to explain an order: the share of last answers whose last number is right, boxed or not, the share with
a box, the mean tokens of the last step's rollouts, and the share of groups without spread. Exit code 1 where a figure
differs.
"""

from __future__ import annotations

import json
import re
import sys
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import zstandard
from scipy.stats import t as student_t

BOX = re.compile(r"\\boxed\{([^{}]*)\}")
NUMBER = re.compile(r"\d+")
CLOSE = 1e-6


def lines(path: Path) -> list[Any]:
    """The records of a JSON Lines file, compressed or not."""
    with open(path, "rb") as file:
        raw = (
            zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) if path.suffix == ".zst" else file
        )
        return [json.loads(line) for line in raw.read().splitlines() if line]


def value_of(result: str) -> Fraction | str:
    """A result as a number where it is one."""
    plain = result.replace("$", "").replace(",", "").strip().rstrip(".")
    try:
        return Fraction(plain)
    except (ValueError, ZeroDivisionError):
        return plain


def scores(answers: Path, held_out: list[Any]) -> list[float]:
    """1 for each held-out prompt whose answer has the right result in its last box, else 0."""
    texts = {record["uid"]: record["answers"][0]["text"] for record in lines(answers)}
    found = [BOX.findall(texts[prompt["uid"]]) for prompt in held_out]
    return [
        float(bool(boxes) and value_of(boxes[-1]) == value_of(prompt["answer"]))
        for boxes, prompt in zip(found, held_out, strict=True)
    ]


def cell_of(folder: Path, cell: dict[str, Any], held_out: list[Any]) -> dict[str, Any]:
    """A cell's figures, by the names of compare.json."""
    own = folder / "cells" / cell["label"] / f"seed-{cell['seed']}"
    rows = lines(own / "run" / "metrics.jsonl")
    steps = [point["step"] for point in cell["points"]]
    files = [own / "run" / "groups" / f"step-{row['step']}.jsonl.zst" for row in rows]
    groups = [group for file in files if file.exists() for group in lines(file)]
    points = []
    for step in steps:
        done = [row for row in rows if row["step"] <= step]
        taken = [group for group in groups if group["step"] <= step and not group.get("left_out")]
        points.append(
            {
                "step": step,
                "accuracy": fmean(scores(own / f"step-{step}.jsonl" if step else folder / "before.jsonl", held_out)),
                "samples": sum(len(group["rollouts"]) for group in taken),
                "teacher_answers": sum(len(group["teacher_answers"]) for group in taken)
                + sum(row.get("answers/trained", 0) for row in done),
                "judge_calls": sum(row.get("judge/requests_sent", 0) + row.get("judge/cache_hits", 0) for row in done),
                "judge_tokens": sum(
                    row.get("judge/prompt_tokens", 0) + row.get("judge/completion_tokens", 0) for row in done
                ),
                "seconds": sum(row["timing_s/step"] for row in done if "timing_s/step" in row),
            }
        )
    judged = [group for group in groups if any(reward is not None for reward in group["rewards"] or ())]
    flat = [group for group in judged if max(reward_range(group)) - min(reward_range(group)) < CLOSE]
    found: dict[str, Any] = {"points": points, "scores": scores(own / f"step-{steps[-1]}.jsonl", held_out)}
    if judged:
        found["without_spread"] = len(flat) / len(judged)
    return found


def explained(folder: Path, cell: dict[str, Any], held_out: list[Any]) -> str:
    """What the last answers of a cell look like, in words."""
    last = folder / "cells" / cell["label"] / f"seed-{cell['seed']}" / f"step-{cell['points'][-1]['step']}.jsonl"
    texts = {record["uid"]: record["answers"][0]["text"] for record in lines(last)}
    right = fmean((NUMBER.findall(texts[p["uid"]]) or [""])[-1] == p["answer"] for p in held_out)
    boxed = fmean("\\boxed" in text for text in texts.values())
    flat = "" if cell["without_spread"] is None else f", {cell['without_spread']:.0%} of groups without spread"
    tokens = "" if cell["tokens_mean"] is None else f", {cell['tokens_mean']:.1f} tokens per rollout"
    return f"right number {right:.1%}, boxed {boxed:.1%}{tokens}{flat}"


def reward_range(group: dict[str, Any]) -> list[float]:
    """The rewards that are there, of those that the update was given."""
    rewards = group["verdicts"].get("shaped") or group["rewards"]
    return [reward for reward in rewards if reward is not None]


def differences(name: str, ours: Any, theirs: Any) -> list[str]:
    """Where two documents of one shape differ; fields that only the second has are passed over."""
    if isinstance(ours, dict):
        return [line for key in ours for line in differences(f"{name}.{key}", ours[key], theirs[key])]
    if isinstance(ours, list):
        if len(ours) != len(theirs):
            return [f"{name}: {len(ours)} and {len(theirs)} entries"]
        return [line for k in range(len(ours)) for line in differences(f"{name}[{k}]", ours[k], theirs[k])]
    tolerance = 0.1 if name.endswith("seconds") else CLOSE  # seconds are rounded there
    return [] if abs(ours - theirs) <= tolerance else [f"{name}: {ours} here, {theirs} there"]


def interval(values: list[float]) -> str:
    """Mean and Student's 95% interval."""
    if len(values) < 2:
        return f"{fmean(values):.1%}"
    half = student_t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{fmean(values):.1%} ({fmean(values) - half:.1%} to {fmean(values) + half:.1%})"


def main() -> int:
    """Compare each comparison named on the command line."""
    wrong: list[str] = []
    for folder in map(Path, sys.argv[1:]):
        held_out = lines(folder / "held-out.jsonl")
        golds = {prompt["uid"]: value_of(prompt["answer"]) for prompt in lines(folder / "prompts.jsonl")}
        taught = [(r["uid"], answer["text"]) for r in lines(folder / "teacher.jsonl") for answer in r["answers"]]
        right = fmean(value_of((BOX.findall(text) or [""])[-1]) == golds[uid] for uid, text in taught)
        cells = json.loads((folder / "compare.json").read_text())["cells"]
        here = [cell for cell in cells if (folder / "cells" / cell["label"] / f"seed-{cell['seed']}" / "run").is_dir()]
        print(f"{folder}: {len(here)} of {len(cells)} cells; {right:.1%} of {len(taught)} teacher answers are right")
        found = []
        for cell in here:
            found.append((cell["label"], cell["seed"], cell_of(folder, cell, held_out)))
            wrong += differences(f"{cell['label']} seed {cell['seed']}", found[-1][2], cell)
            print(f"  {cell['label']}, seed {cell['seed']}: {explained(folder, cell, held_out)}")
        for label, own in groupby(sorted(found, key=lambda entry: entry[:2]), key=lambda entry: entry[0]):
            results = [cell for _, _, cell in own]
            before, after = ([cell["points"][k]["accuracy"] for cell in results] for k in (0, -1))
            print(f"  {label}: {len(results)} seeds, {fmean(before):.1%} -> {interval(after)}")
    print("\n".join(wrong) or "no figure differs")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

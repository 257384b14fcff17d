"""How fast ``ropd verify`` goes through groups whose verdicts are in the cache, and through its own finished output.

    python benchmarks/warm_verify.py

Writes prompts, rollouts, an index and rubrics, fills a cache by one ``ropd verify`` against the judge server, then runs
the command, as a user does, with another ``--out`` (every reply from the cache) and with that one again (every
record there). Groups a second are given from the start of the process to its end, and less what
the same command takes over one group. No request may be sent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from judge_material import Texts, machine, median, rubric_record, show, table
from judge_server import running

from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, Group


def write_files(folder: Path, groups: int, size: int) -> None:
    """What ``ropd verify`` reads."""
    texts = Texts(size)
    with (
        RecordWriter(folder / "prompts.jsonl") as prompts,
        RecordWriter(folder / "rollouts.jsonl") as rollouts,
        RecordWriter(folder / "teacher.jsonl") as teacher,
        RecordWriter(folder / "rubrics.jsonl") as rubrics,
    ):
        for number in range(groups):
            group = texts.group(f"warm-{number}")
            messages = [message.model_dump(mode="json") for message in group.prompt]
            prompts.append({"uid": group.uid, "prompt": messages})
            rollouts.append(answers(group, group.rollouts))
            teacher.append(answers(group, (Answer(text=text) for text in group.teacher_answers)))
            rubrics.append(rubric_record(group).to_json())
    ropd(folder, "index", "build", "teacher.jsonl", "--out", "teacher.index")


def answers(group: Group, texts: Iterable[Answer]) -> dict[str, Any]:
    """A line of an answers file."""
    return AnswerRecord(
        uid=group.uid, prompt=group.prompt, raw_prompt_hash=group.raw_prompt_hash, answers=tuple(texts), model="bench"
    ).to_json()


def ropd(folder: Path, *arguments: str) -> tuple[float, dict[str, Any]]:
    """(Seconds, the ``--json`` document) of a command."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ROPD_", "OPENAI_"))}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "ropd_cli", *arguments, "--json"],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"ropd {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return seconds, json.loads(done.stdout)


def verify(folder: Path, url: str, out: str) -> tuple[float, dict[str, Any]]:
    files = ["--rubrics", "rubrics.jsonl", "--rollouts", "rollouts.jsonl", "--index", "teacher.index", "--out", out]
    asked = ["--model", "judge", "--base-url", url, "--concurrency", "128", "--cache-dir", "cache"]
    return ropd(folder, "verify", "prompts.jsonl", *files, *asked)


def measure(groups: int, repeats: int, size: int, folder: Path) -> dict[str, Any]:
    """Medians over the repeats, the command over one group being run beside each of them."""
    whole, one = folder / "whole", folder / "one"
    seconds: dict[str, list[float]] = {"start": [], "warm": [], "there": []}
    sent = 0
    with running() as url:
        for place, count in ((whole, groups), (one, 1)):
            place.mkdir()
            write_files(place, count, size)
            cold_s, document = verify(place, url, "cold.jsonl")
            if document["done"] != count:
                raise SystemExit(f"the first run: {document}")
            if place is whole:
                cold = count / cold_s
        for number in range(repeats):
            seconds["start"].append(verify(one, url, f"warm-{number}.jsonl")[0])
            for name, expected in (("warm", "done"), ("there", "skipped")):
                took_s, document = verify(whole, url, f"warm-{number}.jsonl")
                if document[expected] != groups:
                    raise SystemExit(f"not what was to be measured: {document}")
                seconds[name].append(took_s)
                sent += document["requests_sent"]
    start_s = median(seconds["start"])
    result: dict[str, Any] = {"groups": groups, "requests_sent": sent, "start_s": start_s, "cold_groups_per_s": cold}
    for name in ("warm", "there"):
        took_s = median(seconds[name])
        result[f"{name}_groups_per_s"] = groups / took_s
        result[f"{name}_net_groups_per_s"] = groups / max(took_s - start_s, 1e-3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--answer-bytes", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = {"machine": machine(), **measure(options.groups, options.repeats, options.answer_bytes, Path(folder))}
    text = f"{machine()}; {options.groups} groups of 4 + 8 answers of {options.answer_bytes} bytes\n"
    rows = [
        ("from the cache", result["warm_groups_per_s"], result["warm_net_groups_per_s"]),
        ("already there", result["there_groups_per_s"], result["there_net_groups_per_s"]),
    ]
    text += table(("", "groups/s", "less start-up"), rows)
    text += f"\nrequests sent {result['requests_sent']}; start-up {result['start_s']:.2f} s; "
    text += f"first run {result['cold_groups_per_s']:.0f} groups/s"
    show(result, text, options.json)


if __name__ == "__main__":
    main()

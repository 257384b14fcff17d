"""What a large teacher index takes: to build, to open, to look up in, from one process and from several.

    python benchmarks/teacher_index.py                 # 17,000 prompts x 4 answers of 16 KB: 1.1 GB
    python benchmarks/teacher_index.py --folder /data  # files there, not in the temporary folder

Beside it the same answers as JSON Lines, loaded into a dict: what it takes to load, its memory, its lookups. Each
figure is taken in a process of its own; lookups return all texts of a prompt, checksums verified, in random order.
"Cold": the operating system was asked to forget the file before (posix_fadvise), so that it comes from the disk.
Memory is what the process has for itself ("private" in /proc/self/smaps_rollup), less what it had before it opened
anything.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
from judge_material import show, table

from ropd_cli.index import IndexWriter, TeacherIndex
from ropd_cli.records.schemas import AnswerRecord, load_models, prompt_hash

READERS = 8
WORDS = ("we", "let", "so", "the", "sum", "of", "$x^2$", "\\frac{1}{2}", "is", "therefore", "equal", "naïve", "—", "17")


def make_answers(file: Path, prompts: int, answers: int, answer_bytes: int) -> int:
    """Write an answers file; the bytes of its texts."""
    draw = random.Random(0)
    base = " ".join(draw.choice(WORDS) for _ in range(answer_bytes))
    total = 0
    with open(file, "wb") as out:
        for number in range(prompts):
            texts = []
            for k in range(answers):
                begin = draw.randrange(len(base) // 2)
                texts.append(f"{number} {k} " + base[begin : begin + answer_bytes - 60])
                total += len(texts[-1].encode())
            prompt = question(number)
            record = {"uid": f"p{number}", "prompt": prompt, "raw_prompt_hash": prompt_hash(prompt), "model": "teacher"}
            record["answers"] = [{"text": text, "finish_reason": "stop"} for text in texts]
            out.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    return total


def question(number: int) -> list[dict[str, str]]:
    """The prompt of this number."""
    return [{"role": "user", "content": f"Question {number}: what is the value of the sum?"}]


def private_mb() -> float:
    """Memory that this process alone has."""
    kib = 0
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_"):
            kib += int(line.split()[1])
    return kib / 1024


def build(answers: Path, index: Path) -> dict[str, float]:
    """Build an index from an answers file, as ``ropd index build`` does."""
    began = time.perf_counter()
    with IndexWriter(index) as writer:
        for record in load_models(answers, AnswerRecord):
            writer.add(record)
    return {"seconds": time.perf_counter() - began}


def look_up(index: Path, prompts: int, lookups: int, answers: int, seed: int, cold: bool) -> dict[str, float]:
    """Open an index and look prompts up in random order."""
    keys = [(f"p{number}", prompt_hash(question(number))) for number in range(prompts)]
    order = random.Random(seed).choices(keys, k=lookups)
    if cold:
        forget(index)
    before = private_mb()
    began = time.perf_counter()
    opened = TeacherIndex.open(index)
    open_s = time.perf_counter() - began
    opened_mb = private_mb() - before
    with closing(opened):
        seconds = _timed(order, lambda uid, hash_: opened.answers(uid, hash_, answers))
        return {
            "open_s": open_s,
            "open_mb": opened_mb,
            "mb": private_mb() - before,
            "lookups_per_s": lookups / seconds,
        }


def load_dict(answers: Path, prompts: int, lookups: int) -> dict[str, float]:
    """The peer: every line parsed into a dict of texts."""
    before = private_mb()
    began = time.perf_counter()
    known: dict[tuple[str, str], list[str]] = {}
    with open(answers, "rb") as lines:
        for line in lines:
            record = orjson.loads(line)
            known[record["uid"], record["raw_prompt_hash"]] = [answer["text"] for answer in record["answers"]]
    open_s = time.perf_counter() - began
    keys = [(f"p{number}", prompt_hash(question(number))) for number in range(prompts)]
    order = random.Random(0).choices(keys, k=lookups)
    seconds = _timed(order, lambda uid, hash_: tuple(known[uid, hash_]))
    mb = private_mb() - before
    return {"open_s": open_s, "open_mb": mb, "mb": mb, "lookups_per_s": lookups / seconds}


def _timed(order: list[tuple[str, str]], look: Callable[[str, str], Any]) -> float:
    began = time.perf_counter()
    for uid, hash_ in order:
        look(uid, hash_)
    return time.perf_counter() - began


def forget(file: Path) -> None:
    """Ask the operating system to drop a file from its page cache."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All of it, a process for each figure."""
    answers, index = folder / "teacher.jsonl", folder / "teacher.index"
    text_bytes = make_answers(answers, options.prompts, options.answers, options.answer_bytes)
    built = []
    for _ in range(options.repeats):
        index.unlink(missing_ok=True)
        built.append(_child("build", answers, index)["seconds"])
    rounds = []
    for number in range(options.repeats):
        ours = _child("look", index, options.prompts, options.lookups, options.answers, number, 0)
        rounds.append((ours, _child("dict", answers, options.prompts, options.lookups)))
    cold = _child("look", index, options.prompts, min(options.prompts, options.lookups), options.answers, 0, 1)
    return {
        "text_mb": text_bytes / 1e6,
        "index_mb": index.stat().st_size / 1e6,
        "build_mb_per_s": text_bytes / 1e6 / statistics.median(built),
        "index": {name: statistics.median(ours[name] for ours, _ in rounds) for name in rounds[0][0]},
        "dict": {name: statistics.median(peer[name] for _, peer in rounds) for name in rounds[0][1]},
        "cold": cold,
        "readers": _readers(index, options),
        "lookups_ratio": statistics.median(ours["lookups_per_s"] / peer["lookups_per_s"] for ours, peer in rounds),
        "open_ratio": statistics.median(peer["open_s"] / ours["open_s"] for ours, peer in rounds),
    }


def _readers(index: Path, options: argparse.Namespace) -> dict[str, float]:
    """READERS processes at once: lookups a second of all, private memory of each."""
    each = [("look", index, options.prompts, options.lookups, options.answers, seed, 0) for seed in range(READERS)]
    children = [subprocess.Popen(_command(*one), stdout=subprocess.PIPE) for one in each]
    found = [json.loads(child.communicate()[0]) for child in children]
    return {
        "processes": READERS,
        "lookups_per_s": sum(one["lookups_per_s"] for one in found),
        "mb_each": max(one["mb"] for one in found),
    }


def _child(*arguments: object) -> dict[str, float]:
    done = subprocess.run(_command(*arguments), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def _command(*arguments: object) -> list[str]:
    return [sys.executable, __file__, "--child", *map(str, arguments)]


def child(kind: str, *rest: str) -> dict[str, float]:
    """One figure, in this process."""
    if kind == "build":
        return build(Path(rest[0]), Path(rest[1]))
    numbers = [int(text) for text in rest[1:]]
    if kind == "dict":
        return load_dict(Path(rest[0]), *numbers)
    prompts, lookups, answers, seed, cold = numbers
    return look_up(Path(rest[0]), prompts, lookups, answers, seed, bool(cold))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=17_000)
    parser.add_argument("--answers", type=int, default=4, help="of a prompt")
    parser.add_argument("--answer-bytes", type=int, default=16_000)
    parser.add_argument("--lookups", type=int, default=30_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are made; default: a temporary folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ropd-index-", dir=options.folder))
    try:
        found = measure(options, folder)
    finally:
        shutil.rmtree(folder)
    show(found, as_text(found), options.json)


def as_text(found: dict[str, Any]) -> str:
    """The figures as a table."""
    rows = []
    for name in ("index", "cold", "dict"):
        figures = found[name]
        rows.append((name, f"{figures['open_s']:.4f}", f"{figures['mb']:.0f}", f"{figures['lookups_per_s']:,.0f}"))
    readers = found["readers"]
    rows.append((f"{READERS} readers", "", f"{readers['mb_each']:.0f} each", f"{readers['lookups_per_s']:,.0f}"))
    head = (
        f"{found['text_mb']:,.0f} MB of texts in an index of {found['index_mb']:,.0f} MB, built at "
        f"{found['build_mb_per_s']:.0f} MB/s; lookups of the dict's {found['lookups_ratio']:.4f}, opened "
        f"{found['open_ratio']:,.0f} times faster"
    )
    return head + "\n" + table(("", "open, s", "private MB", "lookups/s"), rows)


if __name__ == "__main__":
    main()

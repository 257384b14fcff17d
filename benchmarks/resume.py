"""How long it takes to go on with a large ``.jsonl.zst`` file of records, beside reading it plainly.

    python benchmarks/resume.py

Writes files of answers as a stage does, one frame a record, and measures on each, in turn: a bare loop (zstandard's
stream reader and orjson), the reader of records, and what a stage does before it can append: to read which records are
there, and to open the file, which compares every checksum. The ratios to the bare loop may not grow with the file.
"""

from __future__ import annotations

import argparse
import io
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import zstandard
from judge_material import Texts, machine, median, show, table

from ropd_cli.records.files import read_records
from ropd_cli.records.journals import RecordWriter
from ropd_cli.stages.runner import Finished


def write(path: Path, megabytes: int, answer_bytes: int) -> int:
    """Write a file of this size, and return how many records are in it."""
    texts = Texts(answer_bytes)
    records = 0
    with RecordWriter(path) as writer:
        while records % 256 or path.stat().st_size < megabytes << 20:
            name = f"answer-{records}"
            answers = [{"text": texts.answer(name)}]
            writer.append({"uid": name, "raw_prompt_hash": name, "answers": answers, "request_hash": name})
            records += 1
    return records


def bare(path: Path) -> int:
    """Read and parse every line, and compare no place with any."""
    with open(path, "rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return sum(orjson.loads(line) is not None for line in io.BufferedReader(stream))


def reading(path: Path) -> int:
    """Read every record."""
    return sum(1 for _ in read_records(path))


def resuming(path: Path) -> int:
    """Do what a stage does before its first request."""
    finished = Finished(path, "answers")
    with RecordWriter(path):
        return next(number for number in itertools.count() if finished.left_of([f"answer-{number}"]))


def measure(sizes: list[int], repeats: int, answer_bytes: int, folder: Path) -> list[dict[str, Any]]:
    """Medians for each size."""
    results = []
    for size in sizes:
        path = folder / f"{size}.jsonl.zst"
        records = write(path, size, answer_bytes)
        seconds: dict[str, list[float]] = {}
        ways: list[Callable[[Path], int]] = [bare, reading, resuming]
        for way in ways * repeats:
            started = time.perf_counter()
            if way(path) != records:
                raise SystemExit(f"{way.__name__}: records are missing")
            seconds.setdefault(way.__name__, []).append(time.perf_counter() - started)
        medians = {name: median(values) for name, values in seconds.items()}
        ratios = {f"{name}_ratio": medians[name] / medians["bare"] for name in ("reading", "resuming")}
        results.append({"megabytes": size, "records": records, **medians, **ratios})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[17, 68], help="sizes of the compressed files")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--answer-bytes", type=int, default=4000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options.megabytes, options.repeats, options.answer_bytes, Path(folder))
    head = ("MB", "records", "bare loop, s", "reading, s", "resuming, s", "reading / bare", "resuming / bare")
    names = ("megabytes", "records", "bare", "reading", "resuming", "reading_ratio", "resuming_ratio")
    text = f"{machine()}\n{table(head, [tuple(each[name] for name in names) for each in results])}"
    show({"machine": machine(), "sizes": results}, text, options.json)


if __name__ == "__main__":
    main()

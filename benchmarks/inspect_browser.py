"""How long the browser of ``ropd inspect-rubrics`` takes on a large file.

    python benchmarks/inspect_browser.py [--groups 20000]

Makes a file of so many groups (8 rollouts of about 1 KB, 8 criteria, 4 teacher answers), then measures the first pass
that indexes it, opening the browser afterwards in a process of its own (from before Python's imports to the first
list on the screen), and what a key takes until its screen is drawn. Medians and 99th percentiles; the share of the
first pass that later openings take is the ratio to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

OPEN = """
import asyncio, sys, time
began = float(sys.argv[3])
from pathlib import Path
from ropd_cli.report.browser import Browser
from ropd_cli.analysis.catalogue import Catalogue
from ropd_cli.analysis.query import Query

async def main():
    with Catalogue.open(Path(sys.argv[1]), Path(sys.argv[2])) as catalogue:
        browser = Browser(catalogue, Query(), "bench")
        async with browser.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "p0" in "".join(browser.rows.render_line(y).text for y in range(38))
            print(time.time() - began)

asyncio.run(main())
"""


def make(path: Path, groups: int) -> None:
    """A file of groups as a training writes them."""
    rng = random.Random(0)
    words = ("answer", "because", "number", "therefore", "value", "water", "energy", "result", "shows", "step", "first")

    def text(characters: int) -> str:
        said = ""
        while len(said) < characters:
            said += rng.choice(words) + " "
        return said

    with open(path, "wb") as out:
        for number in range(groups):
            criteria = [
                {"criterion_id": f"c{k}", "category": "Task Completion", "criterion": text(80), "points": 1 + k % 5}
                for k in range(1, 9)
            ]
            total = sum(criterion["points"] for criterion in criteria)
            answers, rewards = [], []
            for source, count in (("student", 8), ("teacher", 4)):
                for index in range(count):
                    marks = [rng.random() < (0.5 if source == "student" else 0.8) for _ in criteria]
                    score = sum(c["points"] for c, mark in zip(criteria, marks, strict=True) if mark) / total
                    answers.append({"source": source, "index": index, "judgement": marks, "score": score})
                    rewards += [score] if source == "student" else []
            ids = {"uid": f"p{number}", "raw_prompt_hash": f"{number:064x}"}
            rubric = {"schema_version": "ropd.rubric.v1", "rubrics": criteria, "maximum_score": total}
            record = {
                "step": number // 128 + 1,
                **ids,
                "prompt": [{"role": "user", "content": text(200)}],
                "answer": None,
                "teacher_answers": [text(1000) for _ in range(4)],
                "rollouts": [{"text": text(1000), "finish_reason": "stop"} for _ in range(8)],
                "rubric": {**ids, "rubric": rubric, "rubric_hash": "h", "model": "m", "template_hash": "t"},
                "verdicts": {**ids, "rubric_hash": "h", "answers": answers, "rewards": rewards, "model": "m"}
                | {"template_hash": "t"},
                "rewards": rewards,
                "seconds": 1.0,
                "error": None,
            }
            out.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


async def keys(path: Path, cache: Path) -> dict[str, list[float]]:
    """Seconds from a key to its screen, by key."""
    from ropd_cli.analysis.catalogue import Catalogue
    from ropd_cli.analysis.query import Query
    from ropd_cli.report.browser import Browser

    found: dict[str, list[float]] = {"nothing": [], "down": [], "pagedown": [], "end": []}
    with Catalogue.open(path, cache) as catalogue:
        browser = Browser(catalogue, Query(), "bench")
        async with browser.run_test(size=(120, 40)) as pilot:
            for _ in range(200):
                # "nothing": a key that no one listens to; the test driver's own waiting, to be taken off
                for key, pressed in (("nothing", "f12"), ("down", "down"), ("pagedown", "pagedown")):
                    began = time.perf_counter()
                    await pilot.press(pressed)
                    found[key].append(time.perf_counter() - began)
            for _ in range(10):
                await pilot.press("home")
                began = time.perf_counter()
                await pilot.press("end")
                found["end"].append(time.perf_counter() - began)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=int, default=20_000)
    groups = parser.parse_args().groups
    with tempfile.TemporaryDirectory() as folder:
        path, cache = Path(folder) / "groups.jsonl", Path(folder) / "cache"
        make(path, groups)
        print(f"{groups:,} groups, {path.stat().st_size / 1e6:,.0f} MB")
        from ropd_cli.analysis.catalogue import Catalogue

        began = time.perf_counter()
        Catalogue.open(path, cache).close()
        first = time.perf_counter() - began
        print(f"first pass: {first:.1f} s, {groups / first:,.0f} groups/s")
        opened = []
        for _ in range(5):
            command = [sys.executable, "-c", OPEN, str(path), str(cache), str(time.time())]
            opened.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        median = statistics.median(opened)
        print(f"opening afterwards: median {median:.2f} s (the slowest {max(opened):.2f}), {median / first:.3f} of it")
        idle = 0.0
        for key, seconds in asyncio.run(keys(path, cache)).items():
            ordered = sorted(seconds)
            middle, late = statistics.median(ordered), ordered[int(0.99 * (len(ordered) - 1))]
            idle = middle if key == "nothing" else idle
            less = "" if key == "nothing" else f"; less the driver's own: {1000 * (middle - idle):+.1f} ms"
            print(f"{key:9} median {1000 * middle:.0f} ms, 99% {1000 * late:.0f} ms{less}")


if __name__ == "__main__":
    main()

"""Groups to judge, and printing of what was measured: what the benchmarks share."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from judge_server import RUBRIC

from ropd_cli.config import EndpointConfig, LimitsConfig
from ropd_cli.records.schemas import Answer, Group, Message, Rubric, RubricRecord, prompt_hash

PROSE = (
    "the a so we let then value sum each step of $x^2$ \\frac{1}{2} \\boxed{42}, because therefore \n\n- **Case** "
    '„größer“ x = 3 implies that is equal to "quoted" and 17 + 25 gives 42. Next, consider ≤ 7; hence'
)
TEACHERS, STUDENTS = 4, 8


class Texts:
    """Answers of about ``size`` bytes, every one different, cut from the same long text."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self._size = size
        self._random = random.Random(seed)
        self._pool = " ".join(self._random.choices(PROSE.split(" "), k=max(2000, size)))

    def answer(self, name: str) -> str:
        """The answer of this name: a piece of the text."""
        start = self._random.randrange(len(self._pool) - self._size)
        return f"{name}. {self._pool[start : start + self._size]}"

    def group(self, name: str) -> Group:
        """A group of 4 + 8 answers whose question holds the judge server's marker."""
        prompt = (Message(role="user", content=f"[[bench {name}]] What is 17 + 25?"),)
        return Group(
            uid=name,
            prompt=prompt,
            raw_prompt_hash=prompt_hash(prompt),
            teacher_answers=tuple(self.answer(f"{name} teacher {k}") for k in range(TEACHERS)),
            rollouts=tuple(
                Answer(text=self.answer(f"{name} student {k}"), finish_reason="stop") for k in range(STUDENTS)
            ),
        )


def endpoint(url: str, concurrency: int) -> EndpointConfig:
    """The judge server as an endpoint."""
    return EndpointConfig(model="judge", base_url=url, limits=LimitsConfig(concurrency=concurrency))


def rubric_record(group: Group, template_hash: str = "0" * 16) -> RubricRecord:
    """The record of the rubric that the judge server gives to every group."""
    rubric = Rubric.model_validate(RUBRIC)
    return RubricRecord(
        uid=group.uid,
        raw_prompt_hash=group.raw_prompt_hash,
        rubric=rubric,
        rubric_hash=rubric.hash,
        model="judge",
        template_hash=template_hash,
    )


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(list(values))


def rss_mb() -> float:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def machine() -> str:
    """Where it was measured, in a line."""
    return f"{os.cpu_count()} cores ({platform.processor() or platform.machine()}), Python {platform.python_version()}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns under their names, numbers to three digits."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def show(document: dict[str, Any], text: str, as_json: bool) -> None:
    """Print one JSON document, or the text."""
    print(json.dumps(document) if as_json else text)


def _cell(value: Any) -> str:
    return (
        f"{value:.3f}"
        if isinstance(value, float) and abs(value) < 10
        else f"{value:.1f}"
        if isinstance(value, float)
        else str(value)
    )

"""Made tasks: sums of two numbers (the quickstart's) or of three, with the result asked for in a box.

A worked example stands before each question, as a user of a small model would write it; so the untrained
student knows the form, and what it has left to learn is to add.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from ropd_cli.errors import InputError
from ropd_cli.records.schemas import Message, Prompt


@dataclass(frozen=True)
class SumTask:
    """Sums of so many numbers between ``low`` and ``high``; ``example`` are the numbers of the example ``worked``."""

    about: str

    low: int
    high: int
    example: tuple[int, ...]
    system: str
    worked: str

    def pairs(self) -> list[tuple[int, ...]]:
        """Return the numbers of every sum but the example."""
        numbers = range(self.low, self.high + 1)
        return [each for each in product(numbers, repeat=len(self.example)) if each != self.example]


SUM_TASKS = {
    "sums": SumTask(
        "sums of two numbers",
        2,
        19,
        (3, 4),
        r"Solve the sum. Write the result as \boxed{result}.",
        r"3 + 4 = \boxed{7}",
    ),
    "long-sums": SumTask(
        "sums of three numbers",
        2,
        9,
        (3, 4, 6),
        r"Solve the sum step by step. Write the result as \boxed{result}.",
        r"3 + 4 = 7 and 7 + 6 = 13, so the result is \boxed{13}",
    ),
}
"""By name. Those of `long-sums` are written in two steps, in which there is more to judge."""


@dataclass(frozen=True)
class Split:
    """Prompts to train on and prompts kept aside; no sum stands in both."""

    train: list[Prompt]
    held_out: list[Prompt]


def make_sums(train: int, held_out: int, seed: int, name: str = "sums") -> Split:
    """``train`` and ``held_out`` different sums of a task of ``SUM_TASKS``, drawn by ``seed``.

    Raises InputError when there are not so many.
    """
    task = SUM_TASKS[name]
    sums = task.pairs()
    if train + held_out > len(sums):
        raise InputError(
            f"{name}: only {len(sums)} different questions exist; {train} and {held_out} held out are requested",
            "lower --size or --held-out",
        )
    random.Random(seed).shuffle(sums)
    prompts = [_prompt(name, task, numbers) for numbers in sums[: train + held_out]]
    return Split(train=prompts[held_out:], held_out=prompts[:held_out])


def _prompt(name: str, task: SumTask, numbers: tuple[int, ...]) -> Prompt:
    example = " + ".join(map(str, task.example))
    messages = (
        Message(role="system", content=task.system),
        Message(role="user", content=f"{example} ="),
        Message(role="assistant", content=task.worked),
        Message(role="user", content=" + ".join(map(str, numbers)) + " ="),
    )
    uid = "-".join(["sum", *map(str, numbers)])
    return Prompt(uid=uid, prompt=messages, answer=str(sum(numbers)), data_source=f"ropd/{name}")

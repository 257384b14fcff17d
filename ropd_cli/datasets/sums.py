"""The quickstart's task: sums of two numbers, with the result asked for in a box.

A worked example stands before each question, as a user of a small model would write it; so the untrained
student knows the form, and what it has left to learn is to add.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ropd_cli.errors import InputError
from ropd_cli.records.schemas import Message, Prompt

LOW, HIGH = 2, 19
SYSTEM = r"Solve the sum. Write the result as \boxed{result}."
EXAMPLE = ("3 + 4 =", r"3 + 4 = \boxed{7}")
DATA_SOURCE = "ropd/sums"


@dataclass(frozen=True)
class Split:
    """Prompts to train on and prompts kept aside; no sum stands in both."""

    train: list[Prompt]
    held_out: list[Prompt]


def make_sums(train: int, held_out: int, seed: int) -> Split:
    """``train`` and ``held_out`` different sums a + b with LOW <= a, b <= HIGH, drawn by ``seed``.

    Raises InputError when there are not so many.
    """
    pairs = [(a, b) for a in range(LOW, HIGH + 1) for b in range(LOW, HIGH + 1) if f"{a} + {b} =" != EXAMPLE[0]]
    if train + held_out > len(pairs):
        raise InputError(
            f"sums: {len(pairs)} different ones, asked for are {train} and {held_out} held out",
            "lower --size or --held-out",
        )
    random.Random(seed).shuffle(pairs)
    prompts = [_prompt(a, b) for a, b in pairs[: train + held_out]]
    return Split(train=prompts[held_out:], held_out=prompts[:held_out])


def _prompt(a: int, b: int) -> Prompt:
    messages = (
        Message(role="system", content=SYSTEM),
        Message(role="user", content=EXAMPLE[0]),
        Message(role="assistant", content=EXAMPLE[1]),
        Message(role="user", content=f"{a} + {b} ="),
    )
    return Prompt(uid=f"sum-{a}-{b}", prompt=messages, answer=str(a + b), data_source=DATA_SOURCE)

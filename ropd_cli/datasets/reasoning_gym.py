"""Tasks of the package reasoning-gym, as prompts."""

from __future__ import annotations

import contextlib
import difflib
import io
from collections.abc import Mapping
from typing import Any

from ropd_cli.errors import InputError, MissingPackage
from ropd_cli.records.schemas import Prompt


def gym_prompts(task: str, size: int, seed: int, parameters: Mapping[str, Any]) -> list[Prompt]:
    """``size`` different questions of a reasoning-gym task, drawn by ``seed``, shape (size,).

    ``parameters`` are the task's own settings. Raises MissingPackage without reasoning-gym, InputError for
    a task or a setting it does not have, and where the task has not so many different questions.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # some of its tasks greet on import
            import reasoning_gym
    except ImportError as fault:
        raise MissingPackage(
            "reasoning-gym tasks need the package reasoning-gym", "pip install 'ropd-cli[tasks]'"
        ) from fault
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        near = difflib.get_close_matches(task, DATASETS, n=3, cutoff=0.4)
        raise InputError(
            f"reasoning-gym has no task {task!r}", f"it has {', '.join(near or ('chain_sum', 'gcd'))}, among others"
        )
    try:  # more questions than asked for, as some come twice
        items = reasoning_gym.create_dataset(task, size=3 * size + 50, seed=seed, **parameters)
    except (TypeError, AssertionError, ValueError) as fault:
        raise InputError(f"reasoning-gym task {task!r}: {fault}", "check what is given by --param") from fault
    prompts: dict[str, Prompt] = {}
    for item in items:
        question = str(item["question"])
        if question not in prompts:
            prompts[question] = Prompt(
                uid=f"{task}-{seed}-{len(prompts)}",
                prompt=question,
                answer=str(item["answer"]),
                data_source=f"reasoning-gym/{task}",
            )
        if len(prompts) == size:
            return list(prompts.values())
    raise InputError(
        f"reasoning-gym task {task!r} gave only {len(prompts)} different questions, {size} asked for",
        "ask for fewer, or widen the task by --param",
    )

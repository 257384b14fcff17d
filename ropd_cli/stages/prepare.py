"""Prepare: prompts of a made task or a local file, in the prompts format, some of them held out."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.artifacts import RecordWriter, read_records, write_atomic
from ropd_cli.errors import InputError
from ropd_cli.schemas import Message, Prompt, with_system
from ropd_cli.tasks.gym import gym_prompts
from ropd_cli.tasks.local import local_prompts
from ropd_cli.tasks.sums import make_sums

GYM = "reasoning-gym:"
SUMS = "sums"


@dataclass(frozen=True)
class Source:
    """Where prompts come from: a made task by its name, or a local file."""

    name: str
    local: Path | None = None
    size: int | None = None
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    prompt_field: str | None = None
    answer_field: str | None = None


@dataclass(frozen=True)
class Wording:
    """What is put around each question: a system prompt, and a sentence after it (the form of the answer)."""

    system: str | None = None
    instruction: str | None = None


def prepare(source: Source, wording: Wording, held_out: int = 0) -> tuple[list[Prompt], list[Prompt]]:
    """(prompts to train on, ``held_out`` others), drawn by the source's seed; no prompt stands in both.

    Raises InputError for an unknown name, an unreadable file, or fewer prompts than asked for.
    """
    if source.local is None and source.name == SUMS:
        split = make_sums(source.size if source.size is not None else 100, held_out, source.seed)
        return _worded(split.train, wording), _worded(split.held_out, wording)
    prompts = _prompts(source, held_out)
    wanted = source.size if source.size is not None else len(prompts) - held_out
    if wanted < 1 or len(prompts) < wanted + held_out:
        raise InputError(
            f"{source.local or source.name}: {len(prompts)} different prompts, asked for are {max(wanted, 1)} and "
            f"{held_out} held out",
            "lower --size or --held-out",
        )
    if held_out:
        random.Random(source.seed).shuffle(prompts)
    prompts = _worded(prompts, wording)
    return prompts[held_out : held_out + wanted], prompts[:held_out]


def write_prompts(prompts: list[Prompt], out: Path, *, force: bool) -> bool:
    """Write a prompts file, whole or not at all; False where it already holds just these prompts.

    Raises InputError where it holds others, unless ``force``.
    """
    records = [prompt.to_json() for prompt in prompts]
    if out.exists() and not force:
        try:
            same = [record for _, record in read_records(out)] == records
        except InputError:
            same = False
        if same:
            return False
        raise InputError(f"{out}: holds something else already", "give another --out, or overwrite it by --force")
    if out.suffix == ".jsonl":
        write_atomic(out, b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records))
        return True
    out.unlink(missing_ok=True)
    with RecordWriter(out) as writer:
        for record in records:
            writer.append(record)
    return True


def _prompts(source: Source, held_out: int) -> list[Prompt]:
    if source.local is not None:
        prompts = local_prompts(source.local, source.prompt_field, source.answer_field)
        return [p if p.data_source else p.model_copy(update={"data_source": source.name}) for p in prompts]
    if source.name.startswith(GYM):
        size = source.size if source.size is not None else 100
        return gym_prompts(source.name.removeprefix(GYM), size + held_out, source.seed, source.parameters)
    raise InputError(
        f"no task or data set {source.name!r}",
        f"{SUMS}, {GYM}TASK (for example {GYM}chain_sum), or any name with --local FILE",
    )


def _worded(prompts: list[Prompt], wording: Wording) -> list[Prompt]:
    """The prompts with system prompt and instruction; a prompt that stays as it was keeps its form."""
    if wording.system is None and wording.instruction is None:
        return prompts
    worded = []
    for prompt in prompts:
        messages = list(prompt.messages)
        if wording.instruction is not None:
            last = messages[-1]
            if last.role != "user" or not isinstance(last.content, str):
                raise InputError(f"uid {prompt.uid}: the last message is not a user's text", "leave --instruction out")
            messages[-1] = Message(role="user", content=f"{last.content}\n\n{wording.instruction}")
        with_both = with_system(tuple(messages), wording.system)
        bare = isinstance(prompt.prompt, str) and len(with_both) == 1
        worded.append(prompt.model_copy(update={"prompt": with_both[0].content if bare else with_both}))
    return worded

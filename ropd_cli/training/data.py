"""The prompts of a run, checked against the teacher index and written in verl's columns."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from ropd_cli.artifacts import disk_errors
from ropd_cli.config import RopdConfig
from ropd_cli.errors import IndexMissing, InputError, TooFewAnswers
from ropd_cli.index import TeacherIndex
from ropd_cli.schemas import Prompt, load_prompts, with_system

SHOWN_UIDS = 5


def load_checked_prompts(config: RopdConfig) -> list[Prompt]:
    """The prompts to train on, each with m distinct teacher answers in the index.

    Raises InputError where a file is missing or malformed, IndexMissing or TooFewAnswers (with how many,
    and the first uids) where the index falls short: before any model is loaded.
    """
    if config.data.prompts is None:
        raise InputError("data.prompts is not set", "name the file of prompts to train on")
    if config.data.index is None:
        raise InputError("data.index is not set", "name the teacher index: ropd index build ANSWERS --out INDEX")
    prompts = load_prompts(config.data.prompts)
    if len(prompts) < config.train.prompts_per_step:
        raise InputError(
            f"{config.data.prompts}: {len(prompts)} prompts, train.prompts_per_step is {config.train.prompts_per_step}",
            "give more prompts, or lower train.prompts_per_step",
        )
    check_index(prompts, Path(config.data.index), config.judge.m)
    return prompts


def check_index(prompts: list[Prompt], path: Path, m: int) -> None:
    """Raise IndexMissing or TooFewAnswers unless every prompt has ``m`` distinct answers."""
    with closing(TeacherIndex.open(path)) as index:
        coverage = index.check(prompts, m)
    for uids, kind, what in (
        (coverage.missing, IndexMissing, "no answer"),
        (list(coverage.short), TooFewAnswers, f"fewer than {m} distinct answers"),
    ):
        if uids:
            shown = ", ".join(uids[:SHOWN_UIDS]) + (" …" if len(uids) > SHOWN_UIDS else "")
            raise kind(
                f"{path}: {what} for {len(uids)} of {len(prompts)} prompts ({shown})",
                "run ropd teacher-gen and ropd index build for them, or lower judge.m",
            )


def check_lengths(prompts: list[Prompt], config: RopdConfig) -> None:
    """Raise InputError for prompts of more than ``data.max_prompt_tokens`` tokens: verl would cut them.

    Loads the student's tokenizer, so it is called in the training process.
    """
    from transformers import AutoTokenizer

    student, limit = config.student, config.data.max_prompt_tokens
    tokenizer = AutoTokenizer.from_pretrained(student.model_path)
    template = {} if student.enable_thinking is None else {"enable_thinking": student.enable_thinking}
    too_long = {}
    for prompt in prompts:
        messages = [m.model_dump(mode="json") for m in with_system(prompt.messages, student.system_prompt)]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False, **template)
        if len(ids) > limit:
            too_long[prompt.uid] = len(ids)
    if too_long:
        shown = ", ".join(f"{uid} ({count})" for uid, count in list(too_long.items())[:SHOWN_UIDS])
        more = " …" if len(too_long) > SHOWN_UIDS else ""
        raise InputError(
            f"{config.data.prompts}: {len(too_long)} of {len(prompts)} prompts have more tokens than "
            f"data.max_prompt_tokens {limit}: {shown}{more}",
            f"raise data.max_prompt_tokens (the longest has {max(too_long.values())}), or leave them out",
        )


def write_verl_prompts(prompts: list[Prompt], path: Path, system_prompt: str | None) -> None:
    """Write the prompts as verl reads them; ours travels as ``extra_info.ropd_uid`` and ``ropd_hash``.

    ``system_prompt`` is put before prompts that have none of their own.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "data_source": prompt.data_source or "ropd",
            "prompt": [m.model_dump(mode="json") for m in with_system(prompt.messages, system_prompt)],
            "reward_model": {"style": "rule", "ground_truth": prompt.answer or ""},
            "extra_info": {"index": number, "ropd_uid": prompt.uid},
        }
        for number, prompt in enumerate(prompts)
    ]
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        pq.write_table(pa.Table.from_pylist(rows), temporary)
        os.replace(temporary, path)

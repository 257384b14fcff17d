"""Check the prompts of a run against the teacher index, and write them in verl's columns."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropd_cli.config import RopdConfig
from ropd_cli.errors import IndexMissing, InputError, TooFewAnswers
from ropd_cli.index import Coverage, TeacherIndex
from ropd_cli.methods import method_of
from ropd_cli.records.files import write_atomic
from ropd_cli.records.parquet import arrow
from ropd_cli.records.schemas import Prompt, load_prompts, with_system
from ropd_cli.util.counted import counted

SHOWN_UIDS = 5


@dataclass(frozen=True)
class CheckedPrompts:
    """The prompts to train on, each with as many distinct teacher answers as the method needs, and those that were left
    out for want of them, as {"uid", "answers"}."""

    prompts: list[Prompt]
    skipped: list[dict[str, Any]]


def unnamed_files(config: RopdConfig) -> list[InputError]:
    """Return an error for each file that a run reads and the configuration does not name."""
    faults = []
    if config.data.prompts is None:
        faults.append(InputError("data.prompts is not set", "name the file of prompts to train on"))
    if config.data.index is None and method_of(config).needs(config).teacher_answers:
        hint = "name the teacher index: ropd index build ANSWERS --out INDEX"
        faults.append(InputError("data.index is not set", hint))
    return faults


def load_checked_prompts(config: RopdConfig, skipped_before: Iterable[str] | None = None) -> CheckedPrompts:
    """The prompts of a run, checked against the index as ``data.on_few_answers`` says.

    ``skipped_before``: the uids that the same run left out when it began; it goes on without just those, so that the
    order of its data stays what it was. Raises InputError where a file is missing or malformed, or too few prompts
    are left; IndexMissing or TooFewAnswers (with how many, and the first uids) where the index falls short: before
    any model is loaded.
    """
    for fault in unnamed_files(config):
        raise fault
    prompts, m = load_prompts(str(config.data.prompts)), method_of(config).needs(config).teacher_answers
    if not m:
        return CheckedPrompts(_enough(prompts, config), [])
    path = Path(str(config.data.index))
    with closing(TeacherIndex.open(path)) as index:
        if skipped_before is not None:
            gone = set(skipped_before)
        elif config.data.on_few_answers == "skip":
            gone = index.check(prompts, m).lacking
        else:
            gone = set()
        skipped = [
            {"uid": prompt.uid, "answers": index.count(prompt.uid, prompt.raw_prompt_hash)}
            for prompt in prompts
            if prompt.uid in gone
        ]
        kept = [prompt for prompt in prompts if prompt.uid not in gone]
        _check_covered(index.check(kept, m), path, m)
    without = f" ({len(skipped)} without {m} distinct teacher answers left out)" if skipped else ""
    return CheckedPrompts(_enough(kept, config, without), skipped)


def _enough(prompts: list[Prompt], config: RopdConfig, without: str = "") -> list[Prompt]:
    """Return the prompts. Raises InputError where they are fewer than a step takes."""
    if len(prompts) < config.train.prompts_per_step:
        raise InputError(
            f"{config.data.prompts}: {counted(len(prompts), 'prompt')}{without}, train.prompts_per_step is "
            f"{config.train.prompts_per_step}",
            "give more prompts, or lower train.prompts_per_step",
        )
    return prompts


def _check_covered(coverage: Coverage, path: Path, m: int) -> None:
    """Raise IndexMissing or TooFewAnswers unless every prompt has ``m`` distinct answers."""
    for uids, kind, what, lower in (
        (coverage.missing, IndexMissing, "no answer", ""),
        (list(coverage.short), TooFewAnswers, f"fewer than {counted(m, 'distinct answer')}", " lower judge.m,"),
    ):
        if uids:
            shown = ", ".join(uids[:SHOWN_UIDS]) + (" …" if len(uids) > SHOWN_UIDS else "")
            raise kind(
                f"{path}: {what} for {len(uids)} of {counted(coverage.prompts, 'prompt')} ({shown})",
                f"run ropd teacher-gen and ropd index build for them,{lower} or leave them out: "
                "data.on_few_answers=skip",
            )


def check_lengths(prompts: list[Prompt], config: RopdConfig, where: str | None = None) -> None:
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
            f"{where or config.data.prompts}: {len(too_long)} of {counted(len(prompts), 'prompt')} have more "
            f"tokens than data.max_prompt_tokens {limit}: {shown}{more}",
            f"raise data.max_prompt_tokens (the longest has {max(too_long.values())}), or leave them out",
        )


def write_verl_prompts(prompts: list[Prompt], path: Path, system_prompt: str | None) -> None:
    """Write the prompts as verl reads them; ours travels as ``extra_info.ropd_uid`` and ``ropd_hash``.

    ``system_prompt`` is put before prompts that have none of their own.
    """
    rows = [
        {
            "data_source": prompt.data_source or "ropd",
            "prompt": [m.model_dump(mode="json") for m in with_system(prompt.messages, system_prompt)],
            "reward_model": {"style": "rule", "ground_truth": prompt.answer or ""},
            "extra_info": {"index": number, "ropd_uid": prompt.uid},
        }
        for number, prompt in enumerate(prompts)
    ]
    write_parquet(rows, path)


def write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows to a Parquet file, which is whole or is not there."""
    pa, pq = arrow()

    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), data)
    write_atomic(path, data.getvalue())

"""Read groups: each prompt with its rollouts from files, its teacher answers from the index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from ropd_cli.errors import InputError, RopdError
from ropd_cli.index import TeacherIndex
from ropd_cli.method.groups import group_of
from ropd_cli.records.files import read_journal
from ropd_cli.records.packed import Key
from ropd_cli.records.schemas import AnswerRecord, Group, Prompt, load_models, load_prompts
from ropd_cli.stages.runner import RECORD_ERRORS
from ropd_cli.util.counted import counted

T = TypeVar("T")


class GroupFile:
    """The groups of a rollouts file, one at a time in the file's order (the texts are never all in memory).

    A rollouts record belongs to the prompt of the same uid and hash; of several the last counts. Raises
    InputError where no record belongs to any prompt. ``with_rubric``: as of ``group_of``.
    """

    def __init__(self, prompts: Path, rollouts: Path, limit: int | None = None, *, with_rubric: bool = False) -> None:
        self._rollouts, self._with_rubric = rollouts, with_rubric
        self._prompts: dict[Key, Prompt] = {(p.uid, p.raw_prompt_hash): p for p in load_prompts(prompts, limit)}
        self._last: dict[Key, int] = {}
        others: dict[str, None] = {}  # uids whose rollouts answer another text, in order
        is_ours = True
        uids = {uid for uid, _ in self._prompts}
        for number, (_, record) in enumerate(read_journal(rollouts)):  # what is in them is checked when they are used
            key = (record.get("uid"), record.get("raw_prompt_hash"))
            is_ours = is_ours and None not in key
            if key in self._prompts:
                self._last[key] = number
            elif key[0] in uids:
                others[key[0]] = None
        if not self._last and not is_ours:
            raise InputError(
                f"{rollouts}: not a rollouts file of ropd (records without uid or raw_prompt_hash)",
                f"answers made elsewhere: ropd index import {rollouts} --prompts {prompts} --out ROLLOUTS.jsonl",
            )
        if not self._last:
            why = f"; the prompt of uid {next(iter(others))!r} is another one" if others else ""
            raise InputError(
                f"{rollouts}: no rollouts of the prompts in {prompts}{why}",
                "give the prompts file that the rollouts were made from",
            )
        self._left_out: dict[str, list[str]] = {}
        for uid, _ in (key for key in self._prompts if key not in self._last):
            self._leave_out(uid, "with another text than its rollouts" if uid in others else "without rollouts")

    @property
    def uids(self) -> list[str]:
        """Of the groups, in order."""
        return [uid for uid, _ in self._last]

    @property
    def left_out(self) -> list[str]:
        """Prompts without a group: a line for each reason, with their number and up to three uids."""
        return [
            f"{counted(len(uids), 'prompt')} {why}, left out: {', '.join(uids[:3])}{' …' * (len(uids) > 3)}"
            for why, uids in self._left_out.items()
        ]

    def keep_rubrics(self, keys: Collection[Key]) -> None:
        """Leave out the groups that have no rubric among these."""
        for uid, _ in (key for key in self._last if key not in keys):
            self._leave_out(uid, "without a rubric")
        self._last = {key: number for key, number in self._last.items() if key in keys}

    def _leave_out(self, uid: str, why: str) -> None:
        self._left_out.setdefault(why, []).append(uid)

    def __iter__(self) -> Iterator[Group]:
        for number, record in enumerate(load_models(self._rollouts, AnswerRecord)):
            key = (record.uid, record.raw_prompt_hash)
            if self._last.get(key) == number:
                yield group_of(self._prompts[key], record.answers, with_rubric=self._with_rubric)

    @property
    def prompts(self) -> Iterable[Prompt]:
        """The prompts that have a group."""
        return [self._prompts[key] for key in self._last]


def with_teacher(group: Group, index: TeacherIndex | None, m: int, *, seed: int, epoch: int = 0) -> Group:
    """The group with m distinct teacher answers (step 1); of more, ``seed`` and ``epoch`` say which. Raises
    IndexMissing or TooFewAnswers."""
    if index is None:
        return group
    answers = index.answers(group.uid, group.raw_prompt_hash, m, seed=seed, epoch=epoch)
    return group.model_copy(update={"teacher_answers": answers})


def forecast_plans(groups: Iterable[Group], plan: Callable[[Group], T], note: Callable[[str], None]) -> Iterator[T]:
    """Yield the plans of groups; those that can't be made are counted in a ``note``, as the stage lists them as failed.
    Raises the first error where none can be made."""
    made, faults = 0, list[RopdError]()
    for group in groups:
        try:
            planned = plan(group)
        except RECORD_ERRORS as fault:
            faults.append(fault)
            continue
        made += 1
        yield planned
    if faults and not made:
        raise faults[0]
    if faults:
        note(
            f"{len(faults)} of {counted(made + len(faults), 'group')} would fail and are not counted; the "
            f"first: {faults[0]}"
        )

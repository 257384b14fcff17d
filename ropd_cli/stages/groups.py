"""Groups from files: each prompt with its rollouts and, where there is an index, its teacher answers."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import orjson

from ropd_cli.errors import InputError
from ropd_cli.index import TeacherIndex
from ropd_cli.method.block import Block
from ropd_cli.method.dataset_rubrics import brought_rubric
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer, AnswerRecord, Group, Prompt, load_models, load_prompts

Key = tuple[str, str]
"""(uid, raw_prompt_hash)."""


class GroupFile:
    """The groups of a rollouts file, one at a time in the file's order (the texts are never all in memory).

    A rollouts record belongs to the prompt of the same uid and hash; of several the last counts. Raises
    InputError where no record belongs to any prompt. ``with_rubric``: as of ``group_of``.
    """

    def __init__(self, prompts: Path, rollouts: Path, limit: int | None = None, *, with_rubric: bool = False) -> None:
        self._rollouts, self._with_rubric = rollouts, with_rubric
        self._prompts: dict[Key, Prompt] = {(p.uid, p.raw_prompt_hash): p for p in load_prompts(prompts, limit)}
        self._last: dict[Key, int] = {}
        other_prompt: str | None = None
        uids = {uid for uid, _ in self._prompts}
        for number, (_, record) in enumerate(read_records(rollouts)):  # what is in them is checked when they are used
            key = (record.get("uid"), record.get("raw_prompt_hash"))
            if key in self._prompts:
                self._last[key] = number
            elif key[0] in uids:
                other_prompt = key[0]
        if not self._last:
            why = f"; the prompt of uid {other_prompt!r} is another one" if other_prompt is not None else ""
            raise InputError(
                f"{rollouts}: no rollouts of the prompts in {prompts}{why}",
                "give the prompts file that the rollouts were made from",
            )

    @property
    def uids(self) -> list[str]:
        """Of the groups, in order."""
        return [uid for uid, _ in self._last]

    @property
    def left_out(self) -> int:
        """Prompts without a group."""
        return len(self._prompts) - len(self._last)

    def keep_only(self, keys: Collection[Key]) -> None:
        """Leave out the groups of any other key."""
        self._last = {key: number for key, number in self._last.items() if key in keys}

    def __iter__(self) -> Iterator[Group]:
        for number, record in enumerate(load_models(self._rollouts, AnswerRecord)):
            key = (record.uid, record.raw_prompt_hash)
            if self._last.get(key) == number:
                yield group_of(self._prompts[key], record.answers, with_rubric=self._with_rubric)

    @property
    def prompts(self) -> Iterable[Prompt]:
        """The prompts that have a group."""
        return [self._prompts[key] for key in self._last]


def group_of(
    prompt: Prompt,
    rollouts: tuple[Answer, ...],
    teacher_answers: tuple[str, ...] = (),
    *,
    with_rubric: bool = False,
) -> Group:
    """The group of a prompt, with all that rewards may need of it; ``with_rubric``: with the rubric it brings.

    Raises InputError where that can't be read.
    """
    extra_info = (prompt.model_extra or {}).get("extra_info")
    return Group.model_construct(  # all of it was checked when it was read
        uid=prompt.uid,
        prompt=prompt.messages,
        raw_prompt_hash=prompt.raw_prompt_hash,
        teacher_answers=teacher_answers,
        rollouts=rollouts,
        answer=prompt.answer,
        data_source=prompt.data_source,
        extra_info=extra_info if isinstance(extra_info, dict) else {},
        brought=brought_rubric(prompt) if with_rubric else None,
    )


def with_teacher(group: Group, index: TeacherIndex | None, m: int, *, seed: int, epoch: int = 0) -> Group:
    """The group with m distinct teacher answers; of more, ``seed`` and ``epoch`` say which. Raises IndexMissing or
    TooFewAnswers."""
    if index is None:
        return group
    answers = index.answers(group.uid, group.raw_prompt_hash, m, seed=seed, epoch=epoch)
    return group.model_copy(update={"teacher_answers": answers})


def request_hash(group: Group, block: Block, digests: Sequence[str], *settings: object) -> str:
    """First 16 hex digits of the SHA-256 of what was asked about a group (the digests of its requests), whose answers
    stood where, and the settings that its record depends on: a record that carries the same one answers the same
    question."""
    asked = digests[0] if len(digests) == 1 else list(digests) or None
    parts = [asked, block.places, len(group.rollouts), len(group.teacher_answers), *settings]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:16]

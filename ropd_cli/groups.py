"""Groups from files: each prompt with its rollouts and, where there is an index, its teacher answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from ropd_cli.errors import InputError
from ropd_cli.index import TeacherIndex
from ropd_cli.schemas import AnswerRecord, Group, Prompt, digest, load_models, load_prompts

Key = tuple[str, str]
"""(uid, raw_prompt_hash)."""


class GroupFile:
    """The groups of a rollouts file, one at a time in the file's order (the texts are never all in memory).

    A rollouts record belongs to the prompt of the same uid and hash; of several the last counts. Raises
    InputError where no record belongs to any prompt.
    """

    def __init__(self, prompts: Path, rollouts: Path, limit: int | None = None) -> None:
        self._rollouts = rollouts
        self._prompts: dict[Key, Prompt] = {(p.uid, p.raw_prompt_hash): p for p in load_prompts(prompts, limit)}
        self._last: dict[Key, int] = {}
        other_prompt: str | None = None
        uids = {uid for uid, _ in self._prompts}
        for number, record in enumerate(load_models(rollouts, AnswerRecord)):
            key = (record.uid, record.raw_prompt_hash)
            if key in self._prompts:
                self._last[key] = number
            elif record.uid in uids:
                other_prompt = record.uid
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
                yield Group(
                    uid=record.uid,
                    prompt=self._prompts[key].messages,
                    raw_prompt_hash=record.raw_prompt_hash,
                    rollouts=record.answers,
                )


def with_teacher(group: Group, index: TeacherIndex | None, m: int) -> Group:
    """The group with its m distinct teacher answers. Raises IndexMissing or TooFewAnswers."""
    if index is None:
        return group
    return group.model_copy(update={"teacher_answers": tuple(index.answers(group.uid, group.raw_prompt_hash, m))})


def group_digest(group: Group, *asked: object) -> str:
    """First 16 hex digits of the SHA-256 of a group and of what is asked about it: a record that carries the
    same one answers the same question."""
    return digest([group.model_dump(mode="json"), *asked])[:16]

"""Make groups: what is judged together, one prompt with its teacher answers and rollouts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import orjson

from ropd_cli.config import JudgeConfig
from ropd_cli.method.block import Block
from ropd_cli.method.dataset_rubrics import dataset_rubric
from ropd_cli.records.schemas import Answer, Group, Prompt, Rubric, RubricRecord


def group_of(
    prompt: Prompt, rollouts: tuple[Answer, ...], teacher_answers: tuple[str, ...] = (), *, with_rubric: bool = False
) -> Group:
    """The group of a prompt, with all that rewards may need of it; ``with_rubric``: with the data set's rubric.

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
        dataset_rubric=dataset_rubric(prompt) if with_rubric else None,
    )


def given_rubric(group: Group, rubric: Rubric, settings: JudgeConfig | None = None) -> RubricRecord:
    """The record of a rubric that no rubricator wrote: the group's, or by ``settings`` that of each rollout."""
    is_own = settings is not None and settings.rubric_per == "rollout"
    return RubricRecord(
        uid=group.uid,
        raw_prompt_hash=group.raw_prompt_hash,
        rubric=None if is_own else rubric,
        rubrics=(rubric,) * len(group.rollouts) if is_own else (),
        rubric_hash=rubric.hash,
        model="",
        template_hash="",
    )


def request_hash(group: Group, block: Block, digests: Sequence[str], *settings: object) -> str:
    """First 16 hex digits of the SHA-256 of what is asked about a group (the digests of its requests), whose answers
    stand where, and the settings that its record depends on: a record that carries the same one answers the same
    question."""
    # a lone digest is hashed bare and none as null, as in the files that are there already
    digest = digests[0] if len(digests) == 1 else list(digests) or None
    parts = [digest, block.places, len(group.rollouts), len(group.teacher_answers), *settings]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:16]

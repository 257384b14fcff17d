"""Lay out what each request shows of a group: which answers, and which of them are to be judged.

======================  ==================================================  =========================================
``judge.form``          the rubricator is shown                             the verifier is shown
======================  ==================================================  =========================================
shared-prefix           all answers in blind order                          the same block
group                   all answers, the teacher's first                    the answers it judges, in blind order
paper                   as group                                            one answer
======================  ==================================================  =========================================

For scores (``score.per``) a judge is shown one rollout, or all of the group in blind order; with ``score.teacher``
shown, the teacher's answers first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ropd_cli.config import JudgeConfig, ScoreConfig
from ropd_cli.method.block import Block


@dataclass(frozen=True)
class Layout:
    """What one request shows of a group."""

    block: Block
    judged: tuple[int, ...] = ()
    """Shown numbers of the answers that are to be judged; the rubricator judges none."""
    rollout: int | None = None
    """The rollout whose rubric this is about; None: one rubric for all of them."""

    @property
    def is_part(self) -> bool:
        """Whether answers are shown that the judge is not asked about."""
        return len(self.judged) < len(self.block.answers)


def rubric_layouts(block: Block, settings: JudgeConfig) -> list[Layout]:
    """The rubricator's requests about a group whose whole block is ``block``: one, or one for each rollout that has an
    answer (step 3)."""
    if settings.rubric_per == "group":
        return [Layout(_teacher_first(block, block.numbers, settings))]
    in_own_order = sorted(block.rollouts, key=lambda k: block.answers[k - 1].index)
    return [
        Layout(_teacher_first(block, _with_teacher(block, k), settings), rollout=block.answers[k - 1].index)
        for k in in_own_order
    ]


def verdict_layouts(block: Block, settings: JudgeConfig, rollout: int | None = None) -> list[Layout]:
    """The verifier's requests about a group whose whole block is ``block``; with ``rollout`` those by the rubric of
    that rollout alone (step 4)."""
    numbers: Sequence[int] = block.numbers
    if rollout is not None:
        numbers = _with_teacher(block, next(k for k in block.rollouts if block.answers[k - 1].index == rollout))
    if not settings.teacher_in_pool:
        numbers = [k for k in numbers if block.answers[k - 1].source == "student"]
    size = 1 if settings.form == "paper" else settings.chunk_size or len(numbers)
    if settings.form == "shared-prefix":
        # every chunk shows all answers, so that an endpoint's prefix cache serves them all
        shown = block.of(numbers)
        return [Layout(shown, chunk, rollout) for chunk in _chunks(shown.numbers, size)]
    parts = [block.of(chunk) for chunk in _chunks(numbers, size)]
    return [Layout(part, part.numbers, rollout) for part in parts]


def score_layouts(block: Block, score: ScoreConfig, settings: JudgeConfig) -> list[Layout]:
    """The requests for scores about a group whose whole block is ``block``: one per rollout that has an answer, or one
    for all of these (with ``judge.chunk_size`` for so many)."""
    references = block.references if score.teacher == "shown" else ()
    size = 1 if score.per == "rollout" else settings.chunk_size or len(block.rollouts)
    layouts = []
    for chunk in _chunks(block.rollouts, size):
        shown = block.of((*references, *chunk))
        layouts.append(Layout(shown, shown.numbers[len(references) :]))
    return layouts


def _teacher_first(block: Block, numbers: Sequence[int], settings: JudgeConfig) -> Block:
    """These answers as the rubricator is shown them: it is told which are references, so the order need not be blind,
    unless the verifier reads the same block."""
    if settings.form != "shared-prefix":
        numbers = sorted(numbers, key=lambda k: block.answers[k - 1].source != "teacher")
    return block.of(numbers)


def _with_teacher(block: Block, number: int) -> list[int]:
    """The teacher's answers and one rollout, in shown order."""
    return [k for k in block.numbers if k == number or block.answers[k - 1].source == "teacher"]


def _chunks(numbers: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Runs of at most ``size`` numbers, as equal in length as they can be."""
    count = -(-len(numbers) // size)
    bounds = [len(numbers) * part // count for part in range(count + 1)]
    return [tuple(numbers[start:end]) for start, end in zip(bounds, bounds[1:], strict=False)]

"""What of a group each request shows: which answers, and which of them are to be judged.

======================  ==================================================  =========================================
``judge.form``          the rubricator is shown                             the verifier is shown
======================  ==================================================  =========================================
shared-prefix           all answers in blind order                          the same block
group                   all answers, the teacher's first                    the answers it judges, in blind order
paper                   as group                                            one answer
======================  ==================================================  =========================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ropd_cli.config import JudgeConfig
from ropd_cli.method.block import Block


@dataclass(frozen=True)
class View:
    """A verifier's request: what it shows, and the shown numbers of the answers that are to be judged."""

    block: Block
    judged: tuple[int, ...]

    @property
    def is_part(self) -> bool:
        """Whether answers are shown that this request is not about."""
        return len(self.judged) < len(self.block.answers)


def rubric_blocks(block: Block, settings: JudgeConfig) -> list[tuple[int | None, Block]]:
    """What the rubricator is shown of a group whose whole block is ``block``, and for which rollout the rubric is:
    None for all of them, else one request for each rollout that has an answer."""
    if settings.rubric_per == "group":
        return [(None, _laid_out(block, block.numbers, settings))]
    return [(block.answers[k - 1].index, _laid_out(block, _with_teacher(block, k), settings)) for k in _in_order(block)]


def verdict_views(block: Block, settings: JudgeConfig, rollout: int | None = None) -> list[View]:
    """The verifier's requests about a group whose whole block is ``block``; with ``rollout`` those by the rubric of
    that rollout alone."""
    numbers: Sequence[int] = block.numbers
    if rollout is not None:
        numbers = _with_teacher(block, next(k for k in block.rollouts if block.answers[k - 1].index == rollout))
    if not settings.teacher_in_pool:
        numbers = [k for k in numbers if block.answers[k - 1].source == "student"]
    size = 1 if settings.form == "paper" else settings.chunk_size or len(numbers)
    if settings.form == "shared-prefix":
        shown = block.of(numbers)
        return [View(shown, chunk) for chunk in _chunks(shown.numbers, size)]
    parts = [block.of(chunk) for chunk in _chunks(numbers, size)]
    return [View(part, part.numbers) for part in parts]


def _laid_out(block: Block, numbers: Sequence[int], settings: JudgeConfig) -> Block:
    if settings.form != "shared-prefix":
        numbers = sorted(numbers, key=lambda k: block.answers[k - 1].source != "teacher")
    return block.of(numbers)


def _with_teacher(block: Block, number: int) -> list[int]:
    """The teacher's answers and one rollout, in shown order."""
    return [k for k in block.numbers if k == number or block.answers[k - 1].source == "teacher"]


def _in_order(block: Block) -> list[int]:
    """Shown numbers of the rollouts, in the rollouts' own order."""
    return sorted(block.rollouts, key=lambda k: block.answers[k - 1].index)


def _chunks(numbers: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Runs of at most ``size`` numbers, as equal in length as they can be."""
    count = -(-len(numbers) // size)
    bounds = [len(numbers) * part // count for part in range(count + 1)]
    return [tuple(numbers[start:end]) for start, end in zip(bounds, bounds[1:], strict=False)]

"""Which usable answers count: any, those with the right final result, those with the result that most samples have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ropd_cli.errors import RopdError
from ropd_cli.records.schemas import Prompt
from ropd_cli.stages.teacher.request import LEAST_VOTES, Wanted


class Grader(Protocol):
    """Compares final results; None is undecided. ``maths.MathGrader`` is one."""

    async def is_correct(self, text: str, answer: str) -> bool | None: ...

    async def same(self, first: str, second: str) -> bool | None: ...

    async def final(self, text: str) -> str | None: ...


@dataclass(frozen=True)
class Verdicts:
    """What is known of texts so far: True counts, False is wrong, None is undecided. Where it is not ``settled``, more
    samples are needed though there are enough answers."""

    counts: dict[str, bool | None]
    settled: bool = True


class Keeper(Protocol):
    """Judges the texts of one prompt's samples, in the order they came; the same text may come several times."""

    checked: bool
    """Whether what counts has been compared with the prompt's ``answer``."""

    async def verdicts(self, texts: Sequence[str]) -> Verdicts: ...


def keeper(prompt: Prompt, wanted: Wanted, grader: Grader | None) -> Keeper:
    """The keeper that a prompt wants. Raises RopdError where it needs a grader and there is none."""
    if wanted.keep == "any" or (wanted.keep == "correct" and prompt.answer is None):
        return _Any()
    if grader is None:
        raise RopdError(f"--keep {wanted.keep} needs something that compares results")
    return _Correct(grader, prompt.answer or "") if wanted.keep == "correct" else _Majority(grader)


class _Any:
    checked = False

    async def verdicts(self, texts: Sequence[str]) -> Verdicts:
        return Verdicts(dict.fromkeys(texts, True))


class _Correct:
    checked = True

    def __init__(self, grader: Grader, answer: str) -> None:
        self._grader, self._answer = grader, answer
        self._known: dict[str, bool | None] = {}

    async def verdicts(self, texts: Sequence[str]) -> Verdicts:
        for text in texts:
            if text not in self._known:
                self._known[text] = await self._grader.is_correct(text, self._answer)
        return Verdicts({text: self._known[text] for text in texts})


class _Majority:
    """Samples vote by their final results, equal texts each with their own vote; more than half of the votes, of
    LEAST_VOTES or more, is a majority. A text without a result has none."""

    checked = False

    def __init__(self, grader: Grader) -> None:
        self._grader = grader
        self._results: list[str] = []
        self._result_of: dict[str, int | None] = {}

    async def verdicts(self, texts: Sequence[str]) -> Verdicts:
        for text in texts:
            if text not in self._result_of:
                self._result_of[text] = await self._place(text)
        votes = [0] * len(self._results)
        for text in texts:
            if (place := self._result_of[text]) is not None:
                votes[place] += 1
        if not votes:
            return Verdicts(dict.fromkeys(texts))
        leader = votes.index(max(votes))
        settled = sum(votes) >= LEAST_VOTES and 2 * votes[leader] > sum(votes)
        of = self._result_of
        return Verdicts({text: None if of[text] is None else of[text] == leader for text in texts}, settled)

    async def _place(self, text: str) -> int | None:
        result = await self._grader.final(text)
        if result is None:
            return None
        for place, known in enumerate(self._results):
            if await self._grader.same(known, result):
                return place
        self._results.append(result)
        return len(self._results) - 1

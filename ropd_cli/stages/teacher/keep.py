"""Which usable answers count: any, those with the right final result, those with the result that most samples have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from ropd_cli.records.schemas import Prompt
from ropd_cli.stages.teacher.request import LEAST_VOTES, Wanted


class Grader(Protocol):
    """Compares final results; None is undecided. ``answers.math_equal.MathGrader`` is one."""

    async def is_correct(self, text: str, answer: str) -> bool | None: ...

    async def same(self, first: str, second: str) -> bool | None: ...

    async def final(self, text: str) -> str | None: ...


def open_grader(wanted: Wanted, grader: Grader | None) -> AbstractAsyncContextManager[Grader | None]:
    """Open what compares final results: ``grader`` where there is one, nothing where nothing is compared."""
    if grader is not None or wanted.keep == "any":
        return nullcontext(grader)
    from ropd_cli.answers.math_equal import MathGrader

    return MathGrader()


@dataclass(frozen=True)
class Verdicts:
    """What is known of texts so far: True counts, False is wrong, None is undecided. Where it is not ``settled``, more
    samples are needed though there are enough answers."""

    counts: dict[str, bool | None]
    settled: bool = True


class Keeper:
    """Judges the texts of one prompt's samples, in the order they came; the same text may come several times.

    ``checked``: what counts has been compared with the prompt's ``answer``. With "majority" samples vote by their final
    results, equal texts each with their own vote; more than half of the votes, of LEAST_VOTES or more, is a majority. A
    text without a result has none.
    """

    def __init__(self, prompt: Prompt, wanted: Wanted, grader: Grader | None) -> None:
        self.checked = wanted.keep == "correct" and prompt.answer is not None
        self._votes = wanted.keep == "majority"
        self._answer = prompt.answer or ""
        self._grader = grader if self.checked or self._votes else None
        self._results: list[str] = []
        self._known: dict[str, Any] = {}
        """By text whether it is correct, or the place of its result in ``_results``."""

    async def verdicts(self, texts: Sequence[str]) -> Verdicts:
        """Return which texts count by now."""
        if self._grader is None:
            return Verdicts(dict.fromkeys(texts, True))
        for text in texts:
            if text not in self._known:
                look = self._place(text, self._grader) if self._votes else self._grader.is_correct(text, self._answer)
                self._known[text] = await look
        known = {text: self._known[text] for text in texts}
        votes = Counter(known[text] for text in texts if known[text] is not None)
        if not self._votes or not votes:
            return Verdicts(known)
        leader, most = votes.most_common(1)[0]
        settled = votes.total() >= LEAST_VOTES and 2 * most > votes.total()
        return Verdicts({text: None if place is None else place == leader for text, place in known.items()}, settled)

    async def _place(self, text: str, grader: Grader) -> int | None:
        result = await grader.final(text)
        if result is None:
            return None
        for place, known in enumerate(self._results):
            if await grader.same(known, result):
                return place
        self._results.append(result)
        return len(self._results) - 1

"""The built-in teacher: the right result, worked out, written in different ways."""

from __future__ import annotations

from collections.abc import Callable

from ropd_cli.builtin.criteria_checks import ALONE, BOXED, form_asked
from ropd_cli.builtin.solvers import Solution, solve

Wording = Callable[[str, str], str]
"""(calculation, result as it is to be written) -> answer."""

_CALCULATED: tuple[Wording, ...] = (
    lambda c, r: f"{c} = {r}",
    lambda c, r: f"The calculation is {c} = {r}",
    lambda c, r: f"{c} makes {r}",
    lambda c, r: f"Working it out: {c} = {r}",
    lambda c, r: f"For {c} the result is {r}",
    lambda c, r: f"We have {c} = {r}",
    lambda c, r: f"{c} comes to {r}",
    lambda c, r: f"So {c} = {r}",
)
_REASONED: tuple[Wording, ...] = (
    lambda s, r: f"{s}, so the answer is {r}",
    lambda s, r: f"{s}. The answer is {r}",
    lambda s, r: f"We see that {s}. Answer: {r}",
    lambda s, r: f"{s}; this gives the result {r}",
    lambda s, r: f"Step by step: {s}. So the result is {r}",
    lambda s, r: f"Here {s}. Result: {r}",
    lambda s, r: f"Because {s}, the answer is {r}",
    lambda s, r: f"First, {s}. Hence the result is {r}",
)
_ALONE: tuple[Wording, ...] = (
    lambda _, r: r,
    lambda _, r: f"{r}.",
    lambda _, r: f"**{r}**",
    lambda _, r: f"`{r}`",
    lambda _, r: f"= {r}",
    lambda _, r: f"${r}$",
    lambda _, r: f"*{r}*",
    lambda _, r: f"**{r}**.",
)
WORDINGS = 8


def write_answer(question_text: str, number: int) -> str:
    """Answer ``number`` to a question; WORDINGS consecutive numbers give as many different texts.

    Which wording comes first depends on the question, so no wording goes with a place in the list. Raises
    Unsolvable for a question that the solvers don't know.
    """
    question = solve(question_text)
    form = form_asked(question_text)
    place = (number + sum(question_text.encode())) % WORDINGS
    if form is ALONE:
        return _ALONE[place]("", question.result)
    result = f"\\boxed{{{question.result}}}" if form is BOXED else question.result
    if question.calculation is None or len(question.steps) > 1:
        return _REASONED[place](_joined(question), result)
    return _CALCULATED[place](question.calculation, result)


def _joined(question: Solution) -> str:
    return ", ".join(question.steps)

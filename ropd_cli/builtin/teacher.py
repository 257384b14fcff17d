"""The built-in teacher and student: a result, worked out or got wrong, written in different ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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


_SLIPS = (1, -1, 10, -10, 2, 100)
"""What a wrong result is off by."""


def write_answer(question_text: str, number: int, slip: int = 0) -> str:
    """Answer ``number`` to a question; WORDINGS consecutive numbers give as many different texts. A ``slip`` above 0
    makes it wrong, or leaves it without the form that was asked for.

    Which wording comes first depends on the question, so no wording goes with a place in the list. Raises
    Unsolvable for a question that the solvers don't know.
    """
    question = solve(question_text)
    form = form_asked(question_text)
    if slip:
        kind = slip % (len(_SLIPS) + 1)
        if kind == len(_SLIPS) and form is BOXED:
            form = None
        else:
            question = replace(question, result=str(int(question.result) + _SLIPS[kind % len(_SLIPS)]))
    place = (number + sum(question_text.encode())) % WORDINGS
    if form is ALONE:
        return _ALONE[place]("", question.result)
    result = f"\\boxed{{{question.result}}}" if form is BOXED else question.result
    if question.calculation is None or len(question.steps) > 1:
        return _REASONED[place](_joined(question), result)
    return _CALCULATED[place](question.calculation, result)


def _joined(question: Solution) -> str:
    return ", ".join(question.steps)

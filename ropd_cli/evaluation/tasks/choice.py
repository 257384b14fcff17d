"""Multiple choice: options in an order of each sample's own, the letter read from the last statement."""

from __future__ import annotations

import hashlib
from typing import Any

from ropd_cli.errors import InputError
from ropd_cli.evaluation.records import Asked, Grade, Sample
from ropd_cli.evaluation.tasks.base import Result, graded, visible_text, with_instruction
from ropd_cli.evaluation.tasks.letters import LETTERS, chosen_option
from ropd_cli.tasks.evalsets import EvalQuestion

INSTRUCTION = (
    'Think step by step. Then write, as the last line, your choice in the form "Answer: X", '
    "where X is one of the letters {}."
)
_WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


class ChoiceTask(Result):
    """Options from GPQA's columns (``Correct Answer``, ``Incorrect Answer 1`` …) or from ``choices`` or ``options``,
    with ``answer`` as a letter, an index from 0, or a text.

    Option k of a question stands, for a sample, at its place in the order of SHA-256("seed/id/sample/k").
    ``extracted`` is the index of the option as the set has them: a majority is over what was chosen, not over letters.
    """

    def __init__(self, seed: int) -> None:
        super().__init__("letter of the last statement, options shuffled", None)
        self._seed = seed

    def check(self, question: EvalQuestion) -> None:
        _options(question)

    def ask(self, question: EvalQuestion, sample: int) -> Asked:
        options, right = _options(question)
        order = sorted(range(len(options)), key=lambda k: self._place(question.id, sample, k))
        lines = [f"{letter}) {options[k]}" for letter, k in zip(LETTERS, order, strict=False)]
        instruction = INSTRUCTION.format(", ".join(LETTERS[: len(options)]))
        messages = with_instruction(question, "\n".join(lines) + "\n\n" + instruction)
        return Asked(messages, {"letter": LETTERS[order.index(right)], "order": order})

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        options, right = _options(question)
        order = (sample.key or {}).get("order")
        if not isinstance(order, list) or sorted(order) != list(range(len(options))):
            return graded(sample, None, None, "the sample's record does not say how its options were ordered")
        text = visible_text(sample)
        place = chosen_option(text, [options[k] for k in order]) if text is not None else None
        if place is None:
            return graded(sample, 0.0, None)
        return graded(sample, float(order[place] == right), str(order[place]), letter=LETTERS[place])

    def _place(self, question: str, sample: int, option: int) -> bytes:
        return hashlib.sha256(f"{self._seed}/{question}/{sample}/{option}".encode()).digest()


def _options(question: EvalQuestion) -> tuple[list[str], int]:
    """(the options as the set has them, the index of the right one). Raises InputError."""
    fields: dict[str, Any] = question.model_extra or {}
    wrong = [str(fields[name]).strip() for name in _WRONG if fields.get(name)]
    if wrong and question.answer is not None:
        return _checked(question, [str(question.answer).strip(), *wrong]), 0
    raw = fields.get("choices", fields.get("options"))
    if isinstance(raw, dict):
        raw = raw.get("text", list(raw.values()))
    if not isinstance(raw, list) or question.answer is None:
        raise InputError(f"question {question.id}: no options", "give choices (a list) and answer, or GPQA's columns")
    options = _checked(question, [str(option).strip() for option in raw])
    return options, _right(question, options)


def _checked(question: EvalQuestion, options: list[str]) -> list[str]:
    if not 2 <= len(options) <= len(LETTERS):
        raise InputError(f"question {question.id}: {len(options)} options", f"2 to {len(LETTERS)} can be asked")
    if len(set(options)) < len(options):
        raise InputError(f"question {question.id}: two of its options are equal", "leave one out")
    return options


def _right(question: EvalQuestion, options: list[str]) -> int:
    answer = str(question.answer).strip()
    if answer in options:
        return options.index(answer)
    known = LETTERS[: len(options)]
    if len(answer) == 1 and answer.upper() in known:
        return known.index(answer.upper())
    if answer.isdecimal() and int(answer) < len(options):
        return int(answer)
    raise InputError(
        f"question {question.id}: its answer is none of its options", "a letter, an index from 0, or an option's text"
    )

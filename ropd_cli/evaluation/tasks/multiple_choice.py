"""Multiple choice, the options in an order of their own for every sample.

Options come from GPQA's columns (``Correct Answer``, ``Incorrect Answer 1`` …) or from ``choices`` or ``options``: a
list, a mapping of labels to texts, or ``{"text": […], "label": […]}``. The answer is a letter, a label, an index from
0, or an option's text; ``answer_index`` or ``answer_idx`` decides where it is there.

Sample s of question q shows option i at the place that the SHA-256 of the JSON ``[seed, q, s, i]`` gives it, options
sorted by it: no random generator, so the order is the same in every version. ``key`` is ``{"letter", "order"}``: the
letter of the right option, and the option (0 = first in the set; GPQA's right one is 0) behind each letter.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping
from typing import Any

from ropd_cli.answers.choice import read_choice
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Grade, Query, Sample
from ropd_cli.evaluation.tasks.single_result import ResultTask, accuracy, gold_answer, grade_of, messages_with

LETTERS = string.ascii_uppercase
INSTRUCTION = 'One option is right. Reason first where that helps, and end with a line "Answer: X", X being its letter.'
_INDEX = ("answer_index", "answer_idx")


class ChoiceTask(ResultTask):
    """Asks with shuffled options and reads the letter of the last statement.

    ``extracted`` is the option's index in the set, as text, so that a majority can be taken over samples that
    saw different orders; of options with equal texts the first.
    """

    metrics = (accuracy("letter of the last statement, options shuffled"),)

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def check(self, question: EvalQuestion) -> None:
        """Raises InputError for a question without two options, or without an answer that is one of them."""
        _gold(question, _options(question)[0])

    def ask(self, question: EvalQuestion, sample: int) -> Query:
        """The question, its options in the sample's order, and the instruction."""
        options, _ = _options(question)
        order = self._order(question.id, sample, len(options))
        gold = _gold(question, options)
        shown = "\n".join(f"{LETTERS[place]}) {options[index]}" for place, index in enumerate(order))
        return Query(
            messages_with(question, f"{shown}\n\n{INSTRUCTION}"), {"letter": LETTERS[order.index(gold)], "order": order}
        )

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        """1 where the option chosen is the right one, else 0; the order is that of the sample's key."""
        options, _ = _options(question)
        order = sample.key["order"] if sample.key else self._order(question.id, sample.sample, len(options))
        letter = read_choice(sample.text, tuple(options[index] for index in order))
        if letter is None:
            return grade_of(sample, False, None)
        chosen = options.index(options[order[LETTERS.index(letter)]])
        right = options[chosen] == options[_gold(question, options)]
        return grade_of(sample, right, str(chosen))

    def _order(self, question: str, sample: int, count: int) -> list[int]:
        def place(index: int) -> bytes:
            return hashlib.sha256(json.dumps([self._seed, question, sample, index]).encode()).digest()

        return sorted(range(count), key=place)


def _options(question: EvalQuestion) -> tuple[list[str], list[str]]:
    """(texts, labels) of a question's options. Raises InputError without two, or with an empty one."""
    more = question.model_extra or {}
    labels: list[Any] = []
    if "Correct Answer" in more:
        texts: Any = [more["Correct Answer"], *_numbered(more)]
    else:
        texts = more.get("choices") or more.get("options") or []
    if isinstance(texts, Mapping):
        if isinstance(texts.get("text"), list):
            texts, labels = texts["text"], texts.get("label") or []
        else:
            texts, labels = list(texts.values()), list(texts)
    if not isinstance(texts, list) or not 2 <= len(texts) <= len(LETTERS):
        raise InputError(
            f"question {question.id}: no options to choose from",
            "2 to 26 in choices or options, or in GPQA's columns Correct Answer and Incorrect Answer 1 to 3",
        )
    texts = ["" if text is None else str(text).strip() for text in texts]
    if not all(texts):
        raise InputError(f"question {question.id}: an empty option", "give every option a text")
    return texts, [str(label).strip() for label in labels]


def _numbered(more: Mapping[str, Any]) -> list[Any]:
    wrong: list[Any] = []
    while (name := f"Incorrect Answer {len(wrong) + 1}") in more:
        wrong.append(more[name])
    return wrong


def _gold(question: EvalQuestion, options: list[str]) -> int:
    """Index of the right option. Raises InputError where the answer is none of the options, or could be two."""
    more = question.model_extra or {}
    if "Correct Answer" in more:
        return 0
    for name in _INDEX:
        if str(more.get(name)).isdigit() and int(more[name]) < len(options):
            return int(more[name])
    _, labels = _options(question)
    answer = gold_answer(question).strip()
    letter = answer.strip("().").upper()
    meant = {options.index(option) for option in options if option == answer}
    if labels:
        meant |= {options.index(options[i]) for i, label in enumerate(labels) if label == answer}
    else:
        if len(letter) == 1 and letter in LETTERS[: len(options)]:
            meant.add(options.index(options[LETTERS.index(letter)]))
        if answer.isdecimal() and int(answer) < len(options):
            meant.add(options.index(options[int(answer)]))
    if len(meant) != 1:
        said = "can be read two ways" if meant else "is none of its options"
        raise InputError(f"question {question.id}: its answer {said}", "answer_index, from 0, says which option it is")
    return meant.pop()

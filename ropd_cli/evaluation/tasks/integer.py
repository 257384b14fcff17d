r"""Competition problems whose answers are integers from 0 to 999 (AIME): ``073`` is 73.

The result is stated as for other maths (``stated_result``). It counts where it is written out as an integer of
one to three digits: bare or in ``\text{}``, ``\mathbf{}``, ``$…$``, with ``.0``, a degree sign, a unit in ``\text{}``
or a dollar sign, or after the last equals sign (``m + n = 73``). In a sentence it is the number the sentence begins
with, else its last number. Anything else (``1,073``, ``-73``, ``73.5``, ``\frac{146}{2}``, ``2^6+9``) is no result: the
answer sheet has no room for it.
"""

from __future__ import annotations

import re

from ropd_cli.answers.math_equal import stated_result
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Grade, Query, Sample
from ropd_cli.evaluation.tasks.single_result import (
    BOX_INSTRUCTION,
    ResultTask,
    accuracy,
    gold_answer,
    grade_of,
    messages_with,
)

_UNIT = re.compile(
    r"(?:\^?\{?\\(?:circ|degree)\}?|\\%|%|\\(?:text|mbox|mathrm)\{\s*[A-Za-z. ]+\}(?:\^\{?\d\}?)?|°)\s*$"
)
_WRAPPER = re.compile(r"\\(?:boxed|text|mathbf|textbf|mathrm|mbox|bf|displaystyle)(?![A-Za-z])")
_SPACE = re.compile(r"\\[,;:! ]|\\q?quad(?![A-Za-z])|[${}*]|\\[()\[\]]")
_INTEGER = re.compile(r"\+?(\d{1,3})(?:\.0*)?")
_MODULO = re.compile(r"\\pmod\s*(?:\{\d+\}|\d)|\(?(?:\\[bp]?mod|\bmod|\bmodulo)\s*\{?\d+\}?\)?")
_ONE_WORD = re.compile(r"(\d{1,3})\s+[A-Za-z]{3,}")
_EQUALS = re.compile(r"=|\\equiv|≡")
_NUMBER = re.compile(r"(?<![\w.,/^-])-?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?(?![\w^]|\s*[-+*/^×=]\s*\d)")


class IntegerTask(ResultTask):
    """Asks for a boxed integer and compares integers; no worker processes are needed."""

    metrics = (accuracy("integer from 0 to 999"),)

    def check(self, question: EvalQuestion) -> None:
        """Raises InputError where the answer is no integer from 0 to 999."""
        if _integer(gold_answer(question)) is None:
            raise InputError(
                f"question {question.id}: its answer is no integer from 0 to 999", "the math grader takes other results"
            )

    def ask(self, question: EvalQuestion, sample: int) -> Query:
        """The question with the instruction; the same for all samples."""
        return Query(messages_with(question, BOX_INSTRUCTION))

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        """1 where the integer stated is the answer, else 0."""
        found = read_integer(sample.text)
        return grade_of(
            sample,
            found is not None and found == _integer(gold_answer(question)),
            None if found is None else str(found),
        )


def read_integer(text: str) -> int | None:
    """The integer from 0 to 999 that a reply states as its result; None without one."""
    stated = stated_result(_MODULO.sub("", text))
    return None if stated is None else _integer(stated)


def _integer(result: str) -> int | None:
    result = _WRAPPER.sub("", _UNIT.sub("", result.strip()).replace("\\$", ""))
    plain = _SPACE.sub(" ", result).strip()
    if plain.startswith("(") and plain.endswith(")"):
        plain = plain[1:-1].strip()
    if found := _INTEGER.fullmatch(plain) or _ONE_WORD.fullmatch(plain):
        return int(found[1])
    last = _EQUALS.split(plain)[-1].strip()
    if last != plain and (found := _INTEGER.fullmatch(last.rstrip("."))):
        return int(found[1])
    if not re.search(r"[A-Za-z]{2,} +[A-Za-z]", plain):  # no sentence, and no integer
        return None
    begun = re.match(r"\d{1,3}(?=[,;:]?\s+[A-Za-z(]|$)", plain)
    if begun:
        return int(begun[0])
    numbers = _NUMBER.findall(plain)
    return _integer(numbers[-1]) if numbers else None

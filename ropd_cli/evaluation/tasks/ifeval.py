"""IFEval: instructions whose following can be checked by rule, strict and loose, a prompt and an instruction at a time.

A row has its prompt, ``instruction_id_list`` and ``kwargs``, one object of arguments for each instruction. *Strict*
looks at the answer as it is. *Loose* also counts what is followed by the answer without its stars, without its first
line, its last line or both, and any combination of the two: eight texts. An answer is what follows the thinking, the
white space before it taken off; one that is empty or cut off inside its thinking follows nothing.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ropd_cli.answers.thinking import CLOSE, answer_of
from ropd_cli.datasets.eval_sets import EvalQuestion
from ropd_cli.errors import InputError, MissingPackage
from ropd_cli.evaluation.samples import Grade, Metric, Sample, Task
from ropd_cli.evaluation.tasks.ifeval_instructions import KINDS, Arguments, follows
from ropd_cli.evaluation.tasks.ifeval_text import English

_HINT = "a row has a prompt, instruction_id_list and kwargs, as in google/IFEval"
Instructions = tuple[tuple[str, Arguments], ...]


class IfevalTask(Task):
    """Grades by rules, in a thread of its own: sentence splitting and language detection take up to a tenth of a
    second a text, and other samples are under way meanwhile."""

    metrics = (
        Metric("prompt_strict", "prompts with all instructions followed, strict"),
        Metric("inst_strict", "instructions followed, strict", binary=False, from_counts=True),
        Metric("prompt_loose", "prompts with all instructions followed, loose"),
        Metric("inst_loose", "instructions followed, loose", binary=False, from_counts=True),
    )

    def __init__(self, english: English | None = None) -> None:
        self._english = english or English()
        self._thread: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> IfevalTask:
        for package in ("nltk", "langdetect"):
            if importlib.util.find_spec(package) is None:
                raise MissingPackage(f"grading IFEval needs {package}", f"pip install {package}")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ifeval")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    def check(self, question: EvalQuestion) -> None:
        """Raises InputError for an unknown kind of instruction and for arguments that it can't be checked by."""
        for number, (kind, arguments) in enumerate(instructions_of(question), start=1):
            where = f"question {question.id}: instruction {number}"
            if kind not in KINDS:
                raise InputError(f"{where} is of an unknown kind", f"the kinds are {', '.join(KINDS)}")
            if faults := KINDS[kind].faults(arguments):
                raise InputError(f"{where} ({kind}): {'; '.join(faults)}", _HINT)

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        """``detail["instructions"]`` says of each instruction whether it was followed, strict and loose."""
        instructions, answer = instructions_of(question), visible_answer(sample.text)
        loop = asyncio.get_running_loop()
        try:
            strict, loose = await loop.run_in_executor(self._thread, followed, instructions, answer, self._english)
        except TimeoutError:  # NLTK's own limit for one pattern on one text: the answer's doing, so it follows nothing
            return Grade.to(
                sample,
                {"prompt_strict": 0.0, "prompt_loose": 0.0},
                counts={name: (0, len(instructions)) for name in ("inst_strict", "inst_loose")},
                undecided="splitting the answer into words or sentences took too long",
            )
        pairs = zip(instructions, strict, loose, strict=True)
        return Grade.to(
            sample,
            {"prompt_strict": float(all(strict)), "prompt_loose": float(all(loose))},
            counts={"inst_strict": (sum(strict), len(strict)), "inst_loose": (sum(loose), len(loose))},
            detail={"instructions": [{"id": kind, "strict": s, "loose": l_} for (kind, _), s, l_ in pairs]},
        )


def instructions_of(question: EvalQuestion) -> Instructions:
    """(kind, arguments) of a row's instructions; arguments that are null, as a table fills them in, are absent.

    Raises InputError where the two lists are absent or do not fit together.
    """
    extra: dict[str, Any] = question.model_extra or {}
    kinds, given = extra.get("instruction_id_list"), extra.get("kwargs")
    if not (
        isinstance(kinds, list | tuple)
        and isinstance(given, list | tuple)
        and len(kinds) == len(given) > 0
        and all(isinstance(k, str) for k in kinds)
        and all(isinstance(g, dict | None) for g in given)
    ):
        raise InputError(f"question {question.id}: no instructions with their arguments in it", _HINT)
    arguments = ({name: value for name, value in (each or {}).items() if value is not None} for each in given)
    return tuple(zip(kinds, arguments, strict=True))


def visible_answer(text: str) -> str:
    """Return what follows the thinking, without the line breaks between the two; "" where nothing does."""
    answer = answer_of(text) or ""
    return answer.lstrip() if CLOSE in text else answer


def followed(instructions: Instructions, answer: str, english: English) -> tuple[list[bool], list[bool]]:
    """Which instructions an answer follows, strict and loose; one entry an instruction each."""
    strict = [follows(kind, answer, arguments, english) for kind, arguments in instructions]
    variants = list(dict.fromkeys(_loosened(answer)))
    loose = [
        ok or any(follows(kind, variant, arguments, english) for variant in variants)
        for ok, (kind, arguments) in zip(strict, instructions, strict=True)
    ]
    return strict, loose


def _loosened(answer: str) -> Iterator[str]:
    """The seven other texts that loose grading looks at."""
    lines = answer.split("\n")
    shorter = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    yield answer.replace("*", "")
    yield from shorter
    yield from (text.replace("*", "") for text in shorter)

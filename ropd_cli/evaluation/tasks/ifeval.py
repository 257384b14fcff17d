"""IFEval: which of its instructions a response follows."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from ropd_cli.errors import InputError, MissingPackage
from ropd_cli.evaluation.records import Asked, Grade, Metric, Sample
from ropd_cli.evaluation.tasks.base import Plain, visible_text, with_instruction
from ropd_cli.evaluation.tasks.ifeval_rules import RULES, follows, loose_forms
from ropd_cli.tasks.evalsets import EvalQuestion


class IfevalTask(Plain):
    """Prompt level: all instructions of a prompt are followed; instruction level: the share of all instructions. Loose:
    by the best form of the response for each instruction. A response without text follows none."""

    metrics = (
        Metric("prompt_strict", "IFEval, prompts, strict"),
        Metric("inst_strict", "IFEval, instructions, strict", binary=False, from_counts=True),
        Metric("prompt_loose", "IFEval, prompts, loose"),
        Metric("inst_loose", "IFEval, instructions, loose", binary=False, from_counts=True),
    )
    extracts = False

    def __init__(self) -> None:
        try:
            import langdetect  # noqa: F401
            import nltk  # noqa: F401
        except ImportError as fault:
            raise MissingPackage(f"IFEval needs {fault.name}", f"pip install {fault.name}") from fault

    def check(self, question: EvalQuestion) -> None:
        instructions, arguments = _instructions(question)
        for instruction, given in zip(instructions, arguments, strict=True):
            if instruction not in RULES:
                raise InputError(f"question {question.id}: no instruction {instruction!r}", "IFEval has 25 kinds")
            try:
                inspect.signature(RULES[instruction]).bind("", **given)
            except TypeError as fault:
                raise InputError(f"question {question.id}: {instruction}: {fault}", "see IFEval's kwargs") from fault

    def ask(self, question: EvalQuestion, sample: int) -> Asked:
        return Asked(with_instruction(question, None))

    async def grade(self, question: EvalQuestion, sample: Sample) -> Grade:
        text = visible_text(sample) or ""
        strict, loose = await asyncio.to_thread(_followed, question, text)
        return Grade(
            benchmark=sample.benchmark,
            id=sample.id,
            sample=sample.sample,
            scores={"prompt_strict": float(all(strict)), "prompt_loose": float(all(loose))},
            counts={"inst_strict": (sum(strict), len(strict)), "inst_loose": (sum(loose), len(loose))},
            detail={"strict": strict, "loose": loose},
        )


def _followed(question: EvalQuestion, text: str) -> tuple[list[bool], list[bool]]:
    """(strict, loose) of each instruction."""
    pairs = list(zip(*_instructions(question), strict=True))
    strict = [follows(instruction, given, text) for instruction, given in pairs]
    forms = loose_forms(text)[1:]
    loose = [
        met or any(follows(instruction, given, form) for form in forms)
        for met, (instruction, given) in zip(strict, pairs, strict=True)
    ]
    return strict, loose


def _instructions(question: EvalQuestion) -> tuple[list[str], list[dict[str, Any]]]:
    fields = question.model_extra or {}
    instructions, arguments = fields.get("instruction_id_list"), fields.get("kwargs")
    if not isinstance(instructions, list) or not isinstance(arguments, list) or len(instructions) != len(arguments):
        raise InputError(
            f"question {question.id}: no instructions", "give instruction_id_list and kwargs, as IFEval has them"
        )
    given = [{name: value for name, value in (each or {}).items() if value is not None} for each in arguments]
    return instructions, given

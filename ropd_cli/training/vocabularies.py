"""Compare the vocabularies of student and teacher."""

from __future__ import annotations

from ropd_cli.config import RopdConfig
from ropd_cli.errors import InputError

_SHOWN = 3
_SPECIAL = ("bos_token_id", "eos_token_id")


def check_vocabularies(config: RopdConfig) -> None:
    """Raise InputError, which names the first token ids that differ, unless each id is the same token to the student
    and to the teacher of ``distil.teacher_path``: the teacher is shown the student's ids.

    Loads both tokenizers, so it is called in the training process.
    """
    from transformers import AutoTokenizer

    models = (str(config.student.model_path), str(config.distil.teacher_path))
    student, teacher = (AutoTokenizer.from_pretrained(path) for path in models)
    tokens, others = ({number: token for token, number in each.get_vocab().items()} for each in (student, teacher))
    differing = [number for number in sorted(tokens | others) if tokens.get(number) != others.get(number)]
    if differing:
        shown = ", ".join(f"{n} ({tokens.get(n)!r}, {others.get(n)!r})" for n in differing[:_SHOWN])
        what = f"{len(differing)} token ids differ: {shown}" + (", …" if len(differing) > _SHOWN else "")
    else:
        special = [name for name in _SPECIAL if getattr(student, name) != getattr(teacher, name)]
        what = ", ".join(f"{name} is {getattr(student, name)} and {getattr(teacher, name)}" for name in special)
    if what:
        raise InputError(
            f"student {models[0]} and teacher {models[1]} have other vocabularies: {what}",
            "log-probabilities can only be compared token by token: take a teacher with the student's tokenizer",
        )

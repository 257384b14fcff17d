"""Exact match: the final result an answer states, compared with the prompt's ``answer``.

The rule, in full: the answer is what follows the thinking text; its final result is the content of the
*last* ``\\boxed{…}``. Without a box there is no final result and the answer counts as wrong. Before they are
compared both sides lose surrounding space, ``$`` signs, ``\\text{…}`` wrappers, thousands separators and a
final full stop; two that then read as numbers are compared as numbers (``07`` = ``7`` = ``7.0``).
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from ropd_cli.answers.final_answer import final_result
from ropd_cli.answers.thinking import answer_of

_TEXT = re.compile(r"\\(?:text|mathrm|mathbf)\{([^{}]*)\}")
_SEPARATOR = re.compile(r"(?<=\d)(?:,\s*\\!\s*|,|\\,|\{,\})(?=\d{3}(?:\D|$))")


def is_exact(text: str, answer: str) -> bool:
    """Whether the final result of ``text`` equals ``answer`` by the rule of this module."""
    visible = answer_of(text)
    found = final_result(visible) if visible is not None else None
    if found is None:
        return False
    left, right = normalise(found), normalise(answer)
    if left == right:
        return True
    try:
        return Decimal(left) == Decimal(right)
    except InvalidOperation:
        return False


def normalise(result: str) -> str:
    """A result without what does not change its value."""
    result = _TEXT.sub(r"\1", result).replace("$", "")
    result = _SEPARATOR.sub("", result).strip()
    return result.rstrip(".").strip()

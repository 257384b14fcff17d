"""Exact match: the final result an answer states, compared with the prompt's ``answer``.

The rule, in full: the answer is what follows the thinking text; its final result is the content of the
*last* ``\\boxed{…}``. Without a box there is no final result and the answer counts as wrong. Before they are
compared both sides lose surrounding space, ``$`` signs, ``\\text{…}`` wrappers, thousands separators of a number (not
of a list in brackets) and a final full stop; two that then are numbers are compared as numbers (``07`` = ``7`` =
``7.0``), exactly. Any text is decided, in time linear in its length.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal

from ropd_cli.answers.final_answer import final_result
from ropd_cli.answers.thinking import answer_of

_TEXT = re.compile(r"\\(?:text|mathrm|mathbf)\{([^{}]*)\}")
_MARK = r"(?:,\s?\\!\s?|,|\\,|\{,\})"
_THOUSANDS = re.compile(rf"(?<![\d.,(\[{{])\d{{1,3}}(?:{_MARK}\d{{3}})+(?!\d|,\d|\s?\\?[)\]}}])")
_SEPARATOR = re.compile(_MARK)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?")
"""ASCII digits only, and a bounded exponent: what Decimal takes beyond them (``52_8``, ``NaN``, ``1e999999999``) is no
result, or one that no comparison ends on."""


def is_exact(text: str, answer: str) -> bool:
    """Whether the final result of ``text`` equals ``answer`` by the rule of this module."""
    visible = answer_of(text)
    found = final_result(visible) if visible is not None else None
    return found is not None and canonical(found) == canonical(answer)


def canonical(result: str) -> str:
    """Return a form in which results that are equal by this module's rule are the same string."""
    plain = normalise(result)
    number = number_of(plain)
    if number is None:
        return plain
    if not number:
        return "0"
    number = number.normalize(Context(prec=len(plain)))  # digits are dropped by none but this length
    return f"{number:f}" if abs(number.adjusted()) < 30 else str(number)


def number_of(plain: str) -> Decimal | None:
    """The number that a normalised result is; None for anything else."""
    return Decimal(plain) if _NUMBER.fullmatch(plain) else None


def normalise(result: str) -> str:
    """A result without what does not change its value."""
    result = _TEXT.sub(r"\1", result).replace("$", "").strip()
    result = _THOUSANDS.sub(lambda number: _SEPARATOR.sub("", number[0]), result)
    return result.rstrip(".").strip()

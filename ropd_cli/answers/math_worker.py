r"""What the worker processes of ``math_equal`` run: comparisons of two formulas, each under a limit.

latex2sympy reads a formula and math-verify compares what was read, part by part. Three things of theirs are replaced:

- a formula is read to its end or not at all (latex2sympy stops at the first token that it does not know, so that
  ``4\sqrt(2)`` would be 4), letters keep their case, and decimals are exact fractions;
- numbers and expressions are compared by ``_same_value``: math-verify rounds to six places and drops what is below
  1e-15, so that ``1/3^{69}`` would equal ``1/3^{70}``;
- a letter is no product of letters.

A comparison that takes more than its processor time ends the process: the timer's signal has no handler, so the kernel
acts on it, in a loop in C too, and without the process that started this one.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import resource
import signal
from pathlib import Path
from typing import Any

TOLERANCE = 10**-6
"""Relative, where a side is written as a decimal and neither is a whole number."""
_DIGITS, _AGREE = 100, 10**-80
"""Values that no algebra brings together are computed to so many digits; they are equal where they agree so far."""
_MAX_EXPONENT = 100_000
_POINTS = ((37, 29), (-53, 31), (113, 19), (-17, 41), (7, 67), (211, 97))
"""Numerators and denominators of the values that letters take: no special values, of either sign, near 1 and not."""
_LEAST_POINTS = 2
_DECIMAL = re.compile(r"\d\.\d|(?<!\d)\.\d")
_IMAGINARY = re.compile(r"(?<![\\A-Za-z])i(?![A-Za-z])")


class Unreadable(Exception):
    """A formula that was not read to its end, or is too large to be computed."""


def begin(megabytes: int) -> None:
    """Prepare a process for comparisons: import what they need, then limit the memory they may take beyond that."""
    from math_verify import grader

    grader.sympy_numeric_eq = lambda gold, found, *_: _same_value(gold, found)
    grader.sympy_symbolic_eq = lambda gold, found: False  # _same_value has decided
    grader.sympy_compare_symbols = _same_value
    os.setsid()  # Ctrl-C goes to the command, which ends its workers
    for number in (signal.SIGPROF, signal.SIGTERM):  # the kernel's own action also ends a loop in C
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    logging.disable()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20),) * 2)


def compare_within(seconds: float, expected: str, found: str, either_way: bool) -> bool | None:
    """``compare``, or the end of this process after so much processor time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return compare(expected, found, either_way)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def compare(expected: str, found: str, either_way: bool) -> bool | None:
    """Whether two formulas are equal; None where a side can't be read as a whole or the comparison fails.

    math-verify takes the first as the reference: ``x = 5`` is met by ``5``, ``2x + z = 1`` not by ``1``.
    """
    global _is_inexact
    _is_inexact = _DECIMAL.search(expected) is not None or _DECIMAL.search(found) is not None
    is_complex = _IMAGINARY.search(expected) is not None
    try:
        left, right = _parsed(expected, is_complex), _parsed(found, is_complex)
        left, right = _alike_in_form(left, right), _alike_in_form(right, left)
        if any(_is_implicit(one) and not _is_equation(other) for one, other in ((left, right), (right, left))):
            return False
        return _equal(left, right) or (either_way and _equal(right, left))
    except Exception:  # SymPy's errors on odd input are of every kind, among them MemoryError and RecursionError
        return None


_is_inexact = False
"""Whether a side of the comparison under way is written as a decimal: math-verify hands nothing of ours through."""


@functools.cache
def _reader() -> type:
    """The class that reads LaTeX. Made late: the process that starts the workers imports no SymPy."""
    import sympy
    from antlr4 import Token
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    class WholeReader(_Latex2Sympy):
        def create_parser(self, latex: str) -> Any:
            parser = super().create_parser(latex)
            begin = parser.math

            def math() -> Any:
                tree = begin()
                if parser.getCurrentToken().type != Token.EOF:
                    raise Unreadable(latex)
                return tree

            parser.math = math
            return parser

        def parse_number(self, text: str) -> Any:
            digits, _, exponent = text.replace(",", "").lower().partition("e")
            if exponent and abs(int(exponent)) > _MAX_EXPONENT:
                raise Unreadable(text)
            return sympy.Rational(digits) * sympy.Integer(10) ** int(exponent or 0)

    return WholeReader


@functools.lru_cache(maxsize=1024)
def _parsed(formula: str, is_complex: bool) -> Any:
    """The SymPy object of a whole formula. ``is_complex``: i is the imaginary unit."""
    import sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from sympy.core.function import AppliedUndef

    if "\\pm" in formula and "," not in formula and re.search(r"[{(][^{}()]*\\[pm]{2}", formula):  # within a fraction
        swapped = formula.replace("\\mp", "\\mq").replace("\\pm", "-").replace("\\mq", "+")
        formula = formula.replace("\\pm", "+").replace("\\mp", "-") + ", " + swapped.rpartition("=")[2]
    read = _reader()(is_real=not is_complex, config=ConversionConfig(lowercase_symbols=False))
    value = read.parse(formula)
    if value is None or isinstance(value, bool | list):
        raise Unreadable(formula)
    for each in value.atoms(AppliedUndef) if hasattr(value, "atoms") else ():
        if len(each.func.__name__) > 1 and each.func.__name__.isalpha() and "=" not in formula:
            raise Unreadable(formula)
    if is_complex:
        value = value.subs({each: sympy.I for each in value.free_symbols if each.name == "i"})
    return value


def _is_equation(value: Any) -> bool:
    import sympy

    return isinstance(value, sympy.Eq)


def _is_implicit(value: Any) -> bool:
    """Whether a value is an equation such as 5x - 7y = 0, which states no value of its left side."""
    if not _is_equation(value) or value.rhs != 0 or not value.lhs.is_Add:
        return False
    return not all(term.is_Symbol for term in value.lhs.args)


def _alike_in_form(one: Any, other: Any) -> Any:
    """A vector as a tuple where the other side is one."""
    import sympy

    if isinstance(one, sympy.MatrixBase) and 1 in one.shape and isinstance(other, sympy.Tuple | sympy.Interval):
        return sympy.Tuple(*one)
    return one


def _equal(expected: Any, found: Any) -> bool:
    from math_verify import verify

    return verify([expected], [found], allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)


def _same_value(one: Any, other: Any) -> bool:
    """Whether two numbers, expressions or matrices are the same: exactly, or within ``TOLERANCE`` where a side is
    written as a decimal."""
    import sympy

    if isinstance(one, sympy.MatrixBase) and isinstance(other, sympy.MatrixBase):
        return one.shape == other.shape and all(map(_same_value, one.flat(), other.flat()))
    if not isinstance(one, sympy.Expr) or not isinstance(other, sympy.Expr):
        return bool(one == other)
    one, other = one.doit(), other.doit()
    if one == other:
        return True
    if isinstance(one, sympy.Symbol) and isinstance(other, sympy.Symbol):
        return False
    if one.is_Rational and other.is_Rational:
        return _close(one, other)
    letters = sorted(one.free_symbols | other.free_symbols, key=str)
    if not letters:
        return _same_number(one, other)
    compared = 0
    for turn in range(len(_POINTS)):
        values = [sympy.Rational(*_POINTS[(turn + k) % len(_POINTS)]) + k for k in range(len(letters))]
        place = dict(zip(letters, values, strict=True))
        here, there = one.subs(place), other.subs(place)
        if not (_is_real(here) and _is_real(there)) and not (one.has(sympy.I) or other.has(sympy.I)):
            continue  # outside the domain, where √(1/n) and 1/√n differ
        if not _same_number(here, there):
            return False
        compared += 1
    return compared >= _LEAST_POINTS


def _is_real(number: Any) -> bool:
    value = number.evalf(20)
    return bool(value.is_Float or value.is_Rational)


def _same_number(one: Any, other: Any) -> bool:
    """Whether two numbers without letters are the same."""
    import sympy

    if one == other:
        return True
    if one.has(sympy.oo, sympy.nan, sympy.zoo) or other.has(sympy.oo, sympy.nan, sympy.zoo):
        return False
    if one.is_Rational and other.is_Rational:
        return _close(one, other)
    difference = one - other
    if difference.is_Rational and difference != 0 and not _is_inexact:
        return False
    size = max(abs(one).evalf(_DIGITS), abs(other).evalf(_DIGITS))
    gap = abs(difference.evalf(_DIGITS))
    whole = one.is_Integer or other.is_Integer
    bound = TOLERANCE if _is_inexact and not whole else _AGREE
    return bool(gap <= bound * size)


def _close(one: Any, other: Any) -> bool:
    """Whether two fractions are equal, or nearly so where that is enough."""
    if one == other:
        return True
    if not _is_inexact or one.is_Integer or other.is_Integer:
        return False
    return bool(abs(one - other) * 10**6 <= max(abs(one), abs(other)))

"""What the worker processes of ``math_equal`` run: comparisons by math-verify, each under a limit.

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

_MIXED = re.compile(r"(-?)(\d+)\s+(\d+)\s*/\s*(\d+)")
_SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)[eE]([-+]?\d+)")


def begin(megabytes: int) -> None:
    """Prepare a process for comparisons: import what they need, then limit the memory they may take beyond that."""
    import math_verify  # noqa: F401

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
    """Whether math-verify calls two results equal; None where a side can't be parsed or the comparison fails.

    math-verify takes the first as the reference: ``x = 5`` is met by ``5``, ``2x + z = 1`` not by ``1``.
    """
    try:
        left, right = _parsed(expected), _parsed(found)
        if left and right and left[-1] == right[-1]:
            return True
        if not left or not right or isinstance(left[0], str) or isinstance(right[0], str):
            return None
        return _equal(left, right) or (either_way and _equal(right, left))
    except Exception:  # SymPy's errors on odd input are of every kind, among them MemoryError and RecursionError
        return None


@functools.lru_cache(maxsize=1024)
def _parsed(result: str) -> list[Any]:
    """[SymPy expression, normalised text] of a result; the text alone where it can't be parsed."""
    from math_verify import parse

    if mixed := _MIXED.fullmatch(result):
        sign, whole, over, under = mixed.groups()
        result = f"{sign}({whole}+\\frac{{{over}}}{{{under}}})"
    elif power := _SCIENTIFIC.fullmatch(result):
        result = f"{power[1]}\\times 10^{{{power[2]}}}"
    return parse(f"${result}$", parsing_timeout=None, raise_on_error=True)


def _equal(expected: list[Any], found: list[Any]) -> bool:
    from math_verify import verify

    return verify(expected[:1], found[:1], allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)

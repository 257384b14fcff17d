"""``python -m ropd_cli.answers.math_worker SECONDS MEGABYTES``: compares results with math-verify until its input ends.

One JSON line a comparison on standard input, ``[expected, found, either_way]``; one on standard output: true, false,
or null where a side can't be parsed or the comparison fails. The first line it writes is ``"ready"``, or what is
missing. A comparison that takes more than SECONDS of processor time ends the process: the timer's signal has no
handler, so the kernel acts on it, in a loop in C too, and without the process that started this one.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import resource
import signal
import sys
from typing import Any

import orjson

_MIXED = re.compile(r"(-?)(\d+)\s+(\d+)\s*/\s*(\d+)")
_SCIENTIFIC = re.compile(r"(-?\d+(?:\.\d+)?)[eE]([-+]?\d+)")


def main(seconds: str, megabytes: str) -> int:
    """Exit code of the process."""
    resource.setrlimit(resource.RLIMIT_AS, (int(megabytes) << 20,) * 2)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library that prints must not write into the answers
    logging.disable()
    try:
        import math_verify  # noqa: F401
    except ImportError as fault:
        out.write(orjson.dumps(str(fault), option=orjson.OPT_APPEND_NEWLINE))
        return 2
    out.write(b'"ready"\n')
    for line in sys.stdin.buffer:
        expected, found, either_way = orjson.loads(line)
        signal.setitimer(signal.ITIMER_PROF, float(seconds))
        decided = compare(expected, found, either_way)
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write(orjson.dumps(decided, option=orjson.OPT_APPEND_NEWLINE))
    return 0


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

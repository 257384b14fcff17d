"""Text that somebody else wrote, made safe to look at.

Endpoints, files, paths and options bring texts with escape sequences, which a terminal obeys (it retitles its window,
fills the clipboard, moves the cursor over what was printed), and with marks that turn the reading direction.
Nothing is printed but by these functions and by the console of ``terminal``; tests/unit/test_layers.py holds it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys

# C0 but tab and line end, DEL, C1, separators of lines, marks of reading direction, half surrogate pairs.
# U+200D joins emoji and letters, and stays.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Return a text whose control characters and marks of reading direction are written out: ``\x1b``, ``\u202e``."""
    return _UNSAFE.sub(_written_out, text.replace("\r\n", "\n"))


def print_out(text: str) -> None:
    """Print a text on stdout."""
    print(visible(text), flush=True)


def print_err(text: str) -> None:
    """Print a text on stderr. Where nobody reads it any more the work goes on."""
    with contextlib.suppress(BrokenPipeError):
        print(visible(text), file=sys.stderr, flush=True)


def print_json(text: str) -> None:
    r"""Print JSON on stdout. Unsafe characters become ``\u`` escapes, which every reader turns back."""
    print(_UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text), flush=True)


def guard_streams() -> None:
    """Have warnings made visible, and a character that the output's encoding lacks written out."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

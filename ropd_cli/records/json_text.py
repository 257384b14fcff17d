"""JSON as programs write it: what the standard has no word for is read, and numbers keep their digits."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

import orjson

BOM = b"\xef\xbb\xbf"
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS = bytes(b"0"[0] if chr(byte) in "0123456789." else 0 for byte in range(256))
"""A table for ``translate``, ten times as fast as a pattern."""
_MANY_DIGITS = b"0" * 19
"""Fewer digits are all in the number that orjson makes of them."""
_DOUBLE_DIGITS = 17
"""Digits that tell every double from its neighbours; programs write no more of one."""
_SHALLOW = 200
"""A line with no more brackets is not nested too deeply."""
SQLITE = b"SQLite format 3\0"
"""What a teacher index begins with."""
_UTF_16 = ("UTF-16", "convert it to UTF-8")
_OTHERS = {
    b"\x1f\x8b": ("gzip", "decompress it"),
    b"\x28\xb5\x2f\xfd": ("zstandard", "give it a name that ends in .jsonl.zst"),
    b"PAR1": ("Parquet", "give it a name that ends in .parquet"),
    b"PK\x03\x04": ("a zip archive", "unpack it"),
    b"\xff\xfe": _UTF_16,
    b"\xfe\xff": _UTF_16,
    SQLITE: ("a teacher index", "are the files in the right places?"),
}


def loads(raw: bytes) -> Any:
    """Return the JSON of a line. Half a surrogate pair, which other writers escape and UTF-8 can't hold, becomes
    U+FFFD, NaN becomes null. An integer beyond 64 bits and a decimal that a double does not hold are texts, with all
    their digits. Raises ValueError for what is no JSON, or is nested so deeply that it could not be written again."""
    value = _loads(raw)
    if raw.count(b"[") + raw.count(b"{") > _SHALLOW:
        try:
            orjson.dumps([[[[[[[[value]]]]]]]])  # deeper by more than we put records into
        except TypeError as fault:
            raise ValueError("nested too deeply") from fault
    return value


def looks_like(raw: bytes) -> tuple[str, str] | None:
    """Return what the first bytes of a file say that it is, and what to do with it; None where they say nothing."""
    return next((other for magic, other in _OTHERS.items() if raw.startswith(magic)), None)


def is_own(line: bytes | None) -> bool:
    """Return whether a record stands in a line just as RecordWriter writes it; also for no line."""
    try:
        return line is None or orjson.dumps(orjson.loads(line)) == line
    except (TypeError, ValueError):
        return False


def is_begun(line: bytes) -> bool:
    """Return whether a line that is no JSON can be the beginning of a record: no whole object stands in front."""
    if not (line.startswith(b'{"') or line == b"{"):
        return False
    try:
        json.JSONDecoder().raw_decode(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return True
    return False


def _loads(raw: bytes) -> Any:
    try:
        value = orjson.loads(raw)
        if _MANY_DIGITS not in raw.translate(_DIGITS):
            return value
        fault = None
    except orjson.JSONDecodeError as refused:
        fault = refused
    try:
        value = json.loads(raw.decode(), parse_int=_integer, parse_float=_decimal, parse_constant=_constant)
        if _ESCAPED_SURROGATE.search(raw) is None:
            return value
        return orjson.loads(_SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    except RecursionError as deep:
        raise ValueError("nested too deeply") from deep
    except ValueError as other:
        raise fault or other from None


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < 19 or (len(digits) < 21 and -(2**63) <= int(digits) < 2**64) else digits


def _decimal(text: str) -> float | str:
    value = float(text)
    mantissa = text.lower().partition("e")[0]
    digits = len(mantissa.replace(".", "").strip("-").strip("0"))
    is_held = digits <= _DOUBLE_DIGITS or Decimal(repr(value)) == Decimal(text)
    return value if is_held and math.isfinite(value) and (value or not digits) else text


def _constant(name: str) -> str | None:
    return None if name == "NaN" else name

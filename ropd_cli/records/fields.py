"""Fields of records as other programs write them: answers of any type, objects and chats as text, messages."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from ropd_cli.errors import InputError
from ropd_cli.records.json_text import loads

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_OBJECTS = re.compile(r"""\s*(array\()?\[\s*\{\s*['"]""")
_CHAT = re.compile(
    _OBJECTS.pattern + r"""((content|value)['"]\s*:|(role|from)['"]\s*:\s*['"](system|user|assistant|human|gpt)['"])""",
    re.I,
)
_ONE_TEXT = re.compile(r"""\[\s*(['"]).*\1\s*\]""", re.DOTALL)
"""What may be a list of one text; an interval or a list of numbers is none."""
_EXACT = 2**53
"""Whole numbers up to here are doubles."""


def is_missing(value: Any) -> bool:
    """Return whether a field holds nothing: null, NaN, blanks, an empty list."""
    return value is None or value == [] or value != value or (isinstance(value, str) and not value.strip())


def answer_text(value: Any, *, columnar: bool = False) -> str | None:
    """Return an answer as text: a number as it is written, the one entry of a list (also of one that is a text, as
    ``["72"]``), other lists and objects as JSON. ``columnar``: a whole number may have become a decimal (12.0) in a
    column with gaps."""
    if isinstance(value, str) and _ONE_TEXT.fullmatch(value.strip()):
        with suppress(ValueError):
            listed = _literal(value)
            value = listed if len(listed) == 1 else value
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if is_missing(value):
        return None
    if columnar and isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return str(int(value))
    return orjson.dumps(value, default=str).decode() if isinstance(value, list | dict) else str(value)


def as_object(value: Any) -> Any:
    """Return the object that a text holds as JSON, or as Python prints it; None for blanks, a value that is no text as
    it is. Raises ValueError for any other text."""
    if not isinstance(value, str):
        return value
    found = _literal(value) if value.strip() else None
    if not isinstance(found, dict | None):
        raise ValueError("no object")
    return found


def as_chat(text: str) -> list[dict[str, Any]] | None:
    """Return the chat that a text holds as JSON, or as Python prints it; None for a text that is none. Raises
    ValueError for one that begins as a chat and can't be read."""
    if not _OBJECTS.match(text):
        return None
    try:
        value = _literal(text)
    except ValueError:
        if _CHAT.match(text):
            raise
        return None
    is_chat = isinstance(value, list) and value and all(isinstance(each, dict) and _has_words(each) for each in value)
    return value if is_chat else None


def verl_objects(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return verl's columns that hold objects; in CSV they are texts. Raises InputError that names ``where``."""
    objects = {}
    for name in {"reward_model", "extra_info"} & fields.keys():
        try:
            objects[name] = as_object(fields[name])
        except ValueError as fault:
            raise InputError(f"{where}: {name} is a text and no object", "write it as JSON") from fault
    return objects


def prompt_fault(prompt: Any) -> str | None:
    """Return what is wrong with a prompt, in words; None where nothing is."""
    if is_missing(prompt):
        return "'prompt' is empty"
    if isinstance(prompt, list | tuple):
        return chat_fault(prompt)
    if not isinstance(prompt, str):
        return f"'prompt' is {type(prompt).__name__}"
    try:
        is_chat = as_chat(prompt) is not None
    except ValueError:
        is_chat = True
    return "'prompt' is a text of chat messages (ropd data prepare reads it)" if is_chat else None


def chat_fault(messages: Sequence[Any]) -> str | None:
    """Return what is wrong with the messages of a prompt, in words; None where nothing is."""
    role = None
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict):
            return f"message {number} is {type(message).__name__}, not an object with role and content"
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str):
            return f"message {number} has no role"
        if role not in ROLES:
            return f"message {number} has the role {role!r}, none of {', '.join(ROLES)}"
        if message.get("tool_calls") or (role in ("tool", "function") and content == ""):
            continue
        if content is None:
            return f"message {number} has no content"
        if not isinstance(content, str | list | tuple):
            return f"message {number} has a content of type {type(content).__name__}"
        if _is_blank(content):
            return f"message {number} has an empty content"
    return None if role == "user" else f"the last message is the {role}'s, not the user's"


def _is_blank(content: Any) -> bool:
    if isinstance(content, str):
        return not content.strip()
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else part for part in content
    ]
    return all(text is None or (isinstance(text, str) and not text.strip()) for text in texts)


def _has_words(message: dict[str, Any]) -> bool:
    return {"role", "content"} <= message.keys() or {"from", "value"} <= message.keys()


def _literal(text: str) -> Any:
    try:
        return loads(text.strip().encode("utf-8", "surrogatepass"))
    except ValueError as fault:
        try:
            with warnings.catch_warnings(action="ignore"):  # of a backslash that stands for itself
                value = ast.literal_eval(text.strip())
            return loads(json.dumps(value).encode())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            raise fault from None

"""JSON out of a model: how it is asked for, and how it is found in what comes back."""

from __future__ import annotations

import json
import re
from enum import IntEnum
from typing import Any

import orjson

from ropd_cli.answers.thinking import answer_of
from ropd_cli.errors import ReplyInvalid
from ropd_cli.llm.chat import JsonSchema

HINT = "try another judge model, or raise its max_tokens"


class Form(IntEnum):
    """How an endpoint is asked for JSON, the strictest first; a later one is tried where one is refused."""

    JSON_SCHEMA = 0
    JSON_OBJECT = 1
    TEXT = 2


STARTS = {"json_schema": Form.JSON_SCHEMA, "json_object": Form.JSON_OBJECT, "text": Form.TEXT}
"""``structured_output`` of an endpoint: the form that is tried first."""


def response_format(schema: JsonSchema, form: Form) -> dict[str, Any] | None:
    """``response_format`` of a request; None is not sent."""
    if form is Form.JSON_SCHEMA:
        return {"type": "json_schema", "json_schema": {"name": schema.name, "strict": True, "schema": schema.body}}
    return {"type": "json_object"} if form is Form.JSON_OBJECT else None


def with_schema_text(messages: list[dict[str, Any]], schema: JsonSchema) -> list[dict[str, Any]]:
    """Return the messages with the schema written out at their end, for an endpoint that does not enforce it."""
    instruction = "Answer with one JSON object and nothing else. It has to follow this JSON schema:\n" + json.dumps(
        schema.body, ensure_ascii=False
    )
    last = messages[-1] if messages else {}
    if last.get("role") == "user" and isinstance(last.get("content"), str):
        return [*messages[:-1], {**last, "content": f"{last['content']}\n\n{instruction}"}]
    return [*messages, {"role": "user", "content": instruction}]


def parse_json(text: str) -> dict[str, Any]:
    """Return the JSON object in a reply: the whole text where it is one, else the last whole object in it.

    Found in code fences, in prose and after thinking (what stands inside ``<think>`` is no answer). Raw line
    breaks in strings, backslashes of LaTeX that JSON does not know and trailing commas are forgiven;
    an object that was cut off is not, nor is a part of it taken for the whole.
    Raises ReplyInvalid, and nothing else.
    """
    try:  # plain JSON, as it nearly always is
        plain = orjson.loads(text)
    except (ValueError, TypeError):
        plain = None
    if isinstance(plain, dict):
        return plain
    whole = _load(text)
    if whole is not None:
        return whole
    if _is_json(text):
        raise ReplyInvalid(f"the reply is JSON, but no object: {_excerpt(text)}", HINT)
    answer = answer_of(text)
    if answer is None:
        raise ReplyInvalid("the reply has no text after its thinking" if text.strip() else "the reply is empty", HINT)
    last, cut_off = _last_object(answer)
    if last is not None:
        return last
    what = "its JSON is cut off" if cut_off else "there is no JSON object in it"
    raise ReplyInvalid(f"the reply can't be read, {what}: {_excerpt(answer)}", HINT)


_OBJECT_START = re.compile(r'\{(?=\s*["}])')
_TOKEN = re.compile(r'[{}"]|\\.', re.DOTALL)


def _last_object(text: str) -> tuple[dict[str, Any] | None, bool]:
    """Return the last whole object at top level, and whether the text ends inside one. Linear in the text."""
    last, at = None, 0
    while (start := _OBJECT_START.search(text, at)) is not None:
        end = _end_of_object(text, start.start())
        if end is None:
            return None, True
        loaded = _load(text[start.start() : end])
        last = last if loaded is None else loaded
        at = end
    return last, False


def _end_of_object(text: str, start: int) -> int | None:
    """Return where the object that opens at ``start`` closes; None where it does not."""
    depth, in_string = 0, False
    for token in _TOKEN.finditer(text, start):
        if token[0] == '"':
            in_string = not in_string
        elif not in_string and token[0] == "{":
            depth += 1
        elif not in_string and token[0] == "}":
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _load(text: str) -> dict[str, Any] | None:
    for candidate in (lambda: text, lambda: _mended(text)):
        try:
            value = json.loads(candidate(), strict=False, parse_constant=_no_constant)
            if isinstance(value, dict):
                return _utf8(value)
            return None
        except (ValueError, RecursionError):
            continue
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])', re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


def _mended(text: str) -> str:
    """Return the text without trailing commas, and with backslashes doubled where they begin no JSON escape."""

    def escape(match: re.Match[str]) -> str:
        known = match[1] in tuple('"\\/bfnrt') or len(match[1]) > 1
        return match[0] if known else "\\" + match[0]

    def part(match: re.Match[str]) -> str:
        return "" if match[0] == "," else _ESCAPE.sub(escape, match[0])

    if not text.lstrip().startswith("{") or _end_of_object(text, text.index("{")) != len(text.rstrip()):
        return text  # not one whole object: nothing to mend, and the pattern below would be slow on it
    return _STRING_OR_COMMA.sub(part, text)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _utf8(value: dict[str, Any]) -> dict[str, Any]:
    """Return the value with half surrogate pairs, which no file takes, replaced."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-8", "replace"))
    return value


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 120 else f"{text[:60]} … {text[-50:]}")

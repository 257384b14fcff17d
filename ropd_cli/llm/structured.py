"""JSON out of a model: how it is asked for, and how it is found in what comes back."""

from __future__ import annotations

import ast
import json
import re
from enum import IntEnum
from typing import Any

import orjson

from ropd_cli.answers.latex_escapes import with_latex
from ropd_cli.answers.thinking import answer_of
from ropd_cli.errors import REPLY_HINT, ReplyInvalid
from ropd_cli.llm.chat import JsonSchema


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


def parse_json(text: str, listed: str | None = None) -> dict[str, Any]:
    """Return the JSON object in a reply, as ``read_json`` finds it."""
    return read_json(text, listed)[0]


def read_json(text: str, listed: str | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the JSON object in a reply, and what of it was mended.

    The object is the whole text where that is one, else the last whole object in it: in code fences, in prose and after
    thinking (what stands inside ``<think>`` is no answer). Mended are "latex", single backslashes of LaTeX, and "json":
    trailing commas, comments, an object as Python writes it, one inside a JSON text, and a list without its object,
    which is the field ``listed``. Raw line breaks in strings are forgiven. An object that was cut off is not read, nor
    is a part of it taken for the whole. Raises ReplyInvalid, and nothing else.
    """
    whole = _load(text, listed)
    if whole is not None:
        return whole
    if _is_json(text):
        raise ReplyInvalid(f"the reply is JSON, but no object: {_excerpt(text)}", REPLY_HINT)
    answer = answer_of(text)
    if answer is None:
        raise ReplyInvalid(
            "the reply has no text after its thinking" if text.strip() else "the reply is empty", REPLY_HINT
        )
    if '"' not in answer and "{“" in answer:
        answer = answer.translate({ord("“"): '"', ord("”"): '"'})
    fenced = _FENCED.fullmatch(answer)
    whole = _load(answer if fenced is None else fenced[1], listed)
    if whole is not None:
        return whole
    last, cut_off = _last_object(answer)
    if last is not None:
        return last
    what = "its JSON is cut off" if cut_off else "there is no JSON object in it"
    raise ReplyInvalid(f"the reply can't be read, {what}: {_excerpt(answer)}", REPLY_HINT)


Loaded = tuple[dict[str, Any], tuple[str, ...]]
_FENCED = re.compile(r"\s*```\w*\n([^`]*)\n?```\s*")
_OBJECT_START = re.compile(r'\{(?=\s*["}])')
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_COMMENT = r"//[^\n]*|/\*.{0,500}?\*/"
_TOKEN = re.compile(rf"{_STRING}?|{_COMMENT}|[{{}}]|\\.", re.DOTALL)


def _last_object(text: str) -> tuple[Loaded | None, bool]:
    """Return the last whole object at top level, and whether the text ends inside one. Linear in the text."""
    last, at = None, 0
    while (start := _OBJECT_START.search(text, at)) is not None:
        end = _end_of_object(text, start.start())
        if end is None:
            return None, True
        last = _load(text[start.start() : end]) or last
        at = end
    return last, False


def _end_of_object(text: str, start: int) -> int | None:
    """Return where the object that opens at ``start`` closes; None where it does not."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _load(text: str, listed: str | None = None) -> Loaded | None:
    """Return the object that a text is; None where it is none."""
    latex = with_latex(text)
    notes = {"latex"} if latex != text else set()
    try:  # plain JSON, as it nearly always is
        plain = orjson.loads(latex)
        if isinstance(plain, dict):
            return plain, tuple(notes)
    except (ValueError, TypeError):
        pass
    for read in (_json_value, _mended_value, _python_value):
        try:
            value = read(latex, notes)
            if isinstance(value, str) and value.lstrip().startswith("{"):
                inner = with_latex(value)
                notes |= {"json", "latex"} if inner != value else {"json"}
                value = json.loads(inner, strict=False)
        except (ValueError, TypeError, RecursionError, SyntaxError, MemoryError):
            continue
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            notes.add("json")
            is_whole = len(value) == 1 and (listed is None or listed in value[0])
            value = value[0] if is_whole else {listed: value} if listed is not None else None
        return (_utf8(value), tuple(sorted(notes))) if isinstance(value, dict) else None
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_STRING_OR_COMMENT = re.compile(rf"({_STRING})|{_COMMENT}", re.DOTALL)
_STRING_OR_COMMA = re.compile(rf"{_STRING}|,(?=\s*[}}\]])", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


def _json_value(text: str, _notes: set[str]) -> Any:
    return json.loads(text, strict=False, parse_constant=_no_constant)


def _mended_value(text: str, notes: set[str]) -> Any:
    """Return the value of a JSON object without its comments and trailing commas, and with backslashes doubled where
    they begin no JSON escape. Raises ValueError."""

    def escape(match: re.Match[str]) -> str:
        if match[1] in tuple('"\\/bfnrt') or len(match[1]) > 1:
            return match[0]
        done.add("latex")
        return "\\" + match[0]

    def part(match: re.Match[str]) -> str:
        if match[0] == ",":
            done.add("json")
            return ""
        return _ESCAPE.sub(escape, match[0])

    def uncommented(match: re.Match[str]) -> str:
        if match[1] is None:
            done.add("json")
        return match[1] or ""

    if not text.lstrip().startswith("{") or _end_of_object(text, text.index("{")) != len(text.rstrip()):
        raise ValueError  # not one whole object: nothing to mend, and the patterns would be slow on it
    done: set[str] = set()
    mended = _STRING_OR_COMMA.sub(part, _STRING_OR_COMMENT.sub(uncommented, text))
    value = _json_value(mended, notes)
    notes |= done
    return value


_PYTHON_STRING_OR_NAME = re.compile(r"""('(?:[^'\\]++|\\.)*+'|"(?:[^"\\]++|\\.)*+")|\b(true|false|null)\b""", re.DOTALL)
_PYTHON_NAMES = {"true": "True", "false": "False", "null": "None"}
_PYTHON_CHARS = 100_000


def _python_value(text: str, notes: set[str]) -> Any:
    """Return the value of an object as Python writes it. Raises what ``ast.literal_eval`` and ``json.dumps`` raise."""
    text = text.strip()
    if not _PYTHON_OBJECT.match(text) or not text.endswith("}") or len(text) > _PYTHON_CHARS:
        raise ValueError
    doubled = re.sub(r"\\([^\\'\"nrtbfux])", r"\\\\\1", text)
    named = _PYTHON_STRING_OR_NAME.sub(lambda part: part[1] or _PYTHON_NAMES[part[2]], doubled)
    value = ast.literal_eval(named)
    if not isinstance(value, dict):
        raise ValueError
    value = json.loads(json.dumps(value, allow_nan=False))  # TypeError: bytes, sets and complex numbers are no JSON
    notes.add("json")
    return value


_PYTHON_OBJECT = re.compile(r"""\{\s*['"]""")


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

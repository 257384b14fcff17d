"""Chat messages in the forms that data sets bring them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropd_cli.errors import InputError
from ropd_cli.records.fields import ROLES, as_chat, chat_fault, is_missing

_ROLES = {"human": "user", "prompter": "user"}
_ROLES |= dict.fromkeys(("gpt", "chatgpt", "bot", "chatbot", "model", "ai"), "assistant")
_HINT = "each message has a role and a content, and the last is the user's: mend the row, or leave it out"


def chat_messages(
    value: Any, where: str, *, columnar: bool = False, cut_replies: bool = True
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the messages of a prompt, and the replies that were cut off at its end: it may be a text, a chat
    (role/content, or ShareGPT's from/value, in any case of letters), or a chat as text.

    ``columnar``: a key that only other rows have reads as null. Raises InputError that names ``where``.
    """
    if is_missing(value):
        raise InputError(f"{where}: 'prompt' is empty", "give a string or a list of {role, content} messages")
    if isinstance(value, str):
        try:
            chat = as_chat(value)
        except ValueError as fault:
            raise InputError(
                f"{where}: 'prompt' begins as chat messages and can't be read as such ({fault})",
                "write them as JSON, a list of {role, content}",
            ) from fault
        if chat is None:
            return [{"role": "user", "content": value}], []
        value = chat
    if isinstance(value, dict) and _is_columns(value):
        value = [dict(zip(value, each, strict=True)) for each in zip(*value.values(), strict=True)]
    if not isinstance(value, list):
        raise InputError(
            f"{where}: 'prompt' is {type(value).__name__}, neither a text nor a list of messages",
            "name the column of the prompts by --prompt-field",
        )
    messages = [_message(each, columnar=columnar) for each in value]
    replies: list[dict[str, Any]] = []
    while cut_replies and messages and isinstance(messages[-1], dict) and messages[-1].get("role") == "assistant":
        replies.insert(0, messages.pop())
    wrong = chat_fault(messages) if messages else "no question among the messages"
    if wrong is not None:
        raise InputError(f"{where}: {wrong}", _HINT)
    return messages, replies


def alpaca_messages(instruction: str | None, parts: Mapping[str, Any], where: str) -> str | list[dict[str, Any]]:
    """Return the prompt of an instruction with its ``input`` or ``context`` behind it, a paragraph each, and the turns
    of its ``history`` before it. Raises InputError that names ``where`` for a part of another kind."""
    texts, turns = [] if instruction is None or is_missing(instruction) else [instruction], []
    for name, value in parts.items():
        if is_missing(value):
            continue
        if name == "history" and isinstance(value, list) and all(_is_exchange(each) for each in value):
            turns = [text for each in value for text in each]
        elif name != "history" and isinstance(value, str):
            texts.append(value)
        else:
            raise InputError(
                f"{where}: {name!r} is {type(value).__name__}, and no part of a prompt",
                f"leave the column out by --drop-column {name}",
            )
    text = "\n\n".join(texts)
    chat = [{"role": ("user", "assistant")[k % 2], "content": turn} for k, turn in enumerate(turns)]
    return [*chat, {"role": "user", "content": text}] if chat else text


def with_system(messages: list[dict[str, Any]], system: str | None) -> list[dict[str, Any]]:
    """Return the messages with a system prompt first, where they have none."""
    if not system or messages[0].get("role") == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]


def _is_columns(value: dict[str, Any]) -> bool:
    """Return whether an object holds a list for each key of the messages."""
    return {type(each) for each in value.values()} == {list} and len({len(each) for each in value.values()}) == 1


def _is_exchange(value: Any) -> bool:
    """Return whether a value is a question and its reply."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)


def _message(raw: Any, *, columnar: bool) -> Any:
    if not isinstance(raw, dict):
        return raw
    if columnar:  # a key that only other rows have reads as null there
        raw = {key: _without_nulls(value) for key, value in raw.items() if value is not None or key == "content"}
    if "from" in raw and "value" in raw and "role" not in raw:  # ShareGPT
        return {"role": _role(raw["from"]), "content": raw["value"]}
    return raw | {"role": _role(raw["role"])} if "role" in raw else raw


def _role(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    folded = name.strip().lower()
    return folded if folded in ROLES else _ROLES.get(folded, name)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value

"""Prompts as a caller of the rewards sends them, from Python or by HTTP: made into records, and compared by text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ropd_cli.errors import InputError
from ropd_cli.records.fields import ROLES, answer_text
from ropd_cli.records.schemas import Message, Prompt, first_fault, prompt_hash

SHOWN_CHARS = 80
_BEFORE = re.compile(r"(?:^|[\n>\]:：|])[ \t]*\Z")
_AFTER = re.compile(r"[ \t]*(?:\Z|\n|[<\[#]|[A-Z]\w*:)")
"""What a chat template has around a message: the ends of lines, tags, and roles with a colon."""
_FORM = "a text, or messages with role and content"


def sent_prompt(prompt: Any, uid: Any = None, answer: Any = None, **fields: Any) -> Prompt:
    """Return the record of a prompt that is a text or chat messages; its uid is by default the first 16 hex digits of
    its hash. Numbers as uid or answer become texts. Raises InputError that names the field."""
    messages = prompt if isinstance(prompt, str) else _messages(prompt)
    answer = answer if isinstance(answer, str) else answer_text(answer)
    try:
        uid = str(uid) if uid not in (None, "") else prompt_hash(messages)[:16]
        return Prompt(uid=uid, prompt=messages, answer=answer, **fields)
    except ValidationError as fault:
        raise InputError(first_fault(fault), _FORM) from fault
    except TypeError as fault:
        raise InputError(f"prompt: a message holds what JSON can't ({fault})", _FORM) from fault


def _messages(prompt: Any) -> tuple[Message, ...]:
    if isinstance(prompt, Mapping) or not hasattr(prompt, "__iter__"):
        raise InputError(f"prompt: {type(prompt).__name__}", _FORM)
    messages = []
    for number, each in enumerate(prompt, start=1):
        try:
            message = Message.model_validate(each)
        except ValidationError as fault:
            raise InputError(f"prompt: message {number}: {first_fault(fault)}", _FORM) from fault
        if message.role not in ROLES:
            raise InputError(f"prompt: message {number}: unknown role {message.role!r}", f"roles: {', '.join(ROLES)}")
        messages.append(message)
    return tuple(messages)


def shown_text(prompt: str | Sequence[Message | dict[str, Any]]) -> str:
    """Return the text of a prompt without blanks around messages and without those of the system."""
    if isinstance(prompt, str):
        return prompt.strip()
    messages = [each if isinstance(each, dict) else {"role": each.role, "content": each.content} for each in prompt]
    contents = [each["content"] for each in messages if each["role"] not in ("system", "developer")]
    return "\n".join(one.strip() if isinstance(one, str) else json.dumps(one, default=str) for one in contents)


def is_same(known: Prompt, sent: Prompt) -> bool:
    """Return whether a prompt that is sent is a known one; it may have a system message or a chat template more."""
    sent_text, place = shown_text(sent.messages), 0
    for message in known.messages:
        text = shown_text([message])
        while text:
            place = sent_text.find(text, place)
            if place < 0:
                return False
            end = place + len(text)
            if _BEFORE.search(sent_text[:place]) and _AFTER.match(sent_text, end):
                place = end
                break
            place += 1
    return True


def check_same(known: Prompt, sent: Prompt) -> None:
    """Raise InputError where a prompt is sent with the uid of another, as ``is_same`` sees it."""
    if not is_same(known, sent):
        text, sent_text = shown_text(known.messages), shown_text(sent.messages)
        raise InputError(
            f"uid {known.uid!r} is the prompt {text[:SHOWN_CHARS]!r} of data.prompts, and the prompt sent is "
            f"{sent_text[:SHOWN_CHARS]!r}",
            "send one of the two, or those that belong together",
        )

"""The reply in a response of Chat Completions or Responses."""

from __future__ import annotations

import time
from typing import Any

import orjson

from ropd_cli.config.masking import Secrets
from ropd_cli.errors import ReplyInvalid
from ropd_cli.llm.api_key import QUOTED_CHARS, Peer
from ropd_cli.llm.chat import ChatReply, ChatRequest
from ropd_cli.llm.faults import URL_HINT, Fault, error_text, tolerant
from ropd_cli.records.schemas import Usage

_TEXTS = ("text", "reasoning", "model", "finish_reason")


def read_replies(content: bytes, request: ChatRequest, peer: Peer, most: int = 1) -> list[ChatReply]:
    """Return the replies in a response's bytes, 1 to ``most`` of them; their usages add up to the response's. Raises
    Fault for what is none."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        document = tolerant(content)
    if not isinstance(document, dict):
        words = peer.clean(content[: 8 * QUOTED_CHARS].decode("utf-8", "replace"))
        raise Fault(ReplyInvalid(f"{peer.shown}: the response is not JSON: {words!r}", URL_HINT), again=True)
    if request.api == "responses":
        reply = _responses_reply(document, request)
        replies = [] if reply is None else [reply]
    else:
        replies = _chat_replies(document, request, most)
    if not replies:
        words = peer.clean(error_text(document) or "no choices in it")
        raise Fault(ReplyInvalid(f"{peer.shown}: the response holds no reply: {words}", URL_HINT), again=True)
    return [_struck(reply, peer.secrets) for reply in replies]


def _struck(reply: ChatReply, secrets: Secrets) -> ChatReply:
    clean = secrets.strike_from_answer  # some gateways say back what they were sent
    struck = {name: clean(value) for name in _TEXTS if (value := getattr(reply, name))}
    if all(getattr(reply, name) is text for name, text in struck.items()):
        return reply
    return reply.model_copy(update=struck)


def _chat_replies(document: dict[str, Any], request: ChatRequest, most: int) -> list[ChatReply]:
    choices = document.get("choices")
    replies = [
        ChatReply(
            text=_text(message.get("content")) or _text(message.get("refusal")),
            finish_reason=str(choice.get("finish_reason") or "stop"),
            reasoning=_text(message.get("reasoning_content") or message.get("reasoning")) or None,
            model=str(document.get("model") or request.model),
            created=time.time(),
        )
        for choice in (choices[:most] if isinstance(choices, list) else ())
        if isinstance(choice, dict) and isinstance(message := choice.get("message"), dict)
    ]
    usage = _usage(document.get("usage"), "prompt", "completion")
    if usage is None or not replies:
        return replies
    parts = _shared_out(usage, [len(reply.text) + len(reply.reasoning or "") for reply in replies])
    return [reply.model_copy(update={"usage": part}) for reply, part in zip(replies, parts, strict=True)]


def _shared_out(usage: Usage, chars: list[int]) -> list[Usage]:
    """Return one usage for each of a response's replies, which has one for all: the prompt is the first reply's, the
    tokens of the replies go by the lengths of the texts."""
    parts, left, chars_left = [], usage.completion_tokens, sum(chars)
    for size in chars[1:]:
        part = round(left * size / chars_left) if chars_left else 0
        parts.append(Usage(completion_tokens=part))
        left, chars_left = left - part, chars_left - size
    return [usage.model_copy(update={"completion_tokens": left}), *parts]


def _responses_reply(document: dict[str, Any], request: ChatRequest) -> ChatReply | None:
    output = document.get("output")
    if not isinstance(output, list) or document.get("status") in ("failed", "cancelled"):
        return None
    parts: dict[str, list[str]] = {"message": [], "reasoning": []}
    for item in output:
        if isinstance(item, dict) and item.get("type") in parts:
            content = [*(item.get("content") or []), *(item.get("summary") or [])]
            texts = (
                _text(part.get("text")) or _text(part.get("refusal")) for part in content if isinstance(part, dict)
            )
            parts[item["type"]].append("".join(texts))
    details = document.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    finish = "stop"
    if document.get("status") == "incomplete":
        finish = "length" if reason == "max_output_tokens" else str(reason or "incomplete")
    return ChatReply(
        text="".join(parts["message"]),
        finish_reason=finish,
        usage=_usage(document.get("usage"), "input", "output"),
        reasoning="\n".join(parts["reasoning"]).strip() or None,
        model=str(document.get("model") or request.model),
        created=time.time(),
    )


def _text(content: Any) -> str:
    """Return the text of a message's content, a string or a list of parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def _usage(usage: Any, prompt: str, reply: str) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get(f"{prompt}_tokens_details")
    counts = {
        "prompt_tokens": usage.get(f"{prompt}_tokens"),
        "completion_tokens": usage.get(f"{reply}_tokens"),
        "cached_tokens": details.get("cached_tokens") if isinstance(details, dict) else None,
    }
    return Usage(**{name: count for name, count in counts.items() if type(count) is int and count >= 0})

"""The reply in a response of Chat Completions or Responses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from ropd_cli.answers.endings import Ending, ending_of, worst
from ropd_cli.config.masking import Secrets
from ropd_cli.errors import ProviderBusy, ProviderUnreachable, ReplyInvalid
from ropd_cli.llm.api_key import QUOTED_CHARS, Peer
from ropd_cli.llm.chat import ChatReply, ChatRequest
from ropd_cli.llm.faults import URL_HINT, Fault, embedded_fault, tolerant
from ropd_cli.llm.structured import parse_json
from ropd_cli.records.schemas import Usage

_OTHER_ENDINGS = ("native_finish_reason", "stop_reason", "finishReason", "finish_details", "done_reason")
_TEXT_KEYS = ("content", "text", "value", "thinking", "summary")
"""Where the text of a part of a content stands."""
MOST_TOKENS = 10_000_000
CHARS_A_TOKEN = 1000
"""More than this in one token is no count, even of long runs of blanks."""
Say = Callable[[str], None]
log = logging.getLogger(__name__)
_STREAM_HINT = "the server streams though it was not asked to: switch that off there, or in the gateway before it"
_PAGE_HINT = (
    f"a web page answered: a login page of the network, a proxy (HTTP_PROXY, NO_PROXY), or another URL; {URL_HINT}"
)


@dataclass
class _Read:
    """What stands in one choice or response: ``word`` is an ending that is not known or one that broke it off,
    ``error`` what the server says of it."""

    text: str
    reasoning: str
    ending: Ending
    word: str | None = None
    error: Any = None


def read_replies(
    content: bytes, request: ChatRequest, peer: Peer, most: int = 1, say: Say = log.warning
) -> list[ChatReply]:
    """Return the replies in a response's bytes, 1 to ``most`` of them; their usages add up to the response's.

    ``say`` is told of an ending that is not known, which counts as cut off. Raises Fault for what is no reply, or one
    that the endpoint broke off.
    """
    if content[:1] == b":":  # comments that a gateway sends to keep the connection open
        content = b"\n".join(line for line in content.split(b"\n") if not line.startswith(b":"))
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        document = tolerant(content)
    if (fault := embedded_fault(document, peer)) is not None:
        raise fault
    if not isinstance(document, dict):
        words = peer.clean(content[: 8 * QUOTED_CHARS].decode("utf-8", "replace"))
        start = content.lstrip()[:6]
        hint = _PAGE_HINT if start[:1] == b"<" else _STREAM_HINT if start in (b"data: ", b"event:") else URL_HINT
        raise Fault(ProviderUnreachable(f"{peer.shown}: the response is not JSON: {words!r}", hint), again=True)
    parts = _response(document) if request.api == "responses" else _choices(document, request.form is not None)
    found = list(islice(parts, most))
    if not found:
        nothing = ProviderUnreachable(f"{peer.shown}: the response holds no reply: no choices in it", URL_HINT)
        raise Fault(nothing, again=True)
    whole = [one for one in found if one.ending is not Ending.BROKEN_OFF]
    usage = _usage(document.get("usage"), request, sum(len(one.text) + len(one.reasoning) for one in found))
    if not whole:
        fault = _broken_off(found[0], peer)
        fault.usage = usage
        raise fault
    for one in whole:
        if one.word is not None:
            say(
                f"{peer.shown}: a reply ended with {peer.clean(repr(one.word))}, which is not known here: such replies "
                "count as cut off"
            )
    usages = _shared_out(usage, [len(one.text) + len(one.reasoning) for one in whole])
    return [_reply(one, part, document, request, peer.secrets) for one, part in zip(whole, usages, strict=True)]


def _broken_off(found: _Read, peer: Peer) -> Fault:
    if found.error is not None and (fault := embedded_fault({"error": found.error}, peer)) is not None:
        return fault
    return Fault(
        ProviderBusy(
            f"{peer.shown}: the endpoint broke the reply off ({peer.clean(str(found.word))})",
            "try later, or lower --concurrency; the same command goes on from here",
        ),
        again=True,
    )


def _reply(
    found: _Read, usage: Usage | None, document: dict[str, Any], request: ChatRequest, secrets: Secrets
) -> ChatReply:
    text, reasoning = found.text, found.reasoning
    if found.ending is Ending.REFUSED:
        text = ""  # the words of a refusal, or what the filter left: no answer
    elif found.ending is Ending.WHOLE and request.form is not None and not text.strip() and _is_object(reasoning):
        text, reasoning = reasoning, ""  # a reasoning parser took the whole reply for thinking
    clean = secrets.strike_from_answer  # some gateways say back what they were sent
    return ChatReply(
        text=clean(text),
        finish_reason=found.ending.value,
        reasoning=clean(reasoning) or None,
        usage=usage,
        model=clean(str(document.get("model") or request.model)),
        created=time.time(),
    )


def _is_object(text: str) -> bool:
    try:
        return text.rstrip().endswith(("}", "```")) and bool(parse_json(text))
    except ReplyInvalid:
        return False


def _shared_out(usage: Usage | None, chars: list[int]) -> list[Usage | None]:
    """Return one usage for each of a response's replies, which has one for all: the prompt is the first reply's, the
    tokens of the replies go by the lengths of the texts."""
    if usage is None:
        return [None] * len(chars)
    parts, left, chars_left = [], usage.completion_tokens, sum(chars)
    for size in chars[1:]:
        part = round(left * size / chars_left) if chars_left else 0
        parts.append(Usage(completion_tokens=part))
        left, chars_left = left - part, chars_left - size
    return [usage.model_copy(update={"completion_tokens": left}), *parts]


def _choices(document: dict[str, Any], wants_json: bool) -> Iterator[_Read]:
    """Yield what a Chat Completions response holds. A tool call is a reply only where JSON was asked for."""
    choices = document.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        message = choice.get("message")
        if not isinstance(message, dict):
            if not isinstance(choice.get("text"), str):  # that of the older Completions, which some proxies send
                continue
            message = {"content": choice["text"]}
        content = message.get("content")
        refused = (
            bool(_text(message.get("refusal")))
            or _is_filtered(choice.get("content_filter_results"))
            or "refusal" in _types(content)
        )
        word = choice.get("finish_reason")
        # what else tells the end may be plainer than that word
        others = [ending_of(where.get(name)) for where in (choice, document) for name in _OTHER_ENDINGS]
        if choice.get("truncated") is True or document.get("truncated") is True:
            others.append(Ending.CUT_OFF)
        known = Ending.WHOLE if word in (None, "") else ending_of(word)
        ending = worst(
            known or Ending.CUT_OFF,
            *others,
            Ending.REFUSED if refused else None,
            Ending.BROKEN_OFF if choice.get("error") else None,
        )
        text, thinking = _content(content)
        if message.get("tool_calls") or message.get("function_call"):
            text = (text if text.strip() else _called(message)) if wants_json else ""
        yield _Read(
            text,
            _text(message.get("reasoning_content") or message.get("reasoning") or message.get("thinking")) or thinking,
            ending,
            None if known and ending is not Ending.BROKEN_OFF else str(word),
            choice.get("error"),
        )


def _types(content: Any) -> list[Any]:
    """Return the types of the parts of a content; none where it has no parts."""
    parts = content if isinstance(content, list) else []
    return [part.get("type") if isinstance(part, dict) else None for part in parts]


def _is_filtered(results: Any) -> bool:
    """Whether Azure's filter took something out of a reply."""
    return isinstance(results, dict) and any(isinstance(one, dict) and one.get("filtered") for one in results.values())


def _called(message: dict[str, Any]) -> str:
    """Return the arguments of the only tool call of a message without content: some servers force JSON by one."""
    calls = message.get("tool_calls") or [{"function": message.get("function_call")}]
    if not isinstance(calls, list) or len(calls) != 1 or not isinstance(calls[0], dict):
        return ""
    function = calls[0].get("function")
    return _content(function.get("arguments"))[0] if isinstance(function, dict) else ""


def _response(document: dict[str, Any]) -> Iterator[_Read]:
    """Yield what a response of the Responses API holds: one reply, or nothing."""
    output = document.get("output")
    if not isinstance(output, list):
        return
    texts: dict[str, list[str]] = {"message": [], "reasoning": [], "function_call": []}
    endings: list[Ending | None] = []
    for item in output:
        if not isinstance(item, dict) or item.get("type") not in texts:
            continue
        content = item.get("content")
        if "refusal" in _types(content):
            endings.append(Ending.REFUSED)
        endings.append(Ending.CUT_OFF if item.get("status") == "incomplete" else None)
        where = (content, item.get("summary"), item.get("arguments"))
        texts[item["type"]].append("".join(_text(part) for part in where))
    details, word = document.get("incomplete_details"), document.get("status")
    known = Ending.WHOLE if word is None else ending_of(word)
    if known is Ending.CUT_OFF and isinstance(details, dict) and details.get("reason"):
        word = details["reason"]
        known = ending_of(word)
    text = texts["message"][-1] if texts["message"] else ""  # those before are comments on what it does
    ending = worst(known or Ending.CUT_OFF, *endings)
    yield _Read(
        text if text.strip() else "".join(texts["function_call"]),
        "\n".join(texts["reasoning"]).strip(),
        ending,
        None if known and ending is not Ending.BROKEN_OFF else str(word),
    )


def _content(content: Any) -> tuple[str, str]:
    """Return (text, thinking) of a message's content: a string, a list of parts, one part, or JSON as it is."""
    if isinstance(content, dict) and not {"type", "text", "content"} & content.keys():
        return orjson.dumps(content).decode(), ""
    if not isinstance(content, list):
        return _text(content), ""
    is_thinking = [kind in ("thinking", "reasoning") for kind in _types(content)]
    return (
        "".join(_text(part) for part, thinks in zip(content, is_thinking, strict=True) if not thinks),
        "".join(_text(part) for part, thinks in zip(content, is_thinking, strict=True) if thinks),
    )


def _text(content: Any) -> str:
    """Return the text in a string, an object that has one, or a list of those."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text(part) for part in content)
    if isinstance(content, dict):
        return next((_text(content[name]) for name in _TEXT_KEYS if content.get(name)), "")
    return ""


def _usage(usage: Any, request: ChatRequest, chars: int) -> Usage | None:
    """Return the tokens of a response with replies of ``chars`` characters; None for a prompt's count that can't be
    right. A reply's that can't is replaced by an estimate.

    Thinking is billed with the reply: where ``completion_tokens`` leaves it out (Gemini, Grok), ``total_tokens`` or
    ``reasoning_tokens`` has it. Where ``cached_tokens`` are not part of the prompt's (Anthropic), they are added.
    """
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    reply = _count(usage, "completion_tokens", "output_tokens")
    if not prompt or reply is None:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = (
        _count(details, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens", "cache_read_input_tokens") or 0
    )
    if cached > prompt or "cache_read_input_tokens" in usage:
        prompt += cached + (_count(usage, "cache_creation_input_tokens") or 0)
    thought = _count(usage.get("completion_tokens_details") or usage.get("output_tokens_details"), "reasoning_tokens")
    thought = thought or _count(usage, "reasoning_tokens") or 0
    if thought > reply:
        reply += thought
    reply = max(reply, (_count(usage, "total_tokens") or 0) - prompt)
    asked = len(request.messages_json) if request.messages else 0
    if prompt * CHARS_A_TOKEN < asked or prompt > MOST_TOKENS:
        return None
    if reply * CHARS_A_TOKEN < chars or reply > MOST_TOKENS:
        reply = chars // 3 + 1  # by the text, so that a limit on the money holds
    return Usage(prompt_tokens=prompt, completion_tokens=reply, cached_tokens=cached)


def _count(counts: Any, *names: str) -> int | None:
    """Return the first of these that is a number of tokens."""
    for name in names:
        value = counts.get(name) if isinstance(counts, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
            return int(value)
    return None

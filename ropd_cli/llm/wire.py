"""Chat Completions and Responses on the wire: requests' bodies, responses, and what a failure means."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import orjson

from ropd_cli.errors import ProviderBusy, ProviderError, ProviderRefused, ProviderUnreachable, ReplyInvalid
from ropd_cli.llm.api_key import QUOTED_CHARS, Peer, Secrets
from ropd_cli.llm.chat import ChatReply, ChatRequest, sendable
from ropd_cli.llm.retry import retry_after_s
from ropd_cli.llm.structured import Form, response_format, with_schema_text
from ropd_cli.llm.transport import Lost, NoConnection, Response, TimedOut
from ropd_cli.llm.urls import shown_url
from ropd_cli.records.schemas import Usage

PATHS = {"chat": "chat/completions", "responses": "responses"}
BAD_REQUEST = (400, 422)
NO_CHOICES = (400, 422, 501)
"""What a server that gives one reply a request says to a request for several."""
_WORTH_RETRYING = (408, 409, 425, 429)
CACHE_NAME_CHARS = 64
"""OpenAI refuses a longer ``prompt_cache_key``."""
_TEXTS = ("text", "reasoning", "model", "finish_reason")
_URL_HINT = "is it the URL of an OpenAI-compatible API? It usually ends in /v1"
_HINTS = {
    400: "the server says what it does not take; an option set to null in the configuration is not sent",
    403: "the key has no right to this model or endpoint",
    404: "check the model's name (--model) and the URL (--base-url, it usually ends in /v1)",
    413: "the request is too long for this endpoint",
}
_HINTS[422] = _HINTS[400]


class Fault(Exception):
    """One attempt that failed: ``error`` is what a user is told if it was the last, ``again`` whether
    another attempt may help, ``status`` the HTTP status where there was one, ``lost`` whether the endpoint
    could not do its work at all, ``connected`` whether it was there, ``probe`` whether it was asked only to see
    whether it is back."""

    def __init__(
        self,
        error: ProviderError,
        *,
        again: bool,
        status: int | None = None,
        retry_after_s: float | None = None,
        lost: bool = False,
        connected: bool = True,
    ) -> None:
        super().__init__(error.message)
        self.error, self.again, self.status, self.retry_after_s = error, again, status, retry_after_s
        self.lost, self.connected = lost, connected
        self.probe = False


def request_body(
    request: ChatRequest,
    form: Form,
    correction: list[dict[str, Any]],
    limit_name: str,
    cache_name: str | None = None,
    choices: int = 1,
) -> bytes:
    """Return the JSON of one request; what is not set is not sent.

    ``correction`` are messages that follow the request's own; ``limit_name`` is what this server calls
    ``max_tokens``; ``cache_name`` is sent as ``prompt_cache_key``; ``choices`` is how many replies are wanted.
    """
    messages = request.messages_json
    if correction or (request.form is not None and form is not Form.JSON_SCHEMA):
        turns = orjson.loads(messages)
        if request.form is not None and form is not Form.JSON_SCHEMA:
            turns = with_schema_text(turns, request.form)
        messages = orjson.dumps(sendable(turns + correction))
    schema_form = response_format(request.form, form) if request.form is not None else None
    if request.api == "responses":
        rest, name = _responses_rest(request, schema_form), b"input"
    else:
        rest, name = _chat_rest(request, schema_form, limit_name), b"messages"
        if choices > 1:
            rest["n"] = choices
    if cache_name is not None:
        rest["prompt_cache_key"] = _within(cache_name, CACHE_NAME_CHARS)
    if request.extra_body:
        rest = _with_extra(rest, request.extra_body)
    # the messages stand last: a gateway that looks for the model need not read them
    return b"".join((orjson.dumps(rest)[:-1], b',"', name, b'":', messages, b"}"))


def read_replies(content: bytes, request: ChatRequest, peer: Peer, most: int = 1) -> list[ChatReply]:
    """Return the replies in a response's bytes, 1 to ``most`` of them; their usages add up to the response's. Raises
    Fault for what is none."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        document = _tolerant(content)
    if not isinstance(document, dict):
        words = peer.clean(content[: 8 * QUOTED_CHARS].decode("utf-8", "replace"))
        raise Fault(ReplyInvalid(f"{peer.shown}: the response is not JSON: {words!r}", _URL_HINT), again=True)
    if request.api == "responses":
        reply = _responses_reply(document, request)
        replies = [] if reply is None else [reply]
    else:
        replies = _chat_replies(document, request, most)
    if not replies:
        words = peer.clean(_error_text(document) or "no choices in it")
        raise Fault(ReplyInvalid(f"{peer.shown}: the response holds no reply: {words}", _URL_HINT), again=True)
    return [_struck(reply, peer.secrets) for reply in replies]


def _struck(reply: ChatReply, secrets: Secrets) -> ChatReply:
    clean = secrets.strike_from_answer  # some gateways say back what they were sent
    struck = {name: clean(value) for name in _TEXTS if (value := getattr(reply, name))}
    if all(getattr(reply, name) is text for name, text in struck.items()):
        return reply
    return reply.model_copy(update=struck)


def status_fault(response: Response, peer: Peer) -> Fault:
    """Return what a response that is no success means for a user."""
    status = response.status
    document = _tolerant(response.content)
    words = peer.clean(_error_text(document) or response.content[: 8 * QUOTED_CHARS].decode("utf-8", "replace"))
    message = f"{peer.shown}: status {status}: {words or response.reason}"
    if _code(document) == "insufficient_quota":
        hint = "the account's quota is used up; see its billing page"
        return Fault(ProviderRefused(message, hint), again=False, status=status)
    if status in _WORTH_RETRYING or status >= 500:
        error = ProviderBusy(message, "try later, or lower --concurrency; the same command goes on from here")
        wait_s = retry_after_s(response.headers)
        return Fault(error, again=True, status=status, retry_after_s=wait_s, lost=status >= 500)
    if 300 <= status < 400:
        where = peer.clean(shown_url(response.headers.get("location", "nowhere")))
        return Fault(ProviderRefused(f"{message} (to {where})", "give that URL by --base-url"), again=False)
    if status == 401:
        have = "is it the right key" if peer.key is not None else "it is not set"
        hint = f"the key comes from the environment variable {peer.key_name} ({have}); --api-key-env names another"
    else:
        hint = _HINTS.get(status, "check --base-url, --model and the sampling options")
    return Fault(ProviderRefused(message, hint), again=False, status=status)


def transport_fault(fault: NoConnection | Lost | TimedOut, peer: Peer) -> Fault:
    """Return what a request without a response means for a user."""
    words = peer.clean(str(fault))
    if isinstance(fault, TimedOut):
        hint = "raise --timeout, lower --concurrency, or check the server"
        return Fault(ProviderUnreachable(f"{peer.shown}: {words}", hint), again=True, lost=True)
    error = ProviderUnreachable(
        f"{peer.shown}: no connection ({words})", "is the server running, and --base-url right?"
    )
    return Fault(error, again=True, lost=True, connected=not isinstance(fault, NoConnection))


def _chat_rest(request: ChatRequest, schema_form: dict[str, Any] | None, limit_name: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": request.model} | request.sampling.model_dump(exclude_none=True)
    if "max_tokens" in body:
        body[limit_name] = body.pop("max_tokens")
    return body if schema_form is None else body | {"response_format": schema_form}


def _responses_rest(request: ChatRequest, schema_form: dict[str, Any] | None) -> dict[str, Any]:
    """Return the rest of a body. The Responses API knows no seed; its schema stands flat, and nothing need be kept."""
    sampling = request.sampling.model_dump(exclude_none=True, exclude={"seed"})
    body: dict[str, Any] = {"model": request.model, "store": False}
    if "max_tokens" in sampling:
        body["max_output_tokens"] = sampling.pop("max_tokens")
    if "reasoning_effort" in sampling:
        body["reasoning"] = {"effort": sampling.pop("reasoning_effort")}
    body |= sampling
    if schema_form is not None:
        body["text"] = {"format": {"type": schema_form["type"], **schema_form.get("json_schema", {})}}
    return body


def _within(name: str, chars: int) -> str:
    """Return a name as it is, or its hash where it is too long."""
    return name if len(name) <= chars else hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:chars]


def _with_extra(body: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """``extra`` beside what is sent anyway; of an object that both have, each has its keys (``text.format`` is ours,
    ``text.verbosity`` may be theirs)."""
    both = {
        name: {**extra[name], **body[name]}
        for name in body.keys() & extra.keys()
        if isinstance(body[name], dict) and isinstance(extra[name], dict)
    }
    return {**extra, **body, **both}


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


def _tolerant(content: bytes) -> Any:
    """Return JSON that may hold half surrogate pairs, which it may to other readers; None for what is no JSON."""
    try:
        return sendable(json.loads(content))
    except (ValueError, RecursionError):
        return None


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


def _error_text(document: Any) -> str:
    """Return the server's words in an error document: OpenAI's, vLLM's, FastAPI's, or a bare string."""
    if not isinstance(document, dict):
        return document if isinstance(document, str) else ""
    error = document.get("error")
    for value in (
        error.get("message") if isinstance(error, dict) else error,
        document.get("message"),
        document.get("detail"),
    ):
        if value:
            return value if isinstance(value, str) else orjson.dumps(value).decode()
    return ""


def _code(document: Any) -> Any:
    error = document.get("error") if isinstance(document, dict) else None
    return error.get("code") if isinstance(error, dict) else None

"""A request of Chat Completions or Responses as JSON."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from ropd_cli.llm.chat import ChatRequest, sendable
from ropd_cli.llm.structured import Form, response_format, with_schema_text

PATHS = {"chat": "chat/completions", "responses": "responses"}
CACHE_NAME_CHARS = 64
"""OpenAI refuses a longer ``prompt_cache_key``."""


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

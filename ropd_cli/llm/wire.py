"""Chat Completions on the wire: the body of a request, the reading of a response, what a failure means."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from pydantic import SecretStr

from ropd_cli.errors import ProviderBusy, ProviderError, ProviderRefused, ProviderUnreachable, ReplyInvalid
from ropd_cli.llm.chat import ChatReply, ChatRequest
from ropd_cli.llm.endpoints import shown_url
from ropd_cli.llm.retry import retry_after_s
from ropd_cli.llm.structured import Form, response_format, with_schema_text
from ropd_cli.schemas import Usage

BAD_REQUEST = (400, 422)
_WORTH_RETRYING = (408, 409, 425, 429)
_SAID_CHARS = 300
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
    another attempt may help, ``status`` the HTTP status where there was one."""

    def __init__(
        self, error: ProviderError, *, again: bool, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(error.message)
        self.error, self.again, self.status, self.retry_after_s = error, again, status, retry_after_s


@dataclass(frozen=True)
class Peer:
    """Who is spoken to, for messages. The key is here only to be struck out of what a server says."""

    url: str
    timeout_s: float
    api_key_env: str
    key: SecretStr | None = None

    def clean(self, text: str) -> str:
        """One short line of a server's text, without the API key."""
        if self.key is not None:
            text = text.replace(self.key.get_secret_value(), "***")
        text = " ".join(text.split())
        return text if len(text) <= _SAID_CHARS else text[:_SAID_CHARS] + " …"

    @property
    def shown(self) -> str:
        return shown_url(self.url)


def request_body(request: ChatRequest, form: Form, correction: list[dict[str, Any]], limit_name: str) -> dict[str, Any]:
    """The arguments of one Chat Completions call; what is not set is not sent.

    ``correction`` are messages that follow the request's own; ``limit_name`` is what this endpoint calls
    ``max_tokens``.
    """
    messages = [_sendable(message.model_dump(mode="json")) for message in request.messages]
    if request.form is not None and form is not Form.JSON_SCHEMA:
        messages = with_schema_text(messages, request.form)
    body: dict[str, Any] = {"model": request.model, "messages": messages + correction}
    body |= request.sampling.model_dump(exclude_none=True)
    if "max_tokens" in body:
        body[limit_name] = body.pop("max_tokens")
    wanted = response_format(request.form, form) if request.form is not None else None
    return body if wanted is None else body | {"response_format": wanted}


def read_reply(content: bytes, model: str, peer: Peer) -> ChatReply:
    """The reply in a response's bytes. Raises Fault for what is no chat completion."""
    try:
        document = json.loads(content)
        choices = document.get("choices")
    except (ValueError, AttributeError, RecursionError) as fault:
        said = peer.clean(content.decode("utf-8", "replace"))
        raise Fault(ReplyInvalid(f"{peer.shown}: the response is not JSON: {said!r}", _URL_HINT), again=True) from fault
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        said = peer.clean(_error_text(document) or "no choices in it")
        raise Fault(ReplyInvalid(f"{peer.shown}: the response holds no reply: {said}", _URL_HINT), again=True)
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return ChatReply(
        text=_text(message.get("content")) or _text(message.get("refusal")),
        finish_reason=str(choice.get("finish_reason") or "stop"),
        usage=_usage(document.get("usage")),
        reasoning=_text(reasoning) or None,
        model=str(document.get("model") or model),
    )


def _sendable(message: dict[str, Any]) -> dict[str, Any]:
    """A message without half surrogate pairs in its text, which no request can carry."""
    return {**message, "content": _text(message["content"])} if isinstance(message.get("content"), str) else message


def _text(content: Any) -> str:
    """The text of a message's content, a string or a list of parts; half surrogate pairs are replaced."""
    if isinstance(content, list):
        content = "".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content.encode("utf-8", "replace").decode() if isinstance(content, str) else ""


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    counts = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    return Usage(**{name: count for name, count in counts.items() if type(count) is int and count >= 0})


def translate(fault: Exception, peer: Peer) -> Fault:
    """What an exception of the SDK, the HTTP library or the event loop means for a user."""
    if isinstance(fault, openai.APIStatusError):
        return _status_fault(fault, peer)
    chain: list[BaseException] = [fault]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    root = chain[-1]
    # the SDK's aiohttp transport calls a dropped connection a timeout, too: what it came from tells them apart
    if any(isinstance(link, TimeoutError) for link in chain) or isinstance(root, httpx2.TimeoutException):
        error = ProviderUnreachable(
            f"{peer.shown}: no answer within {peer.timeout_s:g} s",
            "raise --timeout, lower --concurrency, or check the server",
        )
    else:
        why = peer.clean(str(root)) or type(root).__name__
        error = ProviderUnreachable(
            f"{peer.shown}: no connection ({why})", "is the server running, and --base-url right?"
        )
    return Fault(error, again=True)


def _status_fault(fault: openai.APIStatusError, peer: Peer) -> Fault:
    status = fault.status_code
    try:
        document = json.loads(fault.response.content)
    except (ValueError, RecursionError):
        document = None
    said = peer.clean(_error_text(document) or fault.response.text) or fault.response.reason_phrase
    message = f"{peer.shown}: status {status}: {said}"
    if _code(document) == "insufficient_quota":
        hint = "the account's quota is used up; see its billing page"
        return Fault(ProviderRefused(message, hint), again=False, status=status)
    if status in _WORTH_RETRYING or status >= 500:
        error = ProviderBusy(message, "try later, or lower --concurrency; the same command goes on from here")
        return Fault(error, again=True, status=status, retry_after_s=retry_after_s(fault.response.headers))
    if status == 401:
        have = "is it the right key" if peer.key else "it is not set"
        hint = f"the key comes from the environment variable {peer.api_key_env} ({have}); --api-key-env names another"
    else:
        hint = _HINTS.get(status, "check --base-url, --model and the sampling options")
    return Fault(ProviderRefused(message, hint), again=False, status=status)


def _error_text(document: Any) -> str:
    """The server's words in an error document: OpenAI's, vLLM's, FastAPI's, or a bare string."""
    if not isinstance(document, dict):
        return document if isinstance(document, str) else ""
    error = document.get("error")
    for value in (
        error.get("message") if isinstance(error, dict) else error,
        document.get("message"),
        document.get("detail"),
    ):
        if value:
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return ""


def _code(document: Any) -> Any:
    error = document.get("error") if isinstance(document, dict) else None
    return error.get("code") if isinstance(error, dict) else None

"""What a failed attempt means: for a user, and for whether another attempt may help."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urljoin, urlsplit

from ropd_cli.config.masking import shown_url
from ropd_cli.errors import (
    AccountEnded,
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    ReplyInvalid,
)
from ropd_cli.llm.api_key import QUOTED_CHARS, Peer
from ropd_cli.llm.chat import sendable
from ropd_cli.llm.error_body import ErrorBody, read_error
from ropd_cli.llm.limits import reset_s
from ropd_cli.llm.retry import retry_after_s
from ropd_cli.llm.transport import NoConnection, NoResponse, Response, TimedOut
from ropd_cli.llm.urls import BUILTIN, without_call
from ropd_cli.records.schemas import Usage

BAD_REQUEST = (400, 422)
NO_CHOICES = (400, 422, 501)
"""What a server that gives one reply a request says to a request for several."""
NO_FORM = (400, 404, 422, 501)
"""What servers say to a form of structured output that they do not know, or a schema that is too much for them."""
_WORTH_RETRYING = (408, 409, 424, 425, 429, 498)
URL_HINT = "is it the URL of an OpenAI-compatible API? It usually ends in /v1"
_HINTS = {
    400: "the line quotes the server; an option that is null in the configuration is not sent",
    403: "the key has no right to this model or endpoint",
    407: "the proxy asks for a user and a password: HTTP_PROXY=http://USER:PASSWORD@HOST:PORT",
    404: "check the model's name (--model) and the URL (--base-url, it usually ends in /v1)",
    413: "the request is too long for this endpoint: lower --max-tokens, for judges judge.max_answer_tokens, or take a "
    "model with a longer context",
}
BUILTIN_HINT = (
    "the built-in provider works out sums, differences and products of whole numbers and greatest common divisors, one "
    "question a message, and judges by its own rubrics: ask a language model for others"
)
FILTER_HINT = "a filter refused this input: leave the prompt out, or ask an endpoint without that filter"
_WANTS_TLS = re.compile(r"http request .{0,40}\bhttps\b|speaking plain http", re.IGNORECASE)
_HINTS[422] = _HINTS[400]
_OPTIONS = {
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "reasoning_effort": "sampling.reasoning_effort",
    "reasoning.effort": "sampling.reasoning_effort",
    "seed": "sampling.seed",
    "max_completion_tokens": "sampling.max_tokens",
    "max_tokens": "sampling.max_tokens",
    "max_output_tokens": "sampling.max_tokens",
}
"""What a server may refuse by name, and the key that sends it."""


class Fault(Exception):
    """One attempt that failed: ``error`` is what a user is told if it was the last, ``again`` whether
    another attempt may help, ``status`` the HTTP status where there was one, ``lost`` whether the endpoint
    could not do its work at all, ``connected`` whether it was there, ``is_too_long`` whether the
    prompt does not fit into the model's context, ``probe`` whether it was asked only to see whether it is back."""

    def __init__(
        self,
        error: ProviderError,
        *,
        again: bool,
        status: int | None = None,
        retry_after_s: float | None = None,
        lost: bool = False,
        connected: bool = True,
        is_too_long: bool = False,
    ) -> None:
        super().__init__(error.message)
        self.error, self.again, self.status, self.retry_after_s = error, again, status, retry_after_s
        self.lost, self.connected, self.is_too_long = lost, connected, is_too_long
        self.probe = False
        self.usage: Usage | None = None
        """What a reply that was broken off is billed."""


def status_fault(response: Response, peer: Peer) -> Fault:
    """Return what a response that is no success means for a user."""
    body = read_error(tolerant(response.content))
    raw = response.content[: 8 * QUOTED_CHARS].decode("utf-8", "replace")
    words = peer.clean(body.words or raw) or response.reason
    via = f" through the proxy {response.proxy}" if response.proxy else ""
    message = f"{peer.shown}{via}: status {response.status}: {words}"
    if 300 <= response.status < 400:
        return _redirect(response, message, peer)
    wait_s = retry_after_s(response.headers)
    if wait_s is None and response.status == 429:
        wait_s = reset_s(response.headers)
    fault = _fault(response.status, body, message, peer, wait_s)
    if response.proxy and response.status != 407:
        past = f"NO_PROXY={urlsplit(peer.url).hostname} goes past it"
        fault.error.hint = f"{fault.error.hint}; the answer may be the proxy's ({past})"
    return fault


def _redirect(response: Response, message: str, peer: Peer) -> Fault:
    if not (location := response.headers.get("location", "")):
        return Fault(ProviderRefused(f"{message} (to nowhere)", "is --base-url right?"), again=False)
    target = shown_url(urljoin(f"{peer.url.partition('?')[0]}/", location))
    new = without_call(target)
    # elsewhere than to the same call there is no API: a login page, as a rule
    hint = "the server sends to a page that is no call of the API: a login? Is --base-url right?"
    if new != target:
        hint = f"redirects are not followed: give --base-url {peer.clean(new)}"
    return Fault(ProviderRefused(f"{message} (to {peer.clean(target)})", hint), again=False)


def embedded_fault(document: Any, peer: Peer) -> Fault | None:
    """Return what an error in a response with status 200 means, as if it had come with its own status; None where
    there is no error in it."""
    if isinstance(document, dict):
        base = document.get("base_resp")  # MiniMax's
        failed = isinstance(base, dict) and base.get("status_code") not in (None, 0)
        if not (document.get("error") or document.get("error_code") or failed or document.get("success") is False):
            holds = document.get("choices") or document.get("output") or "id" in document
            if holds or not {"message", "detail", "msg", "promptFeedback"} & document.keys():
                return None
    elif not (isinstance(document, list) and document and isinstance(document[0], dict) and "error" in document[0]):
        return None
    body = read_error(document)
    words = peer.clean(body.words)
    if body.status is None and body.is_filtered:
        refused = ProviderRefused(f"{peer.shown}: an error in a response with 200: {words}", FILTER_HINT)
        return Fault(refused, again=False)
    if body.status is None:
        error = ReplyInvalid(f"{peer.shown}: the response holds no reply: {words}", URL_HINT)
        return Fault(error, again=True, retry_after_s=body.wait_s)
    return _fault(body.status, body, f"{peer.shown}: status {body.status} in a response with 200: {words}", peer, None)


def _fault(status: int, body: ErrorBody, message: str, peer: Peer, wait_s: float | None) -> Fault:
    wait_s = body.wait_s if wait_s is None else wait_s
    if status == 402 or (400 <= status < 500 and body.is_out_of_money):
        hint = (
            "the account's quota or credit is used up: see its billing page, or name another endpoint by --base-url; "
            "the same command goes on from here"
        )
        return Fault(AccountEnded(message, hint), again=False, status=status)
    throttled = 429 in (status, body.status)
    if throttled or status in _WORTH_RETRYING or (status >= 500 and not body.is_about_the_key):
        asks = f" (asks to wait {wait_s:.0f} s)" if wait_s else ""
        busy = ProviderBusy(message + asks, "try later, or lower --concurrency; the same command goes on from here")
        return Fault(busy, again=True, status=status, retry_after_s=wait_s, lost=status >= 500)
    if status == 401 or body.is_about_the_key:
        have = "is it the right key" if peer.key is not None else "it is not set"
        hint = f"the key comes from the environment variable {peer.key_name} ({have}); --api-key-env names another"
        return Fault(ProviderRefused(message, hint), again=False, status=status)
    error = ProviderRefused(message, _hint(status, body, message, peer))
    return Fault(error, again=False, status=status, is_too_long=body.is_too_long)


def _hint(status: int, body: ErrorBody, message: str, peer: Peer) -> str:
    if peer.url.startswith(BUILTIN):
        return BUILTIN_HINT
    if status in (400, 403) and body.is_filtered:
        return FILTER_HINT
    if status == 404 and not urlsplit(peer.url).path:
        return f"the base URL usually ends in /v1: try --base-url {peer.shown}/v1"
    if status == 400 and _WANTS_TLS.search(message):
        return f"that port speaks TLS: try --base-url {peer.shown.replace('http:', 'https:', 1)}"
    if status not in BAD_REQUEST:
        return _HINTS.get(status, "check --base-url, --model and the sampling options")
    if body.is_too_long:
        return _HINTS[413]
    name = body.parameter if body.parameter in _OPTIONS else next((n for n in _OPTIONS if n in body.words), None)
    if name is None:
        return _HINTS[status]
    key = _OPTIONS[name]
    return f"{key}: null in the endpoint's section leaves it out: --set SECTION.{key}=null (teacher, verifier, …)"


def transport_fault(fault: NoResponse, peer: Peer) -> Fault:
    """Return what a request without a response means for a user."""
    words = peer.clean(str(fault))
    if fault.hint:
        # what lasts and never reached the endpoint is not lost: waiting for the endpoint mends nothing
        lost, connected = not (fault.lasting and isinstance(fault, NoConnection)), not isinstance(fault, NoConnection)
        error = ProviderUnreachable(f"{peer.shown}: {words}", fault.hint)
        return Fault(error, again=not fault.lasting, lost=lost, connected=connected)
    if isinstance(fault, TimedOut):
        slow = ProviderUnreachable(
            f"{peer.shown}: {words}", "raise --timeout, lower --concurrency, or check the server"
        )
        return Fault(slow, again=True, lost=True)
    error = ProviderUnreachable(
        f"{peer.shown}: no connection ({words})", "is the server running, and --base-url right?"
    )
    return Fault(error, again=True, lost=True, connected=not isinstance(fault, NoConnection))


def tolerant(content: bytes) -> Any:
    """Return JSON that may hold half surrogate pairs, which it may to other readers; None for what is no JSON."""
    try:
        return sendable(json.loads(content))
    except (ValueError, RecursionError):
        return None

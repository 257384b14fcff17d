"""What a failed attempt means: for a user, and for whether another attempt may help."""

from __future__ import annotations

import json
from typing import Any

import orjson

from ropd_cli.config.masking import shown_url
from ropd_cli.errors import ProviderBusy, ProviderError, ProviderRefused, ProviderUnreachable
from ropd_cli.llm.api_key import QUOTED_CHARS, Peer
from ropd_cli.llm.chat import sendable
from ropd_cli.llm.retry import retry_after_s
from ropd_cli.llm.transport import Lost, NoConnection, Response, TimedOut

BAD_REQUEST = (400, 422)
NO_CHOICES = (400, 422, 501)
"""What a server that gives one reply a request says to a request for several."""
_WORTH_RETRYING = (408, 409, 425, 429)
URL_HINT = "is it the URL of an OpenAI-compatible API? It usually ends in /v1"
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


def status_fault(response: Response, peer: Peer) -> Fault:
    """Return what a response that is no success means for a user."""
    status = response.status
    document = tolerant(response.content)
    words = peer.clean(error_text(document) or response.content[: 8 * QUOTED_CHARS].decode("utf-8", "replace"))
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


def tolerant(content: bytes) -> Any:
    """Return JSON that may hold half surrogate pairs, which it may to other readers; None for what is no JSON."""
    try:
        return sendable(json.loads(content))
    except (ValueError, RecursionError):
        return None


def error_text(document: Any) -> str:
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

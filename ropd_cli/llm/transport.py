"""One request and its response: what carries it, over HTTP (``openai_sdk``) or to a provider in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ropd_cli.errors import InputError

if TYPE_CHECKING:
    from ropd_cli.config.models import EndpointConfig
    from ropd_cli.llm.api_key import Peer


class NoResponse(Exception):
    """A request without a usable response: ``hint`` says what mends it where that is known, ``lasting`` that another
    attempt would end alike."""

    def __init__(self, text: str, hint: str = "", *, lasting: bool = False) -> None:
        super().__init__(text)
        self.hint, self.lasting = hint, lasting


class NoConnection(NoResponse):
    """The request never reached the endpoint."""


class Lost(NoResponse):
    """The request was sent, and its response did not come, or not whole."""


class TimedOut(NoResponse):
    """A limit of time was reached; the text says which."""


@dataclass(frozen=True)
class Response:
    """What came back, whatever its status."""

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """By names in lower case."""
    reason: str = ""
    proxy: str = ""
    """The proxy that may have answered in the endpoint's place, as it may stand in a message."""


class Transport(Protocol):
    """Sends requests to one endpoint."""

    async def post(self, path: str, body: bytes) -> Response:
        """Return the response to a POST of JSON. Raises NoConnection, Lost or TimedOut."""

    async def close(self) -> None:
        """Close the connections; requests under way end with Lost."""


_PROVIDERS: dict[str, Callable[[str], Transport]] = {}


def register(scheme: str, opener: Callable[[str], Transport]) -> None:
    """Let ``opener`` answer for the URLs of a scheme that is not HTTP; it is given what stands behind ``scheme://``.

    So this room knows no provider. A provider registers itself when its package is imported, and the two places where a
    process of ropd begins import it: ``ropd_cli.cli`` (all commands) and ``ropd_cli.training`` (the trainer's own
    processes). Whoever opens a ChatClient below them says nothing of it. (Entry points of the installed package would
    be another way; they are read from its metadata, which a checkout on the path does not have.)
    """
    _PROVIDERS[scheme] = opener


def open_transport(endpoint: EndpointConfig, peer: Peer) -> Transport:
    """Return the transport to a peer. To be called inside a running event loop."""
    scheme, _, name = peer.url.partition("://")
    if scheme in ("http", "https"):
        from ropd_cli.llm.openai_sdk import OpenAITransport

        return OpenAITransport(endpoint, peer)
    if scheme not in _PROVIDERS:
        raise InputError(f"base_url {peer.url!r}: nothing answers {scheme}:// here", f"import ropd_cli.{scheme} first")
    return _PROVIDERS[scheme](name)

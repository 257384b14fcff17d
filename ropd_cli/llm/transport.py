"""One request and its response: over HTTP, or from a provider in this process."""

from __future__ import annotations

import asyncio
import io
import socket
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from ropd_cli import __version__
from ropd_cli.errors import InputError

if TYPE_CHECKING:
    import aiohttp

    from ropd_cli.config.models import LimitsConfig

KEEPALIVE_S = 4.0
"""Idle connections are dropped before the 5 s after which uvicorn (vLLM, SGLang) drops them: a request
sent into that moment would be lost."""
LARGE_BODY = 1 << 20


class NoConnection(Exception):
    """The request never reached the endpoint."""


class Lost(Exception):
    """The request was sent, and its response did not come, or not whole."""


class TimedOut(Exception):
    """A limit of time was reached; the text says which."""


@dataclass(frozen=True)
class Response:
    """What came back, whatever its status."""

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


class Transport(Protocol):
    """Sends requests to one endpoint."""

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Return the response to a POST of JSON. Raises NoConnection, Lost or TimedOut."""

    async def close(self) -> None:
        """Close the connections; requests under way end with Lost."""


_PROVIDERS: dict[str, Callable[[str], Transport]] = {}


def register(scheme: str, opener: Callable[[str], Transport]) -> None:
    """Let ``opener`` answer for the URLs of a scheme that is not HTTP.

    So this room knows no provider. A provider registers itself when its package is imported, and the two places where a
    process of ropd begins import it: ``ropd_cli.cli`` (all commands) and ``ropd_cli.training`` (the trainer's own
    processes). Whoever opens a ChatClient below them says nothing of it. (Entry points of the installed package would
    be another way; they are read from its metadata, which a checkout on the path does not have.)
    """
    _PROVIDERS[scheme] = opener


def open_transport(url: str, limits: LimitsConfig) -> Transport:
    """Return the transport of a checked ``base_url``. To be called inside a running event loop."""
    scheme, _, name = url.partition("://")
    if scheme in ("http", "https"):
        return Http(url, limits)
    if scheme not in _PROVIDERS:
        raise InputError(f"base_url {url!r}: nothing answers {scheme}:// here", f"import ropd_cli.{scheme} first")
    return _PROVIDERS[scheme](name)


class Http:
    """HTTP/1.1 with connections that are kept (aiohttp). A proxy is taken from the environment, as curl does."""

    def __init__(self, url: str, limits: LimitsConfig) -> None:
        import aiohttp

        where, _, query = url.partition("?")
        self._base, self._query = where.rstrip("/"), f"?{query}" if query else ""
        self._limits = limits
        self._proxy = proxy_of(where)
        self._session: aiohttp.ClientSession = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_timeout_s),
            headers={"Content-Type": "application/json", "User-Agent": f"ropd/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            raise_for_status=False,
        )

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        import aiohttp

        sent = False
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                try:
                    response = await self._headers_of(path, body, headers)
                except TimeoutError as fault:
                    if isinstance(fault, aiohttp.ServerTimeoutError):
                        raise TimedOut(f"no connection within {self._limits.connect_timeout_s:g} s") from fault
                    raise
                sent = True
                async with response:
                    content = await response.read()
        except TimeoutError as fault:
            raise TimedOut(f"no answer within {self._limits.timeout_s:g} s") from fault
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL, socket.gaierror, UnicodeError) as fault:
            raise NoConnection(_said(fault)) from fault
        except (aiohttp.ClientError, OSError, RuntimeError) as fault:
            if isinstance(fault, RuntimeError) and not self._session.closed:
                raise
            raise Lost(_said(fault) if not sent else f"the response broke off ({_said(fault)})") from fault
        return Response(response.status, content, response.headers, response.reason or "")

    async def close(self) -> None:
        await self._session.close()

    async def _headers_of(self, path: str, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """The response at its first byte, its body unread."""
        data = body if len(body) < LARGE_BODY else io.BytesIO(body)  # large bytes would be copied at once
        asked = self._session.post(
            f"{self._base}/{path}{self._query}", data=data, headers=headers, proxy=self._proxy, allow_redirects=False
        )
        if self._limits.first_byte_timeout_s is None:
            return await asked
        try:
            async with asyncio.timeout(self._limits.first_byte_timeout_s) as limit:
                return await asked
        except TimeoutError as fault:
            if limit.expired():
                raise TimedOut(f"no first byte within {self._limits.first_byte_timeout_s:g} s") from fault
            raise


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a URL."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass_environment(parts.hostname or ""):
        return None
    return urllib.request.getproxies_environment().get(parts.scheme)


def _said(fault: BaseException) -> str:
    """What the innermost cause says."""
    while fault.__cause__ is not None:
        fault = fault.__cause__
    return str(fault) or type(fault).__name__

"""The HTTP client below the SDK: connections of our own, trusted certificates, and responses of a bounded size."""

from __future__ import annotations

import os
import ssl
import zlib
from collections.abc import AsyncIterator
from functools import cache, partial
from typing import Any

import aiohttp
import httpx2
import openai

from ropd_cli.errors import InputError
from ropd_cli.llm.transport import Lost, Unreadable

KEEPALIVE_S = 4.0
"""Idle connections are dropped before the 5 s after which uvicorn (vLLM, SGLang) drops them: a request
sent into that moment would be lost."""
LARGEST_RESPONSE = 64 << 20
"""Bytes of a response, decoded."""
LONGEST_HEADER = 64 << 10


class HttpClient(openai.DefaultAioHttpClient):
    """The SDK's HTTP client over aiohttp, with sessions of our own: connections without a limit on their number (the
    limiter has one) that are dropped in time, and no cookies; and with responses of a bounded size."""

    def __init__(self, tls: ssl.SSLContext, socks: str | None, most_bytes: int | None, **how: Any) -> None:
        self._own = tls, socks, most_bytes or LARGEST_RESPONSE
        super().__init__(**how)

    def _init_transport(self, *how: Any, **more: Any) -> httpx2.AsyncBaseTransport:
        return _Transport(super()._init_transport(*how, **more), *self._own)

    def _init_proxy_transport(self, *how: Any, **more: Any) -> httpx2.AsyncBaseTransport:
        return _Transport(super()._init_proxy_transport(*how, **more), *self._own)


class _Transport(httpx2.AsyncBaseTransport):
    """The SDK's transport over aiohttp, which takes a session when it sends its first request."""

    def __init__(self, plain: Any, tls: ssl.SSLContext, socks: str | None, most_bytes: int) -> None:
        plain.client = partial(_session, tls, socks)
        self._plain, self._most_bytes = plain, most_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response: httpx2.Response = await self._plain.handle_async_request(request)
        encoding = response.headers.pop("content-encoding", "identity").strip().lower()
        response.stream = _Body(response.stream, encoding, self._most_bytes)
        return response

    async def aclose(self) -> None:
        await self._plain.aclose()


class _Body(httpx2.AsyncByteStream):
    """A response's body, decoded here and not by httpx2, which does not bound what a small body may come to."""

    def __init__(self, plain: Any, encoding: str, most_bytes: int) -> None:
        self._plain, self._encoding, self._most_bytes = plain, encoding, most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        inflate, left = decoder_of(self._encoding), self._most_bytes
        async for chunk in self._plain:
            try:
                decoded = chunk if inflate is None else inflate.decompress(chunk, left)
            except zlib.error as fault:
                raise Unreadable(f"the response can't be decoded as {self._encoding} ({fault})") from fault
            left -= len(decoded)
            if left <= 0:
                raise Unreadable(f"the response is larger than {self._most_bytes >> 20} MB", "is it the URL of an API?")
            yield decoded
        if inflate is not None and not inflate.eof:
            raise Lost("its body is cut off")

    async def aclose(self) -> None:
        await self._plain.aclose()


def decoder_of(encoding: str) -> Any:
    """Return zlib's object that decodes a body; None where nothing need be decoded. Raises Unreadable for an encoding
    that was not asked for."""
    if encoding in ("identity", ""):
        return None
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Unreadable(
            f"the response is encoded with {encoding!r}, which was not asked for",
            "make the server or the proxy before it obey Accept-Encoding (gzip, deflate)",
        )
    return zlib.decompressobj(47)  # gzip or zlib, whichever it begins as


def _session(tls: ssl.SSLContext, socks: str | None) -> aiohttp.ClientSession:
    how: dict[str, Any] = {"limit": 0, "keepalive_timeout": KEEPALIVE_S, "ttl_dns_cache": 60, "ssl": tls}
    if socks is not None:
        from aiohttp_socks import ProxyConnector

        connector: aiohttp.BaseConnector = ProxyConnector.from_url(socks, rdns=True, **how)
    else:
        connector = aiohttp.TCPConnector(**how)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=LONGEST_HEADER,
        max_field_size=LONGEST_HEADER,
    )


@cache
def trusted(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the system's certificates (SSL_CERT_FILE names others), and those of a file."""
    context = ssl.create_default_context()
    for name, file in (("ca_file", ca_file), ("SSL_CERT_FILE", os.environ.get("SSL_CERT_FILE"))):
        if not file:
            continue
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as fault:
            raise InputError(
                f"{name} {file}: no certificates in PEM ({fault})", "name a file of certificates"
            ) from None
    return context

"""The ``openai`` package as the transport over HTTP: connections, keys, Azure; its typed calls for batches and models.

Nothing imports this module before the first request: the package takes most of a second. The SDK's own retries are off,
as ``client`` is the only owner of retries; chats are sent and read as bytes, which takes half of what the SDK's models
take.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from functools import cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import aiohttp
import httpx2
import openai
from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError, ProxyType

from ropd_cli import __version__
from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import InputError
from ropd_cli.llm.api_key import Peer
from ropd_cli.llm.connection_faults import HEADER_BYTES, fault_of
from ropd_cli.llm.proxies import Proxy, proxy_of
from ropd_cli.llm.response_body import ACCEPTED, REPLY_BYTES, BoundedTransport, UnusableBody
from ropd_cli.llm.transport import Lost, Response, TimedOut
from ropd_cli.llm.urls import model_name

KEEPALIVE_S = 4.0
"""Idle connections are dropped before the 5 s after which uvicorn (vLLM, SGLang) drops them: a request
sent into that moment would be lost."""
CLOSED_OR_BROKEN = (
    openai.APIConnectionError,
    httpx2.RequestError,
    httpx2.InvalidURL,
    aiohttp.ClientError,
    ProxyError,
    ProxyConnectionError,
    ProxyTimeoutError,
    OSError,
    UnicodeError,
    RuntimeError,
)
"""What a request without a response ends with. The aiohttp backend hands on some of its own errors as they are, and a
closed client raises RuntimeError."""

_STREAM = openai.AsyncStream[Any]

logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs URLs, and a query may hold a key


class OpenAITransport:
    """Requests of one endpoint, as bytes."""

    def __init__(self, endpoint: EndpointConfig, peer: Peer) -> None:
        self._endpoint, self._limits = endpoint, endpoint.limits
        self._sdk = sdk_client(endpoint, peer)
        self._base = str(self._sdk.base_url).rstrip("/") + "/"  # the SDK leaves the slash out where there is no path
        # said here, these need not be made anew for each request, which takes a tenth of its time
        self._options: Any = {
            "headers": {},
            "params": {},
            "max_retries": 0,
            "timeout": self._sdk.timeout,
            "idempotency_key": "none",
        }

    async def post(self, path: str, body: bytes) -> Response:
        """Return the response to a POST of JSON. Raises NoConnection, Lost or TimedOut."""
        limits, is_here = self._limits, False
        try:
            async with asyncio.timeout(limits.timeout_s):
                response = await self._head(path, body)
                is_here = True
                try:
                    content = await response.aread()
                finally:
                    await response.aclose()
        except TimeoutError as fault:
            raise TimedOut(f"no answer within {limits.timeout_s:g} s") from fault
        except openai.APIStatusError as fault:
            return response_of(fault)
        except CLOSED_OR_BROKEN as fault:
            if isinstance(fault, RuntimeError) and not self._sdk.is_closed():
                raise
            error = fault_of(fault, self._endpoint)
            broke_off = is_here and not isinstance(fault, UnusableBody)
            raise (Lost(f"the response broke off ({error})") if broke_off else error) from fault
        return Response(response.status_code, content, _plain(response), response.reason_phrase)

    async def close(self) -> None:
        """Close the connections; requests under way end with Lost."""
        await self._sdk.close()

    async def _head(self, path: str, body: bytes) -> httpx2.Response:
        """Return the response at its first byte, its content unread."""
        request = self._sdk.post(
            self._base + path,
            content=body,
            cast_to=httpx2.Response,
            options=self._options,
            stream=True,
            stream_cls=_STREAM,
        )
        first_byte_s = self._limits.first_byte_timeout_s
        try:
            async with asyncio.timeout(first_byte_s) as limit:
                # as a stream, an httpx2 response comes back as it is
                return await request  # type: ignore[return-value]
        except TimeoutError as fault:
            if limit.expired():
                raise TimedOut(f"no first byte within {first_byte_s:g} s") from fault
            raise


class _OwnRequests:
    """Sends the headers that the configuration has, and no others.

    The SDK's would hold what stands in OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS, and describe the
    machine (X-Stainless-…). A run sends what its configuration says.
    """

    own_headers: Mapping[str, str | openai.Omit]

    def __init__(self, **how: Any) -> None:
        self._heads: dict[str, tuple[httpx2.URL, httpx2.Headers, dict[str, Any]]] = {}
        super().__init__(**how)

    @property
    def default_headers(self) -> dict[str, str | openai.Omit]:
        return dict(self.own_headers)

    def _build_request(self, options: Any, **more: Any) -> httpx2.Request:
        """Build a request; posts of bytes to one URL differ in their content alone, so the first one's head serves
        the others, which saves a third of what a request takes."""
        if options.content is None:
            return super()._build_request(options, **more)  # type: ignore[misc]
        url = options.url  # Azure's building changes it
        if url not in self._heads:
            first: httpx2.Request = super()._build_request(options, **more)  # type: ignore[misc]
            del first.headers["Content-Length"]
            self._heads[url] = (first.url, first.headers, first.extensions)
        where, headers, extensions = self._heads[url]
        return httpx2.Request("POST", where, headers=headers, content=options.content, extensions=extensions)


class _OpenAI(_OwnRequests, openai.AsyncOpenAI):
    pass


class _Azure(_OwnRequests, openai.AsyncAzureOpenAI):
    pass


def sdk_client(
    endpoint: EndpointConfig,
    peer: Peer,
    *,
    read_timeout_s: float | None = None,
    follow_redirects: bool = False,
    largest: int = REPLY_BYTES,
) -> openai.AsyncOpenAI:
    """Return the SDK's client of an endpoint, whose responses are ``largest`` bytes at most. To be called inside a
    running event loop, and closed. Raises InputError for a proxy or a file of certificates that is none."""
    where, _, query = peer.url.partition("?")
    given = {name.lower(): value for name, value in peer.headers.items()}
    # without a key one is sent all the same: some servers insist on it
    key = peer.key.get_secret_value() if peer.key is not None else "none"
    proxy, tls = proxy_of(where), _tls(endpoint.ca_file, where)
    http = _AiohttpClient(
        partial(_session, tls, proxy),
        largest,
        proxy=proxy.url if proxy is not None and not proxy.is_socks else None,
        verify=tls,
        headers={"Accept-Encoding": ACCEPTED},
        trust_env=False,  # proxies are looked up here, and .netrc is nobody's business
        follow_redirects=follow_redirects,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=httpx2.Timeout(None, connect=endpoint.limits.connect_timeout_s, read=read_timeout_s),
    )
    common: dict[str, Any] = {
        "http_client": http,
        "max_retries": 0,
        "default_query": dict(parse_qsl(query, keep_blank_values=True)),
    }
    sdk: _OpenAI | _Azure
    if endpoint.api == "azure":
        bearer = given.get("authorization", "").removeprefix("Bearer ") or None
        sdk = _Azure(
            azure_endpoint=where,
            azure_deployment=quote(model_name(endpoint), safe=""),
            api_version=endpoint.api_version,
            azure_ad_token=bearer,
            api_key=None if bearer else given.get("api-key", key),
            **common,
        )
    else:
        sdk = _OpenAI(base_url=where, api_key=key, **common)
    kind = {"Content-Type": "application/json", "User-Agent": f"ropd/{__version__}"}
    sdk._platform = "Unknown"  # else each of the first requests asks a thread for what is never sent
    sdk.own_headers = {"Accept": "application/json", **kind, **peer.headers}
    return sdk


class _AiohttpClient(openai.DefaultAioHttpClient):
    """The SDK's HTTP client over aiohttp, with a session of our own: connections without a limit on their number (the
    limiter has one) that are dropped in time, no cookies, and bodies of bounded size."""

    def __init__(self, session: Callable[[], aiohttp.ClientSession], largest: int, **how: Any) -> None:
        self._own_session, self._largest = session, largest
        super().__init__(**how)

    def _init_transport(self, *how: Any, **more: Any) -> httpx2.AsyncBaseTransport:
        return self._own(super()._init_transport(*how, **more))

    def _init_proxy_transport(self, *how: Any, **more: Any) -> httpx2.AsyncBaseTransport:
        return self._own(super()._init_proxy_transport(*how, **more))

    def _own(self, transport: Any) -> httpx2.AsyncBaseTransport:
        transport.client = self._own_session  # is called at the first request
        return BoundedTransport(transport, self._largest)


def _session(tls: ssl.SSLContext, proxy: Proxy | None) -> aiohttp.ClientSession:
    how: dict[str, Any] = {"limit": 0, "keepalive_timeout": KEEPALIVE_S, "ssl": tls}
    connector: aiohttp.TCPConnector
    if proxy is not None and proxy.is_socks:
        connector = _socks_connector(proxy, how)
    else:
        connector = aiohttp.TCPConnector(ttl_dns_cache=60, **how)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
    )


def _socks_connector(proxy: Proxy, how: Mapping[str, Any]) -> aiohttp.TCPConnector:
    """Return connections through a SOCKS proxy, which looks up the names of hosts (SOCKS 4 can't)."""
    parts = urlsplit(proxy.url)
    return ProxyConnector(
        host=parts.hostname or "",
        port=parts.port or 1080,
        proxy_type=ProxyType.SOCKS4 if parts.scheme.startswith("socks4") else ProxyType.SOCKS5,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        rdns=parts.scheme != "socks4",
        **how,
    )


def _tls(ca_file: str | None, url: str) -> ssl.SSLContext:
    """Return what certificates are checked against: the system's, those of SSL_CERT_FILE in their place, and those of
    ``ca_file`` besides."""
    certificates = os.environ.get("SSL_CERT_FILE") if url.startswith("https:") else None
    return _tls_with(ca_file, certificates)


@cache
def _tls_with(ca_file: str | None, certificates: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # OpenSSL itself says nothing of an SSL_CERT_FILE that it can't read
    for name, file in (("SSL_CERT_FILE", certificates), ("ca_file", ca_file)):
        if file:
            try:
                context.load_verify_locations(os.path.expanduser(file))
            except OSError as fault:  # SSLError is one
                reason = "holds no certificates in PEM form" if isinstance(fault, ssl.SSLError) else fault.strerror
                raise InputError(
                    f"{name} {file}: {reason}", f"{name} names a PEM file with the certificates to trust"
                ) from fault
    return context


def response_of(fault: openai.APIStatusError) -> Response:
    """Return the response that the SDK raised as an error."""
    response, url = fault.response, str(fault.request.url)
    # an answer to https:// came through the proxy unread
    proxy = proxy_of(url) if url.startswith("http:") else None
    shown = proxy.shown if proxy is not None else ""
    return Response(response.status_code, response.content, _plain(response), response.reason_phrase, shown)


def _plain(response: httpx2.Response) -> dict[str, str]:
    """Return the headers by their lower-case names; httpx2's own mapping takes an eighth of a request's time for what
    is looked up in it here."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}

"""The ``openai`` package as the transport over HTTP: connections, keys, Azure; its typed calls for batches and models.

Nothing imports this module before the first request: the package takes most of a second. The SDK's own retries are off,
as ``client`` is the only owner of retries; chats are sent and read as bytes, which takes half of what the SDK's models
take.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import parse_qsl, quote

import aiohttp
import aiohttp_socks
import httpx2
import openai

from ropd_cli import __version__
from ropd_cli.config.models import EndpointConfig, LimitsConfig
from ropd_cli.llm.api_key import Peer
from ropd_cli.llm.http_client import HttpClient, trusted
from ropd_cli.llm.proxy import proxy_of
from ropd_cli.llm.transport import Lost, NoConnection, OnTheWay, Response, TimedOut, Unreadable
from ropd_cli.llm.urls import model_name, shown_url

_SocksFault = aiohttp_socks.ProxyError | aiohttp_socks.ProxyConnectionError | aiohttp_socks.ProxyTimeoutError
CLOSED_OR_BROKEN = (
    openai.APIConnectionError,
    httpx2.RequestError,
    httpx2.InvalidURL,
    aiohttp.ClientError,
    OSError,
    UnicodeError,
    RuntimeError,
    OnTheWay,
    aiohttp_socks.ProxyError,
    aiohttp_socks.ProxyConnectionError,
    aiohttp_socks.ProxyTimeoutError,
)
"""What a request without a response ends with. The aiohttp backend hands on some of its own errors as they are, and a
closed client raises RuntimeError."""

_PROXY_HINT = "the proxy comes from HTTP_PROXY, HTTPS_PROXY or ALL_PROXY; NO_PROXY names hosts that go without"
_CERTIFICATE_HINT = "for a certificate of your own set ca_file of the endpoint, or SSL_CERT_FILE, to a file in PEM"
_TLS_HINT = "does the server speak https? If not, write http:// in --base-url"
_STREAM = openai.AsyncStream[Any]

logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs URLs, and a query may hold a key


class OpenAITransport:
    """Requests of one endpoint, as bytes."""

    def __init__(self, endpoint: EndpointConfig, peer: Peer) -> None:
        self._limits = endpoint.limits
        self._sdk = sdk_client(endpoint, peer)
        self._base = str(self._sdk.base_url)
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
            proxy = proxy_of(self._base) if fault.status_code == 407 else None
            if proxy is not None:  # of https the tunnel is refused, and of http the request
                raise asks_for_password(proxy) from fault
            return response_of(fault)
        except CLOSED_OR_BROKEN as fault:
            if isinstance(fault, RuntimeError) and not self._sdk.is_closed():
                raise
            error = fault_of(fault, limits, self._base)
            if is_here and not isinstance(error, Unreadable):
                error = Lost(f"the response broke off ({error})")
            raise error from fault
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
    most_bytes: int | None = None,
) -> openai.AsyncOpenAI:
    """Return the SDK's client of an endpoint. To be called inside a running event loop, and closed. Raises InputError
    for certificates or a proxy that can't be used."""
    where, _, query = peer.url.partition("?")
    tls, proxy = trusted(endpoint.ca_file), proxy_of(where)
    socks = proxy if proxy is not None and proxy.startswith("socks") else None
    given = {name.lower(): value for name, value in peer.headers.items()}
    # without a key one is sent all the same: some servers insist on it
    key = peer.key.get_secret_value() if peer.key is not None else "none"
    http = HttpClient(
        tls,
        socks,
        most_bytes,
        proxy=None if socks else proxy,
        verify=tls,
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
    sdk.own_headers = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", **kind, **peer.headers}
    return sdk


def response_of(fault: openai.APIStatusError) -> Response:
    """Return the response that the SDK raised as an error."""
    response = fault.response
    return Response(response.status_code, response.content, _plain(response), response.reason_phrase)


def _plain(response: httpx2.Response) -> dict[str, str]:
    """Return the headers by their lower-case names; httpx2's own mapping takes an eighth of a request's time for what
    is looked up in it here."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}


def fault_of(fault: BaseException, limits: LimitsConfig, url: str = "") -> OnTheWay:
    """Return what an error of ``CLOSED_OR_BROKEN`` means, which its causes tell: the SDK, httpx2 and aiohttp each wrap
    those of the layer below, and the middle one takes a lost connection for a timeout."""
    causes = list(_causes(fault))
    known = next((cause for cause in causes if isinstance(cause, OnTheWay)), None)
    if known is not None:
        return known
    proxy = proxy_of(url) if url else None
    through = f", through the proxy {shown_url(proxy)}" if proxy else ""
    if any(isinstance(cause, aiohttp.ConnectionTimeoutError) for cause in causes):
        return TimedOut(f"no connection within {limits.connect_timeout_s:g} s{through}", _PROXY_HINT if proxy else None)
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return TimedOut(f"no answer in time{through}")
    text = (str(causes[-1]) or type(causes[-1]).__name__) + through
    for cause in causes:
        if isinstance(cause, aiohttp.ClientHttpProxyError):
            if cause.status == 407:
                return asks_for_password(proxy or "")
            return NoConnection(f"the proxy answers {cause.status} {cause.message}{through}", _PROXY_HINT)
        if isinstance(cause, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
            return NoConnection(f"certificate: {_reason(cause)}{through}", _CERTIFICATE_HINT)
        if isinstance(cause, aiohttp.ClientConnectorSSLError | ssl.SSLError):
            return NoConnection(f"TLS: {_reason(cause)}{through}", _TLS_HINT)
        if isinstance(cause, aiohttp.ClientProxyConnectionError | _SocksFault):
            return NoConnection(text, _PROXY_HINT)
        if isinstance(cause, aiohttp.ClientConnectorDNSError):
            return NoConnection(text, "no such host: check --base-url")
    never_there = (aiohttp.ClientConnectorError, aiohttp.InvalidURL, httpx2.InvalidURL, UnicodeError)
    hint = _PROXY_HINT if proxy else None
    if any(isinstance(cause, aiohttp.ClientResponseError) for cause in causes):
        return Lost(f"the response is no HTTP ({text})", "is the port an HTTP server's, and is it http or https?")
    is_gone = any(isinstance(cause, never_there) for cause in causes)
    return NoConnection(text, hint) if is_gone else Lost(text, hint)


def asks_for_password(proxy: str) -> NoConnection:
    """Return what a proxy that does not know who asks means."""
    return NoConnection(f"the proxy {shown_url(proxy)} asks for a password", f"http://USER:PASSWORD@…; {_PROXY_HINT}")


def _reason(fault: BaseException) -> str:
    inner = getattr(fault, "certificate_error", None) or getattr(fault, "os_error", None) or fault
    return str(getattr(inner, "verify_message", None) or getattr(inner, "reason", None) or inner)


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__cause__

"""What a request without a response means: which part of the way failed, and the setting that mends it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import aiohttp
import aiohttp_socks
import httpx2

from ropd_cli.config.models import EndpointConfig
from ropd_cli.llm.proxies import Proxy, proxy_of
from ropd_cli.llm.response_body import UnusableBody
from ropd_cli.llm.transport import Lost, NoConnection, NoResponse, TimedOut
from ropd_cli.llm.urls import base_url

HEADER_BYTES = 64 << 10
"""Longest header of a response; aiohttp's own limit is 8 KB, which cookies and policies of gateways pass."""
_HOST_MISMATCH = (62, 64)
_NOT_NOW = (9, 10)
"""OpenSSL's codes: a certificate for another name or address; one that is not valid yet, or no longer."""
_TLS_ALERT = re.compile(r"\\x15\\x03")
_NO_HTTP = re.compile(
    r"bad status line|expected http|bad http|invalid http|pause on connect|invalid (header|char)", re.I
)
_PASSWORD = "write them into {}: http://USER:PASSWORD@HOST:PORT (special characters as %40)"


def fault_of(fault: BaseException, endpoint: EndpointConfig) -> NoResponse:
    """Return what an error of ``CLOSED_OR_BROKEN`` means, which its causes tell: the SDK, httpx2 and aiohttp each wrap
    those of the layer below, and the middle one takes a lost connection for a timeout."""
    url = base_url(endpoint)
    proxy = proxy_of(url)
    causes = list(_causes(fault))
    for cause in reversed(causes):  # aiohttp's errors of TLS are also those of ssl, without their fields
        known = _of_body_or_proxy(cause, url, proxy) or _of_server(cause, url)
        if known is not None:
            return known
    through = f" through the proxy {proxy.shown}" if proxy is not None else ""
    if any(isinstance(cause, aiohttp.ConnectionTimeoutError) for cause in causes):
        text = f"no connection{through} within {endpoint.limits.connect_timeout_s:g} s"
        return TimedOut(text, _past(proxy, url) if proxy is not None else "")
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return TimedOut("no answer in time")
    text = (str(causes[-1]) or type(causes[-1]).__name__) + through
    never_there = (aiohttp.ClientConnectorError, aiohttp.InvalidURL, httpx2.InvalidURL, UnicodeError)
    return NoConnection(text) if any(isinstance(cause, never_there) for cause in causes) else Lost(text)


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__cause__


def _past(proxy: Proxy, url: str) -> str:
    host = urlsplit(url).hostname
    return f"the proxy comes from the environment variable {proxy.variable}; NO_PROXY={host} goes past it"


def _of_body_or_proxy(cause: BaseException, url: str, proxy: Proxy | None) -> NoResponse | None:
    if isinstance(cause, UnusableBody):
        return Lost(str(cause), cause.hint, lasting=cause.lasting)
    if proxy is None:
        return None
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        if cause.status == 407:
            text = f"the proxy {proxy.shown} asks for a user and a password (status 407), or does not take those given"
            return NoConnection(text, _PASSWORD.format(proxy.variable), lasting=True)
        text = f"the proxy {proxy.shown} does not connect to {urlsplit(url).hostname} (status {cause.status})"
        return NoConnection(text, _past(proxy, url), lasting=cause.status < 500)
    if isinstance(cause, aiohttp.ClientConnectorDNSError) and cause.host == urlsplit(proxy.url).hostname:
        return NoConnection(f"no connection to the proxy {proxy.shown} (its name is not known)", _past(proxy, url))
    if isinstance(cause, aiohttp.ClientProxyConnectionError | aiohttp_socks.ProxyConnectionError):
        reason = cause.strerror if isinstance(cause, aiohttp.ClientProxyConnectionError) else _reason(cause)
        return NoConnection(f"no connection to the proxy {proxy.shown} ({reason})", _past(proxy, url))
    if isinstance(cause, aiohttp_socks.ProxyTimeoutError):
        return TimedOut(f"no connection through the proxy {proxy.shown} in time", _past(proxy, url))
    if isinstance(cause, aiohttp_socks.ProxyError):
        text = f"the proxy {proxy.shown} does not connect to {urlsplit(url).hostname} ({cause})"
        is_login = re.search(r"auth|username|password|user", str(cause), re.IGNORECASE)
        hint = f"write user and password into {proxy.variable}: socks5://USER:PASSWORD@HOST:PORT"
        return NoConnection(text, hint if is_login else _past(proxy, url), lasting=bool(is_login))
    return None


def _reason(cause: BaseException) -> str:
    return str(cause.__cause__ or cause).rpartition("] ")[2]


def _of_server(cause: BaseException, url: str) -> NoResponse | None:
    host = urlsplit(url).hostname
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _of_certificate(cause, str(host))
    if isinstance(cause, ssl.SSLError):
        reason = (cause.reason or str(cause)).replace("_", " ").lower()
        if "wrong version number" in reason or "record layer failure" in reason or "http request" in reason:
            return NoConnection(
                f"no TLS at that port ({reason}): it seems to speak plain HTTP",
                f"try http{url.partition('?')[0].removeprefix('https')} as --base-url",
                lasting=True,
            )
        return NoConnection(f"TLS failed ({reason})", "what TLS does the server, or a proxy before it, speak?")
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return NoConnection(
            f"no connection (the host name {cause.host} is not known: {cause.strerror})",
            "is the name in --base-url right? Where a proxy is needed: HTTPS_PROXY or HTTP_PROXY names it",
        )
    if isinstance(cause, aiohttp.ClientResponseError):
        text = " ".join(cause.message.split())
        if "Got more than" in text:
            return Lost(
                f"the response has headers longer than {HEADER_BYTES >> 10} KB ({text[:80]})",
                "that is more than any API sends: look at the gateway or proxy before the server",
                lasting=True,
            )
        if _TLS_ALERT.search(text):
            return Lost(
                "that port speaks TLS, not plain HTTP",
                f"try https{url.partition('?')[0].removeprefix('http')} as --base-url",
                lasting=True,
            )
        if _NO_HTTP.search(text):
            return Lost(f"what answers there is not HTTP ({text[:120]})", "is the port in --base-url right?")
    if isinstance(cause, aiohttp.ServerDisconnectedError | ConnectionResetError) and url.startswith("http:"):
        return Lost(
            "no connection (the server closed it without an answer)",
            "is the server running, and --base-url right? A port that speaks TLS wants https://",
        )
    if isinstance(cause, ConnectionRefusedError) and host == "::1":
        return NoConnection(
            f"no connection ({cause})",
            f"many servers listen on 127.0.0.1 alone: try {url.partition('?')[0].replace('[::1]', '127.0.0.1')}",
        )
    return None


def _of_certificate(cause: ssl.SSLCertVerificationError, host: str) -> NoConnection:
    words = f"the certificate of {host} was refused: {cause.verify_message or cause.reason}"
    if cause.verify_code in _HOST_MISMATCH:
        hint = "write the name that the certificate is for into --base-url"
    elif cause.verify_code in _NOT_NOW:
        hint = "renew the server's certificate; is the clock of this machine right?"
    else:
        hint = (
            "name the PEM file of its issuer (a company's CA, or the self-signed certificate itself) by `ca_file` of "
            "the endpoint, or by SSL_CERT_FILE in the environment"
        )
    return NoConnection(words, hint, lasting=True)

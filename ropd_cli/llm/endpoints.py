"""Where requests go: URLs, model names, API keys, and the SDK client of an endpoint."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pydantic import SecretStr

from ropd_cli import __version__
from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import InputError

if TYPE_CHECKING:
    import httpx2
    import openai

OPENAI_URL = "https://api.openai.com/v1"
BUILTIN = "builtin://"
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
KEEPALIVE_S = 4.0
"""Idle connections are dropped before the 5 s after which uvicorn (vLLM, SGLang) drops them: a request
sent into that moment would be lost."""


def base_url(endpoint: EndpointConfig) -> str:
    """The URL of an endpoint, without a slash at its end. Raises InputError for what is none."""
    url = (endpoint.base_url or OPENAI_URL).strip().rstrip("/")
    if url.startswith(BUILTIN):
        if not builtin_name(url):
            raise InputError(f"base_url {url!r}: which embedded provider?", "builtin://checkable")
        return url
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and _is_host(parts.hostname or "") and parts.port != 0
        usable = (
            usable and url.isprintable() and " " not in url and ("[" in parts.netloc) == (":" in (parts.hostname or ""))
        )
    except ValueError:  # not a port, not an IPv6 address
        usable = False
    if not usable:
        shown = shown_url(url)
        raise InputError(
            f"base_url {shown!r}: not a URL", "for example http://localhost:8000/v1, or builtin://checkable"
        )
    if "@" in parts.netloc:
        raise InputError(
            f"base_url {shown_url(url)!r}: a user or password in the URL is not sent",
            "put the key into the environment variable that --api-key-env names",
        )
    return url


def _is_host(name: str) -> bool:
    """Whether a host is one: an address, or a name of labels of 1 to 63 characters."""
    if ":" in name:
        ipaddress.IPv6Address(name.partition("%")[0])  # ValueError for what is none
        return True
    try:
        labels = name.encode("idna").decode().rstrip(".").split(".")
    except UnicodeError:
        return False
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def shown_url(url: str) -> str:
    """A URL as it may stand in a message: without a user, a password or a query, which may be secrets."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return url.rpartition("@")[2].partition("?")[0]


def identity(url: str) -> str:
    """What of a URL determines the answers, for the cache key.

    The embedded provider is one program with this package: another version may answer otherwise.
    """
    if url.startswith(BUILTIN):
        return f"{BUILTIN}{builtin_name(url)}#{__version__}"
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return urlunsplit((parts.scheme.lower(), host, parts.path.rstrip("/"), parts.query, ""))


def builtin_name(url: str) -> str:
    """NAME of ``builtin://NAME``."""
    return url.removeprefix(BUILTIN).strip("/")


def model_name(endpoint: EndpointConfig, section: str | None = None) -> str:
    """The model to ask for; the embedded provider's is called like itself where none is configured.

    Raises InputError that names the option and the key of ``section`` ("teacher", "verifier", …).
    """
    if endpoint.model:
        return endpoint.model
    if endpoint.base_url and endpoint.base_url.startswith(BUILTIN):
        return builtin_name(endpoint.base_url)
    if section is None:
        raise InputError(
            "no model name", "give --model NAME, or set `model` in the endpoint's section of the configuration"
        )
    variable = "" if "." in section else f", or ROPD_{section.upper()}_MODEL"
    raise InputError(
        f"no model name for the {section.partition('.')[0]}",
        f"give --model NAME, or set {section}.model in the configuration{variable}",
    )


def api_key(endpoint: EndpointConfig, environ: Mapping[str, str]) -> SecretStr | None:
    """The API key from the environment variable ``endpoint.api_key_env``; None where a server of one's own
    (``base_url`` is given) may need none. Raises InputError that names the variable."""
    name = endpoint.api_key_env
    key = environ.get(name, "").strip()
    if key:
        if not (key.isascii() and key.isprintable()):
            raise InputError(
                f"{name}: holds characters that no API key has", f"set {name} again, without quotes or line ends"
            )
        return SecretStr(key)
    if endpoint.base_url is None:
        raise InputError(
            f"no API key for {OPENAI_URL}: the environment variable {name} is not set",
            f"export {name}=…, or name another variable with --api-key-env, or give --base-url for your own server",
        )
    return None


def connect(endpoint: EndpointConfig, key: SecretStr | None) -> openai.AsyncOpenAI:
    """The SDK's client of an endpoint, with the SDK's own retries off.

    ``builtin://NAME`` is the same client over an in-process transport, without a port.
    """
    import openai

    url, timeout_s = base_url(endpoint), endpoint.limits.timeout_s
    http = _builtin_http(url, timeout_s) if url.startswith(BUILTIN) else _http(endpoint)
    where, _, query = url.partition("?")
    return openai.AsyncOpenAI(
        base_url="http://builtin/v1" if url.startswith(BUILTIN) else where.rstrip("/"),
        default_query=dict(parse_qsl(query, keep_blank_values=True)) or None,
        api_key=key.get_secret_value() if key else "none",  # the SDK insists on one; local servers take any
        max_retries=0,
        timeout=timeout_s,
        http_client=http,
    )


def _http(endpoint: EndpointConfig) -> httpx2.AsyncClient:
    import httpx2
    import openai

    limits = httpx2.Limits(max_connections=endpoint.limits.concurrency, keepalive_expiry=KEEPALIVE_S)
    return openai.DefaultAioHttpClient(timeout=endpoint.limits.timeout_s, limits=limits)


def _builtin_http(url: str, timeout_s: float) -> httpx2.AsyncClient:
    import httpx2

    from ropd_cli.llm.builtin.app import create_app

    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=create_app(builtin_name(url))), timeout=timeout_s)

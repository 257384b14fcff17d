"""Where requests go: URLs and model names."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit, urlunsplit

from ropd_cli import __version__
from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import InputError

OPENAI_URL = "https://api.openai.com/v1"
BUILTIN = "builtin://"
_BETWEEN = re.compile(r",\s*(?=[a-z]+://|,|$)")
"""Commas between URLs; others may stand in a query."""
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")


def base_urls(endpoint: EndpointConfig) -> tuple[str, ...]:
    """The URLs of an endpoint's servers, without a slash at their end: one, or several with commas between them.

    Raises InputError for what is none, and for two that are the same.
    """
    urls = tuple(_checked(url.strip().rstrip("/")) for url in _BETWEEN.split(endpoint.base_url or OPENAI_URL))
    if len(urls) > 1 and any(url.startswith(BUILTIN) for url in urls):
        raise InputError(f"base_url {_shown(urls)!r}: the embedded provider beside other servers", "give it alone")
    if len({identity(url) for url in urls}) < len(urls):
        raise InputError(f"base_url {_shown(urls)!r}: a server stands twice", "name each server once")
    return urls


def base_url(endpoint: EndpointConfig) -> str:
    """The URL that stands for an endpoint in cache keys and prices: of several servers the first. Raises InputError as
    ``base_urls`` does."""
    return base_urls(endpoint)[0]


def _shown(urls: tuple[str, ...]) -> str:
    return ",".join(shown_url(url) for url in urls)


def _checked(url: str) -> str:
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

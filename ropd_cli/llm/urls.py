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
_USER = re.compile(r"//[^/?#]*@")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")


def base_url(endpoint: EndpointConfig) -> str:
    """The URL that an endpoint goes by: of several servers the first. Raises what ``base_urls`` raises."""
    return base_urls(endpoint)[0]


def base_urls(endpoint: EndpointConfig) -> tuple[str, ...]:
    """The URLs of an endpoint's servers, one or more, without a slash at their ends.

    Raises InputError for one that is none, that is there twice, and for the embedded provider among others.
    """
    named = endpoint.base_url or OPENAI_URL
    parts = [part.strip() for part in named.split(",")]
    if len(parts) > 1 and _USER.search(named):  # said before a password with a comma falls into parts
        raise _no_user(", ".join(shown_url(url) for url in _USER.sub("//", named).split(",")))
    if len(parts) > 1 and not all(parts):
        raise InputError(
            f"base_url {', '.join(shown_url(part) for part in parts)!r}: a URL is missing beside a comma",
            "commas stand between the URLs of several servers (%2C where one is part of a URL)",
        )
    urls = tuple(_checked(part.rstrip("/")) for part in parts)
    if len(urls) > 1:
        _check_several(urls)
    return urls


def _check_several(urls: tuple[str, ...]) -> None:
    if embedded := next((url for url in urls if url.startswith(BUILTIN)), None):
        raise InputError(
            f"base_url: {embedded} stands among other servers", "the embedded provider can only be named alone"
        )
    seen: set[str] = set()
    for url in urls:
        if identity(url) in seen:
            raise InputError(f"base_url: {shown_url(url)} is named twice", "name each server once")
        seen.add(identity(url))


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
        raise _no_user(shown_url(url))
    return url


def _no_user(shown: str) -> InputError:
    return InputError(
        f"base_url {shown!r}: a user or password in the URL is not sent",
        "put the key into the environment variable that --api-key-env names",
    )


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
    if endpoint.base_url and (url := base_url(endpoint)).startswith(BUILTIN):
        return builtin_name(url)
    if section is None:
        raise InputError(
            "no model name", "give --model NAME, or set `model` in the endpoint's section of the configuration"
        )
    variable = "" if "." in section else f", or ROPD_{section.upper()}_MODEL"
    raise InputError(
        f"no model name for the {section.partition('.')[0]}",
        f"give --model NAME, or set {section}.model in the configuration{variable}",
    )

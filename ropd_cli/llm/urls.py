"""Where requests go: URLs and model names."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit, urlunsplit

from ropd_cli import __version__
from ropd_cli.config.masking import shown_url
from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import InputError

OPENAI_URL = "https://api.openai.com/v1"
BUILTIN = "builtin://"
_QUOTES = " \t\r\n\"'`<>“”‘’"
_CALL = re.compile(r"(?<=[^/])(/chat/completions|/completions|/responses|(?<=/v1)/models)/*$")
"""What a URL of a call has behind the base URL. `/models` alone is the base of some (Azure AI Foundry)."""
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")


def base_url(endpoint: EndpointConfig) -> str:
    """Return the URL that an endpoint goes by: without quotes around it, a slash or the path of a call at its end.
    Raises InputError for what is none."""
    url = (endpoint.base_url or OPENAI_URL).strip(_QUOTES)
    if "," in url:  # the text is not shown: a password with a comma in it could not be told from a URL
        raise InputError(
            "base_url holds a comma: an endpoint has one URL (a comma that is part of it is written %2C)",
            "for several GPUs start one server (vllm serve … --data-parallel-size N), for several servers a router "
            "before them (vLLM router, SGLang router, nginx, LiteLLM proxy), and name its URL",
        )
    if endpoint.api == "azure" and (endpoint.base_url is None or endpoint.api_version is None):
        raise InputError(
            "api azure needs base_url and api_version",
            "base_url: https://NAME.openai.azure.com, api_version: 2024-10-21",
        )
    if endpoint.api == "azure" and "/openai/deployments/" in url:  # the portal's "target URI"
        raise InputError(
            f"base_url {shown_url(url)!r}: with api azure it is that of the resource alone",
            f"base_url: {shown_url(url).partition('/openai/')[0]}, model: the deployment, api_version: as in the URL",
        )
    return _checked(without_call(url))


def without_call(url: str) -> str:
    """Return a base URL for that of a call (…/v1/chat/completions); any other as it is, without a slash at its end."""
    url = url.rstrip("/")
    place, mark, query = url.partition("?")
    shorter = _CALL.sub("", place)
    return url if shorter == place else shorter + mark + query


def _checked(url: str) -> str:
    if url.startswith(BUILTIN):
        if not builtin_name(url):
            raise InputError(f"base_url {shown_url(url)!r}: which embedded provider?", "builtin://checkable")
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
        if _is_bare(url):
            place = shown if "/" in shown else f"{shown}/v1"
            raise InputError(
                f"base_url {shown!r}: not a URL, as it begins with no http:// or https://",
                f"http://{place} for a server of your own, https://{place} for a hosted one",
            )
        raise InputError(
            f"base_url {shown!r}: not a URL", "for example http://localhost:8000/v1, or builtin://checkable"
        )
    if "@" in parts.netloc:
        raise InputError(
            f"base_url {shown_url(url)!r}: a user or password in the URL is not sent",
            "put the key into the environment variable that --api-key-env names",
        )
    return url


def _is_bare(url: str) -> bool:
    """Return whether a URL lacks nothing but its scheme."""
    try:
        return "://" not in url and not url.endswith(":") and bool(_checked(f"http://{url}"))
    except InputError:
        return False


def _is_host(name: str) -> bool:
    """Return whether a host is one: an address, or a name of labels of 1 to 63 characters."""
    if ":" in name:
        ipaddress.IPv6Address(name.partition("%")[0])  # ValueError for what is none
        return True
    try:
        labels = name.encode("idna").decode().rstrip(".").split(".")
    except UnicodeError:
        return False
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def identity(url: str) -> str:
    """Return what of a URL determines the answers, for the cache key.

    The embedded provider is one program with this package: another version may answer otherwise.
    """
    if url.startswith(BUILTIN):
        return f"{BUILTIN}{builtin_name(url)}#{__version__}"
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return urlunsplit((parts.scheme.lower(), host, parts.path.rstrip("/"), parts.query, ""))


def builtin_name(url: str) -> str:
    """Return NAME of ``builtin://NAME``."""
    return url.removeprefix(BUILTIN).strip("/")


def builtin_query(endpoint: EndpointConfig) -> str:
    """Return ``?flip=0.5`` of ``builtin://NAME?flip=0.5``, which changes the answers as another model would; of any
    other URL nothing: a server may move."""
    url = base_url(endpoint)
    return "".join(builtin_name(url).partition("?")[1:]) if url.startswith(BUILTIN) else ""


def has_model(endpoint: EndpointConfig) -> bool:
    """Return whether ``model_name`` finds one."""
    return bool(endpoint.model) or (endpoint.base_url is not None and base_url(endpoint).startswith(BUILTIN))


def model_name(endpoint: EndpointConfig, section: str | None = None) -> str:
    """Return the model to ask for; the embedded provider's is called like itself where none is configured.

    Raises InputError that names the option and the key of ``section`` ("teacher", "verifier", …).
    """
    if endpoint.model:
        return endpoint.model
    if endpoint.base_url and (url := base_url(endpoint)).startswith(BUILTIN):
        return builtin_name(url).partition("?")[0]
    if section is None:
        raise InputError(
            "no model name", "give --model NAME, or set `model` in the endpoint's section of the configuration"
        )
    variable = "" if "." in section else f", or ROPD_{section.upper()}_MODEL"
    local = "; a model on this machine: --model-path" if section == "student.endpoint" else ""
    raise InputError(
        f"no model name for the {section.partition('.')[0]}",
        f"give --model NAME, or set {section}.model in the configuration{variable}{local}",
    )

"""The proxy that the environment names for a URL."""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.request
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from ropd_cli.errors import InputError
from ropd_cli.llm.urls import shown_url

_SCHEMES = {"http", "https", "socks", "socks4", "socks4a", "socks5", "socks5h"}
_EXAMPLE = "for example http://proxy.example:3128, http://USER:PASSWORD@HOST:PORT or socks5://HOST:PORT"


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the environment variable that names it."""

    url: str
    variable: str

    @property
    def shown(self) -> str:
        """The URL as it may stand in a message: its user and password are secrets."""
        return shown_url(self.url)

    @property
    def is_socks(self) -> bool:
        return self.url.startswith("socks")


def proxy_of(url: str) -> Proxy | None:
    """Return the proxy for a URL, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as curl reads them, with one
    exception: a server of this machine is never asked through a proxy. Raises InputError for what is no proxy."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies_environment()
    kind = parts.scheme if parts.scheme in proxies else "all"
    value = proxies.get(kind, "").strip()
    if not value or _is_local(parts.hostname or "") or _is_excepted(parts):
        return None
    variable = f"{kind}_proxy" if os.environ.get(f"{kind}_proxy") else f"{kind.upper()}_PROXY"
    if "://" not in value:
        value = f"http://{value}"
    try:
        proxy = urlsplit(value)
        usable = bool(proxy.hostname) and proxy.scheme in _SCHEMES and proxy.port != 0 and value.isprintable()
    except ValueError:  # not a port, not an IPv6 address
        usable = False
    if not usable or " " in value:
        raise InputError(f"{variable} is {shown_url(value)!r}: not the URL of a proxy", _EXAMPLE)
    return Proxy(value, variable)


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_excepted(parts: SplitResult) -> bool:
    """Return whether NO_PROXY names a host: by name, end of the name, address, or network (10.0.0.0/8)."""
    host = parts.hostname or ""
    if urllib.request.proxy_bypass_environment(host if ":" in host else parts.netloc.rpartition("@")[2]):  # type: ignore[attr-defined]  # not in typeshed
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for name in re.split(r"[\s,]+", urllib.request.getproxies_environment().get("no", "")):
        try:
            if address in ipaddress.ip_network(name.strip("[]"), strict=False):
                return True
        except ValueError:
            continue
    return False

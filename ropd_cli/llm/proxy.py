"""The proxy between here and an endpoint, as the environment names it."""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit

from ropd_cli.errors import InputError
from ropd_cli.llm.urls import shown_url

PROXIES = ("http", "https", "socks4", "socks5", "socks5h")


def proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, as curl does; none for this machine's own addresses.

    Raises InputError for one that is no URL.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_here(host) or urllib.request.proxy_bypass_environment(host):  # type: ignore[attr-defined]  # not in typeshed
        return None
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    scheme = proxy.partition("://")[0].lower()
    if scheme not in PROXIES or not urlsplit(proxy).hostname:
        raise InputError(
            f"the proxy {shown_url(proxy)} of the environment can't be used", f"{', '.join(PROXIES)} are; or unset it"
        )
    return proxy.replace("socks5h://", "socks5://")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")

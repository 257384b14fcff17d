"""``GET <base URL>/models``: whether a server is there, takes a key, and which models it lists."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from ropd_cli.config.models import LimitsConfig
from ropd_cli.errors import ProviderUnreachable
from ropd_cli.llm.keys import Secrets
from ropd_cli.llm.transport import proxy_of
from ropd_cli.llm.urls import shown_url

_LARGEST = 4 << 20


@dataclass(frozen=True)
class Listing:
    """What a server answered: ``names`` is None where it lists no models; ``said`` its words, without secrets."""

    status: int
    names: tuple[str, ...] | None
    said: str
    seconds: float


async def list_models(url: str, headers: Mapping[str, str], secrets: Secrets, limits: LimitsConfig) -> Listing:
    """The models that one server (a checked ``base_url``) lists. Raises ProviderUnreachable."""
    import aiohttp

    where, _, query = url.partition("?")
    began = time.perf_counter()
    limit = aiohttp.ClientTimeout(total=limits.timeout_s, sock_connect=limits.connect_timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(
                f"{where.rstrip('/')}/models{f'?{query}' if query else ''}",
                headers=headers,
                proxy=proxy_of(where),
                allow_redirects=False,
            ) as response,
        ):
            content = await response.content.read(_LARGEST)
            while len(content) < _LARGEST and (more := await response.content.read(_LARGEST - len(content))):
                content += more
            status = response.status
    except (TimeoutError, aiohttp.ClientError, OSError, UnicodeError) as fault:
        said = "no answer in time" if isinstance(fault, TimeoutError) else str(fault) or type(fault).__name__
        raise ProviderUnreachable(
            f"{shown_url(url)}: no connection ({secrets.strike(said)})", "is the server running, and base_url right?"
        ) from fault
    seconds = time.perf_counter() - began
    said = secrets.strike(content[:2000].decode("utf-8", "replace"))[:200]
    return Listing(status, _names(content) if status == 200 else None, said, seconds)


def _names(content: bytes) -> tuple[str, ...] | None:
    import orjson

    try:
        listed = orjson.loads(content)["data"]
        return tuple(str(one["id"]) for one in listed)
    except (ValueError, KeyError, TypeError):
        return None

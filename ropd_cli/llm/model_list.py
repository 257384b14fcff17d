"""``GET <base URL>/models``: whether a server is there, takes a key, and which models it lists."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import ProviderUnreachable
from ropd_cli.llm.api_key import Peer
from ropd_cli.llm.transport import Response

_LARGEST = 4 << 20


@dataclass(frozen=True)
class Listing:
    """What a server answered: ``names`` is None where it lists no models; ``text`` its words, without secrets."""

    status: int
    names: tuple[str, ...] | None
    text: str
    seconds: float


async def list_models(endpoint: EndpointConfig, environ: Mapping[str, str]) -> Listing:
    """Return the models that an endpoint lists. Raises ProviderUnreachable; InputError for a key that is missing."""
    import asyncio

    import openai

    from ropd_cli.llm.openai_sdk import CLOSED_OR_BROKEN, fault_of, response_of, sdk_client

    peer = Peer.read(endpoint, environ)
    began = time.perf_counter()
    try:
        async with asyncio.timeout(endpoint.limits.timeout_s), sdk_client(endpoint, peer) as sdk:
            try:
                async with sdk.models.with_streaming_response.list() as answer:
                    content = b""
                    async for chunk in answer.iter_bytes():  # a wrong URL may answer with anything, without an end
                        content += chunk
                        if len(content) > _LARGEST:
                            break
                    response = Response(answer.status_code, content)
            except openai.APIStatusError as fault:
                response = response_of(fault)
    except (TimeoutError, *CLOSED_OR_BROKEN) as fault:
        if not isinstance(fault, TimeoutError) and (why := fault_of(fault, endpoint)).hint:
            raise ProviderUnreachable(f"{peer.shown}: {peer.clean(str(why))}", why.hint) from fault
        text = "no answer in time" if isinstance(fault, TimeoutError) else str(why)
        raise ProviderUnreachable(
            f"{peer.shown}: no connection ({peer.secrets.strike(text)})", "is the server running, and base_url right?"
        ) from fault
    seconds = time.perf_counter() - began
    text = peer.secrets.strike(response.content[:2000].decode("utf-8", "replace"))[:200]
    names = _names(response.content) if response.status == 200 else None
    return Listing(response.status, names, text, seconds)


def _names(content: bytes) -> tuple[str, ...] | None:
    try:
        return tuple(str(one["id"]) for one in orjson.loads(content)["data"])
    except (ValueError, KeyError, TypeError):
        return None

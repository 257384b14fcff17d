"""The client of one OpenAI-compatible endpoint; ``builtin://NAME`` is the built-in provider.

``reply, value = await client.ask(request, read)``: from the cache, else from an equal call that is under
way, else from the endpoint (``sender``). ``samples`` does the same for several replies to one question, and asks
for those that are missing in one request where the endpoint can. ``retry_loop`` is the one owner of retries.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import ReplyInvalid, RopdError
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import (
    ChatReply,
    ChatRequest,
    ClientStats,
    JsonSchema,
    Sampling,
    canonical_reply,
    endpoint_request,
    joinable,
)
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.retry_loop import Read, RetryLoop, nothing, read_reply
from ropd_cli.llm.sender import Sender
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.structured import Form
from ropd_cli.llm.urls import base_url
from ropd_cli.util.concurrency import all_of

__all__ = ["ChatClient", "ChatReply", "ChatRequest", "ClientStats", "JsonSchema", "Sampling", "endpoint_request"]

T = TypeVar("T")
V = TypeVar("V")
Outcome = ChatReply | RopdError | None


class ChatClient:
    """Calls to one endpoint. Use as an async context manager, or ``close`` it."""

    def __init__(
        self,
        endpoint: EndpointConfig,
        cache: ReplyCache | None,
        retry: RetryPolicy,
        environ: Mapping[str, str],
        shared: Shared,
        stats: ClientStats,
    ) -> None:
        self.endpoint = endpoint
        self.retry = retry
        self.shared = shared
        self.stats = stats
        self._url = base_url(endpoint)
        self._cache = cache
        self._sender = Sender(endpoint, shared, self.stats, environ)
        self._retries = RetryLoop(self._sender, retry, stats)
        self._running: dict[tuple[str, int | None], asyncio.Future[Outcome]] = {}

    @classmethod
    def open(
        cls,
        endpoint: EndpointConfig,
        *,
        cache: ReplyCache | None,
        retry: RetryPolicy | None = None,
        environ: Mapping[str, str] = os.environ,
        shared: Shared | None = None,
        stats: ClientStats | None = None,
    ) -> ChatClient:
        """Return a client of ``endpoint``; nothing is sent yet, and the API key is read when the first request is.

        ``retry`` defaults to the endpoint's ``limits.max_retries``; ``shared`` is what it has in common with
        the other clients of a run, ``stats`` where it counts. The cache stays the caller's to close.
        Raises InputError for a ``base_url`` that is none.
        """
        retry = retry or RetryPolicy(max_retries=endpoint.limits.max_retries)
        return cls(endpoint, cache, retry, environ, shared or Shared(), stats or ClientStats())

    def __repr__(self) -> str:
        return f"ChatClient({self.shown})"

    @property
    def json_form(self) -> Form:
        """How the model is asked for JSON by now: what was refused has fallen back."""
        return self._sender.form

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Calls that are still under way end with ProviderUnreachable."""
        await self._sender.close()

    @property
    def shown(self) -> str:
        """The endpoint's URL as it may stand in a message or a file."""
        return self._sender.peer.shown

    async def complete(self, request: ChatRequest, *, validate: Read[Any] | None = None) -> ChatReply:
        """Return the reply to a request; ``validate`` is ``ask``'s ``read``, whose value is not wanted."""
        reply, _ = await self.ask(request, validate or nothing)
        return reply

    async def samples(self, requests: Sequence[ChatRequest], *, together: bool = True) -> list[ChatReply]:
        """Return the replies to requests that differ in the number of the sample alone, in their order.

        With ``together`` those that the cache lacks are one request for as many replies, where there is no schema, the
        API knows that (Chat Completions) and no seed is set, which would be another for each; what an endpoint does
        not give at once is asked for singly. When a call fails the others are finished, since they are paid for and
        kept. Raises what ``complete`` raises.
        """
        batches = [[index] for index in range(len(requests))]
        if together and requests and joinable(requests[0]):
            missing = [index for index, request in enumerate(requests) if not self._is_known(request)]
            most = self._sender.choices_limit
            batches = [[index] for index in range(len(requests)) if index not in missing]
            batches += [missing[at : at + most] for at in range(0, len(missing), most)]
        replies_by_index: dict[int, ChatReply] = {}
        while batches:
            for part in await _finished([partial(self._batch, requests, batch) for batch in batches]):
                replies_by_index |= part
            batches = [[index] for index in range(len(requests)) if index not in replies_by_index]
        return [replies_by_index[index] for index in range(len(requests))]

    async def _batch(self, requests: Sequence[ChatRequest], indices: Sequence[int]) -> dict[int, ChatReply]:
        """Return the replies to some of the requests by index; where there are several, maybe not all."""
        if len(indices) == 1:
            return {indices[0]: await self.complete(requests[indices[0]])}
        return await self._together(requests, indices)

    def _is_known(self, request: ChatRequest) -> bool:
        """Return whether nothing need be sent for a request: it is in the cache, or under way."""
        key = cache_key(self._url, request)
        if (key, request.sampling.max_tokens) in self._running:
            return True
        return self._cache is not None and self._cache.get(key, request.sampling.max_tokens) is not None

    async def _together(self, requests: Sequence[ChatRequest], indices: Sequence[int]) -> dict[int, ChatReply]:
        """Send one request for the replies to these requests; by index those that came, at least one."""
        keys = {index: cache_key(self._url, requests[index]) for index in indices}
        limit = requests[indices[0]].sampling.max_tokens
        keys = {index: key for index, key in keys.items() if (key, limit) not in self._running}
        if not keys:
            return {}
        loop = asyncio.get_running_loop()
        running = {index: loop.create_future() for index in keys}
        self._running |= {(keys[index], limit): future for index, future in running.items()}
        outcomes: dict[int, Outcome] = {}
        replies_by_index: dict[int, ChatReply] = {}
        try:
            first = min(keys)
            read = self._reader(requests[first], nothing)
            replies, _ = await self._retries.send(keys[first], requests[first], read, len(keys))
            if self._cache is not None:
                async with asyncio.TaskGroup() as writes:
                    for key, reply in zip(keys.values(), replies, strict=False):
                        writes.create_task(self._cache.store(key, reply, max_tokens=limit))
            replies_by_index = dict(zip(keys, map(self._canonical, replies), strict=False))
            outcomes = dict(replies_by_index)
        except RopdError as fault:
            outcomes = dict.fromkeys(keys, fault)
            self.stats.failures += 1
            raise
        finally:
            for index, future in running.items():
                del self._running[keys[index], limit]
                future.set_result(outcomes.get(index))  # None: whoever waits for it asks again
        return replies_by_index

    async def ask(self, request: ChatRequest, read: Read[T]) -> tuple[ChatReply, T]:
        """Return the reply to a request, and what ``read`` makes of it.

        ``read`` raises ReplyInvalid for a reply that can't be used; such a one is not kept and is asked
        for again, the model being told once what was wrong. With a schema, an empty, a cut-off and an
        unreadable reply count as such without it. Equal calls under way are sent once.
        Raises ProviderUnreachable, ProviderRefused, ProviderBusy or ReplyInvalid for this call; ProviderDown
        and CostLimit where no further call makes sense; InputError where the API key is missing.
        """
        key = cache_key(self._url, request)
        own = key, request.sampling.max_tokens
        while (running := self._running.get(own)) is not None:
            await asyncio.wait([running])
            outcome = running.result()
            if isinstance(outcome, RopdError):
                self.stats.failures += 1
                raise copy.copy(outcome) from outcome
            if outcome is not None:
                try:
                    value = self._reader(request, read)(outcome)
                except ReplyInvalid:
                    continue
                self.stats.cache_hits += 1
                return outcome.model_copy(update={"cached": True}), value
        # from here on this call leads: the equal ones that come meanwhile wait for what it comes to
        lead = self._running[own] = asyncio.get_running_loop().create_future()
        outcome = None  # None: cancelled, and one of those that wait goes on
        try:
            outcome, value = await self._answer(key, request, read)
            return outcome, value
        except RopdError as fault:
            outcome = fault
            self.stats.failures += 1
            raise
        finally:
            del self._running[own]
            lead.set_result(outcome)

    async def _answer(self, key: str, request: ChatRequest, read: Read[T]) -> tuple[ChatReply, T]:
        """Return a reply from the cache, else from the endpoint."""
        max_tokens = request.sampling.max_tokens
        known = self._cache.get(key, max_tokens) if self._cache is not None else None
        read_canonical = self._reader(request, read)
        if known is not None:
            try:
                value = read_canonical(known)
            except ReplyInvalid:
                pass  # kept under rules that have become stricter
            else:
                self.stats.cache_hits += 1
                return self._canonical(known), value
        [reply], value = await self._retries.send(key, request, read_canonical)
        if self._cache is not None:
            await self._cache.store(key, reply, max_tokens=max_tokens)
        return self._canonical(reply), value

    def _reader(self, request: ChatRequest, read: Read[T]) -> Read[T]:
        """Return what reads a reply as it came."""
        return lambda reply: read_reply(self._canonical(reply), request, read)

    def _canonical(self, reply: ChatReply) -> ChatReply:
        """Return a reply with its thinking between the tags that every reader knows. The cache keeps it as it came, so
        that other ``thinking_tags`` need no other reply."""
        return canonical_reply(reply, self.endpoint)


async def _finished(calls: Sequence[Callable[[], Awaitable[V]]]) -> list[V]:
    """Return what calls come to, all of them finished before the first error is raised."""
    if not calls:
        return []
    try:
        return [outcome for outcome in await all_of(calls, partial=False) if not isinstance(outcome, RopdError)]
    except ExceptionGroup as faults:
        expected, others = faults.split(RopdError)
        if others is not None or expected is None:
            raise
        raise expected.exceptions[0] from None  # one prompt's failure, whichever of its samples met it first

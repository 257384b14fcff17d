"""The client of one OpenAI-compatible endpoint; ``builtin://NAME`` is the embedded provider.

``reply, value = await client.ask(request, read)``: from the cache, else from an equal call that is under
way, else from the endpoint (``sender``). ``samples`` does the same for several replies to one question, and asks
for those that are missing in one request where the endpoint can. Retries have one budget and one owner, here: 429,
5xx, lost connections, timeouts and replies that can't be used all draw on it.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import ProviderRefused, ReplyInvalid, RopdError
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatReply, ChatRequest, ClientStats, JsonSchema, Sampling, endpoint_request, joinable
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.sender import Sender
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.structured import Form, parse_json
from ropd_cli.llm.urls import base_url
from ropd_cli.llm.wire import Fault
from ropd_cli.util.concurrency import all_of

__all__ = ["ChatClient", "ChatReply", "ChatRequest", "ClientStats", "JsonSchema", "Sampling", "endpoint_request"]

T = TypeVar("T")
V = TypeVar("V")
Read = Callable[[ChatReply], T]
Outcome = ChatReply | RopdError | None
_QUOTED_CHARS = 4000
"""So much of a reply that can't be used is shown to the model again."""


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
        reply, _ = await self.ask(request, validate or _nothing)
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
            replies, _ = await self._send(keys[first], requests[first], _nothing, len(keys))
            replies_by_index = dict(zip(keys, replies, strict=False))
            if self._cache is not None:
                async with asyncio.TaskGroup() as writes:
                    for index, reply in replies_by_index.items():
                        writes.create_task(self._cache.store(keys[index], reply, max_tokens=limit))
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
                    value = _read(outcome, request, read)
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
        if known is not None:
            try:
                value = _read(known, request, read)
            except ReplyInvalid:
                pass  # kept under rules that have become stricter
            else:
                self.stats.cache_hits += 1
                return known, value
        [reply], value = await self._send(key, request, read)
        if self._cache is not None:
            await self._cache.store(key, reply, max_tokens=max_tokens)
        return reply, value

    async def _send(self, key: str, request: ChatRequest, read: Read[T], choices: int = 1) -> tuple[list[ChatReply], T]:
        """Send until a usable reply is there (1 to ``choices`` of them; ``read`` is given the first) or the retries are
        used up. What is lost while the endpoint is not there at all (its breaker is open) is not counted: the next
        attempt waits for it."""
        correction: list[dict[str, Any]] = []
        corrected = False
        failed = 0
        for attempt in itertools.count(1):
            try:
                reply, *more = await self._sender.send(request, correction, choices)
                return [reply, *more], _read(reply, request, read)
            except Fault as caught:
                fault = caught
                if correction and isinstance(fault.error, ProviderRefused):
                    fault.again = True  # it was the longer conversation that was refused; the question alone was not
                correction = []
                if fault.lost and self._sender.lost(key, fault):
                    self.stats.retries += 1
                    continue
                wait_s = self.retry.wait_s(failed, fault.retry_after_s)
            except ReplyInvalid as caught:
                error = ReplyInvalid(f"{request.model} at {self.shown}: {caught.message}", caught.hint)
                fault, wait_s = Fault(error, again=True), 0.0 if failed < self.retry.max_retries else None
                correction = [] if corrected else _correction(reply, caught)
                corrected = True
            failed += 1
            if wait_s is None or not fault.again:
                raise _final(fault, attempt) from None
            self.stats.retries += 1
            await self._sender.pause(wait_s)
        raise AssertionError  # the loop has no other end


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


def _nothing(_reply: ChatReply) -> None:
    return None


def _read(reply: ChatReply, request: ChatRequest, read: Read[T]) -> T:
    """Return what ``read`` makes of a reply. Raises ReplyInvalid for one that can't be used."""
    if request.form is not None:
        if reply.finish_reason == "length":
            raise ReplyInvalid("the reply was cut off at its length limit", "raise --max-tokens (or do not set it)")
        if read is _nothing:
            parse_json(reply.text)
    return read(reply)


def _correction(reply: ChatReply, fault: ReplyInvalid) -> list[dict[str, Any]]:
    """Return what is said to the model of a reply that can't be used: the reply, as its own turn, and the reason."""
    quoted = reply.text if len(reply.text) <= _QUOTED_CHARS else reply.text[:_QUOTED_CHARS] + " […]"
    instruction = (
        f"Your reply can't be used: {fault.message}. Give the whole answer again, corrected, and nothing else."
    )
    return [{"role": "assistant", "content": quoted or "…"}, {"role": "user", "content": instruction}]


def _final(fault: Fault, attempts: int) -> RopdError:
    """Return the error a user sees, with how often it was tried."""
    error = copy.copy(fault.error)
    if attempts > 1:
        error.message = f"{error.message} (tried {attempts} times)"
        error.args = (error.message,)
    return error

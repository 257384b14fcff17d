"""The client of one OpenAI-compatible endpoint; ``builtin://NAME`` is the embedded provider.

``reply = await client.complete(request, validate=…)``: from the cache, else from an equal call that is
under way, else from the endpoint. Retries have one budget and one owner, here: 429, 5xx, lost
connections, timeouts and replies that can't be used all draw on it; the SDK's own retries are off.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import httpx2
import openai

from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import ProviderRefused, ProviderUnreachable, ReplyInvalid, RopdError
from ropd_cli.llm import endpoints
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatReply, ChatRequest, ClientStats, JsonSchema, Sampling, endpoint_request
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.structured import Form, parse_json
from ropd_cli.llm.wire import BAD_REQUEST, Fault, Peer, read_reply, request_body, translate

__all__ = ["ChatClient", "ChatReply", "ChatRequest", "ClientStats", "JsonSchema", "Sampling", "endpoint_request"]

Validate = Callable[[ChatReply], Any]
_QUOTED_CHARS = 4000
"""So much of a reply that can't be used is shown to the model again."""
_TRANSPORT_ERRORS = (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError, OSError)


class ChatClient:
    """Calls to one endpoint. Use as an async context manager, or ``close`` it."""

    def __init__(
        self, endpoint: EndpointConfig, cache: ReplyCache | None, retry: RetryPolicy, environ: Mapping[str, str]
    ) -> None:
        self.endpoint = endpoint
        self.retry = retry
        self.stats = ClientStats()
        self._url = endpoints.base_url(endpoint)
        self._cache = cache
        self._environ = environ
        self._gate = asyncio.Semaphore(endpoint.limits.concurrency)
        self._running: dict[str, asyncio.Future[ChatReply | RopdError | None]] = {}
        self._closing = asyncio.Event()
        self._sdk: openai.AsyncOpenAI | None = None
        self._peer = Peer(self._url, endpoint.limits.timeout_s, endpoint.api_key_env)
        self._forms: dict[str, Form] = {}
        self._proven: set[tuple[str, str]] = set()
        self._form_lock = asyncio.Lock()
        own = self._url == endpoints.OPENAI_URL  # there max_tokens is the old name, which newer models refuse
        self._limit_name = "max_completion_tokens" if own else "max_tokens"

    @classmethod
    def open(
        cls,
        endpoint: EndpointConfig,
        *,
        cache: ReplyCache | None,
        retry: RetryPolicy | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> ChatClient:
        """A client of ``endpoint``; nothing is sent yet, and the API key is read when the first request is.

        ``retry`` defaults to the endpoint's ``limits.max_retries``. The cache stays the caller's to close.
        Raises InputError for a ``base_url`` that is none.
        """
        return cls(endpoint, cache, retry or RetryPolicy(max_retries=endpoint.limits.max_retries), environ)

    def __repr__(self) -> str:
        return f"ChatClient({self._peer.shown})"

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Calls that are still under way end with ProviderUnreachable."""
        self._closing.set()
        if self._sdk is not None:
            await self._sdk.close()

    async def complete(self, request: ChatRequest, *, validate: Validate | None = None) -> ChatReply:
        """The reply to a request.

        ``validate`` raises ReplyInvalid for a reply that can't be used; such a one is not kept and is asked
        for again, the model being told once what was wrong. With a schema, an empty, a cut-off and an
        unreadable reply count as such without it. Equal calls under way are sent once.
        Raises ProviderUnreachable, ProviderRefused, ProviderBusy or ReplyInvalid, and InputError where the
        API key is missing.
        """
        key = cache_key(self._url, request)
        while (running := self._running.get(key)) is not None:
            await asyncio.wait([running])
            outcome = running.result()
            if isinstance(outcome, RopdError):
                self.stats.failures += 1
                raise copy.copy(outcome) from outcome
            if outcome is not None and self._accepts(outcome, request, validate):
                self.stats.cache_hits += 1
                return outcome.model_copy(update={"cached": True})
        return await self._lead(key, request, validate)

    async def ask(self, request: ChatRequest, read: Callable[[ChatReply], Any]) -> tuple[ChatReply, Any]:
        """The reply and what ``read`` made of it."""
        reply = await self.complete(request, validate=read)
        return reply, read(reply)

    async def _lead(self, key: str, request: ChatRequest, validate: Validate | None) -> ChatReply:
        """Answer a call, and with it the equal ones that come meanwhile (None: cancelled, one of them goes on)."""
        running = self._running[key] = asyncio.get_running_loop().create_future()
        outcome: ChatReply | RopdError | None = None
        try:
            outcome = await self._answer(key, request, validate)
            return outcome
        except RopdError as fault:
            outcome = fault
            self.stats.failures += 1
            raise
        finally:
            del self._running[key]
            running.set_result(outcome)

    async def _answer(self, key: str, request: ChatRequest, validate: Validate | None) -> ChatReply:
        if self._cache is not None:
            known = await self._cache.fetch(key)
            if known is not None and self._accepts(known, request, validate):
                self.stats.cache_hits += 1
                return known
        reply = await self._ask(request, validate)
        if self._cache is not None and _worth_keeping(reply):
            await self._cache.store(key, reply)
        return reply

    async def _ask(self, request: ChatRequest, validate: Validate | None) -> ChatReply:
        """Send until a usable reply is there or the retries are used up."""
        correction: list[dict[str, Any]] = []
        told = False
        for attempt in itertools.count():
            try:
                reply = await self._send(request, correction)
                _check(reply, request, validate)
                return reply
            except Fault as caught:
                fault, wait_s = caught, self.retry.wait_s(attempt, caught.retry_after_s)
                if correction and isinstance(fault.error, ProviderRefused):
                    fault.again = True  # it was the longer conversation that was refused; the question alone was not
                correction = []
            except ReplyInvalid as caught:
                error = ReplyInvalid(f"{request.model} at {self._peer.shown}: {caught.message}", caught.hint)
                fault, wait_s = Fault(error, again=True), 0.0 if attempt < self.retry.max_retries else None
                correction = [] if told else _correction(reply, caught)
                told = True
            if wait_s is None or not fault.again:
                raise _final(fault, attempt + 1) from fault.__cause__
            self.stats.retries += 1
            await self._pause(wait_s)
        raise AssertionError  # the loop has no other end

    async def _send(self, request: ChatRequest, correction: list[dict[str, Any]]) -> ChatReply:
        """One attempt, asking for JSON in the strictest form that this endpoint takes.

        A 400 to a form that never worked here may be about the form: the next one is tried, and what works
        is remembered. Where none works the 400 was about something else.
        """
        if request.form is None:
            return await self._post(request, Form.PLAIN, correction)
        form = self._forms.get(request.model, Form.JSON_SCHEMA)
        try:
            reply = await self._post(request, form, correction)
        except Fault as fault:
            falls = form is not Form.PLAIN and fault.status in BAD_REQUEST
            known = (request.model, request.form.name) in self._proven and self._forms.get(request.model, form) == form
            if not falls or known:
                raise
            reply = await self._fall_back(request, form, correction, fault)
        self._proven.add((request.model, request.form.name))
        return reply

    async def _fall_back(
        self, request: ChatRequest, refused: Form, correction: list[dict[str, Any]], first: Fault
    ) -> ChatReply:
        async with self._form_lock:  # one call finds out for all
            form = max(self._forms.get(request.model, Form.JSON_SCHEMA), Form(refused + 1))
            while True:
                try:
                    reply = await self._post(request, form, correction)
                    break
                except Fault as fault:
                    if fault.status not in BAD_REQUEST:
                        raise
                    if form is Form.PLAIN:
                        raise first from fault
                    form = Form(form + 1)
            self._forms[request.model] = form
        return reply

    async def _post(self, request: ChatRequest, form: Form, correction: list[dict[str, Any]]) -> ChatReply:
        """One HTTP request, two where the endpoint knows the reply's limit under another name. Raises Fault."""
        limit_name = self._limit_name
        try:
            return await self._post_once(request, request_body(request, form, correction, limit_name))
        except Fault as fault:
            other = "max_tokens" if limit_name == "max_completion_tokens" else "max_completion_tokens"
            if fault.status not in BAD_REQUEST or request.sampling.max_tokens is None or other not in str(fault):
                raise
            reply = await self._post_once(request, request_body(request, form, correction, other))
            self._limit_name = other
            return reply

    async def _post_once(self, request: ChatRequest, body: dict[str, Any]) -> ChatReply:
        sdk = self._connected()
        async with self._gate:
            if self._closing.is_set():
                raise self._closed()
            self.stats.requests_sent += 1
            try:
                async with asyncio.timeout(self._peer.timeout_s):  # the HTTP library's limits are between two bytes
                    raw = await sdk.chat.completions.with_raw_response.create(**body)
                    content = raw.http_response.content
            except _TRANSPORT_ERRORS as fault:
                if self._closing.is_set():
                    raise self._closed() from None
                raise translate(fault, self._peer) from fault
        reply = read_reply(content, request.model, self._peer)
        if reply.usage is not None:
            self.stats.prompt_tokens += reply.usage.prompt_tokens
            self.stats.completion_tokens += reply.usage.completion_tokens
        return reply

    def _connected(self) -> openai.AsyncOpenAI:
        if self._sdk is None:
            if self._closing.is_set():
                raise self._closed()
            key = None if self._url.startswith(endpoints.BUILTIN) else endpoints.api_key(self.endpoint, self._environ)
            self._peer = Peer(self._url, self.endpoint.limits.timeout_s, self.endpoint.api_key_env, key)
            self._sdk = endpoints.connect(self.endpoint, key)
        return self._sdk

    def _closed(self) -> Fault:
        return Fault(
            ProviderUnreachable(f"{self._peer.shown}: the client was closed", "run the command again"), again=False
        )

    async def _pause(self, seconds: float) -> None:
        """Wait before the next attempt, or until the client is closed."""
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return

    def _accepts(self, reply: ChatReply, request: ChatRequest, validate: Validate | None) -> bool:
        try:
            _check(reply, request, validate)
        except ReplyInvalid:
            return False
        return True


def _check(reply: ChatReply, request: ChatRequest, validate: Validate | None) -> None:
    """Raise ReplyInvalid for a reply that can't be used."""
    if request.form is not None:
        if reply.finish_reason == "length":
            raise ReplyInvalid("the reply was cut off at its length limit", "raise --max-tokens (or do not set it)")
        parse_json(reply.text)
    if validate is not None:
        validate(reply)


def _worth_keeping(reply: ChatReply) -> bool:
    """Whether a usable reply is an answer that would be given again: not one that an endpoint's filter cut
    off, nor an empty one without a reason."""
    thought = reply.reasoning is not None or reply.finish_reason == "length"
    return reply.finish_reason != "content_filter" and (bool(reply.text.strip()) or thought)


def _correction(reply: ChatReply, fault: ReplyInvalid) -> list[dict[str, Any]]:
    """What is said to the model of a reply that can't be used: the reply, as its own turn, and the reason."""
    said = reply.text if len(reply.text) <= _QUOTED_CHARS else reply.text[:_QUOTED_CHARS] + " […]"
    told = f"Your reply can't be used: {fault.message}. Give the whole answer again, corrected, and nothing else."
    return [{"role": "assistant", "content": said or "…"}, {"role": "user", "content": told}]


def _final(fault: Fault, attempts: int) -> RopdError:
    """The error a user sees, with how often it was tried."""
    error = copy.copy(fault.error)
    if attempts > 1:
        error.message = f"{error.message} (tried {attempts} times)"
        error.args = (error.message,)
    return error

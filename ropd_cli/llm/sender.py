"""One attempt at a call: within the limits, with a key, in a form the endpoint takes, counted and paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import ProviderUnreachable
from ropd_cli.llm import endpoints
from ropd_cli.llm.chat import ChatReply, ChatRequest, ClientStats
from ropd_cli.llm.costs import Expectation, cost_usd
from ropd_cli.llm.keys import KeyRing, Secrets, headers_of
from ropd_cli.llm.limits import nothing_left_s
from ropd_cli.llm.servers import Pool, Server
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.structured import Form
from ropd_cli.llm.transport import Lost, NoConnection, TimedOut, open_transport
from ropd_cli.llm.wire import (
    BAD_REQUEST,
    PATHS,
    Fault,
    Peer,
    read_reply,
    request_body,
    status_fault,
    transport_fault,
)
from ropd_cli.schemas import Usage

KEY_REST_S = 5.0
"""A key that was turned away without a word on when to come back."""


class Sender:
    """Requests to one endpoint. ``send`` raises Fault for an attempt that failed."""

    def __init__(
        self, endpoint: EndpointConfig, shared: Shared, stats: ClientStats, environ: Mapping[str, str]
    ) -> None:
        self._urls = endpoints.base_urls(endpoint)
        self._endpoint, self._shared, self._stats, self._environ = endpoint, shared, stats, environ
        self._limiter = shared.limiter(endpoint)
        self._closing = asyncio.Event()
        self._pool: Pool | None = None
        self._keys = KeyRing({})
        self._headers: dict[str, str] = {}
        self._own_authorization = False
        self._expectation = Expectation()
        self._first_form = Form[endpoint.structured_output.upper()]

    @property
    def shown(self) -> str:
        """The endpoint, for messages."""
        more = f" and {len(self._urls) - 1} more" if len(self._urls) > 1 else ""
        return endpoints.shown_url(self._urls[0]) + more

    async def close(self) -> None:
        """Close the connections; attempts under way end with a Fault."""
        self._closing.set()
        if self._pool is not None:
            await self._pool.close()

    async def pause(self, seconds: float) -> None:
        """Wait; raises the client's end as a ProviderUnreachable where it is closed meanwhile."""
        if seconds > 0:
            try:
                await asyncio.wait_for(self._closing.wait(), seconds)
            except TimeoutError:
                return
        if self._closing.is_set():
            raise self._closed().error

    def lost(self, call: str, fault: Fault) -> bool:
        """Book an attempt that a server did not answer; True where calls are held back from it now."""
        server, pool = fault.server, self._connected()
        return server.load.breaker.failed(
            call,
            fault.error.message,
            connected=fault.connected,
            probe=fault.probe,
            others_answer=pool.others_answer(server),
        )

    def form_of(self, model: str) -> Form:
        """How this model is asked for JSON by now: what was refused has fallen back."""
        servers = self._pool.servers if self._pool is not None else ()
        return max((server.forms.get(model, self._first_form) for server in servers), default=self._first_form)

    async def send(self, request: ChatRequest, correction: list[dict[str, Any]]) -> ChatReply:
        """One attempt, asking for JSON in the strictest form that the server takes."""
        pool = self._connected()
        async with self._limiter.gate:
            if self._closing.is_set():
                raise self._closed()
            server = await pool.choose(request.affinity, self.pause)
            server.load.under_way += 1
            server.load.sent += 1
            try:
                return await self._in_form(server, request, correction)
            except Fault as fault:
                fault.server = server
                if len(self._urls) > 1 and fault.retry_after_s:  # it wants a rest; another server does not
                    server.load.hold(fault.retry_after_s)
                    fault.retry_after_s = None
                raise
            finally:
                server.load.under_way -= 1

    async def _in_form(self, server: Server, request: ChatRequest, correction: list[dict[str, Any]]) -> ChatReply:
        """A 400 to a form that never worked here may be about the form: the next one is tried, and what works
        is remembered. Where none works the 400 was about something else.
        """
        if request.form is None:
            return await self._post(server, request, Form.TEXT, correction)
        form = server.forms.get(request.model, self._first_form)
        try:
            reply = await self._post(server, request, form, correction)
        except Fault as fault:
            falls = form is not Form.TEXT and fault.status in BAD_REQUEST
            same = server.forms.get(request.model, form) == form
            if not falls or (same and (request.model, request.form.name) in server.proven):
                raise
            reply = await self._fall_back(server, request, form, correction, fault)
        server.proven.add((request.model, request.form.name))
        return reply

    async def _fall_back(
        self, server: Server, request: ChatRequest, refused: Form, correction: list[dict[str, Any]], first: Fault
    ) -> ChatReply:
        async with server.form_lock:  # one call finds out for all
            form = max(server.forms.get(request.model, self._first_form), Form(refused + 1))
            while True:
                try:
                    reply = await self._post(server, request, form, correction)
                    break
                except Fault as fault:
                    if fault.status not in BAD_REQUEST:
                        raise
                    if form is Form.TEXT:
                        raise first from fault
                    form = Form(form + 1)
            server.forms[request.model] = form
        return reply

    async def _post(
        self, server: Server, request: ChatRequest, form: Form, correction: list[dict[str, Any]]
    ) -> ChatReply:
        """One HTTP request, two where the server knows the reply's limit under another name. Raises Fault."""
        limit_name, keyed = server.limit_name, self._endpoint.prompt_cache_key
        try:
            return await self._admitted(server, request, request_body(request, form, correction, limit_name, keyed))
        except Fault as fault:
            other = "max_tokens" if limit_name == "max_completion_tokens" else "max_completion_tokens"
            limited = request.sampling.max_tokens is not None and request.api == "chat"
            if fault.status not in BAD_REQUEST or not limited or other not in str(fault):
                raise
            reply = await self._admitted(server, request, request_body(request, form, correction, other, keyed))
            server.limit_name = other
            return reply

    async def _admitted(self, server: Server, request: ChatRequest, body: bytes) -> ChatReply:
        """Wait for the pace and for the server, set the money aside, and send."""
        expected = self._expectation
        prompt_tokens = expected.prompt_tokens(len(body))
        tokens = prompt_tokens + expected.reply_tokens(request.sampling.max_tokens)
        breaker = server.load.breaker
        if len(self._urls) > 1 and breaker.is_open and not breaker.wants_probe:  # gone since it was chosen
            gone = ProviderUnreachable(f"{server.peer.shown}: has stopped answering", "is the server running?")
            raise Fault(gone, again=True, lost=True)
        probe = await breaker.admit(self.pause)
        try:
            await self._limiter.admit(tokens, self.pause)
            reserved = await self._reserve(request, prompt_tokens)
            used, spent = 0.0, 0.0
            try:
                reply = await self._exchange(server, request, body, probe)
                used, spent = self._book(request, len(body), reply)
                return reply
            finally:
                self._limiter.settle(tokens, used)
                self._shared.budget.settle(reserved, spent)
        except Fault as fault:
            fault.probe = probe
            raise
        finally:
            breaker.leave(probe)

    async def _exchange(self, server: Server, request: ChatRequest, body: bytes, probe: bool) -> ChatReply:
        key, peer = self._keys.take(), server.peer
        headers = self._with_key(key)
        self._stats.requests_sent += 1
        try:
            response = await server.transport.post(PATHS[request.api], body, headers)
        except (NoConnection, Lost, TimedOut) as fault:
            if self._closing.is_set():
                raise self._closed() from None
            raise transport_fault(fault, peer) from None
        if (left_s := nothing_left_s(response.headers)) > 0:
            if key is not None and len(self._keys) > 1:
                self._keys.rest(key[0], left_s)
            else:
                self._hold(server, left_s)
        if response.status >= 500:
            raise status_fault(response, peer)
        server.load.breaker.answered(probe)
        if response.status >= 300:
            fault = status_fault(response, peer)
            self._mind_keys(server, key[0] if key else None, fault)
            raise fault
        return read_reply(response.content, request, peer)

    def _with_key(self, key: tuple[str, str] | None) -> dict[str, str]:
        if self._own_authorization:
            return self._headers
        # without a key there is one all the same: some servers insist on it
        return {"Authorization": f"Bearer {key[1] if key else 'none'}", **self._headers}

    def _hold(self, server: Server, seconds: float) -> None:
        """Send nothing for so many seconds: to this server, or where it is the only one at all."""
        if len(self._urls) > 1:
            server.load.hold(seconds)
        else:
            self._limiter.hold(seconds)

    def _mind_keys(self, server: Server, name: str | None, fault: Fault) -> None:
        """What a refusal means for the key that was used, and for everybody else's next request."""
        if fault.status == 429 and fault.again:
            wait_s = fault.retry_after_s
            if name is not None and len(self._keys) > 1:
                fault.retry_after_s = wait_s = self._keys.rest(name, KEY_REST_S if wait_s is None else wait_s)
            if wait_s:
                self._hold(server, wait_s)
        elif fault.status in (401, 403) and name is not None and len(self._keys) > 1 and self._keys.drop(name):
            self._shared.say(f"{server.peer.shown}: the key in {name} is refused ({fault.status}), going on without it")
            fault.again = True

    async def _reserve(self, request: ChatRequest, prompt_tokens: int) -> float:
        """Set aside what the request may cost at most, and return it."""
        budget = self._shared.budget
        price = budget.price(request.model, self._urls[0])
        most = 0.0
        if price is not None and budget.max_usd is not None:
            most = cost_usd(price, prompt_tokens, self._expectation.most_reply_tokens(request.sampling.max_tokens))
        await budget.reserve(most)
        return most

    def _book(self, request: ChatRequest, size: int, reply: ChatReply) -> tuple[float, float]:
        """Count a reply: (tokens, dollars). Where the endpoint gives no counts they are estimated for the
        money, so that a limit on it holds, and not counted otherwise."""
        stats, usage = self._stats, reply.usage
        self._expectation.learn(size, usage)
        if usage is not None:
            stats.prompt_tokens += usage.prompt_tokens
            stats.cached_tokens += usage.cached_tokens
            stats.completion_tokens += usage.completion_tokens
        else:
            said = len(reply.text) + len(reply.reasoning or "")
            usage = Usage(prompt_tokens=self._expectation.prompt_tokens(size), completion_tokens=said // 3 + 1)
        spent = 0.0
        price = self._shared.budget.price(request.model, self._urls[0])
        if price is not None:
            spent = cost_usd(price, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
            stats.cost_usd = (stats.cost_usd or 0.0) + spent
        return usage.prompt_tokens + usage.completion_tokens, spent

    def _connected(self) -> Pool:
        if self._pool is None:
            if self._closing.is_set():
                raise self._closed()
            self._keys = KeyRing.read(self._endpoint, self._environ)
            self._headers, secret = headers_of(self._endpoint, self._environ)
            queries = [url.partition("?")[2] for url in self._urls]
            secrets = Secrets([*self._keys.values(), *secret, *queries])
            self._own_authorization = any(name.lower() == "authorization" for name in self._headers)
            servers = [self._server(url, secrets) for url in self._urls]
            pause_s = self._endpoint.limits.max_pause_s
            self._pool = Pool(servers, self._shared.affinities, pause_s, lambda: self._with_key(self._keys.take()))
        return self._pool

    def _server(self, url: str, secrets: Secrets) -> Server:
        own = url == endpoints.OPENAI_URL  # there max_tokens is the old name, which newer models refuse
        return Server(
            peer=Peer(url, self._endpoint.api_key_env, bool(self._keys), secrets),
            identity=endpoints.identity(url),
            load=self._shared.load(url, self._endpoint),
            transport=open_transport(url, self._endpoint.limits),
            limit_name="max_completion_tokens" if own else "max_tokens",
        )

    def _closed(self) -> Fault:
        return Fault(ProviderUnreachable(f"{self.shown}: the client was closed", "run the command again"), again=False)

"""One attempt at a call: within the limits, in a form the server takes, counted and paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ropd_cli.config.models import EndpointConfig
from ropd_cli.llm.chat import ChatReply, ChatRequest, ClientStats
from ropd_cli.llm.money import Expectation, cost_usd
from ropd_cli.llm.server import Server, closed
from ropd_cli.llm.servers import Route, Servers
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.structured import STARTS, Form
from ropd_cli.llm.wire import BAD_REQUEST, NO_CHOICES, PATHS, Fault, read_replies, request_body
from ropd_cli.records.schemas import Usage


class Sender:
    """Requests to one endpoint. ``send`` raises Fault for an attempt that failed."""

    def __init__(
        self, endpoint: EndpointConfig, shared: Shared, stats: ClientStats, environ: Mapping[str, str]
    ) -> None:
        self._shared, self._stats = shared, stats
        self._limiter = shared.limiter(endpoint)
        self._servers = Servers(endpoint, shared, self._limiter, stats, environ)
        self._closing = asyncio.Event()
        self._expectation = Expectation()
        self._first_form = STARTS[endpoint.structured_output]
        self._names_cache = endpoint.prompt_cache_key

    @property
    def shown(self) -> str:
        """The endpoint's URLs, for messages."""
        return self._servers.shown

    async def close(self) -> None:
        """Close the connections; attempts under way end with a Fault."""
        self._closing.set()
        await self._servers.close()

    async def pause(self, seconds: float) -> None:
        """Wait; raises the client's end as a ProviderUnreachable where it is closed meanwhile."""
        if seconds > 0:
            try:
                await asyncio.wait_for(self._closing.wait(), seconds)
            except TimeoutError:
                return
        if self._closing.is_set():
            raise closed(self.shown).error

    def form_of(self, model: str) -> Form:
        """How this model is asked for JSON by now: what was refused has fallen back."""
        return self._servers.form_of(model, self._first_form)

    def lost(self, route: Route, fault: Fault) -> bool:
        """Book an attempt that its server did not answer; True where it is waited for now, or others take over."""
        return self._servers.lost(route, fault)

    def elsewhere(self, route: Route) -> bool:
        """Whether another server is there for a call whose server could not serve it."""
        return self._servers.elsewhere(route)

    def choices_of(self, model: str) -> int:
        """How many replies to one request this model's servers give, as far as is known."""
        return self._servers.choices_of(model)

    async def send(
        self, request: ChatRequest, correction: list[dict[str, Any]], route: Route, choices: int = 1
    ) -> list[ChatReply]:
        """One attempt, at one server, within the number of requests at once: 1 to ``choices`` replies."""
        async with self._limiter.gate:
            if self._closing.is_set():
                raise closed(self.shown)
            server, probe = await self._servers.take(request, route, self.pause)
            try:
                server.connect()
                if choices > 1:
                    return await self._several(server, request, choices, probe)
                return [await self._in_a_form(server, request, correction, probe)]
            except Fault as fault:
                fault.probe = probe
                raise
            finally:
                self._servers.leave(server, probe)

    async def _several(self, server: Server, request: ChatRequest, choices: int, probe: bool) -> list[ChatReply]:
        """Several replies to one request in free text, as many as this server gives; it is remembered where those
        are fewer than were asked for. A refusal may be about their number: one alone is asked for then."""
        choices = min(choices, server.choices_of(request.model))
        try:
            replies = await self._post(server, request, Form.TEXT, [], probe, choices)
        except Fault as fault:
            worked = server.most_choices.get(request.model, 1)
            if choices <= worked or not (fault.status in NO_CHOICES or "choice" in str(fault)):
                raise
            try:
                replies = await self._post(server, request, Form.TEXT, [], probe)
            except Fault as other:
                raise (fault if other.status in BAD_REQUEST else other) from None
            server.limit_choices(request.model, worked)
            return replies
        if len(replies) < choices:
            server.limit_choices(request.model, len(replies))
        server.most_choices[request.model] = max(len(replies), server.most_choices.get(request.model, 1))
        return replies

    async def _in_a_form(
        self, server: Server, request: ChatRequest, correction: list[dict[str, Any]], probe: bool
    ) -> ChatReply:
        """Ask for JSON in the strictest form that this server takes, of those that the configuration wants.

        A 400 to a form that never worked there may be about the form: the next one is tried, and what works
        is remembered. Where none works the 400 was about something else.
        """
        if request.form is None:
            return (await self._post(server, request, Form.TEXT, correction, probe))[0]
        form = server.forms.get(request.model, self._first_form)
        try:
            [reply] = await self._post(server, request, form, correction, probe)
        except Fault as fault:
            falls = form is not Form.TEXT and fault.status in BAD_REQUEST
            proven = (request.model, request.form.name) in server.proven
            if not falls or (proven and server.forms.get(request.model, form) == form):
                raise
            reply = await self._fall_back(server, request, form, correction, fault, probe)
        server.proven.add((request.model, request.form.name))
        return reply

    async def _fall_back(
        self,
        server: Server,
        request: ChatRequest,
        refused: Form,
        correction: list[dict[str, Any]],
        first: Fault,
        probe: bool,
    ) -> ChatReply:
        async with server.form_lock:  # one call finds out for all
            form = max(server.forms.get(request.model, self._first_form), Form(refused + 1))
            while True:
                try:
                    [reply] = await self._post(server, request, form, correction, probe)
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
        self,
        server: Server,
        request: ChatRequest,
        form: Form,
        correction: list[dict[str, Any]],
        probe: bool,
        choices: int = 1,
    ) -> list[ChatReply]:
        """One HTTP request, two where the server knows the reply's limit under another name. Raises Fault."""
        limit_name = server.limit_name
        cache_name = request.affinity if self._names_cache else None
        try:
            body = request_body(request, form, correction, limit_name, cache_name, choices)
            return await self._admitted(server, request, body, probe, choices)
        except Fault as fault:
            other = "max_tokens" if limit_name == "max_completion_tokens" else "max_completion_tokens"
            limited = request.sampling.max_tokens is not None and request.api == "chat"
            if fault.status not in BAD_REQUEST or not limited or other not in str(fault):
                raise
            body = request_body(request, form, correction, other, cache_name, choices)
            replies = await self._admitted(server, request, body, probe, choices)
            server.limit_name = other
            return replies

    async def _admitted(
        self, server: Server, request: ChatRequest, body: bytes, probe: bool, choices: int
    ) -> list[ChatReply]:
        """Wait for the pace, set the money aside, and send."""
        expected = self._expectation
        prompt_tokens = expected.prompt_tokens(len(body))
        tokens = prompt_tokens + choices * expected.reply_tokens(request.sampling.max_tokens)
        await self._limiter.admit(tokens, self.pause)
        reserved = await self._reserve(request, prompt_tokens, choices)
        used, spent = 0.0, 0.0
        try:
            response = await server.post(PATHS[request.api], body, probe)
            replies = read_replies(response.content, request, server.peer, choices)
            server.state.served = True
            used, spent = self._book(request, len(body), replies)
            return replies
        finally:
            self._limiter.settle(tokens, used)
            self._shared.budget.settle(reserved, spent)

    async def _reserve(self, request: ChatRequest, prompt_tokens: int, choices: int) -> float:
        """Set aside what the request may cost at most, and return it."""
        budget = self._shared.budget
        price = budget.price(request.model, self._servers.url)
        most = 0.0
        if price is not None and budget.max_usd is not None:
            reply_tokens = self._expectation.most_reply_tokens(request.sampling.max_tokens)
            most = cost_usd(price, prompt_tokens, choices * reply_tokens)
        await budget.reserve(most)
        return most

    def _book(self, request: ChatRequest, size: int, replies: list[ChatReply]) -> tuple[float, float]:
        """Count the replies of a response: (tokens, dollars). Where the endpoint gives no counts they are estimated
        for the money, so that a limit on it holds, and not counted otherwise."""
        stats, usage = self._stats, Usage.total(reply.usage for reply in replies)
        for reply in replies:
            self._expectation.learn(size, reply.usage)
        if usage is not None:
            stats.prompt_tokens += usage.prompt_tokens
            stats.cached_tokens += usage.cached_tokens
            stats.completion_tokens += usage.completion_tokens
        else:
            said = sum(len(reply.text) + len(reply.reasoning or "") for reply in replies)
            usage = Usage(prompt_tokens=self._expectation.prompt_tokens(size), completion_tokens=said // 3 + 1)
        spent = 0.0
        price = self._shared.budget.price(request.model, self._servers.url)
        if price is not None:
            spent = cost_usd(price, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
            stats.cost_usd = (stats.cost_usd or 0.0) + spent
        return usage.prompt_tokens + usage.completion_tokens, spent

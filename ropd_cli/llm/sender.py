"""One attempt at a call: within the limits, in a form the server takes, counted and paid for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import ProviderUnreachable, ReplyInvalid
from ropd_cli.llm.api_key import Peer
from ropd_cli.llm.chat import ChatReply, ChatRequest, ClientStats
from ropd_cli.llm.faults import BAD_REQUEST, NO_CHOICES, NO_FORM, Fault, status_fault, transport_fault
from ropd_cli.llm.limits import nothing_left_s
from ropd_cli.llm.money import Expectation, cost_usd
from ropd_cli.llm.reply_json import read_replies
from ropd_cli.llm.request_json import PATHS, request_body
from ropd_cli.llm.shared import Shared
from ropd_cli.llm.structured import STARTS, Form
from ropd_cli.llm.transport import NoResponse, Response, Transport, open_transport
from ropd_cli.llm.urls import OPENAI_URL, base_url
from ropd_cli.records.schemas import Usage

MOST_CHOICES = 128
"""OpenAI takes no larger ``n``."""


class Sender:
    """Requests to one endpoint and model. ``send`` raises Fault for an attempt that failed.

    What a server does not take (a form of JSON, a name of the limit, a number of choices) is found out by asking, and
    remembered here for all later calls.
    """

    def __init__(
        self, endpoint: EndpointConfig, shared: Shared, stats: ClientStats, environ: Mapping[str, str]
    ) -> None:
        url = base_url(endpoint)
        self.peer = Peer(url)
        self.form = STARTS[endpoint.structured_output]
        """How JSON is asked for by now: what was refused has fallen back."""
        self.choices_limit = MOST_CHOICES
        """How many replies to one request the server gives, as far as is known."""
        self._endpoint, self._shared, self._stats, self._environ = endpoint, shared, stats, environ
        self._limiter = shared.limiter(endpoint)
        self._breaker = shared.breaker(url, endpoint.limits.max_pause_s)
        self._expectation = Expectation()
        self._said: set[str] = set()
        self._proven: set[str] = set()
        """Digests of the schemas that a reply has come to."""
        self._forms: dict[str, Form] = {}
        """Of schemas that this server takes in a looser form alone, by digest."""
        self._crashes: Counter[str] = Counter()
        """How often a schema came to nothing since something worked: a 500, or a looser form that failed too."""
        self._lowered: Counter[str] = Counter()
        """How often a looser form worked after that."""
        self._form_lock = asyncio.Lock()
        self._most_choices = 1
        """The most replies that came to one request."""
        # OpenAI's newer models refuse max_tokens, the old name
        self._limit_name = "max_completion_tokens" if url == OPENAI_URL else "max_tokens"
        self._transport: Transport | None = None
        self._closing = asyncio.Event()

    async def close(self) -> None:
        """Close the connections; attempts under way end with a Fault."""
        self._closing.set()
        if self._transport is not None:
            await self._transport.close()

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
        """Book an attempt that the server did not answer. Returns whether it is waited for now."""
        return self._breaker.failed(call, fault.error.message, connected=fault.connected, probe=fault.probe)

    async def send(self, request: ChatRequest, correction: list[dict[str, Any]], choices: int = 1) -> list[ChatReply]:
        """Make one attempt, within the number of requests at once: 1 to ``choices`` replies."""
        async with self._limiter.gate:
            if self._closing.is_set():
                raise self._closed()
            probe = await self._breaker.admit(self.pause)
            try:
                if choices > 1:
                    return await self._several(request, choices, probe)
                return [await self._in_a_form(request, correction, probe)]
            except Fault as fault:
                fault.probe = probe
                raise
            finally:
                self._breaker.leave(probe)

    async def _several(self, request: ChatRequest, choices: int, probe: bool) -> list[ChatReply]:
        """Ask for several replies in free text, as many as this server gives; it is remembered where those are fewer
        than were asked for. A refusal may be about their number: one alone is asked for then."""
        choices = min(choices, self.choices_limit)
        try:
            replies = await self._post(request, Form.TEXT, [], probe, choices)
        except Fault as fault:
            worked = self._most_choices
            if choices <= worked or not (fault.status in NO_CHOICES or "choice" in str(fault)):
                raise
            try:
                replies = await self._post(request, Form.TEXT, [], probe)
            except Fault as other:
                raise (fault if other.status in BAD_REQUEST else other) from None
            self.choices_limit = min(worked, self.choices_limit)
            return replies
        if len(replies) < choices:
            self.choices_limit = min(len(replies), self.choices_limit)
        self._most_choices = max(len(replies), self._most_choices)
        return replies

    async def _in_a_form(self, request: ChatRequest, correction: list[dict[str, Any]], probe: bool) -> ChatReply:
        """Ask for JSON in the strictest form that this server takes, of those that the configuration wants.

        A refusal of a schema that never worked there may be about the form: the next one is tried, and what works is
        remembered, for all calls where no form has worked yet, else for this schema. Where none works the refusal was
        about something else. Some servers fall over a schema with a 500, which an outage gives as well: every second
        attempt after one takes the next form, which is remembered where it has worked twice and the strict one never.
        """
        if request.form is None:
            return (await self._post(request, Form.TEXT, correction, probe))[0]
        schema = request.form.digest
        form = known = self._forms.get(schema, self.form)
        crashes = 0 if schema in self._proven else self._crashes[schema]
        if crashes and crashes % 2 == 0:
            form = Form(min(known + crashes // 2, Form.TEXT))
        try:
            [reply] = await self._post(request, form, correction, probe)
        except Fault as fault:
            self._crashes[schema] += fault.status == 500 or form != known
            falls = form is not Form.TEXT and fault.status in NO_FORM and not fault.is_too_long
            if not falls or (schema in self._proven and self._forms.get(schema, self.form) == form):
                raise
            reply = await self._fall_back(request, form, correction, fault, probe)
        else:
            if form != known:
                self._crashes[schema] = 1
                self._lowered[schema] += 1
                if self._lowered[schema] < 2:
                    return reply
                self._forms[schema] = form
        self._proven.add(schema)
        return reply

    async def _fall_back(
        self, request: ChatRequest, refused: Form, correction: list[dict[str, Any]], first: Fault, probe: bool
    ) -> ChatReply:
        assert request.form is not None
        schema = request.form.digest
        async with self._form_lock:  # one call finds out for all
            form = max(self._forms.get(schema, self.form), Form(refused + 1))
            while True:
                try:
                    [reply] = await self._post(request, form, correction, probe)
                    break
                except Fault as fault:
                    if fault.status not in NO_FORM:
                        raise
                    if form is Form.TEXT:
                        raise first from fault
                    form = Form(form + 1)
            if self._proven:
                self._forms[schema] = form
            else:
                self.form = form
        return reply

    async def _post(
        self, request: ChatRequest, form: Form, correction: list[dict[str, Any]], probe: bool, choices: int = 1
    ) -> list[ChatReply]:
        """Send one HTTP request, two where the server knows the reply's limit under another name. Raises Fault."""
        limit_name = self._limit_name
        cache_name = request.affinity if self._endpoint.prompt_cache_key else None
        try:
            body = request_body(request, form, correction, limit_name, cache_name, choices)
            return await self._admitted(request, body, probe, choices)
        except Fault as fault:
            other = "max_tokens" if limit_name == "max_completion_tokens" else "max_completion_tokens"
            limited = request.sampling.max_tokens is not None and request.api == "chat"
            if fault.status not in BAD_REQUEST or not limited or other not in str(fault):
                raise
            body = request_body(request, form, correction, other, cache_name, choices)
            replies = await self._admitted(request, body, probe, choices)
            self._limit_name = other
            return replies

    async def _admitted(self, request: ChatRequest, body: bytes, probe: bool, choices: int) -> list[ChatReply]:
        """Wait for the pace, set the money aside, and send."""
        expected = self._expectation
        prompt_tokens = expected.prompt_tokens(len(body))
        tokens = prompt_tokens + choices * expected.reply_tokens(request.sampling.max_tokens)
        await self._limiter.admit(tokens, self.pause)
        reserved = await self._reserve(request, prompt_tokens, choices)
        used, spent = 0.0, 0.0
        try:
            response = await self._respond(PATHS[request.api], body, probe)
            replies = read_replies(response.content, request, self.peer, choices, self._say_once)
            used, spent, is_cut = self._book(request, len(body), replies)
            if is_cut:
                raise self._cut(request, replies)
            return replies
        except Fault as fault:
            if fault.again and fault.status == 429 and fault.retry_after_s:
                self._limiter.hold(fault.retry_after_s)  # a limit on the rate is about all calls, not this one alone
            if fault.usage is not None:  # a reply that was broken off is billed
                used, spent = self._bill(request, fault.usage)
            raise
        finally:
            self._limiter.settle(tokens, used)
            self._shared.budget.settle(reserved, spent)

    async def _respond(self, path: str, body: bytes, probe: bool) -> Response:
        """Return the response to one request, where it is a success. Raises Fault for any other."""
        if self._closing.is_set():
            raise self._closed()
        transport = self._connect()
        self._stats.requests_sent += 1
        try:
            response = await transport.post(path, body)
        except NoResponse as fault:
            raise (self._closed() if self._closing.is_set() else transport_fault(fault, self.peer)) from None
        if (left_s := nothing_left_s(response.headers)) > 0:
            self._limiter.hold(left_s)
        if response.status < 500:
            self._breaker.answered(probe)
        if response.status < 300:
            return response
        raise status_fault(response, self.peer)

    def _connect(self) -> Transport:
        """Read the key and open the transport, once. Raises InputError for a key or a header that is not there."""
        if self._transport is None:
            self.peer = Peer.read(self._endpoint, self._environ)
            self._transport = open_transport(self._endpoint, self.peer)
            self._shared.announce(f"asking {self._endpoint.model} at {self.peer.shown}")
        return self._transport

    def _closed(self) -> Fault:
        """Return what becomes of calls when their client is closed."""
        error = ProviderUnreachable(f"{self.peer.shown}: the client was closed", "run the command again")
        return Fault(error, again=False)

    async def _reserve(self, request: ChatRequest, prompt_tokens: int, choices: int) -> float:
        """Set aside what the request may cost at most, and return it."""
        budget = self._shared.budget
        price = budget.price(request.model, self.peer.url)
        most = 0.0
        if price is not None and budget.max_usd is not None:
            reply_tokens = self._expectation.most_reply_tokens(request.sampling.max_tokens)
            most = cost_usd(price, prompt_tokens, choices * reply_tokens)
        await budget.reserve(most)
        return most

    def _cut(self, request: ChatRequest, replies: list[ChatReply]) -> Fault:
        """Return what becomes of replies to a part of their prompt."""
        usage = replies[0].usage
        counted = usage.prompt_tokens if usage is not None else 0
        return Fault(
            ReplyInvalid(
                f"{self.peer.shown}: the server read {counted} tokens of a prompt of "
                f"{len(request.messages_json) / 1000:.0f} kB: it cut the prompt to its context",
                "give the server a longer context (Ollama: OLLAMA_CONTEXT_LENGTH, or num_ctx in a Modelfile; "
                "LM Studio: Context Length; llama.cpp: --ctx-size), or show it less: judge.max_answer_tokens, "
                "judge.chunk_size",
            ),
            again=False,
        )

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._shared.say(text)

    def _book(self, request: ChatRequest, size: int, replies: list[ChatReply]) -> tuple[float, float, bool]:
        """Count the replies of a response: (tokens, dollars, whether the server cut the prompt). Where the endpoint
        gives no counts they are estimated for the money, so that a limit on it holds, and not counted otherwise."""
        stats, usage = self._stats, Usage.total(reply.usage for reply in replies)
        is_cut = self._expectation.is_cut(request.messages_json, usage)
        for reply in replies:
            if not is_cut:
                self._expectation.learn(size, reply.usage)
        if usage is not None:
            stats.prompt_tokens += usage.prompt_tokens
            stats.cached_tokens += usage.cached_tokens
            stats.completion_tokens += usage.completion_tokens
        else:
            chars = sum(len(reply.text) + len(reply.reasoning or "") for reply in replies)
            usage = Usage(prompt_tokens=self._expectation.prompt_tokens(size), completion_tokens=chars // 3 + 1)
        return *self._bill(request, usage), is_cut

    def _bill(self, request: ChatRequest, usage: Usage) -> tuple[float, float]:
        """Return the tokens and dollars of a response, and add the dollars to what the client cost."""
        spent = 0.0
        price = self._shared.budget.price(request.model, self.peer.url)
        if price is not None:
            spent = cost_usd(price, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
            self._stats.cost_usd = (self._stats.cost_usd or 0.0) + spent
        return usage.prompt_tokens + usage.completion_tokens, spent

"""One server as one client sees it: its connections, its keys, and what it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import ProviderUnreachable
from ropd_cli.llm.chat import ClientStats
from ropd_cli.llm.keys import KeyRing, Secrets, headers_of
from ropd_cli.llm.limits import nothing_left_s
from ropd_cli.llm.shared import ServerState, Shared
from ropd_cli.llm.structured import Form
from ropd_cli.llm.transport import Lost, NoConnection, Response, TimedOut, Transport, open_transport
from ropd_cli.llm.urls import OPENAI_URL
from ropd_cli.llm.wire import Fault, Peer, status_fault, transport_fault

KEY_REST_S = 5.0
"""A key that was turned away without a word on when to come back."""
SERVER_REST_S = 1.0
"""One of several servers that has too much to do and does not say for how long."""
MOST_CHOICES = 128
"""OpenAI takes no larger ``n``."""
_NO_RIGHT = (401, 403, 404)


class Server:
    """Sends requests to one server. ``hold`` is told for how many seconds it wants no more.

    ``one_of_several``: others can do its work, so a refusal that is more likely the server's fault than the
    request's (a key it does not know, a model it does not have) counts as an answer that did not come.
    """

    def __init__(
        self,
        url: str,
        endpoint: EndpointConfig,
        shared: Shared,
        stats: ClientStats,
        environ: Mapping[str, str],
        hold: Callable[[ServerState, float], None],
        *,
        one_of_several: bool,
    ) -> None:
        self.peer = Peer(url, endpoint.api_key_env)
        self.state = shared.server(url, endpoint.limits.max_pause_s)
        self.forms: dict[str, Form] = {}
        """By model, the form that works where it is not the one to begin with."""
        self.proven: set[tuple[str, str]] = set()
        """(model, name of the schema) that a reply has come to."""
        self.form_lock = asyncio.Lock()
        self.most_choices: dict[str, int] = {}
        """By model, the most replies that came to one request."""
        self._choices_limit: dict[str, int] = {}
        # OpenAI's newer models refuse max_tokens, the old name
        self.limit_name = "max_completion_tokens" if url == OPENAI_URL else "max_tokens"
        self._endpoint, self._stats, self._environ, self._hold = endpoint, stats, environ, hold
        self._say = shared.say
        self._one_of_several = one_of_several
        self._transport: Transport | None = None
        self._closed = False
        self._keys = KeyRing({})
        self._headers: dict[str, str] = {}
        self._own_authorization = False

    def choices_of(self, model: str) -> int:
        """How many replies to one request it gives, as far as is known."""
        return self._choices_limit.get(model, MOST_CHOICES)

    def limit_choices(self, model: str, most: int) -> None:
        """It gives no more than so many."""
        self._choices_limit[model] = min(most, self.choices_of(model))

    async def close(self) -> None:
        """Close the connections; requests under way end with a Fault."""
        self._closed = True
        if self._transport is not None:
            await self._transport.close()

    def connect(self) -> Transport:
        """Read the keys and open the transport, once. Raises InputError for a key or a header that is not there."""
        if self._transport is None:
            self._keys = KeyRing.read(self._endpoint, self._environ)
            self._headers, secret = headers_of(self._endpoint, self._environ)
            query = self.peer.url.partition("?")[2]
            secrets = Secrets([*self._keys.values(), *secret, query])
            self.peer = replace(self.peer, has_key=bool(self._keys), secrets=secrets)
            self._own_authorization = any(name.lower() == "authorization" for name in self._headers)
            self._transport = open_transport(self.peer.url, self._endpoint.limits)
        return self._transport

    async def post(self, path: str, body: bytes, probe: bool) -> Response:
        """The response to one request, where it is a success. Raises Fault for any other."""
        if self._closed:
            raise closed(self.peer.shown)
        transport = self.connect()
        key = self._keys.take()
        self._stats.requests_sent += 1
        try:
            response = await transport.post(path, body, self._with_key(key))
        except (NoConnection, Lost, TimedOut) as fault:
            raise (closed(self.peer.shown) if self._closed else transport_fault(fault, self.peer)) from None
        name = key[0] if key else None
        if (left_s := nothing_left_s(response.headers)) > 0:
            if name is not None and len(self._keys) > 1:
                self._keys.rest(name, left_s)
            else:
                self._hold(self.state, left_s)
        if response.status < 300:
            self.state.breaker.answered(probe)
            return response
        fault = status_fault(response, self.peer)
        if response.status < 500:
            self._mind_keys(name, fault)
            if self._can_not_serve(fault):
                fault.lost, fault.connected = True, False
            else:
                self.state.breaker.answered(probe)
        if fault.again:
            self._mind_wishes(fault)
        raise fault

    async def look(self) -> bool:
        """Whether anybody is there."""
        return 0 < await self.connect().look(self._with_key(self._keys.take())) < 500

    def _with_key(self, key: tuple[str, str] | None) -> dict[str, str]:
        if self._own_authorization:
            return self._headers
        # without a key there is one all the same: some servers insist on it
        return {"Authorization": f"Bearer {key[1] if key else 'none'}", **self._headers}

    def _mind_keys(self, name: str | None, fault: Fault) -> None:
        """What a refusal means for the key that was used."""
        several = name is not None and len(self._keys) > 1
        if fault.status == 429 and fault.again and several:
            wait_s = KEY_REST_S if fault.retry_after_s is None else fault.retry_after_s
            fault.retry_after_s = self._keys.rest(name, wait_s)
        elif fault.status in (401, 403) and several:
            news = name in self._keys
            if self._keys.drop(name):
                fault.again = True
                if news:
                    self._say(f"{self.peer.shown}: the key in {name} is refused ({fault.status}), going on without it")

    def _mind_wishes(self, fault: Fault) -> None:
        """When the server wants the next request: one alone is waited for by the call (and at a 429 by all), one of
        several is passed over for so long."""
        wait_s = fault.retry_after_s
        if self._one_of_several:
            fault.retry_after_s = None
            if wait_s is None and fault.status == 429:
                wait_s = SERVER_REST_S  # one that only refuses is never busy, and would be sent everything
        elif fault.status != 429:
            return
        if wait_s:
            self._hold(self.state, wait_s)

    def _can_not_serve(self, fault: Fault) -> bool:
        return self._one_of_several and fault.status in _NO_RIGHT and not fault.again and not self.state.served


def closed(shown: str) -> Fault:
    """What becomes of calls when their client is closed."""
    return Fault(ProviderUnreachable(f"{shown}: the client was closed", "run the command again"), again=False)

"""Which of an endpoint's servers gets a request.

The one with the fewest requests under way; but requests that begin with the same long text (``affinity``) go
where the first of them went, whose prefix cache holds it, as long as that server is not much busier than the
others. A server that stopped answering is left out. It is looked at now and then, by a request that costs nothing,
and when it is there one call tries it. Only while none answers do calls wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ropd_cli.config.models import EndpointConfig
from ropd_cli.llm import urls as endpoints
from ropd_cli.llm.breaker import waited_in_vain
from ropd_cli.llm.chat import ChatRequest, ClientStats
from ropd_cli.llm.limits import Limiter, Pause
from ropd_cli.llm.server import Server
from ropd_cli.llm.shared import ServerState, Shared, place
from ropd_cli.llm.structured import Form
from ropd_cli.llm.wire import Fault

SLACK = 8
"""Requests that share a text stay together until their server has more than twice the least, and so many, under way."""
LONGEST_NAP_S = 0.25
"""While all servers want nothing: one that was away may be back."""


@dataclass(eq=False, slots=True)
class Route:
    """Where one call has been: the server that has (or had) it, and those that could not serve it."""

    key: str
    server: Server | None = None
    tried: set[str] = field(default_factory=set)

    @property
    def shown(self) -> str:
        """The URL of the server, for messages."""
        return self.server.peer.shown if self.server is not None else "?"


class Servers:
    """The servers of one endpoint. ``leave`` has to follow every ``take`` that returned."""

    def __init__(
        self,
        endpoint: EndpointConfig,
        shared: Shared,
        limiter: Limiter,
        stats: ClientStats,
        environ: Mapping[str, str],
    ) -> None:
        urls = endpoints.base_urls(endpoint)
        several = len(urls) > 1
        self.url = urls[0]
        self._place = place(endpoint)
        hold: Callable[[ServerState, float], None] = self._hold if several else lambda _, seconds: limiter.hold(seconds)
        self._all = [Server(url, endpoint, shared, stats, environ, hold, one_of_several=several) for url in urls]
        self._one = None if several else self._all[0]
        self._affinities = shared.affinities
        self._max_pause_s = endpoint.limits.max_pause_s
        self._looks: set[asyncio.Task[None]] = set()

    @property
    def shown(self) -> str:
        """Their URLs, for messages."""
        return ", ".join(server.peer.shown for server in self._all)

    async def close(self) -> None:
        """Close all connections."""
        for look in self._looks:
            look.cancel()
        if self._looks:
            await asyncio.wait(self._looks)
        for server in self._all:
            await server.close()

    async def take(self, request: ChatRequest, route: Route, pause: Pause) -> tuple[Server, bool]:
        """The server for a request, and whether it is asked only to see if it is back. Waits while none answers.

        Raises ProviderDown when that has taken ``max_pause_s``.
        """
        if (server := self._one) is not None:
            probe = await server.state.breaker.admit(pause)
        else:
            server, probe = await self._choose(request, route, pause)
        route.server = server
        server.state.under_way += 1
        server.state.sent += 1
        return server, probe

    def form_of(self, model: str, first: Form) -> Form:
        """The loosest form of JSON that one of them wants of this model; ``first`` is the form to begin with."""
        return max(server.forms.get(model, first) for server in self._all)

    def choices_of(self, model: str) -> int:
        """How many replies to one request the most generous of them gives, as far as is known."""
        return max(server.choices_of(model) for server in self._all)

    def leave(self, server: Server, probe: bool) -> None:
        """The request is over, whatever came of it."""
        server.state.under_way -= 1
        server.state.breaker.leave(probe)

    def lost(self, route: Route, fault: Fault) -> bool:
        """Book a request that its server did not answer; True where another attempt waits, or goes elsewhere."""
        server = route.server
        route.tried.add(server.state.name)
        spare = any(other is not server and not other.state.breaker.is_open for other in self._all)
        last = self._one is None and not spare and self._waited_for
        return server.state.breaker.failed(
            route.key, fault.error.message, connected=fault.connected, probe=fault.probe, spare=spare, last=last
        )

    def elsewhere(self, route: Route) -> bool:
        """Whether the call, which its server could not serve, goes to another one at once."""
        if self._one is not None:
            return False
        route.tried.add(route.server.state.name)
        now = time.monotonic()
        return any(server.state.name not in route.tried for server in self._ready(self._up(), now))

    async def _choose(self, request: ChatRequest, route: Route, pause: Pause) -> tuple[Server, bool]:
        while True:
            now = time.monotonic()
            up = self._up()
            if len(up) < len(self._all) and (server := self._returning(route, now, bool(up))) is not None:
                return server, True
            if not up and not self._waited_for:
                up = self._all  # nobody ever answered: each call finds that out for itself
            if ready := self._ready(up, now):
                return self._pick(ready, request, route), False
            if up:
                nap_s = min(server.state.held_until(self._place) for server in up) - now
                await pause(min(LONGEST_NAP_S, max(0.001, nap_s)))
            else:
                await pause(self._pause_s(now))

    def _pick(self, ready: list[Server], request: ChatRequest, route: Route) -> Server:
        fresh = [server for server in ready if server.state.name not in route.tried]
        if not fresh:
            route.tried.clear()
            fresh = ready
        least = min(fresh, key=_load)
        if request.affinity is None:
            return least
        home = self._affinities.home(request.model, request.affinity)
        for server in fresh:
            if server.state.name == home and server.state.under_way <= 2 * least.state.under_way + SLACK:
                return server
        self._affinities.settle(request.model, request.affinity, least.state.name)
        return least

    def _returning(self, route: Route, now: float, others: bool) -> Server | None:
        """A server that is held back and may be tried now. With ``others`` to do the work it is looked at first:
        a call that hung there would hold up its group."""
        for server in self._all:
            state = server.state
            if not state.breaker.is_open or (others and state.name in route.tried):
                continue
            if (state.seen or not others) and state.breaker.try_it(now):
                state.seen = False
                return server
            if others and not state.seen and state.breaker.try_it(now):
                look = asyncio.get_running_loop().create_task(self._look(server))
                self._looks.add(look)
                look.add_done_callback(self._looks.discard)
        return None

    async def _look(self, server: Server) -> None:
        breaker = server.state.breaker
        try:
            server.state.seen = await server.look()
            if not server.state.seen:
                why = f"{server.peer.shown}: no answer"
                breaker.failed("look", why, connected=False, probe=True, spare=True)
        finally:
            breaker.leave(True)

    def _up(self) -> list[Server]:
        return [server for server in self._all if not server.state.breaker.is_open]

    def _ready(self, up: list[Server], now: float) -> list[Server]:
        return [server for server in up if server.state.held_until(self._place) <= now]

    @property
    def _waited_for(self) -> bool:
        """Whether the endpoint is worth waiting for: one that never answered is more often a wrong URL."""
        return self._max_pause_s > 0 and any(server.state.breaker.alive for server in self._all)

    def _pause_s(self, now: float) -> float:
        """Seconds to wait while no server answers. Raises ProviderDown when it has been long enough."""
        breakers = [server.state.breaker for server in self._all]
        since = max(breaker.open_since or now for breaker in breakers)
        if now - since >= self._max_pause_s:
            raise waited_in_vain(f"{self.shown}: all have", now - since)
        look = min(breaker.next_look(now) for breaker in breakers)
        return max(0.01, min(look, since + self._max_pause_s) - now)

    def _hold(self, state: ServerState, seconds: float) -> None:
        state.hold(self._place, seconds)


def _load(server: Server) -> tuple[int, int]:
    return server.state.under_way, server.state.sent

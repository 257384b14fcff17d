"""The servers of one endpoint: which of them a request goes to.

Servers that are named together serve the same model. A request goes to the one with the fewest requests under way,
but requests of the same ``affinity`` (a group's) follow each other, so that the server's prefix cache holds their
long common text, as long as that server is not far busier than another. A server that stopped answering is left
out until a request that tries it finds it back; only when none is left does everybody wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ropd_cli.errors import ProviderDown
from ropd_cli.llm.breaker import Breaker
from ropd_cli.llm.limits import LONGEST_HOLD_S, Pause
from ropd_cli.llm.structured import Form
from ropd_cli.llm.transport import Transport
from ropd_cli.llm.wire import Peer

REMEMBERED = 10_000
"""Affinities, of which the oldest are forgotten."""
BUSIER, SLACK = 2, 16
"""A request follows its affinity to a server with up to BUSIER times the requests of the least busy one, and SLACK:
computing a long prefix again costs more than a place in a longer queue."""
SHUNNED_S = 5.0
"""After a failure that no answer followed a server comes last, for so long."""


@dataclass
class Load:
    """What the clients of one run know of one server."""

    breaker: Breaker
    under_way: int = 0
    sent: int = 0
    held_until: float = 0.0
    """Monotonic time before which it asked for no more requests."""

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The lowest is asked next."""
        failing = self.breaker.failures > 0 and time.monotonic() - self.breaker.failed_at < SHUNNED_S
        return failing, self.under_way, self.sent

    @property
    def is_free(self) -> bool:
        """Whether it may be sent requests now."""
        return not self.breaker.is_open and self.held_until <= time.monotonic()

    def hold(self, seconds: float) -> None:
        """Send it nothing for so many seconds."""
        self.held_until = max(self.held_until, time.monotonic() + min(seconds, LONGEST_HOLD_S))


class Affinities:
    """Which server (its URL's identity) the requests of an affinity went to."""

    def __init__(self) -> None:
        self._servers: OrderedDict[str, str] = OrderedDict()

    def get(self, affinity: str) -> str | None:
        """The server of an affinity; None for a new one."""
        return self._servers.get(affinity)

    def put(self, affinity: str, server: str) -> None:
        """From now on ``affinity`` belongs to ``server``."""
        self._servers[affinity] = server
        self._servers.move_to_end(affinity)
        if len(self._servers) > REMEMBERED:
            self._servers.popitem(last=False)


@dataclass
class Server:
    """One server, as one client sees it."""

    peer: Peer
    identity: str
    load: Load
    transport: Transport
    limit_name: str
    """What it calls the limit of a reply's tokens."""
    forms: dict[str, Form] = field(default_factory=dict)
    """By model how it is asked for JSON, where that is not the form that is tried first."""
    proven: set[tuple[str, str]] = field(default_factory=set)
    """(model, name of the schema) that worked in this form."""
    form_lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pool:
    """The servers of an endpoint, in the order they are named. ``headers`` makes those of a look at one."""

    def __init__(
        self,
        servers: list[Server],
        affinities: Affinities,
        max_pause_s: float,
        headers: Callable[[], Mapping[str, str]],
    ) -> None:
        self.servers = servers
        self._affinities, self._max_pause_s, self._headers = affinities, max_pause_s, headers
        self._looks: dict[str, asyncio.Task[bool]] = {}

    async def close(self) -> None:
        """Close all connections."""
        for look in self._looks.values():
            look.cancel()
        if self._looks:
            await asyncio.wait(self._looks.values())
        for server in self.servers:
            await server.transport.close()

    async def choose(self, affinity: str | None, pause: Pause) -> Server:
        """The server for the next request; waits while none may be asked. Raises ProviderDown when all have been
        silent for ``max_pause_s``."""
        if len(self.servers) == 1:
            return self.servers[0]  # whose breaker knows how to wait
        while True:
            free = [each for each in self.servers if each.load.is_free]
            for server in self.servers:
                if server.load.breaker.wants_probe and (not free or self._is_there(server)):
                    return server  # with this call it shows whether it is back
            if free:
                return self._of(free, affinity)
            await pause(self._until_one_is_back_s())

    def _is_there(self, server: Server) -> bool:
        """Whether a server that was silent answers a look. The look goes on beside the calls, which have others to go
        to: one that hung there would hold up its group."""
        look = self._looks.get(server.identity)
        if look is None:
            self._looks[server.identity] = asyncio.create_task(server.transport.is_there(self._headers()))
            return False
        if not look.done():
            return False
        del self._looks[server.identity]
        if not look.result():
            server.load.breaker.not_back()
        return look.result()

    def others_answer(self, server: Server) -> bool:
        """Whether another server has answered: then this one is left out, even if it never answered itself."""
        return any(each.load.breaker.is_alive for each in self.servers if each is not server)

    def _of(self, free: list[Server], affinity: str | None) -> Server:
        least = min(free, key=lambda each: each.load.rank)
        if affinity is None:
            return least
        known = self._affinities.get(affinity)
        before = next((each for each in free if each.identity == known), None)
        if before is not None and _may_follow(before.load, least.load):
            return before
        self._affinities.put(affinity, least.identity)
        return least

    def _until_one_is_back_s(self) -> float:
        """Seconds to wait where all servers are silent or held."""
        now = time.monotonic()
        waits = [each.load.breaker.probe_in_s for each in self.servers if each.load.breaker.is_open]
        waits += [each.load.held_until - now for each in self.servers if not each.load.breaker.is_open]
        if all(each.load.breaker.is_open for each in self.servers):
            silent_s = min(each.load.breaker.open_for_s for each in self.servers)
            if silent_s >= self._max_pause_s:
                named = ", ".join(each.peer.shown for each in self.servers)
                raise ProviderDown(
                    f"{named}: all have stopped answering, and were waited for {silent_s:.0f} s",
                    "mend a server, then run the same command again: it goes on from here",
                )
            waits.append(self._max_pause_s - silent_s)
        return max(0.01, min(waits))


def _may_follow(before: Load, least: Load) -> bool:
    return before.rank[0] == least.rank[0] and before.under_way <= BUSIER * least.under_way + SLACK

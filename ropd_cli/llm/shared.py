"""What the clients of one run have in common: limits, the state of servers, who has seen which text, and the money."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from ropd_cli.config.models import EndpointConfig, RopdConfig
from ropd_cli.errors import RopdError
from ropd_cli.llm.breaker import Breaker
from ropd_cli.llm.limits import LONGEST_HOLD_S, Limiter
from ropd_cli.llm.money import Budget
from ropd_cli.llm.urls import base_urls, identity, shown_url

AFFINITIES = 10_000
Place = tuple[frozenset[str], str, str]
"""URLs, model, and the names of the keys' variables: what a provider's limits are about."""

log = logging.getLogger(__name__)


class ServerState:
    """What is known of one server, whoever asks it."""

    def __init__(self, name: str, breaker: Breaker) -> None:
        self.name, self.breaker = name, breaker
        self.under_way = 0
        self.sent = 0
        self.served = False
        """Whether a reply has come from it."""
        self.seen = False
        """Whether it was there when it was last looked at, while it was held back."""
        self._held_until: dict[Place, float] = {}

    def hold(self, place: Place, seconds: float) -> None:
        """It wants nothing from ``place`` for so many seconds."""
        until = time.monotonic() + min(seconds, LONGEST_HOLD_S)
        self._held_until[place] = max(self._held_until.get(place, 0.0), until)

    def held_until(self, place: Place) -> float:
        """Monotonic time; 0 where it was never held."""
        return self._held_until.get(place, 0.0)


class Affinities:
    """Which server has read the text that requests of one affinity begin with; the least recent are forgotten."""

    def __init__(self, most: int = AFFINITIES) -> None:
        self._most = most
        self._homes: OrderedDict[tuple[str, str], str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._homes)

    def home(self, model: str, affinity: str) -> str | None:
        """The name of the server; None where there is none yet."""
        name = self._homes.get((model, affinity))
        if name is not None:
            self._homes.move_to_end((model, affinity))
        return name

    def settle(self, model: str, affinity: str, name: str) -> None:
        """From now on it is this server."""
        self._homes[model, affinity] = name
        self._homes.move_to_end((model, affinity))
        if len(self._homes) > self._most:
            self._homes.popitem(last=False)


class Shared:
    """One of these a run. ``say`` is told, in one line each, what a user should know of while it goes on."""

    def __init__(self, budget: Budget | None = None, say: Callable[[str], None] = log.warning) -> None:
        self.budget = budget or Budget({})
        self.say = say
        self.affinities = Affinities()
        self._limiters: dict[Place, Limiter] = {}
        self._servers: dict[str, ServerState] = {}
        self._endpoints: list[EndpointConfig] = []

    @classmethod
    def of(cls, config: RopdConfig, say: Callable[[str], None] = log.warning, *, spent_usd: float = 0.0) -> Shared:
        """What a configuration says; ``spent_usd`` is what an earlier part of the same run has cost."""
        shared = cls(Budget(config.prices, config.max_cost, spent_usd), say)
        teachers = [config.teacher, *config.teachers.values()]
        shared._endpoints = [*teachers, config.student.endpoint, config.rubricator, config.verifier]
        return shared

    def apart(self) -> Shared:
        """Another with the same money and nothing else in common: what fails there holds up nothing here."""
        return Shared(self.budget, self.say)

    def limiter(self, endpoint: EndpointConfig) -> Limiter:
        """The limiter of an endpoint; the same for sections that name the same URLs, model and keys, and
        then of their limits the lowest."""
        key = place(endpoint)
        if key not in self._limiters:
            same = [each.limits for each in self._endpoints if place(each) == key] or [endpoint.limits]
            lowest = {
                name: min((value for each in same if (value := getattr(each, name)) is not None), default=None)
                for name in ("concurrency", "rpm", "tpm")
            }
            self._limiters[key] = Limiter(endpoint.limits.model_copy(update=lowest))
        return self._limiters[key]

    def server(self, url: str, max_pause_s: float) -> ServerState:
        """The state of the server at a URL."""
        name = identity(url)
        if name not in self._servers:
            self._servers[name] = ServerState(name, Breaker(shown_url(url), max_pause_s, self.say))
        return self._servers[name]

    @property
    def pauses(self) -> int:
        """How often an endpoint stopped answering, with all its servers."""
        return sum(server.breaker.pauses for server in self._servers.values())


def place(endpoint: EndpointConfig) -> Place:
    """What the limits of an endpoint are about."""
    try:
        urls = frozenset(identity(url) for url in base_urls(endpoint))
    except RopdError:  # a section that this command does not use may hold anything
        urls = frozenset([str(endpoint.base_url)])
    return urls, endpoint.model or "", endpoint.api_key_env

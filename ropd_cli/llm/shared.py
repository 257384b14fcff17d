"""What the clients of one run have in common: limits, circuit breakers, and the money."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ropd_cli.config.models import EndpointConfig, RopdConfig
from ropd_cli.errors import RopdError
from ropd_cli.llm.breaker import Breaker
from ropd_cli.llm.costs import Budget
from ropd_cli.llm.endpoints import base_url, identity, shown_url
from ropd_cli.llm.limits import Limiter
from ropd_cli.llm.servers import Affinities, Load

log = logging.getLogger(__name__)


class Shared:
    """One of these a run. ``say`` is told, in one line each, what a user should know of while it goes on."""

    def __init__(self, budget: Budget | None = None, say: Callable[[str], None] = log.warning) -> None:
        self.budget = budget or Budget({})
        self.say = say
        self._limiters: dict[tuple[str, str, str], Limiter] = {}
        self._loads: dict[str, Load] = {}
        self.affinities = Affinities()
        self._endpoints: list[EndpointConfig] = []

    @classmethod
    def of(cls, config: RopdConfig, say: Callable[[str], None] = log.warning, *, spent_usd: float = 0.0) -> Shared:
        """What a configuration says; ``spent_usd`` is what an earlier part of the same run has cost."""
        shared = cls(Budget(config.prices, config.max_cost, spent_usd), say)
        shared._endpoints = [config.teacher, config.student.endpoint, config.rubricator, config.verifier]
        return shared

    def limiter(self, endpoint: EndpointConfig) -> Limiter:
        """The limiter of an endpoint; the same for sections that name the same URL, model and keys, and
        then of their limits the lowest."""
        key = _place(endpoint)
        if key not in self._limiters:
            same = [each.limits for each in self._endpoints if _place(each) == key] or [endpoint.limits]
            lowest = {
                name: min((value for each in same if (value := getattr(each, name)) is not None), default=None)
                for name in ("concurrency", "rpm", "tpm")
            }
            self._limiters[key] = Limiter(endpoint.limits.model_copy(update=lowest))
        return self._limiters[key]

    def load(self, url: str, endpoint: EndpointConfig) -> Load:
        """What is known of the server at ``url``, one of the endpoint's; the same for every client of the run."""
        name = identity(url)
        if name not in self._loads:
            self._loads[name] = Load(Breaker(shown_url(url), endpoint.limits.max_pause_s, self.say))
        return self._loads[name]

    @property
    def pauses(self) -> int:
        """How often an endpoint stopped answering."""
        return sum(load.breaker.pauses for load in self._loads.values())


def _place(endpoint: EndpointConfig) -> tuple[str, str, str]:
    try:
        url = identity(base_url(endpoint))
    except RopdError:  # a section that this command does not use may hold anything
        url = str(endpoint.base_url)
    return url, endpoint.model or "", endpoint.api_key_env

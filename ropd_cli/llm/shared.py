"""What the clients of one run have in common: the limits and the circuit breaker of each endpoint, and the money."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ropd_cli.config.masking import shown_url
from ropd_cli.config.models import EndpointConfig, RopdConfig
from ropd_cli.llm.breaker import Breaker
from ropd_cli.llm.limits import Limiter
from ropd_cli.llm.money import Budget
from ropd_cli.llm.urls import base_url, identity

Place = tuple[str, str, str]
"""URL, model, and the name of the key's variable: what a provider's limits are about."""

log = logging.getLogger(__name__)


class Shared:
    """One of these a run. ``say`` is told, in one line each, what a user should know of while it goes on, ``announce``
    whom a client is about to ask for the first time."""

    def __init__(self, budget: Budget | None = None, say: Callable[[str], None] = log.warning) -> None:
        self.budget = budget or Budget({})
        self.say = say
        self.announce: Callable[[str], None] = log.debug
        self._limiters: dict[Place, Limiter] = {}
        self._breakers: dict[str, Breaker] = {}

    @classmethod
    def of(cls, config: RopdConfig, say: Callable[[str], None] = log.warning, *, spent_usd: float = 0.0) -> Shared:
        """Return what a configuration says; ``spent_usd`` is what an earlier part of the same run has cost."""
        return cls(Budget(config.prices, config.max_cost, spent_usd), say)

    def apart(self) -> Shared:
        """Return another with the same money and nothing else in common: what fails there holds up nothing here."""
        return Shared(self.budget, self.say)

    def wait_anew(self) -> None:
        """Wait as long again for the endpoints that were given up: whoever asks next may find them back."""
        for breaker in self._breakers.values():
            breaker.wait_anew()

    def limiter(self, endpoint: EndpointConfig) -> Limiter:
        """Return the limiter of an endpoint; the same for sections that name the same URL, model and key, and then of
        the limits of those that have asked for it the lowest. A section that nobody opens a client of has no say."""
        key = identity(base_url(endpoint)), endpoint.model or "", endpoint.api_key_env
        if key not in self._limiters:
            self._limiters[key] = Limiter(endpoint.limits)
        self._limiters[key].lower(endpoint.limits)
        return self._limiters[key]

    def breaker(self, url: str, max_pause_s: float) -> Breaker:
        """Return the circuit breaker of a URL; the first who asks says how long it waits."""
        name = identity(url)
        if name not in self._breakers:
            self._breakers[name] = Breaker(shown_url(url), max_pause_s, self.say)
        return self._breakers[name]

    @property
    def paused(self) -> bool:
        """Whether calls to an endpoint are held back, since it has stopped answering."""
        return any(breaker.is_open for breaker in self._breakers.values())

    @property
    def pauses(self) -> int:
        """How often an endpoint stopped answering."""
        return sum(breaker.pauses for breaker in self._breakers.values())

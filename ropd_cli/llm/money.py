"""What requests cost: tokens before they are sent, money after, and the limit on it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ropd_cli.config.models import PriceConfig
from ropd_cli.errors import ConfigError, CostLimit
from ropd_cli.llm.list_prices import list_price, list_prices
from ropd_cli.records.schemas import Usage

FREE = PriceConfig(input=0.0, output=0.0)
TOKENS_A_BYTE = 1 / 3
"""Of a prompt, until the endpoint's own counts are known: on the high side for English (about 1/4)."""
FIRST_REPLY_TOKENS = 2048
"""What a reply without a limit is taken to need, until some have come."""
PER_MILLION = 1e-6
PLAUSIBLE_BYTES_A_TOKEN = (1.5, 8.0)
CONTEXT_TOKENS = 1024
"""No server has a smaller context: a lower count of a long prompt is a made-up one, not that of a prompt cut to fit."""
_WORD = re.compile(rb"[A-Za-z]{2,}")
_RUN = re.compile(rb"(.)\1{3,}", re.DOTALL)
"""The same byte again and again, which is few tokens."""


class Expectation:
    """How many tokens a request of an endpoint will use, learnt from those that came back."""

    def __init__(self) -> None:
        self._bytes = self._prompt_tokens = 0
        self._longest = 0
        self.replies = self._reply_tokens = 0
        self._is_counted = False
        """Whether the endpoint's counts go by the prompts' lengths, as far as has been seen."""

    def prompt_tokens(self, size: int) -> int:
        """Return the tokens of a body of ``size`` bytes."""
        share = self._prompt_tokens / self._bytes if self._bytes else TOKENS_A_BYTE
        return int(size * share) + 1

    def reply_tokens(self, max_tokens: int | None) -> int:
        """Return the tokens of a reply on average: half of the limit at first, then what the replies had."""
        if self.replies:
            mean = self._reply_tokens // self.replies + 1
            return min(mean, max_tokens or mean)
        return max_tokens // 2 + 1 if max_tokens else FIRST_REPLY_TOKENS

    def most_reply_tokens(self, max_tokens: int | None) -> int:
        """Return the most tokens of a reply: the limit, or without one half as much again as the longest so far."""
        return max_tokens or max(FIRST_REPLY_TOKENS, self._longest + self._longest // 2)

    def learn(self, size: int, usage: Usage | None) -> None:
        """A body of ``size`` bytes had a reply of this usage."""
        if usage is None:
            return
        if usage.prompt_tokens:
            self._bytes += size
            self._prompt_tokens += usage.prompt_tokens
            least, most = PLAUSIBLE_BYTES_A_TOKEN
            self._is_counted = self._is_counted or least <= size / usage.prompt_tokens <= most
        self.replies += 1
        self._reply_tokens += usage.completion_tokens
        self._longest = max(self._longest, usage.completion_tokens)

    def is_cut(self, prompt: bytes, usage: Usage | None) -> bool:
        """Return whether the server counted far fewer tokens than it was sent, so that it read a part of the prompt
        alone (Ollama cuts one to its context without a word).

        Every word is a token at least, and other text has about as many bytes a token as before. Where no count has
        been plausible yet, one of less than ``CONTEXT_TOKENS`` says nothing.
        """
        if usage is None or not usage.prompt_tokens or len(prompt) < 6 * usage.prompt_tokens:
            return False
        if not self._is_counted and usage.prompt_tokens < CONTEXT_TOKENS:
            return False
        if sum(1 for _ in _WORD.finditer(prompt)) > 1.1 * usage.prompt_tokens:
            return True
        without_runs = len(_RUN.sub(rb"\1\1\1", prompt))
        return self._is_counted and self.prompt_tokens(without_runs) > 2.5 * usage.prompt_tokens


@dataclass
class Budget:
    """The money of a run, in dollars: what it may cost, what it has cost, what is under way."""

    prices: Mapping[str, PriceConfig]
    max_usd: float | None = None
    spent_usd: float = 0.0
    reserved_usd: float = 0.0
    _under_way: int = 0
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def price(self, model: str, base_url: str) -> PriceConfig | None:
        """Return the price of a model: the table's, else its list price. The built-in provider is free. None where
        neither has it.

        Raises ConfigError for that where there is a limit, which could not be kept.
        """
        if base_url.startswith("builtin://"):
            return FREE
        price = self.prices.get(model) or list_price(model, base_url)
        if price is None and self.max_usd is not None:
            listed = list_prices()
            rates, why = "{input: …, output: …}", ""
            if own := listed.prices.get(model):
                rates = f"{{input: {own.input:g}, output: {own.output:g}}}"
                why = f"; the list price, as here, counts at {listed.host} only"
            raise ConfigError(
                [f"prices: {model} has no price, and a limit on the cost is set"],
                "configuration",
                f"give it in dollars per million tokens: --set 'prices={{{model}: {rates}}}'{why}",
            )
        return price

    async def reserve(self, usd: float) -> None:
        """Set money aside for a request; where too little is left, wait for what is under way, which mostly
        costs less than was set aside for it. Raises CostLimit when nothing is under way any more."""
        while self.max_usd is not None and self.spent_usd + self.reserved_usd + usd > self.max_usd:
            if not self._under_way:
                raise CostLimit(
                    f"the next request could cost ${usd:.4f}; ${self.spent_usd:.4f} of ${self.max_usd:g} are spent",
                    "raise --max-cost (or max_cost) to go on from here; the same command again may spend as much once "
                    "more (a training: no more, its limit is per run)",
                )
            await self._settled.wait()
        self._under_way += 1
        self.reserved_usd += usd

    def settle(self, reserved: float, spent: float) -> None:
        """A request is over: what was set aside is free again, what it cost is spent."""
        self._under_way -= 1
        self.reserved_usd = self.reserved_usd - reserved if self._under_way else 0.0
        self.spent_usd += spent
        self._settled.set()
        self._settled = asyncio.Event()


def cost_usd(price: PriceConfig, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
    """Return the dollars of one request: ``cached_tokens`` of the prompt's tokens at their own price."""
    cached_price = price.input if price.cached_input is None else price.cached_input
    fresh = max(0, prompt_tokens - cached_tokens)
    return PER_MILLION * (fresh * price.input + cached_tokens * cached_price + completion_tokens * price.output)

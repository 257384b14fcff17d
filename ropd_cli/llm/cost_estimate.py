"""What a stage would ask for, before it does: calls, tokens and money."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ropd_cli.config.models import EndpointConfig, PriceConfig
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatRequest, joinable
from ropd_cli.llm.money import Budget, Expectation, cost_usd
from ropd_cli.llm.urls import base_url

UNKNOWN_REPLY_TOKENS = 1024
"""Of a reply in free text without a limit, where the cache holds none to learn from."""
CRITERION_TOKENS, VERDICT_TOKENS, ROW_TOKENS = 70, 2, 20


@dataclass(frozen=True)
class Forecast:
    """``calls`` are to be sent, ``cached`` are answered from the cache. Tokens are estimates; ``cost_usd`` is None
    where the model has no price. ``measured`` says whether cached replies were there to learn from."""

    calls: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    measured: bool

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def forecast(
    requests: Iterable[ChatRequest],
    endpoint: EndpointConfig,
    cache: ReplyCache | None,
    budget: Budget,
    *,
    together: bool = False,
) -> Forecast:
    """Return what sending ``requests`` to ``endpoint`` takes. A retry and an answer asked for again come on top.

    ``together``: samples of one question that follow each other are one call, as ``ChatClient.samples`` sends them.
    Raises ConfigError where a limit on the cost is set and the model has no price.
    """
    url = base_url(endpoint)
    learnt, sizes, guesses, cached = Expectation(), [], [], 0
    price: PriceConfig | None = None
    question: str | None = None
    for request in requests:
        price = budget.price(request.model, url)
        known = cache.get(cache_key(url, request), request.sampling.max_tokens) if cache is not None else None
        size = len(request.messages_json)
        if known is not None:
            cached += 1
            learnt.learn(size, known.usage)
        else:
            asked_before, question = question, _question(request) if together else None
            if question is None or question != asked_before:
                sizes.append(size)
            guesses.append(_reply_tokens(request))
    measured = learnt.replies > 0
    prompt_tokens = sum(learnt.prompt_tokens(size) for size in sizes)
    reply_tokens = sum(learnt.reply_tokens(None) if measured else guess for guess in guesses)
    cost = cost_usd(price, prompt_tokens, reply_tokens) if price is not None else (0.0 if not sizes else None)
    return Forecast(len(sizes), cached, prompt_tokens, reply_tokens, cost, measured)


def _question(request: ChatRequest) -> str | None:
    """Return what samples of one request have in common; None where each is a request of its own."""
    return request.model_copy(update={"sample": 0}).digest if joinable(request) else None


def _reply_tokens(request: ChatRequest) -> int:
    """Return a guess from what is asked for: a rubric, verdicts or scores by number, or free text."""
    limit = request.sampling.max_tokens
    properties = request.form.body.get("properties", {}) if request.form else {}
    if "rubrics" in properties:
        guess = 8 * CRITERION_TOKENS
    elif "answers" in properties:
        rows = properties["answers"].get("minItems", 1)
        judgement = properties["answers"]["items"]["properties"].get("judgement")
        criteria = judgement.get("minItems", 8) if judgement else 0  # a score is in the row
        guess = rows * (ROW_TOKENS + criteria * VERDICT_TOKENS)
    else:
        guess = limit // 2 + 1 if limit else UNKNOWN_REPLY_TOKENS
    return min(guess, limit or guess)

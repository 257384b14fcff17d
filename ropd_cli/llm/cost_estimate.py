"""What a stage would ask for, before it does: calls, tokens and money."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from ropd_cli.config.models import EndpointConfig, PriceConfig
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatReply, ChatRequest, joinable
from ropd_cli.llm.money import Budget, Expectation, cost_usd
from ropd_cli.llm.urls import base_url

UNKNOWN_REPLY = (16, 512, 8192)
"""Tokens of a reply in free text of which nothing is known and which has no limit: few, the guess, many."""
ENOUGH_OTHERS = 5
"""So many other replies of the model say how long its replies are."""
CRITERION_TOKENS, VERDICT_TOKENS, ROW_TOKENS = 70, 2, 20

FIRST = 5
"""So many prompts tell how long replies are."""
LEAST_SHARE = 0.6
"""What a prompt has at least of its estimated tokens: five bytes per token instead of three."""
Span = tuple[int, int, int]
"""Tokens of a reply: few, about, many."""


@dataclass(frozen=True)
class Forecast:
    """What requests to a model would take (``--dry-run``). ``calls`` are to be sent, ``cached`` are answered from the
    cache. Tokens are estimates, a range is (least, most); ``cost_usd`` is None where the model has no price.
    ``measured`` says whether cached replies to the same kind of request were there to learn from, ``rule`` in words how
    long replies are taken to be."""

    model: str
    calls: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    measured: bool
    completion_tokens_range: tuple[int, int]
    cost_usd_range: tuple[float, float] | None
    rule: str


def forecast(
    requests: Iterable[ChatRequest],
    endpoint: EndpointConfig,
    cache: ReplyCache | None,
    budget: Budget,
    *,
    known: Iterable[ChatRequest] = (),
    together: bool = False,
    samples: float = 1.0,
) -> Forecast:
    """Return what sending ``requests`` to ``endpoint`` takes. Retries come on top.

    ``samples``: how many are asked for on average until one is kept.

    ``known``: requests of finished records; their replies in the cache tell what others are like.

    ``together``: samples of one question that follow each other are one call, as ``ChatClient.samples`` sends them.
    Raises ConfigError where a limit on the cost is set and the model has no price.
    """
    url = base_url(endpoint)
    learnt, sizes, cached = Expectation(), [], 0
    lengths: list[int] = []
    left: list[ChatRequest] = []
    price: PriceConfig | None = None
    question: str | None = None

    def reply_to(request: ChatRequest) -> ChatReply | None:
        return cache.get(cache_key(url, request), request.sampling.max_tokens) if cache is not None else None

    def learn(request: ChatRequest, reply: ChatReply) -> None:
        learnt.learn(len(request.messages_json), reply.usage)
        lengths.extend([reply.usage.completion_tokens] if reply.usage else ())

    for request in known if cache is not None else ():
        if (reply := reply_to(request)) is not None:
            learn(request, reply)
    for request in requests:
        price = budget.price(request.model, url)
        reply = reply_to(request)
        size = len(request.messages_json)
        if reply is not None:
            cached += 1
            learn(request, reply)
        else:
            asked_before, question = question, _question(request) if together else None
            if question is None or question != asked_before:
                sizes.append(size)
            left.append(request)
    spans, rule = _spans(left, lengths, cache)
    prompt_tokens = round(samples * sum(learnt.prompt_tokens(size) for size in sizes))
    least, about, most = (round(samples * sum(span[k] for span in spans)) for k in range(3))
    measured = bool(lengths)
    few_prompt_tokens = prompt_tokens if measured else round(prompt_tokens * LEAST_SHARE)

    def dollars(sent: int, reply_tokens: int) -> float | None:
        if price is None:
            return None if sizes else 0.0
        return cost_usd(price, sent, reply_tokens)

    cost = dollars(prompt_tokens, about)
    low, high = dollars(few_prompt_tokens, least), dollars(prompt_tokens, most)
    costs = (low, high) if low is not None and high is not None else None
    calls = round(samples * len(sizes))
    return Forecast(
        str(endpoint.model), calls, cached, prompt_tokens, about, cost, measured, (least, most), costs, rule
    )


def _spans(requests: list[ChatRequest], lengths: list[int], cache: ReplyCache | None) -> tuple[list[Span], str]:
    """Return the tokens of each reply, and in words by which rule. ``lengths`` are the tokens of replies to the same
    kind of request."""
    if not requests:
        return [], "nothing is left to ask"
    if lengths:
        span, count = _as_before(lengths, len(requests)), len(requests)
        return [span] * count, f"replies as long as the {len(lengths)} in the cache"
    by_form = [_of_form(request) for request in requests]
    by_rule = "length of replies guessed by what is asked for, half to double"
    if all(by_form):
        return [span for span in by_form if span], by_rule
    others = sorted(cache.reply_tokens(requests[0].model)) if cache is not None else []
    if len(others) >= ENOUGH_OTHERS:
        span = (others[len(others) // 10], round(fmean(others)), others[len(others) * 9 // 10])
        rule = f"replies as long as {len(others)} others of this model in the cache"
        rule += "; range: their middle 80%" if span[0] < span[2] else ""
    else:
        limit = requests[0].sampling.max_tokens
        span = _guessed(limit)
        most = f"{span[2]:,}" + (" (max_tokens)" if limit else "")
        rule = f"length of replies is a guess: {span[1]:,} tokens each, {span[0]:,} to {most}"
        if len(requests) > FIRST:
            rule += f"; the first replies tell: --limit {FIRST} without --dry-run puts some into the cache"
    spans = [known or _limited(span, each.sampling.max_tokens) for each, known in zip(requests, by_form, strict=True)]
    return spans, f"{rule}; others: {by_rule}" if any(by_form) else rule


def _as_before(lengths: list[int], count: int) -> Span:
    """Return the tokens per reply of ``count`` replies, from the lengths of earlier ones: the mean, with two standard
    errors of the difference between two means of so many; half to double where they are too few to tell."""
    mean = round(fmean(lengths))
    if len(lengths) < FIRST:
        return mean // 2 + 1, mean, 2 * mean
    error = round(2 * stdev(lengths) * sqrt(1 / len(lengths) + 1 / count))
    return max(1, mean - error), mean, mean + error


def _guessed(limit: int | None) -> Span:
    """Return what a reply of which nothing is known may have: under ``max_tokens`` an eighth to all of it, about half,
    and no more than without."""
    if limit is None:
        return UNKNOWN_REPLY
    few, about, _ = UNKNOWN_REPLY
    return min(few, limit // 8 + 1), min(about, limit // 2 + 1), limit


def _limited(span: Span, limit: int | None) -> Span:
    """Return a span under ``max_tokens``."""
    few, about, many = (min(tokens, limit or tokens) for tokens in span)
    return few, about, many


def _question(request: ChatRequest) -> str | None:
    """Return what samples of one request have in common; None where each is a request of its own."""
    return request.model_copy(update={"sample": 0}).digest if joinable(request) else None


def _of_form(request: ChatRequest) -> Span | None:
    """Return the tokens of a rubric, or of verdicts or scores by number, half to double the guess; None for others."""
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
        return None
    return _limited((guess // 2 + 1, guess, 2 * guess), limit)

"""Pace: requests and tokens a minute, pauses that an endpoint asks for, shared by the clients of a run."""

import asyncio

import pytest
from servers import Reply, Status, until

from ropd_cli.config import EndpointConfig, LimitsConfig, RopdConfig
from ropd_cli.llm import limits as limits_module
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.limits import Bucket, Limiter, duration_s, nothing_left_s
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.shared import Shared
from ropd_cli.records.schemas import Message


def ask(text):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m")


def endpoint(server, **limits):
    return EndpointConfig(model="m", base_url=server.url, limits=LimitsConfig(**limits))


class Clock:
    """Time that passes only where somebody waits for it."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(limits_module.time, "monotonic", lambda: self.now)

    async def pause(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.mark.parametrize("rpm", [1, 7, 60, 500, 30_000])
async def test_no_minute_has_more_requests_than_allowed(clock, rpm):
    limiter = Limiter(LimitsConfig(rpm=rpm))
    sent = []
    for _ in range(3 * min(rpm, 2000) + 5):
        await limiter.admit(0, clock.pause)
        sent.append(clock.now)
    for first, start in enumerate(sent):
        assert sum(start <= at < start + 60 for at in sent[first : first + rpm + 5]) <= rpm
    if rpm <= 2000:  # and hardly fewer: the pace is the limit
        assert sent[-1] - sent[0] <= (len(sent) - 1) * 60 / rpm * 1.01 + 1e-6


async def test_no_minute_has_more_tokens_than_allowed_but_for_the_burst(clock):
    limiter = Limiter(LimitsConfig(tpm=6000))
    sent = []
    for tokens in [100, 700, 50, 2000, 10] * 20:  # the largest is more than the bucket holds
        await limiter.admit(tokens, clock.pause)
        sent.append((clock.now, tokens))
    for start, _ in sent:
        assert sum(n for at, n in sent if start <= at < start + 60) <= 6000 + 600 + 2000
    assert sum(n for _, n in sent) / (sent[-1][0] - sent[0][0]) * 60 >= 5900


async def test_what_was_not_used_is_given_back(clock):
    limiter = Limiter(LimitsConfig(tpm=6000))
    for _ in range(50):
        await limiter.admit(600, clock.pause)
        limiter.settle(600, 60)
    assert clock.now - 1000 < 60 * 50 * 70 / 6000


async def test_a_bucket_never_holds_more_than_its_capacity(clock):
    bucket = Bucket(60, 2)
    clock.now += 1e6
    bucket.take(-5)
    assert bucket.wait_s(2) == 0
    bucket.take(2)
    assert bucket.wait_s(1) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("headers", "held_s"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1.5s"}, 1.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m2s"}, 62),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "30"}, 30),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9h"}, 120),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "60s"}, 0),
        ({"x-ratelimit-remaining-requests": "0"}, 0),
        ({}, 0),
    ],
)
async def test_headers_that_say_nothing_is_left(clock, headers, held_s):
    limiter = Limiter(LimitsConfig())
    limiter.hold(nothing_left_s(headers))
    await limiter.admit(1, clock.pause)
    assert clock.now - 1000 == pytest.approx(held_s)


@pytest.mark.parametrize(
    ("text", "seconds"), [("20ms", 0.02), ("6m0s", 360), ("1h2m", 3720), ("2.5", 2.5), ("", None), ("soon", None)]
)
def test_durations(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("rpms", [(1200, 100_000), (100_000, 1200), (None, 1200)])
async def test_the_clients_of_a_run_keep_one_pace(server, rpms):
    one, other = (endpoint(server, rpm=rpm) for rpm in rpms)
    shared = Shared()
    assert shared.limiter(one) is shared.limiter(other)  # and the lowest holds
    async with (
        ChatClient.open(one, cache=None, shared=shared, environ={}) as a,
        ChatClient.open(other, cache=None, shared=shared, environ={}) as b,
    ):
        await asyncio.gather(*(client.complete(ask(f"{n}")) for n in range(10) for client in (a, b)))
    times = sorted(request.at for request in server.requests)
    assert len(times) == 20 and times[-1] - times[0] >= 0.05 * 15  # 20 a second; the first ones may arrive late


async def test_sections_that_nobody_asks_have_no_say(server):
    one = endpoint(server, concurrency=128)
    config = RopdConfig(teacher=endpoint(server, concurrency=2), rubricator=endpoint(server, rpm=1), verifier=one)
    limiter = Shared.of(config).limiter(config.verifier)
    assert limiter.concurrency == 128 and not limiter.paces


async def test_other_models_and_urls_have_limits_of_their_own(server):
    one = endpoint(server, rpm=10)
    shared = Shared()
    assert shared.limiter(one) is not shared.limiter(one.model_copy(update={"model": "n"}))
    assert shared.limiter(one) is not shared.limiter(one.model_copy(update={"base_url": "http://127.0.0.1:9/v1"}))


async def test_a_retry_after_holds_everybody_back(server):
    server.script(Status(429, retry_after=0.4))
    retry = RetryPolicy(max_retries=2, first_wait_s=0.0)
    async with ChatClient.open(endpoint(server), cache=None, retry=retry, environ={}) as client:
        first = asyncio.create_task(client.complete(ask("a")))
        await until(lambda: server.requests)
        await asyncio.sleep(0.1)
        await asyncio.gather(first, *(client.complete(ask(f"{n}")) for n in range(3)))
    turned_away, *others = (request.at for request in server.requests)
    assert len(others) == 4 and min(others) - turned_away >= 0.39


async def test_the_tokens_of_replies_count(server):
    server.default = Reply("x", usage={"prompt_tokens": 100, "completion_tokens": 900})
    async with ChatClient.open(endpoint(server, tpm=60_000, concurrency=1), cache=None, environ={}) as client:
        for number in range(8):
            await client.complete(ask(str(number)))
    times = [request.at for request in server.requests]
    # 8,000 tokens, of which the bucket held 6,000 and the last 1,000 were not waited for
    assert times[-1] - times[0] >= 0.8

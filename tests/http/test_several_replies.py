"""Several samples of one question: one request where the endpoint can, each reply with a key of its own."""

from __future__ import annotations

import asyncio

import pytest
from servers import Reply, Status

from ropd_cli.config.models import EndpointConfig, LimitsConfig, PriceConfig, SamplingConfig
from ropd_cli.errors import CostLimit, ProviderRefused
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import endpoint_request
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.money import Budget
from ropd_cli.llm.retry import NO_WAIT
from ropd_cli.llm.shared import Shared
from ropd_cli.records.schemas import Message


def several(body):
    """A server that gives as many choices as it is asked for."""
    n = body.get("n", 1)
    return Reply(
        "a0", others=tuple(f"a{k}" for k in range(1, n)), usage={"prompt_tokens": 10, "completion_tokens": 5 * n}
    )


def at_most(limit):
    """A server that gives fewer."""

    def step(body):
        n = min(limit, body.get("n", 1))
        return Reply("b0", others=tuple(f"b{k}" for k in range(1, n)))

    return step


@pytest.fixture
def cache(tmp_path):
    with ReplyCache.open(tmp_path) as opened:
        yield opened


def opened(server, *, cache=None, shared=None, **endpoint):
    config = EndpointConfig(model="m", base_url=server.url, limits=LimitsConfig(max_retries=1), **endpoint)
    return ChatClient.open(config, cache=cache, retry=NO_WAIT, shared=shared, environ={"OPENAI_API_KEY": "k"})


def asked(client, numbers=range(4), content="q"):
    messages = (Message(role="user", content=content),)
    return [endpoint_request(client.endpoint, messages, sample=number) for number in numbers]


async def texts(client, numbers=range(4), **how):
    return [reply.text for reply in await client.samples(asked(client, numbers, **how))]


async def test_one_request_for_all_and_each_is_cached_by_its_own_number(server, cache):
    server.default = several
    async with opened(server, cache=cache) as client:
        replies = await client.samples(asked(client))
        assert [reply.text for reply in replies] == ["a0", "a1", "a2", "a3"]
        assert [body.get("n") for body in server.bodies] == [4]
        # the prompt is counted once, and the parts add up
        assert [reply.usage.prompt_tokens for reply in replies] == [10, 0, 0, 0]
        assert sum(reply.usage.completion_tokens for reply in replies) == client.stats.completion_tokens == 20
        assert client.stats.prompt_tokens == 10 and client.stats.requests_sent == 1
        for number, request in enumerate(asked(client)):
            assert cache.get(cache_key(server.url, request)).text == f"a{number}"
    async with opened(server, cache=cache) as client:  # singly they are the same
        replies = await client.samples(asked(client), together=False)
        assert [reply.text for reply in replies] == ["a0", "a1", "a2", "a3"] and client.stats.cache_hits == 4
    assert len(server.requests) == 1


async def test_only_what_the_cache_lacks_is_asked_for(server, cache):
    server.default = several
    async with opened(server, cache=cache) as client:
        await client.complete(asked(client)[2])
        server.default = lambda body: Reply("n0", others=("n1", "n2"))
        assert await texts(client) == ["n0", "n1", "a0", "n2"]
        assert [body.get("n") for body in server.bodies] == [None, 3]


@pytest.mark.parametrize("status", [400, 422, 501])
async def test_a_server_that_refuses_is_asked_singly_and_not_tried_again(server, status):
    server.default = lambda body: Status(status, "n has to be 1") if "n" in body else Reply("one")
    async with opened(server) as client:
        assert await texts(client) == ["one"] * 4
        assert [body.get("n") for body in server.bodies] == [4, None, None, None, None]
        assert await texts(client, content="another") == ["one"] * 4
        assert all("n" not in body for body in server.bodies[5:])


async def test_a_refusal_of_the_question_itself_is_one(server):
    server.default = Status(400, "the question is too long")
    async with opened(server) as client:
        with pytest.raises(ProviderRefused, match="too long"):
            await texts(client)
        server.default = several  # and says nothing of the number
        assert await texts(client, content="short") == ["a0", "a1", "a2", "a3"]
        server.default = Status(400, "no")
        before = len(server.requests)
        with pytest.raises(ProviderRefused):
            await texts(client, content="third")
        assert len(server.requests) == before + 1  # it is known to take four


@pytest.mark.parametrize(("limit", "first", "then"), [(1, [4, 1, 1, 1], [1] * 4), (2, [4, 1, 1], [2, 2])])
async def test_fewer_than_asked_for_are_used_and_the_rest_follows(server, limit, first, then):
    server.default = at_most(limit)
    async with opened(server) as client:
        assert len(await texts(client)) == 4
        assert [body.get("n", 1) for body in server.bodies] == first
        assert len(await texts(client, content="another")) == 4
        assert [body.get("n", 1) for body in server.bodies[len(first) :]] == then


@pytest.mark.parametrize("endpoint", [{"api": "responses"}, {"sampling": SamplingConfig(seed=3)}])
async def test_what_can_not_be_joined_is_asked_singly(server, endpoint):
    async with opened(server, **endpoint) as client:
        assert len(await texts(client)) == 4
    assert len(server.requests) == 4 and all("n" not in body for body in server.bodies)
    if "sampling" in endpoint:
        assert sorted(body["seed"] for body in server.bodies) == [3, 4, 5, 6]


async def test_equal_calls_under_way_are_sent_once(server):
    server.default = lambda body: Reply(delay_s=0.1, others=("x",) * (body.get("n", 1) - 1))
    async with opened(server) as client:
        single = asyncio.create_task(client.complete(asked(client)[0]))
        await asyncio.sleep(0.03)
        both = await asyncio.gather(client.samples(asked(client)), client.samples(asked(client)))
        await single
    assert sorted(body.get("n", 1) for body in server.bodies) == [1, 3]
    assert [reply.text for reply in both[0]] == [reply.text for reply in both[1]] == ["hello", "hello", "x", "x"]


async def test_a_call_that_is_cancelled_leaves_the_others_to_go_on(server):
    server.default = lambda body: Reply(delay_s=0.2, others=("x",) * (body.get("n", 1) - 1))
    async with opened(server) as client:
        first = asyncio.create_task(client.samples(asked(client)))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(client.samples(asked(client)))
        await asyncio.sleep(0.02)
        first.cancel()
        assert len(await second) == 4
    assert [body.get("n", 1) for body in server.bodies] == [4, 1, 1, 1, 1]


async def test_an_error_is_retried_as_one_request_and_told_to_all(server):
    server.script(Status(500))
    server.default = several
    async with opened(server) as client:
        assert await texts(client) == ["a0", "a1", "a2", "a3"]
        assert [body.get("n") for body in server.bodies] == [4, 4] and client.stats.retries == 1


async def test_the_budget_counts_every_reply(server):
    server.default = several
    prices = {"m": PriceConfig(input=0.0, output=1e6)}  # a dollar a token
    limits = {"sampling": SamplingConfig(max_tokens=10)}
    async with opened(server, shared=Shared(Budget(prices, max_usd=39.0)), **limits) as client:
        with pytest.raises(CostLimit, match="40"):
            await texts(client)
    async with opened(server, shared=Shared(Budget(prices, max_usd=40.0)), **limits) as client:
        await texts(client)
        assert client.stats.cost_usd == pytest.approx(20.0)

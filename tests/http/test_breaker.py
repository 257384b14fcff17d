"""An endpoint that stops answering is waited for, and only then."""

import asyncio
import time

import pytest
from servers import Drop, Reply, Status, until

from ropd_cli.config import EndpointConfig, LimitsConfig
from ropd_cli.errors import ProviderBusy, ProviderDown, ProviderUnreachable
from ropd_cli.llm import breaker as breaker_module
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.shared import Shared
from ropd_cli.records.schemas import Message


def ask(text):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m")


@pytest.fixture
def said():
    return []


@pytest.fixture
def opened(server, said, monkeypatch):
    monkeypatch.setattr(breaker_module, "FIRST_PROBE_S", 0.05)

    def make(*, max_pause_s=30.0, retries=5, concurrency=8):
        limits = LimitsConfig(max_pause_s=max_pause_s, concurrency=concurrency)
        endpoint = EndpointConfig(model="m", base_url=server.url, limits=limits)
        retry = RetryPolicy(max_retries=retries, first_wait_s=0.0, max_wait_s=0.0)
        return ChatClient.open(endpoint, cache=None, retry=retry, environ={}, shared=Shared(say=said.append))

    return make


@pytest.mark.parametrize("step", [Drop(), Status(503)], ids=["drop", "503"])
async def test_calls_wait_for_an_endpoint_that_comes_back(server, opened, said, step):
    async with opened() as client:
        await client.complete(ask("alive"))
        server.default = step
        calls = [asyncio.create_task(client.complete(ask(f"{n}"))) for n in range(20)]
        await until(lambda: said)
        sent = len(server.requests)
        await asyncio.sleep(0.3)
        probes = len(server.requests) - sent
        server.default = Reply("back")
        replies = await asyncio.wait_for(asyncio.gather(*calls), 20)
    assert [reply.text for reply in replies] == ["back"] * 20
    assert probes <= 12 and client.stats.failures == 0  # one at a time, further and further apart
    assert "pausing until it answers again" in said[0] and "answers again after" in said[-1]
    assert client.shared.pauses == 1


async def test_a_pause_has_an_end(server, opened, said):
    async with opened(max_pause_s=0.5) as client:
        await client.complete(ask("alive"))
        server.default = Drop()
        began = time.monotonic()
        faults = await asyncio.gather(*(client.complete(ask(f"{n}")) for n in range(20)), return_exceptions=True)
        assert 0.5 <= time.monotonic() - began < 20
    assert {type(fault) for fault in faults} == {ProviderDown}
    assert "waited for" in faults[0].message and "same command" in faults[0].hint and faults[0].exit_code == 4


async def test_an_endpoint_that_never_answered_is_not_waited_for(server, opened, said):
    server.default = Drop()
    async with opened() as client:
        faults = await asyncio.gather(*(client.complete(ask(f"{n}")) for n in range(10)), return_exceptions=True)
    assert {type(fault) for fault in faults} == {ProviderUnreachable} and not said


async def test_one_call_that_it_can_not_serve_is_that_calls_own_fault(server, opened, said):
    server.default = lambda body: Status(500) if "poison" in str(body) else Reply()
    async with opened(retries=9) as client:
        await client.complete(ask("fine"))
        with pytest.raises(ProviderBusy):
            await client.complete(ask("poison"))
        await client.complete(ask("fine too"))
    assert not said and client.stats.requests_sent == 12


async def test_refusals_are_answers(server, opened, said):
    server.default = Status(429)
    async with opened(retries=3) as client:
        server.script(Reply())
        await client.complete(ask("alive"))
        await asyncio.gather(*(client.complete(ask(f"{n}")) for n in range(10)), return_exceptions=True)
    assert not said


async def test_without_patience_nothing_is_waited_for(server, opened, said):
    async with opened(max_pause_s=0, retries=1) as client:
        await client.complete(ask("alive"))
        server.default = Drop()
        faults = await asyncio.gather(*(client.complete(ask(f"{n}")) for n in range(10)), return_exceptions=True)
    assert {type(fault) for fault in faults} == {ProviderUnreachable} and not said


async def test_closing_ends_a_pause(server, opened, said):
    client = opened()
    await client.complete(ask("alive"))
    server.default = Drop()
    calls = [asyncio.create_task(client.complete(ask(f"{n}"))) for n in range(10)]
    await until(lambda: said)
    await client.close()
    faults = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
    assert {type(fault) for fault in faults} == {ProviderUnreachable}


async def test_a_cancelled_probe_makes_room_for_the_next(server, opened, said):
    async with opened() as client:
        await client.complete(ask("alive"))
        server.default = Status(503)
        calls = [asyncio.create_task(client.complete(ask(f"{n}"))) for n in range(6)]
        await until(lambda: said)
        for call in calls[:5]:
            call.cancel()
        server.default = Reply("back")
        assert (await asyncio.wait_for(calls[5], 20)).text == "back"

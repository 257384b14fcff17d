"""Keys and headers: several keys in turn, values from the environment, and nothing of them anywhere else."""

import asyncio

import pytest
from servers import FromRequest, Raw, Reply, Status

from ropd_cli.config import EndpointConfig
from ropd_cli.errors import InputError, ProviderBusy, ProviderRefused
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.keys import KeyRing, Secrets
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.shared import Shared
from ropd_cli.records.schemas import Message

KEYS = {"A": "sk-aaaaaaaaaaaaaaaa", "B": "sk-bbbbbbbbbbbbbbbb", "C": "sk-cccccccccccccccc"}


def ask(text):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m")


def opened(server, *, names="A,B,C", environ=KEYS, retries=3, say=lambda _: None, **more):
    endpoint = EndpointConfig(model="m", base_url=server.url, api_key_env=names, **more)
    retry = RetryPolicy(max_retries=retries, first_wait_s=0.0, max_wait_s=0.0)
    return ChatClient.open(endpoint, cache=None, retry=retry, environ=environ, shared=Shared(say=say))


def used(server):
    return [request.headers["authorization"].removeprefix("Bearer ") for request in server.requests]


async def test_keys_take_turns(server):
    async with opened(server, names="A, B,C") as client:
        for number in range(6):
            await client.complete(ask(str(number)))
    assert used(server) == list(KEYS.values()) * 2


async def test_a_key_that_was_turned_away_rests_while_the_others_go_on(server):
    server.script(Status(429, retry_after=30))
    async with opened(server) as client:
        for number in range(4):
            await asyncio.wait_for(client.complete(ask(str(number))), 10)
    assert used(server) == [KEYS["A"], KEYS["B"], KEYS["C"], KEYS["B"], KEYS["C"]]


async def test_a_key_with_nothing_left_rests_while_the_others_go_on(server):
    spent = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "60s"}
    server.script(Reply(headers=spent))
    async with opened(server) as client:
        for number in range(4):
            await asyncio.wait_for(client.complete(ask(str(number))), 10)
    assert used(server) == [KEYS["A"], KEYS["B"], KEYS["C"], KEYS["B"]]


async def test_when_all_keys_rest_the_first_to_be_ready_is_waited_for(server):
    server.script(Status(429, retry_after=30), Status(429, retry_after=0.3))
    async with opened(server, names="A,B") as client:
        await asyncio.wait_for(client.complete(ask("x")), 10)
    assert used(server) == [KEYS["A"], KEYS["B"], KEYS["B"]]
    assert server.requests[2].at - server.requests[1].at >= 0.29


async def test_a_refused_key_is_left_out_and_the_last_one_s_refusal_is_the_end(server):
    said = []
    server.script(Status(401))
    async with opened(server, names="A,B", say=said.append) as client:
        for number in range(3):
            await client.complete(ask(str(number)))
        assert used(server) == [KEYS["A"], KEYS["B"], KEYS["B"], KEYS["B"]]
        assert len(said) == 1 and "the key in A is refused" in said[0] and KEYS["A"] not in said[0]
        server.default = Status(401)
        with pytest.raises(ProviderRefused, match="status 401"):
            await client.complete(ask("again"))
    assert len(server.requests) == 5


async def test_calls_that_were_under_way_with_a_refused_key_go_on_with_the_other(server):
    server.default = FromRequest(lambda r: Reply() if r.headers["authorization"].endswith(KEYS["A"]) else Status(401))
    said = []
    async with opened(server, names="A,B", say=said.append) as client:
        await asyncio.gather(*(client.complete(ask(f"{number}")) for number in range(12)))
    assert len(said) == 1 and client.stats.failures == 0


@pytest.mark.parametrize("environ", [{"A": "sk-aaaaaaaaaaaaaaaa"}, {"A": "x", "B": " "}])
async def test_a_variable_that_is_not_set_is_named(server, environ):
    async with opened(server, names="A,B", environ=environ) as client:
        with pytest.raises(InputError, match="variable B is not set"):
            await client.complete(ask("x"))
    assert not server.requests


def test_without_a_url_a_key_is_needed_or_a_header_in_its_place():
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        KeyRing.read(EndpointConfig(model="m"), {})
    assert not KeyRing.read(EndpointConfig(model="m", headers={"api-key": "${AZURE}"}), {})


async def test_headers_are_sent_with_values_from_the_environment(server):
    headers = {"api-key": "${AZURE_KEY}", "X-Team": "distil"}
    async with opened(server, names="NONE", environ={"AZURE_KEY": "azure-secret-1234"}, headers=headers) as client:
        await client.complete(ask("x"))
        server.default = Status(500, "azure-secret-1234 said")
        with pytest.raises(ProviderBusy) as caught:
            await client.complete(ask("y"))
    assert server.requests[0].headers["api-key"] == "azure-secret-1234"
    assert server.requests[0].headers["x-team"] == "distil"
    assert server.requests[0].headers["authorization"] == "Bearer none"
    assert "azure-secret" not in caught.value.message and "***" in caught.value.message


async def test_an_authorization_of_ones_own_replaces_ours(server):
    async with opened(server, environ=KEYS | {"TOKEN": "t0ken"}, headers={"authorization": "Basic ${TOKEN}"}) as client:
        await client.complete(ask("x"))
    assert server.requests[0].headers["authorization"] == "Basic t0ken"


@pytest.mark.parametrize(
    ("headers", "said"),
    [({"X": "${NOT_SET}"}, "NOT_SET is not set"), ({"a b": "x"}, "no name of a header"), ({"X": "a\nb"}, "characters")],
)
async def test_headers_that_can_not_be_sent(server, headers, said):
    async with opened(server, headers=headers) as client:
        with pytest.raises(InputError, match=said):
            await client.complete(ask("x"))
    assert not server.requests


async def test_a_reply_that_holds_the_key_does_not(server):
    server.script(Reply(f"your key is {KEYS['A']}"), Raw(b'{"choices": [], "error": "sk-aaaaaaaaaaaaaaaa"}'))
    async with opened(server, names="A", retries=0) as client:
        assert (await client.complete(ask("x"))).text == "your key is ***"
        with pytest.raises(Exception, match=r"\*\*\*"):
            await client.complete(ask("y"))


def test_what_is_no_secret_stays_in_replies():
    secrets = Secrets(["x", "EMPTY", 'with"quote/and/slash'])
    assert secrets.strike_from_answer("extra EMPTY words") == "extra EMPTY words"
    assert secrets.strike_from_answer(r'a with"quote/and/slash b with\"quote\/and\/slash c') == "a *** b *** c"

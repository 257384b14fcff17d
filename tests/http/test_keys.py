"""Keys and headers: values from the environment, and nothing of them anywhere else."""

import pytest
from servers import Raw, Reply, Status

from ropd_cli.config import EndpointConfig
from ropd_cli.config.masking import Secrets
from ropd_cli.errors import InputError, ProviderBusy
from ropd_cli.llm.api_key import api_key
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.records.schemas import Message

KEYS = {"A": "sk-aaaaaaaaaaaaaaaa"}


def ask(text):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m")


def opened(server, *, names="A", environ=KEYS, retries=3, **more):
    endpoint = EndpointConfig(model="m", base_url=server.url, api_key_env=names, **more)
    retry = RetryPolicy(max_retries=retries, first_wait_s=0.0, max_wait_s=0.0)
    return ChatClient.open(endpoint, cache=None, retry=retry, environ=environ)


def used(server):
    return [request.headers["authorization"].removeprefix("Bearer ") for request in server.requests]


async def test_one_key_an_endpoint(server):
    async with opened(server, names="A,B") as client:
        with pytest.raises(InputError, match="an endpoint has one key"):
            await client.complete(ask("x"))
    assert not server.requests


def test_without_a_url_a_key_is_needed_or_a_header_in_its_place():
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        api_key(EndpointConfig(model="m"), {})
    assert api_key(EndpointConfig(model="m", headers={"api-key": "${AZURE}"}), {}) is None


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

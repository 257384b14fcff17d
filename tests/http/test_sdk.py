"""The SDK as the transport: what it sends and what it keeps to itself, Azure, proxies, when it is imported."""

import asyncio
import logging
import socket
import subprocess
import sys

import pytest
from servers import Hang, Reply, Status

from ropd_cli.config import EndpointConfig, LimitsConfig
from ropd_cli.errors import InputError, ProviderRefused, ProviderUnreachable
from ropd_cli.llm.cache import cache_key
from ropd_cli.llm.chat import endpoint_request
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.model_list import list_models
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.records.schemas import Message

QUESTION = (Message(role="user", content="What is 17 + 25?"),)
AZURE = {"api": "azure", "api_version": "2024-10-21", "model": "judge"}


async def ask(endpoint, environ=None, times=1):
    async with ChatClient.open(endpoint, cache=None, retry=RetryPolicy(max_retries=0), environ=environ or {}) as client:
        for number in range(times):
            await client.complete(endpoint_request(endpoint, QUESTION, sample=number))


@pytest.fixture
def surroundings(monkeypatch):
    """All that the SDK would read from the environment, each with a word of its own."""
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", f"leaked-{name}")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Leak: leaked-header\nAuthorization: Bearer leaked-authorization")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/leaked")
    monkeypatch.setenv("OPENAI_API_VERSION", "leaked-version")
    for name in ("API_KEY", "AD_TOKEN", "ENDPOINT"):
        monkeypatch.setenv(f"AZURE_OPENAI_{name}", f"http://leaked-{name}")


@pytest.mark.parametrize("api", ["chat", "responses", "azure"])
async def test_nothing_of_the_surroundings_is_sent(server, surroundings, api):
    more = AZURE | {"base_url": server.url} if api == "azure" else {"model": "m", "base_url": server.url, "api": api}
    endpoint = EndpointConfig(headers={"X-Team": "distil"}, **more)
    server.default = Status(400, "no")
    with pytest.raises(ProviderRefused):
        await ask(endpoint, {"OPENAI_API_KEY": "the-key"})
    (request,) = server.requests
    assert "leaked" not in repr(request)
    headers = dict(request.headers)
    assert headers.pop("user-agent").startswith("ropd/") and headers.pop("host") in server.url
    assert headers.pop("content-length").isdigit() and "gzip" in headers.pop("accept-encoding")
    key = {"api-key": "the-key"} if api == "azure" else {"authorization": "Bearer the-key"}
    assert headers == key | {
        "accept": "application/json",
        "content-type": "application/json",
        "connection": "keep-alive",
        "x-stainless-retry-count": "0",
        "x-team": "distil",
    }


async def test_azure_has_the_deployment_in_the_path_and_the_version_behind_it(server):
    root = server.url.removesuffix("/v1")
    endpoint = EndpointConfig(base_url=f"{root}/", api_key_env="AZURE_KEY", **AZURE)
    await ask(endpoint, {"AZURE_KEY": "azure-key"})
    (request,) = server.requests
    assert request.path == "/openai/deployments/judge/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == "azure-key" and "authorization" not in request.headers
    assert request.body == {"model": "judge", "messages": [{"role": "user", "content": "What is 17 + 25?"}]}


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"Authorization": "Bearer ${TOKEN}"}, {"authorization": "Bearer entra-token"}),
        ({"API-Key": "${TOKEN}"}, {"api-key": "entra-token"}),
    ],
)
async def test_azure_takes_a_header_in_place_of_a_key(server, headers, sent):
    await ask(EndpointConfig(base_url=server.url, headers=headers, **AZURE), {"TOKEN": "entra-token"})
    found = {name: value for name, value in server.requests[0].headers.items() if name in ("authorization", "api-key")}
    assert found == sent


async def test_azure_refuses_in_words_that_name_the_key_s_variable(server):
    server.default = Status(401, "Access denied due to invalid subscription key azure-key-123456.")
    with pytest.raises(ProviderRefused, match=r"subscription key \*\*\*") as caught:
        await ask(
            EndpointConfig(base_url=server.url, api_key_env="AZURE_KEY", **AZURE), {"AZURE_KEY": "azure-key-123456"}
        )
    assert "AZURE_KEY" in caught.value.hint


@pytest.mark.parametrize("missing", ["base_url", "api_version"])
def test_azure_needs_a_url_and_a_version(missing):
    given = AZURE | {"base_url": "https://name.openai.azure.com"}
    del given[missing]
    with pytest.raises(InputError, match="api azure needs base_url and api_version"):
        ChatClient.open(EndpointConfig(**given), cache=None)


def test_azure_s_chats_are_chats_to_the_cache():
    url = "https://name.openai.azure.com"
    chat, azure = EndpointConfig(model="judge", base_url=url), EndpointConfig(base_url=url, **AZURE)
    keys = {cache_key(url, endpoint_request(endpoint, QUESTION)) for endpoint in (chat, azure)}
    assert len(keys) == 1


async def test_cookies_are_not_kept(server):
    server.default = Reply(headers={"Set-Cookie": "key=value; Path=/"})
    url = server.url.replace("127.0.0.1", "localhost")  # aiohttp keeps none of bare addresses anyway
    await ask(EndpointConfig(model="m", base_url=url), times=2)
    assert len(server.requests) == 2 and "cookie" not in server.requests[1].headers


@pytest.mark.parametrize(("excepted", "reached"), [("", True), ("judges.example", False)])
async def test_a_proxy_of_the_environment(server, monkeypatch, excepted, reached):
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", excepted)
    endpoint = EndpointConfig(model="m", base_url="http://judges.example/v1")
    if reached:
        await ask(endpoint)
        assert server.requests[0].path == "http://judges.example/v1/chat/completions"
    else:
        with pytest.raises(ProviderUnreachable):
            await ask(endpoint)
        assert not server.requests


async def test_a_query_is_in_no_line_of_a_log(server, caplog):
    caplog.set_level(logging.INFO)
    await ask(EndpointConfig(model="m", base_url=f"{server.url}?sig=the-signature"))
    assert server.requests[0].path.endswith("?sig=the-signature") and "the-signature" not in caplog.text


async def test_the_first_byte_has_a_limit_of_its_own(server):
    server.script(Hang(), Hang(drip=True))
    limits = LimitsConfig(first_byte_timeout_s=0.3, timeout_s=0.8)
    endpoint = EndpointConfig(model="m", base_url=server.url, limits=limits)
    with pytest.raises(ProviderUnreachable, match=r"no first byte within 0\.3 s"):
        await ask(endpoint)
    with pytest.raises(ProviderUnreachable, match=r"no answer within 0\.8 s"):  # the first byte came in time
        await ask(endpoint)


async def test_connecting_has_a_limit_of_its_own():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        others = [socket.socket() for _ in range(4)]
        for other in others:  # the queue is full: nobody gets through any more
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        limits = LimitsConfig(connect_timeout_s=0.3, timeout_s=20)
        with pytest.raises(ProviderUnreachable, match=r"no connection within 0\.3 s"):
            await ask(EndpointConfig(model="m", base_url=f"http://127.0.0.1:{port}/v1", limits=limits))
        for other in others:
            other.close()


async def test_a_listing_without_an_end_is_read_in_part():
    async def pour(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 100_000)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as endless:
        port = endless.sockets[0].getsockname()[1]
        endpoint = EndpointConfig(model="m", base_url=f"http://127.0.0.1:{port}/v1", limits=LimitsConfig(timeout_s=20))
        found = await list_models(endpoint, {})
    assert (found.status, found.names) == (200, None)


@pytest.mark.parametrize(
    "module",
    [
        "ropd_cli.cli.main",
        "ropd_cli.llm.client",
        "ropd_cli.llm.batch",
        "ropd_cli.stages.verify",
        "ropd_cli.doctor.endpoints",
    ],
)
def test_the_sdk_is_imported_at_the_first_request_only(module):
    program = f"import sys, {module}; sys.exit(bool({{'openai', 'aiohttp', 'httpx2'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0

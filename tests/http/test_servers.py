"""Several servers behind one client: the load is spread, a group stays together, and one that dies costs nothing."""

import asyncio
import contextlib
from collections import Counter

import pytest
from servers import Drop, Hang, Reply, ScriptedServer, Status

from ropd_cli.config import EndpointConfig, LimitsConfig, load_config
from ropd_cli.errors import ConfigError, InputError, ProviderDown, ProviderUnreachable
from ropd_cli.llm import breaker as breaker_module
from ropd_cli.llm import servers as servers_module
from ropd_cli.llm.cache import cache_key
from ropd_cli.llm.chat import ChatRequest, JsonSchema, endpoint_request
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.endpoints import base_url, base_urls
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.shared import Shared
from ropd_cli.schemas import Message

FORM = JsonSchema(name="f", schema={"type": "object", "properties": {}})


def ask(text, affinity=None, **more):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m", affinity=affinity, **more)


@pytest.fixture
def servers():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(ScriptedServer()) for _ in range(3)]


@pytest.fixture
def said():
    return []


@pytest.fixture
def opened(servers, said, monkeypatch):
    monkeypatch.setattr(breaker_module, "FIRST_PROBE_S", 0.05)
    monkeypatch.setattr(servers_module, "SHUNNED_S", 0.2)

    def make(urls=None, *, shared=None, max_pause_s=30.0, concurrency=48, retries=2, timeout_s=60.0, **more):
        limits = LimitsConfig(max_pause_s=max_pause_s, concurrency=concurrency, timeout_s=timeout_s)
        named = ", ".join(urls or [server.url for server in servers])
        endpoint = EndpointConfig(model="m", base_url=named, limits=limits, **more)
        retry = RetryPolicy(max_retries=retries, first_wait_s=0.0, max_wait_s=0.0)
        return ChatClient.open(endpoint, cache=None, retry=retry, environ={}, shared=shared or Shared(say=said.append))

    return make


async def all_of(calls):
    return await asyncio.wait_for(asyncio.gather(*calls), 60)


async def test_the_load_is_spread(servers, opened):
    for server in servers:
        server.default = Reply(delay_s=0.02)
    async with opened() as client:
        await all_of(client.complete(ask(f"{n}")) for n in range(150))
    assert all(40 <= len(server.requests) <= 60 for server in servers)


async def test_a_slow_server_gets_less(servers, opened):
    for server, delay_s in zip(servers, (0.01, 0.01, 0.2), strict=True):
        server.default = Reply(delay_s=delay_s)
    async with opened(concurrency=12) as client:
        await all_of(client.complete(ask(f"{n}")) for n in range(200))
    assert len(servers[2].requests) < min(len(server.requests) for server in servers[:2]) / 2


async def test_both_requests_of_a_group_go_to_one_server(servers, opened):
    """Two clients, as rubricator and verifier are, that know of the same servers by one Shared."""
    for server in servers:
        server.default = lambda body: Reply(delay_s=0.01 + 0.03 * (int(body["messages"][0]["content"].split()[1]) % 3))
    shared = Shared()
    async with opened(shared=shared) as one, opened(shared=shared) as other:

        async def group(n):
            await one.complete(ask(f"rubric {n}", f"group {n}"))
            await other.complete(ask(f"verdicts {n}", f"group {n}"))

        await all_of(group(n) for n in range(90))
    where = {body["messages"][0]["content"]: k for k, server in enumerate(servers) for body in server.bodies}
    assert len(where) == 180
    together = sum(where[f"rubric {n}"] == where[f"verdicts {n}"] for n in range(90))
    assert together >= 85, together  # by chance a third
    assert min(Counter(where.values()).values()) >= 25  # the slowest groups come to one of them


async def test_a_server_that_is_far_busier_is_not_followed(servers, opened):
    servers[0].default = Hang()
    for server in servers[1:]:
        server.default = Reply()
    async with opened(max_pause_s=0) as client:
        stuck = [asyncio.create_task(client.complete(ask(f"stuck {n}", "same"))) for n in range(30)]
        while sum(len(server.requests) for server in servers) < 30:
            await asyncio.sleep(0.01)
        assert len(servers[0].requests) <= servers_module.SLACK + 1  # the others answer at once: nothing under way
        for call in stuck:
            call.cancel()


@pytest.mark.parametrize("fault", ["gone", Drop(), Status(503)], ids=["gone", "drop", "503"])
async def test_one_that_dies_costs_no_call_and_is_used_again(servers, opened, said, fault):
    for server in servers:
        server.default = Reply(delay_s=0.01)
    async with opened(retries=2, concurrency=12) as client:
        await all_of(client.complete(ask(f"before {n}")) for n in range(30))
        calls = [asyncio.create_task(client.complete(ask(f"{n}"))) for n in range(300)]
        await asyncio.sleep(0.05)
        if fault == "gone":
            servers[0].down()
        else:
            servers[0].default = fault
        assert len(await all_of(calls)) == 300
        assert client.stats.failures == 0
        answered = Counter(body["messages"][0]["content"] for server in servers[1:] for body in server.bodies)
        assert max(answered.values()) == 1
        assert any("the other servers go on" in line for line in said)
        if fault == "gone":
            servers[0].up()
        servers[0].default = Reply("back")
        texts = []
        while "back" not in texts:
            texts += [
                reply.text for reply in await all_of(client.complete(ask(f"a{len(texts)} {n}")) for n in range(9))
            ]
        assert any("answers again" in line for line in said)


async def test_one_that_hangs_holds_up_no_call(servers, opened, said):
    """It takes connections and answers nothing: looked at beside the calls, never with one of them."""
    for server in servers:
        server.default = Reply(delay_s=0.01)
    limits = {"timeout_s": 1.0}
    async with opened(concurrency=12, **limits) as client:
        await all_of(client.complete(ask(f"before {n}")) for n in range(30))
        servers[0].default, servers[0].hangs = Hang(), True
        await all_of(client.complete(ask(f"{n}")) for n in range(60))
        assert any("the other servers go on" in line for line in said)
        before = len(servers[0].requests)
        for part in range(8):
            await all_of(client.complete(ask(f"{part} {n}")) for n in range(12))
            await asyncio.sleep(0.1)
        assert len(servers[0].requests) == before and servers[0].looked > 0
        servers[0].default, servers[0].hangs = Reply("back"), False
        texts = []
        while "back" not in texts:
            texts += [
                reply.text for reply in await all_of(client.complete(ask(f"a{len(texts)} {n}")) for n in range(9))
            ]


async def test_one_that_was_never_there_is_left_out(servers, opened, said):
    urls = ["http://127.0.0.1:9/v1", *(server.url for server in servers[1:])]
    for server in servers[1:]:
        server.default = Reply(delay_s=0.05)
    async with opened(urls) as client:
        for part in range(4):
            assert len(await all_of(client.complete(ask(f"{part} {n}")) for n in range(40))) == 40
            await asyncio.sleep(0.25)
        assert client.stats.failures == 0 and client.stats.retries < 40
    assert sum("127.0.0.1:9" in line for line in said) == 1


async def test_when_all_die_everybody_waits_and_then_stops(servers, opened, said):
    async with opened(max_pause_s=1.0) as client:
        await all_of(client.complete(ask(f"before {n}")) for n in range(9))
        for server in servers:
            server.down()
        with pytest.raises(ProviderDown) as caught:
            await all_of(client.complete(ask(f"{n}")) for n in range(20))
    assert all(server.url in caught.value.message for server in servers)
    async with opened(max_pause_s=30.0) as client:
        for server in servers:
            server.up()
        await all_of(client.complete(ask(f"again {n}")) for n in range(9))
        for server in servers:
            server.down()
        calls = [asyncio.create_task(client.complete(ask(f"late {n}"))) for n in range(20)]
        await asyncio.sleep(0.5)
        assert not any(call.done() for call in calls)
        servers[1].up()
        assert len(await all_of(calls)) == 20


async def test_when_none_ever_answered_it_is_said_at_once(opened):
    async with opened(["http://127.0.0.1:9/v1", "http://127.0.0.1:19/v1"]) as client:
        with pytest.raises(ProviderUnreachable, match="no connection") as caught:
            await client.complete(ask("?"))
    assert not isinstance(caught.value, ProviderDown)


async def test_one_that_asks_for_a_rest_does_not_hold_the_others(servers, opened):
    servers[0].default = Status(429, retry_after=30)
    async with opened(servers and [server.url for server in servers[:2]]) as client:
        await asyncio.wait_for(all_of(client.complete(ask(f"{n}")) for n in range(40)), 20)
    assert len(servers[0].requests) <= 20 + 1 and len(servers[1].requests) == 40


async def test_what_a_server_takes_is_known_of_each(servers, opened):
    def old(body):
        return Status(400, "no response_format") if "response_format" in body else Reply("{}")

    servers[0].default, servers[1].default = old, Reply("{}")
    async with opened([server.url for server in servers[:2]], concurrency=1) as client:
        for n in range(8):
            await client.complete(ask(f"{n}", schema=FORM))
    assert [body.get("response_format", {}).get("type") for body in servers[0].bodies] == [
        *("json_schema", "json_object"),
        *[None] * 4,
    ]
    assert {body["response_format"]["type"] for body in servers[1].bodies} == {"json_schema"}


def test_urls():
    def of(text):
        return base_urls(EndpointConfig(base_url=text))

    assert of("http://a:1/v1/, http://b/v1") == ("http://a:1/v1", "http://b/v1")
    assert of("http://a/v1?x=1,2") == ("http://a/v1?x=1,2",)
    assert base_url(EndpointConfig(base_url="http://a/v1,http://b/v1")) == "http://a/v1"
    for wrong, why in (
        ("http://a/v1,,http://b/v1", "not a URL"),
        ("http://a/v1,", "not a URL"),
        ("http://a/v1,ftp://b", "not a URL"),
        ("http://a/v1,http://A/v1/", "twice"),
        ("http://a/v1,builtin://checkable", "embedded provider beside"),
        ("http://a/v1,http://me:secret@b/v1", "user or password"),
    ):
        with pytest.raises(InputError, match=why) as caught:
            of(wrong)
        assert "secret" not in str(caught.value)


def test_another_server_more_keeps_the_replies():
    request = ask("?", affinity="x")
    assert cache_key(base_url(EndpointConfig(base_url="http://a/v1")), request) == cache_key(
        base_url(EndpointConfig(base_url="http://a/v1,http://b/v1")), ask("?")
    )


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_extra_body_is_sent_and_part_of_the_key(server, api):
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    endpoint = EndpointConfig(model="m", base_url=server.url, extra_body=extra, api=api)
    messages = (Message(role="user", content="?"),)
    request = endpoint_request(endpoint, messages)
    async with ChatClient.open(endpoint, cache=None, environ={}) as client:
        await client.complete(request)
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    plain = endpoint_request(endpoint.model_copy(update={"extra_body": {}}), messages)
    other = endpoint_request(endpoint.model_copy(update={"extra_body": {"chat_template_kwargs": {}}}), messages)
    assert len({request.digest, plain.digest, other.digest}) == 3


def test_extra_body_may_not_set_what_the_program_sets():
    with pytest.raises(ConfigError, match=r"verifier\.extra_body: stream, temperature can't stand here"):
        load_config(None, overrides=["verifier.extra_body={stream: true, temperature: 1, top_k: 3}"], environ={})


@pytest.mark.parametrize(
    ("first", "sent"),
    [("json_schema", ["json_schema", "json_object"]), ("json_object", ["json_object"]), ("text", [None])],
)
async def test_json_is_asked_for_in_the_form_that_is_configured(server, first, sent):
    def takes(body):
        wanted = body.get("response_format", {}).get("type")
        return Status(400, "no schemas here") if wanted == "json_schema" else Reply("{}")

    server.default = takes
    endpoint = EndpointConfig(model="m", base_url=server.url, structured_output=first)
    async with ChatClient.open(endpoint, cache=None, environ={}) as client:
        await client.complete(ask("long text", schema=FORM))
        assert client.json_form.name.lower() == (sent[-1] or "text")
    assert [body.get("response_format", {}).get("type") for body in server.bodies] == sent
    last = server.bodies[-1]["messages"][-1]["content"]
    assert last.startswith("long text") and "JSON schema" in last  # so the prefix is common to other schemas


@pytest.mark.parametrize(("keyed", "affinity", "key"), [(True, "g", "g"), (True, None, None), (False, "g", None)])
async def test_prompt_cache_key(server, keyed, affinity, key):
    endpoint = EndpointConfig(model="m", base_url=server.url, prompt_cache_key=keyed)
    async with ChatClient.open(endpoint, cache=None, environ={}) as client:
        await client.complete(ask("?", affinity))
    assert server.bodies[0].get("prompt_cache_key") == key
    assert ask("?", "g").digest == ask("?").digest

"""The client over real sockets: what is sent, what is read, forms of JSON, the cache, calls at once."""

import asyncio

import pytest
from servers import Reply, Status

from ropd_cli.config import EndpointConfig, LimitsConfig, SamplingConfig
from ropd_cli.errors import ProviderRefused, ReplyInvalid
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ChatRequest, JsonSchema, Sampling, endpoint_request
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import NO_WAIT
from ropd_cli.records.schemas import Message, Usage

KEY = "sk-aaaabbbbccccdddd"
FORM = JsonSchema(name="numbers", schema={"type": "object", "properties": {"a": {"type": "integer"}}})
JSON = Reply('{"a": 1}')


def ask(text="What is 17 + 25?", **more):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m", **more)


def opened(server, *, cache=None, environ=None, **limits):
    endpoint = EndpointConfig(model="m", base_url=server.url, limits=LimitsConfig(**limits))
    return ChatClient.open(endpoint, cache=cache, retry=NO_WAIT, environ=environ or {})


def takes(*kinds):
    """A server's answer that refuses every response_format but ``kinds`` (None: no response_format)."""

    def step(body):
        kind = body.get("response_format", {}).get("type")
        return JSON if kind in kinds else Status(400, f"response_format {kind} is not supported")

    return step


@pytest.fixture
def cache(tmp_path):
    with ReplyCache.open(tmp_path) as store:
        yield store


async def test_what_a_reply_holds_is_kept(server):
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    server.script(Reply("αβ 42\n", "length", usage, message={"reasoning_content": "hm"}))
    async with opened(server) as client:
        reply = await client.complete(ask())
        assert (reply.text, reply.finish_reason, reply.reasoning) == ("αβ 42\n", "length", "hm")
        assert reply.usage == Usage(prompt_tokens=7, completion_tokens=3)
        assert reply.model == "m" and not reply.cached
        assert client.stats.as_dict() == {
            "requests_sent": 1,
            "cache_hits": 0,
            "retries": 0,
            "failures": 0,
            "prompt_tokens": 7,
            "cached_tokens": 0,
            "completion_tokens": 3,
            "cost_usd": None,
        }


async def test_what_a_reply_lacks_is_none(server):
    server.script(Reply("a", finish_reason=None, usage=None), Reply(None, message={"refusal": "no", "reasoning": "r"}))
    parts = [{"type": "text", "text": "4"}, {"type": "image"}, {"type": "text", "text": "2"}]
    server.script(Reply(None, message={"content": parts}))
    async with opened(server) as client:
        bare = await client.complete(ask("1"))
        assert (bare.finish_reason, bare.usage, bare.reasoning) == ("stop", None, None)
        refusal = await client.complete(ask("2"))
        assert (refusal.text, refusal.reasoning, refusal.finish_reason) == ("", "r", "content_filter")
        assert (await client.complete(ask("3"))).text == "42"


async def test_the_body_is_what_was_asked_for_and_nothing_else(server):
    server.default = JSON
    messages = (Message(role="system", content="Be short."), Message(role="user", content="αβ\u2028?"))
    sampling = SamplingConfig(temperature=0.7, top_p=0.9, max_tokens=50, reasoning_effort="low", seed=5)
    endpoint = EndpointConfig(model="judge", base_url=server.url, sampling=sampling)
    async with ChatClient.open(endpoint, cache=None, environ={}) as client:
        await client.complete(endpoint_request(endpoint, messages, FORM, sample=2))
        await client.complete(ask())
    full, bare = server.bodies
    told = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "αβ\u2028?"}]
    schema = {"name": "numbers", "strict": True, "schema": FORM.body}
    assert full == {
        "model": "judge",
        "messages": told,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 50,
        "reasoning_effort": "low",
        "seed": 7,
        "response_format": {"type": "json_schema", "json_schema": schema},
    }
    assert bare == {"model": "m", "messages": [{"role": "user", "content": "What is 17 + 25?"}]}
    assert {request.path for request in server.requests} == {"/v1/chat/completions"}


async def test_the_key_is_in_the_authorization_header_and_nowhere_else(server):
    endpoint = EndpointConfig(model="m", base_url=server.url, api_key_env="MY_KEY")
    async with ChatClient.open(endpoint, cache=None, environ={"MY_KEY": f" {KEY}\n", "OPENAI_API_KEY": "x"}) as client:
        await client.complete(ask())
        assert KEY not in repr(client)
    (request,) = server.requests
    assert request.headers.pop("authorization") == f"Bearer {KEY}"
    assert KEY not in repr(request)


async def test_a_server_of_ones_own_needs_no_key(server):
    async with opened(server) as client:
        await client.complete(ask())
    assert server.requests[0].headers["authorization"] == "Bearer none"


async def test_the_form_falls_back_and_what_works_is_remembered(server):
    server.default = takes(None)
    async with opened(server) as client:
        assert (await client.complete(ask("one", form=FORM))).text == '{"a": 1}'
        await client.complete(ask("two", form=FORM))
    kinds = [body.get("response_format", {}).get("type") for body in server.bodies]
    assert kinds == ["json_schema", "json_object", None, None]
    strict, *told = [body["messages"][-1]["content"] for body in server.bodies]
    assert strict == "one"
    assert all('"properties": {"a": {"type": "integer"}}' in text for text in told)


async def test_the_form_falls_back_no_further_than_needed(server):
    server.default = takes("json_object")
    async with opened(server) as client:
        await asyncio.gather(*(client.complete(ask(str(n), form=FORM)) for n in range(4)))
        before = len(server.requests)
        await client.complete(ask("later", form=FORM))
    kinds = [body.get("response_format", {}).get("type") for body in server.bodies]
    assert kinds[before:] == ["json_object"]
    assert None not in kinds and before <= 8


async def test_a_400_about_something_else_changes_no_form(server):
    server.script(Status(400, "too long"), Status(400, "b"), Status(400, "c"), JSON, Status(400, "too long again"))
    async with opened(server) as client:
        with pytest.raises(ProviderRefused, match=r"too long$"):
            await client.complete(ask("one", form=FORM))
        await client.complete(ask("two", form=FORM))
        with pytest.raises(ProviderRefused, match="too long again"):
            await client.complete(ask("three", form=FORM))
    kinds = [body.get("response_format", {}).get("type") for body in server.bodies]
    assert kinds == ["json_schema", "json_object", None, "json_schema", "json_schema"]


async def test_the_other_name_of_max_tokens_is_found_and_remembered(server):
    def step(body):
        return Reply() if "max_tokens" not in body else Status(400, "Use 'max_completion_tokens' instead.")

    server.default = step
    async with opened(server) as client:
        for text in "ab":
            await client.complete(ask(text, sampling=Sampling(max_tokens=9)))
    assert [body.get("max_completion_tokens") for body in server.bodies] == [None, 9, 9]


async def test_a_second_client_sends_nothing(server, cache):
    async with opened(server, cache=cache) as first:
        reply = await first.complete(ask())
    async with opened(server, cache=cache, environ={"OPENAI_API_KEY": KEY}, timeout_s=7, concurrency=1) as second:
        again = await second.complete(ask())
        assert (second.stats.requests_sent, second.stats.cache_hits, second.stats.prompt_tokens) == (0, 1, 0)
    assert again == reply.model_copy(update={"cached": True})
    assert len(server.requests) == 1


async def test_another_seed_sample_or_schema_is_another_question(server, cache):
    server.default = JSON
    others = (ask(sampling=Sampling(seed=1)), ask(sampling=Sampling(seed=2)), ask(sample=1), ask(form=FORM))
    async with opened(server, cache=cache) as client:
        for request in (ask(), *others, ask(), *others):
            await client.complete(request)
        assert (client.stats.requests_sent, client.stats.cache_hits) == (5, 5)


async def test_without_a_cache_every_call_is_sent(server):
    async with opened(server) as client:
        assert not (await client.complete(ask())).cached
        assert not (await client.complete(ask())).cached
    assert len(server.requests) == 2


async def test_a_reply_that_would_not_be_given_again_is_not_cached(server, cache):
    server.script(Reply("half", "content_filter"), Reply("  "), Reply("", "length"))
    async with opened(server, cache=cache) as client:
        texts = [(await client.complete(ask())).text for _ in range(4)]
    assert texts == ["", "  ", "", ""]
    assert len(server.requests) == 3  # what was cut off would be again, under the same limit


async def test_a_cached_reply_has_to_pass_too(server, cache):
    server.script(Reply("no"), Reply("yes"))

    def validate(reply):
        if reply.text != "yes":
            raise ReplyInvalid("not yes")

    async with opened(server, cache=cache) as client:
        assert (await client.complete(ask())).text == "no"
        assert (await client.complete(ask(), validate=validate)).text == "yes"
        assert (await client.complete(ask(), validate=validate)).cached
    assert len(server.requests) == 2


async def test_equal_calls_under_way_are_sent_once(server):
    server.default = Reply("42", delay_s=0.1)
    async with opened(server) as client:
        replies = await asyncio.gather(*(client.complete(ask()) for _ in range(5)), client.complete(ask("other")))
        assert [reply.text for reply in replies] == ["42"] * 6
        assert sum(reply.cached for reply in replies) == client.stats.cache_hits == 4
    assert len(server.requests) == 2


async def test_equal_calls_under_way_fail_together(server):
    server.default = Status(401)
    async with opened(server) as client:
        faults = await asyncio.gather(*(client.complete(ask()) for _ in range(3)), return_exceptions=True)
        assert [type(fault) for fault in faults] == [ProviderRefused] * 3
        assert len({id(fault) for fault in faults}) == client.stats.failures == 3
    assert len(server.requests) == 1


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_requests_at_once_than_the_limit(server, concurrency):
    server.default = Reply(delay_s=0.1)
    async with opened(server, concurrency=concurrency) as client:
        await asyncio.gather(*(client.complete(ask(str(n))) for n in range(9)))
    assert len(server.requests) == 9
    assert server.most_at_once == concurrency


async def test_waiting_for_ones_turn_is_not_counted_against_the_timeout(server):
    server.default = Reply(delay_s=0.3)  # the last waits 1.8 s for its turn
    async with opened(server, concurrency=1, timeout_s=1.7) as client:
        await asyncio.gather(*(client.complete(ask(str(n))) for n in range(7)))
        assert client.stats.retries == 0
    assert len(server.requests) == 7


async def test_retries_do_not_go_past_the_limit_of_requests_at_once(server):
    server.script(*[Status(503)] * 4)
    server.default = Reply(delay_s=0.02)
    async with opened(server, concurrency=2) as client:
        await asyncio.gather(*(client.complete(ask(str(n))) for n in range(6)))
        assert client.stats.retries == 4
    assert server.most_at_once <= 2 and len(server.requests) == 10


async def test_the_embedded_provider_is_reached_without_a_port_or_a_key():
    endpoint = EndpointConfig(base_url="builtin://checkable")
    async with ChatClient.open(endpoint, cache=None, environ={}) as client:
        question = (Message(role="user", content="What is 17 + 25?"),)
        reply = await client.complete(endpoint_request(endpoint, question))
    assert "42" in reply.text and reply.model == "checkable"

"""The client when things go wrong, over real sockets: retries, faults, unusable replies, cancelling, closing."""

import asyncio
import logging
import os
import socket
import time
from types import SimpleNamespace

import pytest
from processes import start_ropd
from servers import Drop, Half, Hang, Raw, Reply, Status, until

from ropd_cli.config import EndpointConfig, LimitsConfig
from ropd_cli.errors import InputError, ProviderBusy, ProviderRefused, ProviderUnreachable, ReplyInvalid, RopdError
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ChatRequest, JsonSchema
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.records.schemas import Message

KEY = "sk-aaaabbbbccccdddd"
FORM = JsonSchema(name="numbers", schema={"type": "object"})
FAULTS = (ProviderUnreachable, ProviderRefused, ProviderBusy, ReplyInvalid)


def ask(text="What is 17 + 25?", **more):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m", **more)


def opened(server, *, retries=0, cache=None, environ=None, first_wait_s=0.0, **limits):
    endpoint = EndpointConfig(model="m", base_url=server.url, limits=LimitsConfig(**limits))
    retry = RetryPolicy(max_retries=retries, first_wait_s=first_wait_s, max_wait_s=first_wait_s)
    return ChatClient.open(endpoint, cache=cache, retry=retry, environ=environ or {})


def is_42(reply):
    if reply.text != "42":
        raise ReplyInvalid("there is no 42 in it", "ask another model")


async def test_every_fault_that_may_pass_is_asked_again_within_one_budget(server):
    steps = [Status(429), Drop(), Status(503), Raw(b"<html>"), Half(), Reply("41"), Status(408)]
    server.script(*steps, Reply("42"), *steps, Reply("42"))
    async with opened(server, retries=7) as client:
        assert (await client.complete(ask(), validate=is_42)).text == "42"
        assert (client.stats.requests_sent, client.stats.retries, client.stats.failures) == (8, 7, 0)
    async with opened(server, retries=6) as client:
        with pytest.raises(ProviderBusy, match=r"status 408: the server's words \(tried 7 times\)"):
            await client.complete(ask(), validate=is_42)
        assert (client.stats.requests_sent, client.stats.retries, client.stats.failures) == (7, 6, 1)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
async def test_retries_used_up(server, status):
    server.default = Status(status)
    async with opened(server, retries=2) as client:
        with pytest.raises(ProviderBusy, match=f"^{server.url}: status {status}: the server's words") as caught:
            await client.complete(ask())
    assert len(server.requests) == 3 and "--concurrency" in caught.value.hint


async def test_the_configuration_says_how_often(server):
    server.script(Status(500), Status(500))
    for retries, sent in ((0, 1), (1, 2)):
        endpoint = EndpointConfig(model="m", base_url=server.url, limits=LimitsConfig(max_retries=retries))
        async with ChatClient.open(endpoint, cache=None, environ={}) as client:
            if retries == 0:
                with pytest.raises(ProviderBusy):
                    await client.complete(ask())
            else:
                await client.complete(ask())
            assert client.stats.requests_sent == sent


async def test_retry_after_is_waited_for(server):
    server.script(Status(429, retry_after=0.3), Status(503, retry_after="soon"))
    async with opened(server, retries=2) as client:
        await client.complete(ask())
    first, second, third = (request.at for request in server.requests)
    assert 0.29 <= second - first < 10
    assert third - second < 10


async def test_a_retry_after_beyond_patience_is_not_waited_for(server):
    server.default = Status(429, retry_after=3600)
    async with opened(server, retries=5) as client:
        with pytest.raises(ProviderBusy, match="status 429"):
            await client.complete(ask())
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("step", "said", "hint"),
    [
        (Status(400), "the server's words", "the line quotes the server"),
        (Status(401), "the server's words", "MY_KEY"),
        (Status(403), "the server's words", "no right"),
        (Status(404, body={"detail": "Not Found"}), "Not Found", "--model"),
        (Status(404, body={"object": "error", "message": "no model m"}), "no model m", "--model"),
        (Status(413, body=b"<html>too\n large</html>"), "<html>too large</html>", "too long"),
        (Status(429, error_code="insufficient_quota"), "the server's words", "quota"),
        (Status(402, body=b""), "Payment Required", "--base-url"),
    ],
    ids=lambda value: str(value.code) if isinstance(value, Status) else "",
)
async def test_a_refusal_ends_the_call_at_once(server, step, said, hint):
    server.default = step
    endpoint = EndpointConfig(model="m", base_url=server.url, api_key_env="MY_KEY")
    async with ChatClient.open(endpoint, cache=None, environ={"MY_KEY": KEY}) as client:
        with pytest.raises(ProviderRefused) as caught:
            await client.complete(ask())
    assert len(server.requests) == 1
    assert caught.value.message == f"{server.url}: status {step.code}: {said}"
    assert hint in caught.value.hint and caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("step", "kind", "said"),
    [
        (Drop(), ProviderUnreachable, "no connection"),
        (Half(), ProviderUnreachable, "no connection"),
        (Hang(), ProviderUnreachable, r"no answer within 0\.5 s"),
        (Hang(drip=True), ProviderUnreachable, r"no answer within 0\.5 s"),
        (Raw(b"<html>\n hello</html>"), ProviderUnreachable, "not JSON: '<html> hello</html>'"),
        (Raw(b""), ProviderUnreachable, "not JSON"),
        (Raw(b"[" * 100_000), ProviderUnreachable, "not JSON"),
        (Raw(b'"text"'), ProviderUnreachable, "not JSON"),
        (Raw(b'{"choices": []}'), ProviderUnreachable, "no choices in it"),
        (Raw(b'{"error": {"message": "overloaded"}}'), ReplyInvalid, "holds no reply: overloaded"),
    ],
    ids=["drop", "half", "hang", "drip", "html", "nothing", "deep", "string", "no choices", "error with a 200"],
)
async def test_a_fault_of_the_endpoint_becomes_its_error(server, step, kind, said):
    server.default = step
    async with opened(server, retries=1, timeout_s=0.5 if isinstance(step, Hang) else 10) as client:
        began = time.monotonic()
        with pytest.raises(kind, match=said) as caught:
            await client.complete(ask())
        assert time.monotonic() - began < 10
        assert client.stats.requests_sent == 2
    assert type(caught.value) is kind and caught.value.hint
    assert caught.value.message.startswith(server.url) and caught.value.message.endswith("(tried 2 times)")
    assert len(server.requests) <= 2  # a busy machine may give up before the server has read


async def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        server = SimpleNamespace(url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        async with opened(server) as client:
            with pytest.raises(ProviderUnreachable, match="no connection") as caught:
                await client.complete(ask())
    assert "--base-url" in caught.value.hint


@pytest.mark.parametrize(
    "step",
    [
        Status(401, f"Incorrect API key provided: {KEY}."),
        Status(500, "x" * 295 + KEY),
        Status(400, body=f"<p>{KEY}</p>".encode()),
        Raw(f"<html>{KEY}</html>".encode()),
        Raw(f'{{"error": "key {KEY}"}}'.encode()),
        Raw(b"x" * 290 + KEY.encode()),
        Drop(),
        Hang(),
    ],
    ids=["401", "500 at the cut", "400 html", "html", "error with a 200", "html at the cut", "drop", "hang"],
)
async def test_the_key_is_in_no_message(server, step, caplog):
    caplog.set_level(logging.INFO)
    server.default = step
    limit_s = 1 if step == Hang() else 10
    async with opened(server, environ={"OPENAI_API_KEY": KEY}, timeout_s=limit_s) as client:
        with pytest.raises(FAULTS) as caught:
            await client.complete(ask())
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    said = f"{caught.value.message} {caught.value.hint} {caught.value!r} {caplog.text}"
    assert KEY[:7] not in said, said


async def test_a_user_and_a_password_in_the_url_are_in_no_message(server):
    server.default = Status(500)
    url = server.url.replace("http://", "http://user:secret@")
    with pytest.raises(RopdError) as caught:
        async with opened(SimpleNamespace(url=url)) as client:
            assert "secret" not in repr(client)
            await client.complete(ask())
    assert "secret" not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "[v1.x]", "a\tb"], ids=["dots", "long", "brackets", "tab"])
async def test_a_host_that_no_name_server_knows_is_an_expected_error(host):
    with pytest.raises(RopdError, match="http://"):
        async with opened(SimpleNamespace(url=f"http://{host}/v1")) as client:
            await client.complete(ask())


async def test_a_query_of_the_url_stays_behind_the_path(server):
    async with opened(SimpleNamespace(url=f"{server.url}?version=2")) as client:
        await client.complete(ask())
    assert server.requests[0].path == "/v1/chat/completions?version=2"


async def test_a_reply_that_fails_validation_is_asked_for_again_and_the_model_told_once(server, tmp_path):
    server.script(Reply("forty"), Reply("41"), Reply("42"))
    with ReplyCache.open(tmp_path) as cache:
        async with opened(server, retries=2, cache=cache) as client:
            reply = await client.complete(ask(), validate=is_42)
            assert reply.text == "42" and client.stats.retries == 2
        async with opened(server, cache=cache) as client:
            assert (await client.complete(ask(), validate=is_42)).cached  # under the question's own key
    question, told, plain = (body["messages"] for body in server.bodies)
    assert question == plain == [{"role": "user", "content": "What is 17 + 25?"}]
    assert told[:2] == [*question, {"role": "assistant", "content": "forty"}]
    assert told[2]["role"] == "user" and "there is no 42 in it" in told[2]["content"] and len(told) == 3


async def test_a_reply_that_never_passes(server):
    server.default = Reply("41")
    async with opened(server, retries=2) as client:
        with pytest.raises(ReplyInvalid, match=r"^m at http://.*: there is no 42 in it \(tried 3 times\)$") as caught:
            await client.complete(ask(), validate=is_42)
    assert caught.value.hint == "ask another model" and caught.value.exit_code == 1
    assert [len(body["messages"]) for body in server.bodies] == [1, 3, 1]


async def test_a_refused_correction_is_not_the_end(server):
    server.script(Reply("41"), Status(400, "too long"), Reply("42"))
    async with opened(server, retries=2) as client:
        assert (await client.complete(ask(), validate=is_42)).text == "42"


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (Status(500), ProviderBusy),
        (Status(401), ProviderRefused),
        (Drop(), ProviderUnreachable),
        (Raw(b"<html>"), ProviderUnreachable),
        (Reply("no JSON"), ReplyInvalid),
        (Reply('{"a": 1}', "length"), ReplyInvalid),
        (Reply('{"a": 1'), ReplyInvalid),
        (Reply("[1]"), ReplyInvalid),
        (Reply(""), ReplyInvalid),
    ],
    ids=["500", "401", "drop", "html", "no JSON", "length", "half an object", "a list", "empty"],
)
async def test_what_failed_is_not_cached(server, tmp_path, step, kind):
    server.script(step, Reply('{"a": 1}'))
    with ReplyCache.open(tmp_path) as cache:
        for failures in (1, 0):
            async with opened(server, cache=cache) as client:
                if failures:
                    with pytest.raises(kind):
                        await client.complete(ask(form=FORM))
                else:
                    assert not (await client.complete(ask(form=FORM))).cached
                assert client.stats.failures == failures
    assert len(server.requests) == 2


async def test_a_cut_off_reply_with_a_schema_names_the_limit(server):
    server.default = Reply('{"a": 1}', "length")
    async with opened(server) as client:
        with pytest.raises(ReplyInvalid, match="cut off at its length limit") as caught:
            await client.complete(ask(form=FORM))
        assert "--max-tokens" in caught.value.hint
        assert (await client.complete(ask())).finish_reason == "length"  # without a schema it is an answer


async def test_cancelling_leaves_nothing_running(server):
    server.script(Hang(), Hang())
    async with opened(server, concurrency=2) as client:
        calls = [asyncio.create_task(client.complete(ask(str(n)))) for n in range(4)]  # two of them wait their turn
        await until(lambda: server.at_once == 2)
        for call in calls:
            call.cancel()
        assert all(isinstance(o, asyncio.CancelledError) for o in await asyncio.gather(*calls, return_exceptions=True))
        await until(lambda: server.at_once == 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert len(server.requests) == 2
        replies = await asyncio.gather(*(client.complete(ask(str(n))) for n in range(4)))  # no turn was lost
        assert [reply.text for reply in replies] == ["hello"] * 4


async def test_an_equal_call_goes_on_where_the_first_is_cancelled(server):
    server.script(Hang())
    async with opened(server) as client:
        first, second = (asyncio.create_task(client.complete(ask())) for _ in range(2))
        await until(lambda: server.at_once == 1)
        first.cancel()
        assert (await asyncio.wait_for(second, 10)).text == "hello"
        assert first.cancelled() and len(server.requests) == 2


async def test_closing_ends_calls(server):
    """One in the middle of a request, an equal one, one that waits its turn."""
    server.default = Hang()
    client = opened(server, retries=5, concurrency=1)
    calls = [asyncio.create_task(client.complete(ask(text))) for text in ("a", "a", "b")]
    await until(lambda: server.at_once == 1)
    await client.close()
    faults = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
    assert [type(fault) for fault in faults] == [ProviderUnreachable] * 3
    assert all("the client was closed" in fault.message for fault in faults)
    await until(lambda: server.at_once == 0)
    assert len(server.requests) == 1
    with pytest.raises(ProviderUnreachable, match="closed"):
        await client.complete(ask("later"))
    await client.close()


async def test_closing_ends_a_wait_for_the_next_attempt(server):
    server.script(Status(429, retry_after=60))
    client = opened(server, retries=5)
    call = asyncio.create_task(client.complete(ask()))
    await until(lambda: client.stats.retries == 1)
    await client.close()
    with pytest.raises(ProviderUnreachable, match="closed"):
        await asyncio.wait_for(call, 10)
    assert len(server.requests) == 1


async def test_a_client_that_sent_nothing_is_closed():
    client = opened(SimpleNamespace(url="http://127.0.0.1:1/v1"))
    await client.close()
    with pytest.raises(ProviderUnreachable, match="closed"):
        await client.complete(ask())


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h/v1", "http://", "builtin://", "http://h:port/v1", "/v1"])
def test_a_base_url_that_is_none(url):
    with pytest.raises(InputError, match="base_url") as caught:
        ChatClient.open(EndpointConfig(model="m", base_url=url), cache=None)
    assert caught.value.exit_code == 2 and "://" in caught.value.hint


@pytest.mark.parametrize("urls", ["http://a/v1,http://b/v1", "http://a/v1,", "http://me:sec,ret@b/v1"])
def test_several_urls_are_refused(urls):
    with pytest.raises(InputError, match="an endpoint has one URL") as caught:
        ChatClient.open(EndpointConfig(model="m", base_url=urls), cache=None)
    assert "--data-parallel-size" in caught.value.hint and "router" in caught.value.hint
    assert "sec" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("how", ["option", "environment", "configuration"])
def test_the_command_refuses_several_urls_in_a_line(server, tmp_path, how):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "What is 17 + 25?"}\n')
    urls = f"{server.url}, http://b/v1"
    environ = os.environ | ({"OPENAI_BASE_URL": urls} if how == "environment" else {})
    arguments = ["teacher-gen", "prompts.jsonl", "--out", "out.jsonl", "-m", "1", "--model", "m"]
    arguments += ["--base-url", urls] if how == "option" else []
    arguments += ["--set", f"teacher.base_url={urls}"] if how == "configuration" else []
    command = start_ropd(arguments, tmp_path, environ)
    _, err = command.communicate(timeout=60)
    assert command.returncode == 2 and len(err.strip().splitlines()) == 2, err
    assert "an endpoint has one URL" in err and not server.requests


@pytest.mark.parametrize("value", [None, "", " \n"])
async def test_a_missing_key_names_its_variable(value):
    environ = {"OPENAI_API_KEY": KEY} | ({} if value is None else {"MY_KEY": value})
    async with ChatClient.open(EndpointConfig(model="m", api_key_env="MY_KEY"), cache=None, environ=environ) as client:
        with pytest.raises(InputError, match="environment variable MY_KEY is not set") as caught:
            await client.complete(ask())
        assert client.stats.requests_sent == 0
    assert "--api-key-env" in caught.value.hint and "--base-url" in caught.value.hint


@pytest.mark.parametrize("value", ["sk-aaaa\nbbbb", "“sk-aaaa”"])
async def test_a_key_that_no_header_can_carry(server, value):
    async with opened(server, environ={"OPENAI_API_KEY": value}) as client:
        with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
            await client.complete(ask())
    assert "aaaa" not in caught.value.message + caught.value.hint and not server.requests

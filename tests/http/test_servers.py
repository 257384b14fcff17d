"""Several servers behind one client: who gets a request, and what becomes of it when a server goes away."""

import asyncio
import itertools
import os
from collections import Counter

import pytest
from processes import start_ropd
from servers import FromRequest, Reply, ScriptedServer, Status

from ropd_cli.config import EndpointConfig, LimitsConfig
from ropd_cli.errors import InputError, ProviderDown, ProviderRefused, ProviderUnreachable
from ropd_cli.llm import breaker as breaker_module
from ropd_cli.llm import transport as transport_module
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.chat import ChatRequest, JsonSchema, endpoint_request
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.shared import Affinities, Shared
from ropd_cli.llm.urls import base_urls, model_name
from ropd_cli.records.schemas import Message

FORM = JsonSchema(name="numbers", schema={"type": "object"})
BUSY = Reply(delay_s=0.3)


def ask(text, **more):
    return ChatRequest(messages=(Message(role="user", content=f"{text}"),), model="m", **more)


def text_of(body):
    return body["messages"][-1]["content"]


@pytest.fixture
def three():
    with ScriptedServer() as a, ScriptedServer() as b, ScriptedServer() as c:
        yield a, b, c


@pytest.fixture
def said():
    return []


@pytest.fixture
def opened(said, monkeypatch):
    """Makes clients of these servers, or of a URL; they find out soon what is back."""
    monkeypatch.setattr(breaker_module, "FIRST_PROBE_S", 0.05)
    monkeypatch.setattr(breaker_module, "LONGEST_PROBE_S", 0.2)

    def make(*servers, shared=None, retries=2, cache=None, environ=None, first_wait_s=0.0, keys=None, **limits):
        urls = ", ".join(server if isinstance(server, str) else server.url for server in servers)
        limits = LimitsConfig(**{"concurrency": 12, "max_pause_s": 30.0, **limits})
        endpoint = EndpointConfig(model="m", base_url=urls, limits=limits, **({"api_key_env": keys} if keys else {}))
        retry = RetryPolicy(max_retries=retries, first_wait_s=first_wait_s, max_wait_s=first_wait_s)
        shared = shared or Shared(say=said.append)
        return ChatClient.open(endpoint, cache=cache, retry=retry, environ=environ or {}, shared=shared)

    return make


async def all_of(client, texts, **more):
    return await asyncio.gather(*(client.complete(ask(text, **more)) for text in texts))


async def until(condition):
    for _ in range(1500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")


async def until_back(client, server):
    """Ask, one call after the other, until ``server`` gets one."""
    before = len(server.requests)
    for number in itertools.count():
        await client.complete(ask(f"are you there? {number}"))
        if len(server.requests) > before:
            return
        await asyncio.sleep(0.01)
        assert number < 1000, "it is not asked any more"


# who gets a request


async def test_equal_servers_get_equal_shares(three, opened):
    for server in three:
        server.default = Reply(delay_s=0.02)
    async with opened(*three) as client:
        await all_of(client, range(300))
    assert all(80 <= len(server.requests) <= 120 for server in three)
    assert all(server.most_at_once <= 6 for server in three)  # 12 at once, in all


async def test_a_slow_server_gets_less(three, opened):
    a, b, slow = three
    a.default = b.default = Reply(delay_s=0.01)
    slow.default = Reply(delay_s=0.5)
    async with opened(*three) as client:
        await all_of(client, range(120))
    assert len(slow.requests) * 3 < min(len(a.requests), len(b.requests))


async def test_without_load_they_take_turns(three, opened):
    async with opened(*three) as client:
        for number in range(9):
            await client.complete(ask(number))
    assert [len(server.requests) for server in three] == [3, 3, 3]


async def test_what_other_clients_of_the_run_have_under_way_counts(three, opened, said):
    a, b, _ = three
    a.default = BUSY
    shared = Shared(say=said.append)
    async with opened(a, shared=shared) as busy, opened(a, b, shared=shared) as client:
        waiting = asyncio.create_task(all_of(busy, range(10)))
        await until(lambda: a.at_once == 10)
        for number in range(10):
            await client.complete(ask(f"other {number}"))
        await waiting
    assert (len(a.requests), len(b.requests)) == (10, 10)


async def test_the_requests_of_a_group_go_to_one_server(three, opened, said):
    """Rubricator and verifier are two clients; the same group is asked of both, with the text in common."""
    for server in three:
        server.default = Reply(delay_s=0.01)
    shared = Shared(say=said.append)
    few = {"shared": shared, "concurrency": 8}  # too few for any server to have too much to do
    async with opened(*three, **few) as rubricator, opened(*three, **few) as verifier:

        async def judge(group):
            await rubricator.complete(ask(f"{group} rubric", affinity=group))
            await asyncio.gather(*(verifier.complete(ask(f"{group} verdict {n}", affinity=group)) for n in range(3)))

        await asyncio.gather(*(judge(f"g{number}") for number in range(60)))
    groups = [{text_of(body).split()[0] for body in server.bodies} for server in three]
    assert sum(map(len, groups)) == 60 and set().union(*groups) == {f"g{n}" for n in range(60)}
    assert all(len(each) >= 10 for each in groups)


async def test_a_group_leaves_a_server_that_has_too_much_to_do(three, opened):
    a, b, _ = three
    a.default = b.default = BUSY
    async with opened(a, b, concurrency=64) as client:
        await all_of(client, range(40), affinity="one group")
        # a alone has 9, one more than the slack; then b, until it has twice as many and the slack
        assert (len(a.requests), len(b.requests)) == (9 + 4, 9 * 2 + 8 + 1)
        a.default = b.default = Reply()
        await all_of(client, ["once", "more"], affinity="one group")
    assert len(a.requests) in (13, 15) and len(b.requests) in (27, 29)  # both calls to one of the two


def test_only_so_many_affinities_are_kept():
    affinities = Affinities(3)
    for name in "abc":
        affinities.settle("m", name, f"server of {name}")
    assert affinities.home("m", "a") == "server of a" and affinities.home("other model", "a") is None
    affinities.settle("m", "d", "server of d")  # b is the one that was not asked for since
    assert len(affinities) == 3 and affinities.home("m", "b") is None and affinities.home("m", "a") is not None


# a server goes away


async def test_the_others_take_over_when_one_dies_and_it_is_used_again_when_it_is_back(three, opened, said):
    _, b, _ = three
    for server in three:
        server.default = Reply(delay_s=0.01)
    async with opened(*three) as client:
        calls = [asyncio.create_task(client.complete(ask(n, affinity=f"g{n % 40}"))) for n in range(400)]
        await until(lambda: len(b.requests) > 30)
        await asyncio.to_thread(b.down)
        replies = await asyncio.gather(*calls)
        assert {reply.text for reply in replies} == {"hello"} and client.stats.failures == 0
        sent = Counter(text_of(body) for server in three for body in server.bodies)
        assert len(sent) == 400 and max(sent.values()) <= 2
        assert sum(sent.values()) <= 400 + 12  # no more than were under way
        assert len(said) == 1 and b.url in said[0] and "left out" in said[0]
        assert client.shared.pauses == 0  # nobody waited
        b.up()
        await until_back(client, b)
        before = [len(server.requests) for server in three]
        await all_of(client, range(1000, 1090))
    assert len(said) == 2 and f"{b.url} answers again after" in said[1]
    assert all(len(server.requests) - count >= 20 for server, count in zip(three, before, strict=True))


async def test_a_server_that_fails_all_requests_is_left_out(three, opened, said):
    a, b, _ = three
    async with opened(a, b, retries=1) as client:
        await all_of(client, range(10))
        b.default = Status(503)
        await all_of(client, range(100, 200))  # one retry each is enough
        b.default = Reply("back")
        await until_back(client, b)
        assert client.stats.failures == 0
    assert len(said) == 2 and "status 503" in said[0] and "left out" in said[0]
    assert len(b.requests) < 40


async def test_a_call_that_one_server_can_not_do_goes_to_another_at_once(three, opened, said):
    a, b, _ = three
    a.default = lambda body: Status(500) if text_of(body) == "hard" else Reply()
    async with opened(a, b, retries=1, first_wait_s=1e6) as client:  # nobody would wait for that
        await client.complete(ask("easy", affinity="g"))
        assert (await client.complete(ask("hard", affinity="g"))).text == "hello"
        assert client.stats.retries == 1 and len(a.requests) == 2 and not said


async def test_one_that_never_answered_is_left_out_and_found_when_it_comes(three, opened, said):
    a, late, _ = three
    await asyncio.to_thread(late.down)
    async with opened(a, late, retries=0) as client:  # the way to the other server costs no retry
        replies = await all_of(client, range(50))
        assert len(replies) == 50 and len(a.requests) == 50
        assert len(said) == 1 and late.url in said[0] and "left out" in said[0]
        late.up()
        await until_back(client, late)
    assert len(said) == 2 and f"{late.url} answers after" in said[1]


async def test_one_that_refuses_everything_is_left_out(three, opened, said):
    """Another model is loaded there, or another key wanted."""
    a, wrong, _ = three
    a.default = Reply(delay_s=0.05)
    wrong.default = Status(404, "The model m does not exist.")
    async with opened(a, wrong, retries=0) as client:
        await all_of(client, range(60))
        assert len(a.requests) == 60
        assert len(said) == 1 and f"{wrong.url}: status 404: The model m does not exist." in said[0]
        wrong.default = Reply()
        await until_back(client, wrong)
        wrong.default = Status(404, "no such thing")  # a server that works may refuse a request: that is the answer
        with pytest.raises(ProviderRefused, match=f"{wrong.url}: status 404"):
            await all_of(client, range(100, 110))


async def test_what_all_refuse_is_refused(three, opened):
    for server in three:
        server.default = Status(401, "wrong key")
    async with opened(*three, retries=5) as client:
        for text in ("one", "two"):
            with pytest.raises(ProviderRefused, match="status 401: wrong key"):
                await client.complete(ask(text))
    assert sum(len(server.requests) for server in three) <= 8


async def test_where_nobody_ever_answered_nobody_waits(three, opened):
    for server in three:
        await asyncio.to_thread(server.down)
    async with opened(*three, retries=1) as client:
        faults = await asyncio.gather(*(client.complete(ask(n)) for n in range(10)), return_exceptions=True)
    assert {type(fault) for fault in faults} == {ProviderUnreachable}


async def test_all_wait_while_none_answers(three, opened, said):
    async with opened(*three, retries=0) as client:
        await all_of(client, range(9))
        for server in three:
            await asyncio.to_thread(server.down)
        calls = [asyncio.create_task(client.complete(ask(f"late {n}"))) for n in range(30)]
        await until(lambda: len(said) == 3)
        await asyncio.sleep(0.3)
        assert not any(call.done() for call in calls) and client.shared.pauses == 1
        three[1].up()
        await asyncio.gather(*calls)
        assert client.stats.failures == 0 and len(three[1].requests) >= 33
    assert sum("left out" in line for line in said) == 2
    assert sum("no server is left, pausing until one answers" in line for line in said) == 1


async def test_one_that_never_answered_is_waited_for_where_another_did(three, opened, said):
    a, b, _ = three
    async with opened(a, b, retries=0) as client:
        await client.complete(ask("first", affinity="g"))
        assert len(a.requests) == 1
        for server in (a, b):
            await asyncio.to_thread(server.down)
        call = asyncio.create_task(client.complete(ask("second", affinity="g")))
        await until(lambda: len(said) == 2)
        b.up()
        await call
    assert "left out" in said[0] and "no server is left" in said[1] and len(b.requests) == 1


async def test_the_pause_of_all_has_an_end(three, opened):
    a, b, _ = three
    async with opened(a, b, max_pause_s=0.5) as client:
        await all_of(client, range(4))
        for server in (a, b):
            await asyncio.to_thread(server.down)
        faults = await asyncio.gather(*(client.complete(ask(f"late {n}")) for n in range(20)), return_exceptions=True)
    assert {type(fault) for fault in faults} == {ProviderDown}
    assert a.url in faults[0].message and b.url in faults[0].message and faults[0].exit_code == 4


async def test_closing_ends_the_pause_of_all(three, opened, said):
    a, b, _ = three
    client = opened(a, b)
    await all_of(client, range(4))
    for server in (a, b):
        await asyncio.to_thread(server.down)
    calls = [asyncio.create_task(client.complete(ask(f"late {n}"))) for n in range(10)]
    await until(lambda: len(said) == 2)
    await client.close()
    faults = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
    assert {type(fault) for fault in faults} == {ProviderUnreachable}


async def test_no_call_waits_for_a_server_that_hangs(three, opened, said, monkeypatch):
    """Held back, it is looked at with a request that costs nothing; its port is open all the time."""
    monkeypatch.setattr(transport_module, "LOOK_S", 0.05)
    asked = []

    async def hang(reader, writer):
        while line := await reader.readline():
            if line.startswith((b"GET", b"POST")):
                asked.append(line.split()[0])
        writer.close()

    hung = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{hung.sockets[0].getsockname()[1]}/v1"
    async with opened(three[0], url, timeout_s=0.3) as client:
        await all_of(client, range(40))
        await until(lambda: said)
        posts = asked.count(b"POST")
        for number in itertools.count():
            await client.complete(ask(f"more {number}"))
            if asked.count(b"GET") >= 3:
                break
            await asyncio.sleep(0.01)
            assert number < 1000
        assert asked.count(b"POST") == posts and client.stats.failures == 0
    hung.close()


# a server wants nothing for now


@pytest.mark.parametrize("status", [429, 503])
async def test_one_that_has_enough_does_not_hold_the_others(three, opened, status):
    a, b, _ = three
    a.default = Status(status, retry_after=100)
    async with opened(a, b, retries=1, first_wait_s=1e6) as client:
        await asyncio.wait_for(all_of(client, range(50)), 20)
    assert len(b.requests) == 50 and len(a.requests) <= 12


async def test_one_that_says_nothing_of_when_rests_too(three, opened):
    """A server that refuses at once is never busy: it would be sent everything."""
    a, b, _ = three
    a.default, b.default = Status(429), Reply(delay_s=0.01)
    async with opened(a, b, retries=1, concurrency=4) as client:
        await all_of(client, range(100))
    assert len(b.requests) == 100 and len(a.requests) <= 12


async def test_where_all_have_enough_the_first_to_be_free_is_waited_for(three, opened):
    soon, late, _ = three
    late.default = Status(429, retry_after=100)
    soon.script(Status(429, retry_after=0.3))
    async with opened(soon, late, retries=2) as client:
        await asyncio.wait_for(client.complete(ask("one")), 20)  # refused by the one, then by the other
        await asyncio.wait_for(all_of(client, range(5)), 20)
    assert (len(soon.requests), len(late.requests)) == (7, 1)


async def test_several_keys_are_each_servers_own(three, opened, said):
    """Two servers that were started with different keys."""
    a, b, _ = three
    for server, key in ((a, "key-of-a"), (b, "key-of-b")):
        server.default = FromRequest(
            lambda request, key=key: Reply() if request.headers["authorization"] == f"Bearer {key}" else Status(401)
        )
    async with opened(a, b, environ={"A": "key-of-a", "B": "key-of-b"}, keys="A,B", retries=4) as client:
        await all_of(client, range(40))
    assert {f"{a.url}: the key in B", f"{b.url}: the key in A"} == {line.partition(" is refused")[0] for line in said}
    assert min(len(a.requests), len(b.requests)) >= 10


# what each of them takes, and names


async def test_each_server_has_its_own_form_and_name_of_the_limit(three, opened):
    a, b, _ = three

    def old(body):
        if body.get("response_format", {}).get("type") == "json_schema":
            return Status(400, "no json_schema")
        return Reply("{}") if "max_completion_tokens" in body else Status(400, "use max_completion_tokens")

    a.default, b.default = old, Reply("{}")
    async with opened(a, b, concurrency=1) as client:
        for number in range(8):
            await client.complete(ask(number, form=FORM, sampling={"max_tokens": 99}))
    assert [body["response_format"]["type"] for body in b.bodies] == ["json_schema"] * 4
    assert all("max_tokens" in body for body in b.bodies)
    last = a.bodies[-3:]
    assert [body["response_format"]["type"] for body in last] == ["json_object"] * 3
    assert all("max_completion_tokens" in body for body in last)


async def test_a_message_names_the_server_that_it_is_about(three, opened):
    a, b, _ = three
    a.default, b.default = Reply("{}"), Reply("no JSON")
    async with opened(a, b, retries=0) as client:
        await client.complete(ask("one", form=FORM))
        with pytest.raises(Exception, match=f"m at {b.url}: ") as caught:
            await client.complete(ask("two", form=FORM))
        assert a.url not in str(caught.value) and f"{a.url}, {b.url}" in repr(client)


async def test_replies_are_kept_under_the_first_url(three, opened, tmp_path):
    a, b, _ = three
    with ReplyCache.open(tmp_path) as cache:
        async with opened(a, cache=cache) as client:
            await all_of(client, range(10))
        async with opened(a, b, cache=cache) as client:
            await all_of(client, range(10))
            assert client.stats.cache_hits == 10 and client.stats.requests_sent == 0
        async with opened(b, a, cache=cache) as client:
            await all_of(client, range(10))
            assert client.stats.cache_hits == 0


def test_one_limiter_for_the_same_servers_in_any_order():
    one = EndpointConfig(model="m", base_url="http://a/v1,http://b/v1")
    shared = Shared()
    assert shared.limiter(one) is shared.limiter(one.model_copy(update={"base_url": "http://B/v1, http://a/v1/"}))
    assert shared.limiter(one) is not shared.limiter(one.model_copy(update={"base_url": "http://a/v1"}))


@pytest.mark.parametrize(
    ("named", "what"),
    [
        ("http://a/v1,,http://b/v1", "a URL is missing beside a comma"),
        ("http://a/v1,", "a URL is missing beside a comma"),
        ("http://a/v1, b:8000/v1", "'b:8000/v1': not a URL"),
        ("http://a/v1, http://A/v1/", "http://A/v1 is named twice"),
        ("http://a/v1,builtin://checkable", "builtin://checkable stands among other servers"),
        ("builtin://checkable,http://a/v1", "builtin://checkable stands among other servers"),
        ("http://a/v1,http://me:sec,ret@b/v1", "a user or password in the URL is not sent"),
    ],
)
def test_lists_of_urls_that_are_none(named, what):
    endpoint = EndpointConfig(base_url=named)
    for look in (base_urls, lambda e: endpoint_request(e.model_copy(update={"model": "m"}), ()) and base_urls(e)):
        with pytest.raises(InputError) as caught:
            look(endpoint)
        assert what in caught.value.message and "sec" not in caught.value.message
    if "builtin" in named:
        with pytest.raises(InputError, match="stands among other servers"):
            model_name(endpoint)


@pytest.mark.parametrize("how", ["option", "environment"])
async def test_the_command_takes_a_list(three, tmp_path, how):
    a, b, _ = three
    for server in (a, b):
        server.default = lambda body: Reply(f"answer to {text_of(body)}", delay_s=0.02)
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "question {n}"}}\n' for n in range(20)))
    urls = f"{a.url} , {b.url}/"
    environ = os.environ | ({"OPENAI_BASE_URL": urls} if how == "environment" else {})
    where = ["--base-url", urls] if how == "option" else []
    arguments = ["teacher-gen", "prompts.jsonl", "--out", "out.jsonl", "-m", "1", "--model", "m", *where]
    command = start_ropd(arguments, tmp_path, environ)
    _, err = await asyncio.to_thread(command.communicate)
    assert command.returncode == 0, err
    assert (len(a.requests), len(b.requests)) == (10, 10)

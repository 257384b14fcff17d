"""The cache key holds what determines an answer, and nothing else; the cache gives back what was put in."""

import json
import multiprocessing
import pickle
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.config import EndpointConfig, LimitsConfig, SamplingConfig
from ropd_cli.errors import InputError
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatReply, ChatRequest, JsonSchema, Sampling, endpoint_request
from ropd_cli.llm.endpoints import BUILTIN, base_url
from ropd_cli.schemas import Message, Usage

URL = "http://127.0.0.1:8000/v1"
texts = st.text(max_size=20)
messages = st.lists(
    st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=texts), min_size=1, max_size=3
)
schemas = st.none() | st.builds(
    JsonSchema,
    name=st.sampled_from(["a", "b"]),
    schema=st.dictionaries(texts, st.integers() | texts | st.lists(texts), max_size=4),
)
samplings = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0.1, 1),
    max_tokens=st.none() | st.integers(1, 9999),
    seed=st.none() | st.integers(0, 9999),
    reasoning_effort=st.none() | st.sampled_from(["low", "high"]),
)
requests = st.builds(
    ChatRequest,
    messages=messages.map(tuple),
    model=st.sampled_from(["m", "n"]),
    sampling=samplings,
    form=schemas,
    sample=st.integers(0, 9),
)


def shuffled(value):
    """The same JSON value with every object's keys in the opposite order."""
    if isinstance(value, dict):
        return {k: shuffled(v) for k, v in reversed(value.items())}
    return [shuffled(v) for v in value] if isinstance(value, list) else value


@given(requests)
def test_dict_order_does_not_matter(request):
    again = ChatRequest.model_validate(shuffled(request.model_dump(mode="json")))
    assert cache_key(URL, again) == cache_key(URL, request)
    assert cache_key(URL + "/", request) == cache_key(URL, request)


@given(requests, requests)
def test_equal_keys_mean_equal_requests(one, other):
    assert (cache_key(URL, one) == cache_key(URL, other)) == (one == other)


@given(requests, texts)
def test_every_field_that_determines_the_answer_changes_it(request, text):
    more = Message(role="user", content=text)
    sampling = request.sampling
    changed = [
        request.model_copy(update={"model": request.model + "x"}),
        request.model_copy(update={"sample": request.sample + 1}),
        request.model_copy(update={"messages": (*request.messages, more)}),
        request.model_copy(update={"form": JsonSchema(name="c", schema={})}),
        *(
            request.model_copy(update={"sampling": sampling.model_copy(update=update)})
            for update in (
                {"temperature": 0.25 if sampling.temperature != 0.25 else 0.5},
                {"top_p": 0.25 if sampling.top_p != 0.25 else 0.5},
                {"max_tokens": (sampling.max_tokens or 0) + 1},
                {"seed": (sampling.seed or 0) + 1},
                {"reasoning_effort": "medium"},
            )
        ),
    ]
    keys = {cache_key(URL, each) for each in [request, *changed]} | {cache_key("http://other/v1", request)}
    assert len(keys) == len(changed) + 2


@given(st.floats(1, 999), st.integers(1, 99), st.integers(0, 9), st.sampled_from(["OPENAI_API_KEY", "OTHER_KEY"]))
def test_operational_settings_do_not_matter(timeout_s, concurrency, retries, key_name):
    plain = EndpointConfig(model="m", base_url=URL)
    limits = LimitsConfig(timeout_s=timeout_s, concurrency=concurrency, max_retries=retries)
    other = plain.model_copy(update={"limits": limits, "api_key_env": key_name})
    question = (Message(role="user", content="?"),)
    keys = {cache_key(base_url(e), endpoint_request(e, question)) for e in (plain, other)}
    assert len(keys) == 1


def test_a_password_in_the_url_is_no_part_of_the_key():
    request = ChatRequest(messages=(Message(role="user", content="?"),), model="m")
    assert cache_key("https://user:secret@host/v1", request) == cache_key("https://HOST/v1", request)
    assert cache_key(BUILTIN + "checkable/", request) == cache_key(BUILTIN + "checkable", request)


def test_the_seed_of_each_sample_is_its_own():
    endpoint = EndpointConfig(model="m", base_url=URL, sampling=SamplingConfig(seed=5))
    question = (Message(role="user", content="?"),)
    assert [endpoint_request(endpoint, question, sample=s).sampling.seed for s in range(3)] == [5, 6, 7]
    assert endpoint_request(EndpointConfig(model="m"), question, sample=2).sampling.seed is None


@pytest.mark.parametrize(
    ("section", "names"), [("verifier", ["--model", "verifier.model", "ROPD_VERIFIER_MODEL"]), (None, ["--model"])]
)
def test_a_missing_model_is_named(section, names):
    with pytest.raises(InputError) as caught:
        endpoint_request(EndpointConfig(base_url=URL), (), section=section)
    assert all(name in caught.value.hint for name in names)
    assert endpoint_request(EndpointConfig(base_url="builtin://checkable"), ()).model == "checkable"


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", "http://", "builtin://", "http://h:port/v1", "http://[::1/v1"]
)
def test_a_url_that_is_none(url):
    with pytest.raises(InputError, match="base_url"):
        base_url(EndpointConfig(base_url=url))


REPLY = ChatReply(
    text="αβ\u2028 42",
    finish_reason="stop",
    usage=Usage(prompt_tokens=1, completion_tokens=2),
    reasoning="hm",
    model="m",
)


def test_gives_back_what_was_put_in(tmp_path):
    with ReplyCache.open(tmp_path) as cache:
        assert cache.get("k") is None
        cache.put("k", REPLY)
        cache.put("long", REPLY.model_copy(update={"text": "x" * 100_000}))
    with ReplyCache.open(tmp_path) as cache:
        assert cache.get("k") == REPLY.model_copy(update={"cached": True})
        assert cache.get("long").text == "x" * 100_000


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_corrupt_entry_is_a_miss(tmp_path):
    """Half an entry, another entry, another version, not even bytes, a lost file; and nothing is unpickled."""
    with ReplyCache.open(tmp_path) as cache:
        cache.put("k", REPLY)
        whole = cache._store.get("k")
        for data in (
            whole[:-20],
            b"",
            b"\xff",
            b"[]",
            whole.replace(b'"v":1', b'"v":0'),
            whole.replace(b'"text"', b'"test"'),
            "text",
            7,
        ):
            cache._store.set("bad", data)
            assert cache.get("bad") is None, data
        cache._store.set("other", whole)
        assert cache.get("other") is None
        cache.put("long", REPLY.model_copy(update={"text": "x" * 100_000}))
        for file in (tmp_path / "replies").rglob("*.val"):
            file.unlink()
        assert cache.get("long") is None
        cache._store.set("evil", Bomb(tmp_path / "ran"))
        assert cache.get("evil") is None and not (tmp_path / "ran").exists()
        assert pickle.dumps(1)  # (pickle itself works)
        assert cache.get("k") is not None


def test_a_folder_that_is_no_cache(tmp_path):
    (tmp_path / "replies").mkdir()
    (tmp_path / "replies" / "cache.db").write_bytes(b"not a database" * 1000)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError) as caught:
            ReplyCache.open(folder)
        assert str(folder) in caught.value.message and "--cache-dir" in caught.value.hint


def test_a_cache_that_fails_later_costs_no_run(tmp_path, caplog):
    with ReplyCache.open(tmp_path) as cache:
        cache.put("k", REPLY)
        with sqlite3.connect(tmp_path / "replies" / "cache.db") as database:
            database.execute("DROP TABLE Cache")
        cache.put("k", REPLY)
        assert cache.get("k") is None
    assert len(caplog.records) == 1


def _fill(folder, worker):
    with ReplyCache.open(folder) as cache:
        for k in range(30):
            cache.put(f"{worker}-{k}", REPLY)
            cache.put("shared", REPLY)


def test_several_processes_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fill, args=(tmp_path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with ReplyCache.open(tmp_path) as cache:
        assert all(cache.get(f"{worker}-{k}") for worker in range(3) for k in range(30)) and cache.get("shared")


def test_the_entry_is_plain_json(tmp_path):
    with ReplyCache.open(tmp_path) as cache:
        cache.put("k", REPLY)
        assert json.loads(cache._store.get("k"))["reply"]["text"] == REPLY.text

"""The cache key holds what determines an answer, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.config import EndpointConfig, LimitsConfig, SamplingConfig
from ropd_cli.errors import InputError
from ropd_cli.llm.cache import cache_key
from ropd_cli.llm.chat import ChatRequest, JsonSchema, Sampling, endpoint_request
from ropd_cli.llm.urls import BUILTIN, base_url
from ropd_cli.records.schemas import Message

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


def unlimited(request):
    return request.model_copy(update={"sampling": request.sampling.model_copy(update={"max_tokens": None})})


@given(requests, requests)
def test_equal_keys_mean_equal_requests_whatever_the_limit(one, other):
    assert (cache_key(URL, one) == cache_key(URL, other)) == (unlimited(one) == unlimited(other))
    assert cache_key(URL, one) == cache_key(URL, unlimited(one))


@given(requests, texts)
def test_every_field_that_determines_the_answer_changes_it(request, text):
    more = Message(role="user", content=text)
    sampling = request.sampling
    changed = [
        request.model_copy(update={"model": request.model + "x"}),
        request.model_copy(update={"sample": request.sample + 1}),
        request.model_copy(update={"messages": (*request.messages, more)}),
        request.model_copy(update={"form": JsonSchema(name="c", schema={})}),
        request.model_copy(update={"api": "responses"}),
        *(
            request.model_copy(update={"sampling": sampling.model_copy(update=update)})
            for update in (
                {"temperature": 0.25 if sampling.temperature != 0.25 else 0.5},
                {"top_p": 0.25 if sampling.top_p != 0.25 else 0.5},
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


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"base_url": URL}, "6660fd3ff0b03e433141e3b331052c57a86f453c8360977a87a0addf0d05e090"),
        (
            {
                "base_url": " HTTP://Judge:8000/v1/ ",
                "api": "responses",
                "sampling": SamplingConfig(temperature=0.0, seed=3, max_tokens=9),
            },
            "fcc617224961b494ca79b5453739d29d30499b189602a9ac165fe90a6cae5aa5",
        ),
        ({}, "a35701fd77aff64a7186e333096ef22256c7deaf8a70c60c28a994e4fd2d1ebd"),
    ],
)
def test_keys_stay_what_they_are(settings, key):
    """Replies that are kept on users' disks are found by these."""
    plain = EndpointConfig(model="m", **settings)
    other = plain.model_copy(update={"structured_output": "json_object", "prompt_cache_key": True})  # no other answer
    question, form = (
        (Message(role="user", content="What is 17 + 25?"),),
        JsonSchema(name="n", schema={"type": "object"}),
    )
    for endpoint in (plain, other):
        for affinity in (None, "a group"):
            request = endpoint_request(endpoint, question, form, sample=1, affinity=affinity)
            assert cache_key(base_url(endpoint), request) == key


def test_extra_body_is_part_of_the_key_in_any_order():
    question = (Message(role="user", content="?"),)

    def key(extra):
        endpoint = EndpointConfig(model="m", base_url=URL, extra_body=extra)
        return cache_key(URL, endpoint_request(endpoint, question))

    template = {"chat_template_kwargs": {"enable_thinking": False}}
    keys = {key({}), key(template), key({"top_k": 5}), key({"top_k": 6}), key(template | {"top_k": 5})}
    assert len(keys) == 5
    assert key({"top_k": 5} | template) == key(template | {"top_k": 5})
    assert key({}) == cache_key(URL, endpoint_request(EndpointConfig(model="m", base_url=URL), question))


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

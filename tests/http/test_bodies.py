"""What a request holds besides the question: extra_body, the form of JSON to begin with, prompt_cache_key."""

import pytest
from servers import Reply, Status

from ropd_cli.config import EndpointConfig, SamplingConfig, load_config
from ropd_cli.errors import ConfigError
from ropd_cli.llm.chat import JsonSchema, endpoint_request
from ropd_cli.llm.client import ChatClient
from ropd_cli.records.schemas import Message

QUESTION = (Message(role="system", content="You judge."), Message(role="user", content="What is 17 + 25?"))
FORM = JsonSchema(name="numbers", schema={"type": "object", "properties": {"sum": {"type": "integer"}}})
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}


async def sent(server, *, schema=None, affinity=None, times=1, **settings):
    """The bodies of requests to an endpoint with these settings."""
    server.default = server.default if callable(server.default) else Reply("{}")
    endpoint = EndpointConfig(model="m", base_url=server.url, **settings)
    async with ChatClient.open(endpoint, cache=None, environ={}) as client:
        for number in range(times):
            await client.complete(endpoint_request(endpoint, QUESTION, schema, sample=number, affinity=affinity))
    return server.bodies


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_extra_body_is_in_every_request(server, api):
    bodies = await sent(server, api=api, extra_body=NO_THINKING | {"top_k": 20}, times=2)
    bare = await sent(server, api=api)
    assert bodies[0] == bodies[1] == bare[-1] | NO_THINKING | {"top_k": 20}


async def test_objects_of_both_keep_the_keys_of_both(server):
    """OpenAI's `text` holds the format, which is ropd's, and the verbosity, which is not."""
    extra = {"text": {"verbosity": "low"}, "reasoning": {"summary": "auto"}}
    sampling = SamplingConfig(reasoning_effort="low")
    (body,) = await sent(server, api="responses", extra_body=extra, schema=FORM, sampling=sampling)
    assert body["text"]["verbosity"] == "low" and body["text"]["format"]["type"] == "json_schema"
    assert body["reasoning"] == {"summary": "auto", "effort": "low"}


@pytest.mark.parametrize(
    "key",
    [
        "messages",
        "input",
        "model",
        "response_format",
        "text.format",
        "stream",
        "stream_options",
        "n",
        "store",
        "background",
        "temperature",
        "top_p",
        "seed",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "reasoning_effort",
        "prompt_cache_key",
    ],
)
def test_what_the_program_sets_is_refused_by_name(key):
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[f"verifier.extra_body.{key}=1"], environ={})
    assert (
        f"--set verifier.extra_body.{key}: can't be set here: " in caught.value.message and caught.value.exit_code == 2
    )


def test_all_that_is_wrong_with_it_is_said_at_once():
    extra = "{stream: true, n: 2, top_k: 5, deep: {stream: true}, big: 99999999999999999999}"
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[f"student.endpoint.extra_body={extra}"], environ={})
    paths = [
        problem.partition(": ")[0].removeprefix("student.endpoint.extra_body.") for problem in caught.value.problems
    ]
    assert paths == ["stream", "n", "big"]


@pytest.mark.parametrize("value", ["1", "[stream]", "null"])
def test_it_is_an_object(value):
    with pytest.raises(ConfigError, match=r"verifier\.extra_body"):
        load_config(overrides=[f"verifier.extra_body={value}"], environ={})


def form_of(body):
    """(Type of the response_format, whether the schema stands in the last message, and nothing before differs)."""
    first, last = body["messages"]
    assert first == {"role": "system", "content": "You judge."}
    assert last["content"].startswith(QUESTION[1].content)
    return body.get("response_format", {}).get("type"), '"sum"' in last["content"]


@pytest.mark.parametrize(
    ("start", "forms"),
    [
        ("json_schema", [("json_schema", False)]),
        ("json_object", [("json_object", True)]),
        ("text", [(None, True)]),
    ],
)
async def test_json_is_asked_for_in_the_form_that_is_wanted(server, start, forms):
    assert [form_of(body) for body in await sent(server, schema=FORM, structured_output=start)] == forms


@pytest.mark.parametrize(("start", "falls"), [("json_schema", 2), ("json_object", 1), ("text", 0)])
async def test_it_falls_back_from_there_and_never_back_up(server, start, falls):
    server.default = lambda body: Status(400, "no") if "response_format" in body else Reply("{}")
    bodies = await sent(server, schema=FORM, structured_output=start, times=3)
    assert [form_of(body) for body in bodies[falls:]] == [(None, True)] * 3 and len(bodies) == falls + 3


async def test_the_requests_of_two_schemas_have_all_but_the_end_in_common(server):
    """What json_object is for: the schema stands behind the text that both requests begin with."""
    other = JsonSchema(name="words", schema={"type": "object", "properties": {"word": {"type": "string"}}})
    await sent(server, schema=FORM, structured_output="json_object")
    one, two = await sent(server, schema=other, structured_output="json_object")
    assert one["response_format"] == two["response_format"] and one["messages"][0] == two["messages"][0]
    ends = [body["messages"][1]["content"].removeprefix(QUESTION[1].content) for body in (one, two)]
    assert ends[0].partition("{")[0] == ends[1].partition("{")[0] and ends[0] != ends[1]


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_prompt_cache_key_is_sent_where_it_is_wanted_and_known(server, api):
    (without,) = await sent(server, api=api, affinity="group-7")
    (*_, unknown) = await sent(server, api=api, prompt_cache_key=True)
    (*_, known) = await sent(server, api=api, prompt_cache_key=True, affinity="group-7")
    assert without == unknown and known == without | {"prompt_cache_key": "group-7"}


async def test_a_long_name_is_hashed(server):
    """OpenAI refuses more than 64 characters."""
    names = ["g" * 64, "g" * 65, "g" * 66]
    for name in names:
        await sent(server, prompt_cache_key=True, affinity=name)
    sent_names = [body["prompt_cache_key"] for body in server.bodies]
    assert sent_names[0] == names[0] and len(set(sent_names)) == 3 and all(len(name) == 64 for name in sent_names)

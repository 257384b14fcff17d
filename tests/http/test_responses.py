"""The Responses API: what is sent, what is read, and the same through the embedded provider and a real SDK."""

import json
import threading
import time

import pytest
import uvicorn
from servers import Raw, Status

from ropd_cli.builtin.server import create_app
from ropd_cli.config import EndpointConfig, SamplingConfig
from ropd_cli.errors import ProviderError
from ropd_cli.llm.chat import JsonSchema, endpoint_request
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import NO_WAIT, RetryPolicy
from ropd_cli.records.schemas import Message, Usage

SCHEMA = JsonSchema(name="numbers", schema={"type": "object", "properties": {"a": {"type": "integer"}}})
QUESTION = (Message(role="system", content="Be brief."), Message(role="user", content="What is 17 + 25?"))


def endpoint(url, **sampling):
    return EndpointConfig(model="m", base_url=url, api="responses", sampling=SamplingConfig(**sampling))


def document(text, *, status="completed", reason=None, reasoning=None):
    output = [{"type": "reasoning", "summary": [{"type": "summary_text", "text": reasoning}]}] if reasoning else []
    output.append({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
    usage = {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 5}}
    done = {"id": "r", "object": "response", "model": "m-1", "status": status, "output": output, "usage": usage}
    return Raw(json.dumps(done | {"incomplete_details": {"reason": reason} if reason else None}).encode())


async def test_what_is_sent_and_read(server):
    server.default = document('{"a": 42}', reasoning="17 and 25")
    there = endpoint(server.url, temperature=0.5, max_tokens=99, reasoning_effort="low", seed=3)
    async with ChatClient.open(there, cache=None, environ={}) as client:
        reply = await client.complete(endpoint_request(there, QUESTION, SCHEMA))
    (request,) = server.requests
    assert request.path == "/v1/responses"
    assert request.body == {
        "model": "m",
        "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 17 + 25?"}],
        "temperature": 0.5,
        "max_output_tokens": 99,
        "reasoning": {"effort": "low"},
        "store": False,
        "text": {"format": {"type": "json_schema", "name": "numbers", "strict": True, "schema": SCHEMA.body}},
    }
    assert (reply.text, reply.reasoning, reply.finish_reason, reply.model) == ('{"a": 42}', "17 and 25", "stop", "m-1")
    assert reply.usage == Usage(prompt_tokens=9, completion_tokens=4, cached_tokens=5)


async def test_forms_fall_back_and_corrections_follow(server):
    server.script(Status(400, "no json_schema"), document("no JSON"), document('{"a": 1}'))
    there = endpoint(server.url)
    async with ChatClient.open(there, cache=None, retry=NO_WAIT, environ={}) as client:
        await client.complete(endpoint_request(there, QUESTION, SCHEMA))
    first, second, third = server.bodies
    assert first["text"]["format"]["type"] == "json_schema"
    assert second["text"] == third["text"] == {"format": {"type": "json_object"}}
    assert "JSON schema" in second["input"][-1]["content"]
    assert [said["role"] for said in third["input"]] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (document('{"a": 1}', status="incomplete", reason="max_output_tokens"), "cut off at its length limit"),
        (document('{"a": 1}', status="failed"), "broke the reply off"),
        (Raw(b'{"choices": []}'), "holds no reply"),
        (document("x"), "can't be read"),
    ],
)
async def test_replies_that_can_not_be_used(server, step, said):
    server.default = step
    there = endpoint(server.url)
    retry = RetryPolicy(max_retries=0)
    async with ChatClient.open(there, cache=None, retry=retry, environ={}) as client:
        with pytest.raises(ProviderError, match=said):
            await client.complete(endpoint_request(there, QUESTION, SCHEMA))


def test_the_api_is_part_of_what_is_asked():
    chat = endpoint("http://h/v1").model_copy(update={"api": "chat"})
    assert endpoint_request(chat, QUESTION).digest != endpoint_request(endpoint("http://h/v1"), QUESTION).digest


async def test_the_embedded_provider_speaks_it_too():
    there = EndpointConfig(base_url="builtin://checkable", api="responses")
    async with ChatClient.open(there, cache=None, environ={}) as client:
        reply = await client.complete(endpoint_request(there, QUESTION[1:]))
    assert "42" in reply.text and reply.usage.completion_tokens > 0


@pytest.fixture
def served():
    """The embedded provider on a port."""
    server = uvicorn.Server(uvicorn.Config(create_app("checkable"), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join(10)


def test_the_official_sdk_understands_the_embedded_provider(served):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=served, api_key="x", max_retries=0)
    question = [{"role": "user", "content": "What is 17 + 25?"}]
    assert "42" in client.chat.completions.create(model="checkable", messages=question).choices[0].message.content
    assert "42" in client.responses.create(model="checkable", input=question, instructions="Be brief.").output_text
    cut = client.responses.create(model="checkable", input="What is 17 + 25?", max_output_tokens=1)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="checkable", input="Who wrote Faust?")

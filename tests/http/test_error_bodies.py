"""Errors as real servers word them: what becomes of the call, what a user is told, and how often is asked."""

import json
import subprocess
import sys
import time

import pytest
from servers import Raw, Reply, Status

from ropd_cli.config import EndpointConfig
from ropd_cli.errors import AccountEnded, ProviderBusy, ProviderRefused, ReplyInvalid
from ropd_cli.llm.chat import ChatRequest, JsonSchema
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.error_body import read_error
from ropd_cli.llm.limits import duration_s
from ropd_cli.llm.retry import NO_WAIT, RetryPolicy
from ropd_cli.llm.structured import Form
from ropd_cli.records.schemas import Message

FORM = JsonSchema(name="numbers", schema={"type": "object"})
LARGE = JsonSchema(name="numbers", schema={"type": "object", "properties": {"a": {"type": "integer"}}})
SOON = RetryPolicy(max_retries=2, first_wait_s=0.0, max_wait_s=0.0, patience_s=5.0)


def ask(text="What is 17 + 25?", **more):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m", **more)


def opened(server, *, retry=NO_WAIT, environ=None):
    endpoint = EndpointConfig(model="m", base_url=server.url, api_key_env="MY_KEY")
    return ChatClient.open(endpoint, cache=None, retry=retry, environ=environ or {"MY_KEY": "sk-aaaabbbbccccdddd"})


def error(message, **fields):
    return {"error": {"message": message, **fields}}


def google(status, message, *details):
    return [{"error": {"code": status, "message": message, "status": "RESOURCE_EXHAUSTED", "details": list(details)}}]


PER_MINUTE = google(
    429,
    "You exceeded your current quota, please check your plan and billing details.",
    {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "PerMinutePerProject"}]},
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.2s"},
)
PER_DAY = google(
    429,
    "You exceeded your current quota, please check your plan and billing details.",
    {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "quota", "quotaId": "RequestsPerDayPerProject"},
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "40s"},
)
REFUSALS = [  # a response, what is raised, words of the message, words of the hint; asked once
    (Status(401, body=error("Incorrect API key")), ProviderRefused, "Incorrect API key", "MY_KEY"),
    (Raw(b'{"error": {"message": "Incorrect API key", "code": 401}}'), ProviderRefused, "status 401", "MY_KEY"),
    (Raw(b'{"error": {"message": "no", "code": "invalid_api_key"}}'), ProviderRefused, "status 401", "MY_KEY"),
    (Raw(b'{"error": {"message": "no", "type": "authentication_error"}}'), ProviderRefused, "401", "MY_KEY"),
    (Raw(b'{"code": 401, "message": "bad token"}'), ProviderRefused, "bad token", "MY_KEY"),
    (Raw(b'{"detail": "no model m", "status": 404}'), ProviderRefused, "no model m", "--model"),
    (
        Raw(b'[{"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT"}}]'),
        ProviderRefused,
        "API key not valid",
        "MY_KEY",
    ),
    (Status(402, body=error("Insufficient Balance")), AccountEnded, "Insufficient Balance", "billing"),
    (
        Status(429, body=error("You exceeded your current quota", code="insufficient_quota")),
        AccountEnded,
        "exceeded your current quota",
        "billing",
    ),
    (
        Status(400, body=error("Your credit balance is too low to access the API")),
        AccountEnded,
        "credit balance is too low",
        "billing",
    ),
    (
        Status(403, body=error("Your account is deactivated", code="account_deactivated")),
        AccountEnded,
        "deactivated",
        "billing",
    ),
    (Status(429, body=PER_DAY), AccountEnded, "exceeded your current quota", "billing"),
    (
        Status(429, body=error("余额不足", code="1113")),
        AccountEnded,
        "余额不足",
        "billing",
    ),
    (
        Raw(b'{"error": {"message": "Insufficient credits", "code": 402}}'),
        AccountEnded,
        "Insufficient credits",
        "billing",
    ),
    (
        Status(
            400,
            body={
                "error": {
                    "message": "Provider returned error",
                    "code": 400,
                    "metadata": {
                        "raw": '{"error": {"message": "temperature is not supported with this model"}}',
                        "provider_name": "X",
                    },
                }
            },
        ),
        ProviderRefused,
        "temperature is not supported",
        "sampling.temperature: null",
    ),
    (
        Status(400, body=error("Unsupported value", param="reasoning_effort")),
        ProviderRefused,
        "Unsupported value",
        "sampling.reasoning_effort: null",
    ),
    (
        Status(422, body={"detail": [{"loc": ["body", "seed"], "msg": "seed: extra fields not permitted"}]}),
        ProviderRefused,
        "seed: extra fields not permitted",
        "sampling.seed: null",
    ),
    (
        Status(400, body=error("This model's maximum context length is 4096 tokens, and max_tokens 10")),
        ProviderRefused,
        "maximum context length",
        "too long",
    ),
    (
        Status(
            400,
            body={
                "error": {
                    "message": "filtered",
                    "code": "content_filter",
                    "innererror": {"message": "jailbreak was detected"},
                }
            },
        ),
        ProviderRefused,
        "filtered: jailbreak was detected",
        "",
    ),
    (
        Status(403, body=error("input was flagged by moderation")),
        ProviderRefused,
        "flagged",
        "a filter refused",
    ),
]


@pytest.mark.parametrize(("step", "kind", "said", "hint"), REFUSALS)
async def test_what_is_no_use_asking_again_is_asked_once(server, step, kind, said, hint):
    server.default = step
    async with opened(server) as client:
        with pytest.raises(kind) as fault:
            await client.complete(ask())
    assert (said in fault.value.message, hint in fault.value.hint) == (True, True), fault.value
    assert type(fault.value) is kind and len(server.requests) == 1


WAITS = [  # a response that says when to come back, and the least that is waited
    (Status(429, body=PER_MINUTE), 0.2),
    (Status(429, body=error("Rate limit reached. Please try again in 200ms.")), 0.2),
    (Status(429, body=error("Limit 10000. Please try again in 0.2s. Visit the page.")), 0.2),
    (Status(429, body=error("slow down", retry_after=0.2)), 0.2),
    (Status(429, body={"message": "slow down", "retry_after_ms": 200}), 0.2),
    (Status(503, body=error("overloaded, retry after 0.2 seconds")), 0.2),
    (Raw(b'{"error": {"message": "Please retry in 0.2s", "code": 429}}'), 0.2),
    (Raw(b'{"error": {"message": "overloaded", "code": 503}}'), 0.0),
    (Raw(b'{"error": {"message": "overloaded", "type": "overloaded_error"}}'), 0.0),
    (Raw(b'{"choices": [{"message": {"content": ""}, "error": {"code": 502, "message": "bad gateway"}}]}'), 0.0),
]


@pytest.mark.parametrize(("step", "least_s"), WAITS)
async def test_what_may_pass_is_asked_again_in_time(server, step, least_s):
    server.script(step, Reply("42"))
    began = time.monotonic()
    async with opened(server, retry=SOON) as client:
        assert (await client.complete(ask())).text == "42"
    assert time.monotonic() - began >= least_s


async def test_an_openrouter_reset_is_waited_for(server):
    at = str(int((time.time() + 0.3) * 1000))
    body = {"error": {"message": "Rate limit", "code": 429, "metadata": {"headers": {"X-RateLimit-Reset": at}}}}
    server.script(Status(429, body=body), Reply("42"))
    began = time.monotonic()
    async with opened(server, retry=SOON) as client:
        await client.complete(ask())
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(
    ("words", "wait_s"),
    [
        ("Please try again in 1m2s.", 62),
        ("Please try again in 6h0m0s", 21_600),
        ("Please retry after 20 seconds.", 20),
        ("retry in 2 minutes and 5 seconds", 125),
        ("Rate limit reached, please wait 30s before the next request", 30),
        ("try again in 7.66s", 7.66),
        ("Try again later.", None),
        ("model m2s is not there, try again with model 5s-large", None),
    ],
)
def test_waits_in_words(words, wait_s):
    assert read_error({"error": {"message": words}}).wait_s == wait_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("18s", 18), ("300 ms", 0.3), ("2 minutes", 120), ("1 hour", 3600), ("1m2.5s", 62.5), ("250milliseconds", 0.25)],
)
def test_durations_with_their_units(text, seconds):
    assert duration_s(text) == pytest.approx(seconds)


def test_times_count_from_now():
    for at in (time.time() + 60, (time.time() + 60) * 1000):
        assert duration_s(str(at)) == pytest.approx(60, abs=2)
    assert duration_s(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))) == pytest.approx(60, abs=2)
    assert duration_s(time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))) == pytest.approx(
        60, abs=2
    )


def without_schema(refusal):
    """A server that refuses ``json_schema`` so, and takes the looser forms."""
    return lambda body: refusal if body.get("response_format", {}).get("type") == "json_schema" else Reply('{"a": 1}')


@pytest.mark.parametrize("status", [400, 404, 422, 500])
async def test_a_form_that_is_refused_falls_back(server, status):
    server.default = without_schema(Status(status))
    async with opened(server) as client:
        await client.complete(ask(form=FORM))
        first = len(server.requests)
        await client.complete(ask("other", form=FORM))
        await client.complete(ask("a third", form=FORM))
        before = len(server.requests)
        await client.complete(ask("a fourth", form=FORM))
    assert first == (3 if status == 500 else 2)
    assert len(server.requests) == before + 1  # what works is remembered


async def test_a_form_refused_in_a_200_falls_back(server):
    server.default = without_schema(Raw(b'{"error": {"message": "response_format is not supported", "code": 400}}'))
    async with opened(server) as client:
        assert (await client.complete(ask(form=FORM))).text == '{"a": 1}'


@pytest.mark.parametrize("status", [400, 500])
async def test_one_schema_that_is_too_much_falls_back_alone(server, status):
    def step(body):
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        return Status(status, "schema too complex") if "properties" in schema else Reply('{"a": 1}')

    server.default = step
    async with opened(server) as client:
        await client.complete(ask(form=FORM))
        for number in range(2):  # a looser form has to work twice after a 500
            await client.complete(ask(f"{number}", form=LARGE))
        before = len(server.requests)
        await client.complete(ask("again", form=LARGE))
        await client.complete(ask("again", form=FORM))
        assert client.json_form is Form.JSON_SCHEMA
    assert len(server.requests) == before + 2
    assert [body["response_format"]["type"] for body in server.bodies[-2:]] == ["json_object", "json_schema"]


async def test_an_outage_does_not_lower_the_form(server):
    server.script(Status(500), Status(503), Status(503))
    server.default = Reply('{"a": 1}')
    async with opened(server) as client:
        await client.complete(ask(form=FORM))
        assert client.json_form is Form.JSON_SCHEMA
    assert {body["response_format"]["type"] for body in server.bodies} == {"json_schema"}


async def test_a_prompt_that_is_too_long_is_not_asked_in_other_forms(server):
    server.default = Status(
        400, "This model's maximum context length is 4096 tokens", error_code="context_length_exceeded"
    )
    async with opened(server) as client:
        with pytest.raises(ProviderRefused, match="maximum context length"):
            await client.complete(ask(form=FORM))
    assert len(server.requests) == 1


async def test_an_error_without_a_name_is_asked_again(server):
    server.default = Raw(b'{"error": {"message": "something went wrong"}}')
    async with opened(server, retry=SOON) as client:
        with pytest.raises(ReplyInvalid, match="holds no reply: something went wrong"):
            await client.complete(ask())
    assert len(server.requests) == 3


async def test_a_busy_server_in_a_200_is_busy(server):
    server.default = Raw(b'{"error": {"message": "overloaded", "code": 503}}')
    async with opened(server, retry=SOON) as client:
        with pytest.raises(ProviderBusy, match="status 503 in a response with 200: overloaded"):
            await client.complete(ask())


QUOTA = Status(429, body=error("You exceeded your current quota", code="insufficient_quota"))


def test_the_end_of_an_account_stops_a_stage(server, tmp_path):
    """Half of the prompts are answered, then the account ends: nothing more is sent, and nothing counts as failed."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"uid": f"p{k}", "prompt": f"What is {k}?"}) + "\n" for k in range(100)))
    server.script(*[Reply(f"answer {k}") for k in range(10)])
    server.default = QUOTA
    out = tmp_path / "answers.jsonl"
    command = [
        sys.executable,
        "-m",
        "ropd_cli",
        "teacher-gen",
        str(prompts),
        "--out",
        str(out),
        "-m",
        "1",
        "--no-cache",
    ]
    done = subprocess.run(
        [*command, "--base-url", server.url, "--model", "m", "--concurrency", "4"],
        capture_output=True,
        text=True,
        env={"PATH": "", "OPENAI_API_KEY": "sk-aaaabbbbccccdddd"},
        check=False,
    )
    assert done.returncode == 4 and "quota or credit is used up" in done.stderr, done.stderr
    assert len(out.read_text().splitlines()) == 10
    assert len(server.requests) <= 18
    assert not (tmp_path / "answers.failed.jsonl").exists() and not (tmp_path / "answers.jsonl.failed.jsonl").exists()
    server.default = Reply("the rest")
    again = subprocess.run(
        [*command, "--base-url", server.url, "--model", "m"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0 and len(out.read_text().splitlines()) == 100, again.stderr

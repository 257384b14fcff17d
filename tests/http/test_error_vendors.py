"""Errors as vendors word them: what kind of error each is, how often is asked, and what a user is told."""

import json
import time

import pytest
from servers import Raw, Status

from ropd_cli.config import EndpointConfig
from ropd_cli.errors import AccountEnded, ProviderBusy, ProviderRefused, ReplyInvalid, RopdError
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.records.schemas import Message

RETRIES = 2
AGAIN = 1 + RETRIES
GOOGLE = "type.googleapis.com/google.rpc."


def error(message, **more):
    return {"error": {"message": message, **more}}


def in_200(body):
    return Raw(json.dumps(body).encode())


def google(quota, delay):
    details = [
        {"@type": GOOGLE + "QuotaFailure", "violations": [{"quotaId": quota}]},
        {"@type": GOOGLE + "RetryInfo", "retryDelay": delay},
    ]
    words = "You exceeded your current quota, please check your plan and billing details."
    return [error(words, code=429, status="RESOURCE_EXHAUSTED", details=details)]


def router(status, raw, **metadata):
    return error("Provider returned error", code=status, metadata={"raw": raw, "provider_name": "BaseTen", **metadata})


FLAGGED = error("flagged", code=403, metadata={"reasons": ["violence"], "flagged_input": "x"})
AZURE_FILTER = error(
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    code="content_filter",
    innererror={
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {"hate": {"filtered": True}, "violence": {"filtered": False}},
    },
)
NO_TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported."
)
CASES = {
    # a 200 that holds an error: as that error's status
    "200 wrong key": (
        in_200(error("Incorrect API key", code="invalid_api_key")),
        ProviderRefused,
        1,
        "status 401",
        "--api-key-env",
    ),
    "200 wrong key, number": (
        in_200(error("No auth credentials found", code=401)),
        ProviderRefused,
        1,
        "status 401",
        "--api-key-env",
    ),
    "200 busy": (in_200(error("Rate limit exceeded", code=429)), ProviderBusy, AGAIN, "status 429", "--concurrency"),
    "200 upstream": (in_200(error("bad gateway", code=502)), ProviderBusy, AGAIN, "status 502", "later"),
    "200 google list": (
        in_200([error("API key not valid", code=400, status="INVALID_ARGUMENT")]),
        ProviderRefused,
        1,
        "status 400",
        "--api-key-env",
    ),
    "200 in a choice": (
        in_200({"choices": [{"error": {"code": 502, "message": "cut"}, "message": {"content": "ha"}}]}),
        ProviderBusy,
        AGAIN,
        "cut",
        "later",
    ),
    "200 detail": (in_200({"detail": "Not authenticated"}), ProviderRefused, 1, "status 401", "--api-key-env"),
    "200 detail list": (
        in_200({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
        ProviderRefused,
        1,
        "status 422",
        "sampling.seed",
    ),
    "200 code, message": (
        in_200({"code": 404, "message": "no such model"}),
        ProviderRefused,
        1,
        "status 404",
        "--model",
    ),
    "200 anthropic": (
        in_200({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        ProviderBusy,
        AGAIN,
        "status 503",
        "later",
    ),
    "200 minimax": (
        in_200({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "no money"}}),
        AccountEnded,
        1,
        "no money",
        "billing",
    ),
    "200 cloudflare": (
        in_200({"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}),
        ProviderRefused,
        1,
        "status 401",
        "--api-key-env",
    ),
    "200 unknown": (in_200(error("odd")), ReplyInvalid, AGAIN, "holds no reply: odd", "/v1"),
    # credit, quota, an account
    "openai quota": (Status(429, error_code="insufficient_quota"), AccountEnded, 1, "the server's words", "billing"),
    "openai limit": (
        Status(400, "x", error_code="billing_hard_limit_reached"),
        AccountEnded,
        1,
        "status 400",
        "billing",
    ),
    "openai deactivated": (
        Status(401, "x", error_code="account_deactivated"),
        AccountEnded,
        1,
        "status 401",
        "billing",
    ),
    "deepseek": (Status(402, "Insufficient Balance"), AccountEnded, 1, "Insufficient Balance", "billing"),
    "anthropic": (
        Status(400, "Your credit balance is too low to access the API."),
        AccountEnded,
        1,
        "too low",
        "billing",
    ),
    "moonshot": (
        Status(429, "x", body=error("suspended", type="exceeded_current_quota_error")),
        AccountEnded,
        1,
        "suspended",
        "billing",
    ),
    "zhipu": (Status(429, body=error("您的账户已欠费", code="1113")), AccountEnded, 1, "欠费", "billing"),
    "dashscope": (
        Status(400, "Access denied, account is not in good standing", error_code="Arrearage"),
        AccountEnded,
        1,
        "standing",
        "billing",
    ),
    "google day": (
        Status(429, body=google("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "18s")),
        AccountEnded,
        1,
        "PerDay",
        "billing",
    ),
    "groq day": (
        Status(429, "Rate limit reached on tokens per day (TPD). Please try again in 7m34.3s"),
        AccountEnded,
        1,
        "TPD",
        "billing",
    ),
    "openrouter day": (
        Status(
            429,
            body=error(
                "Rate limit exceeded: free-models-per-day",
                metadata={"headers": {"X-RateLimit-Reset": str(int(time.time() + 9e3) * 1000)}},
            ),
        ),
        AccountEnded,
        1,
        "per-day",
        "billing",
    ),
    # waits longer than anybody's patience: asked once
    "google minute": (
        Status(429, body=google("GenerateRequestsPerMinute", "3600s")),
        ProviderBusy,
        1,
        "PerMinute",
        "later",
    ),
    "words": (Status(429, "Please try again in 1h2m3s."), ProviderBusy, 1, "1h2m3s", "later"),
    "azure words": (Status(429, "Please retry after 2000 seconds."), ProviderBusy, 1, "2000", "later"),
    "field": (Status(503, body=error("busy", retry_after=900)), ProviderBusy, 1, "busy", "later"),
    "reset header in ms": (
        Status(429, headers={"X-RateLimit-Reset": str(int(time.time() + 9e3) * 1000)}),
        ProviderBusy,
        1,
        "429",
        "later",
    ),
    "reset header of what is left": (
        Status(429, headers={"x-ratelimit-reset-tokens": "9h", "x-ratelimit-remaining-tokens": "5"}),
        ProviderBusy,
        AGAIN,
        "429",
        "later",
    ),
    # reasons that stand deeper
    "openrouter raw": (
        Status(429, body=router(429, "glm is rate-limited upstream")),
        ProviderBusy,
        AGAIN,
        "glm is rate-limited upstream: BaseTen",
        "later",
    ),
    "openrouter raw json": (
        Status(400, body=router(400, json.dumps(error("at most 1 image")))),
        ProviderRefused,
        1,
        "at most 1 image",
        "null",
    ),
    "google in a text": (
        Status(503, body=error(json.dumps(error("the model is overloaded", code=503)))),
        ProviderBusy,
        AGAIN,
        "503: the model is overloaded",
        "later",
    ),
    # filters are about one input
    "openrouter flagged": (Status(403, body=FLAGGED), ProviderRefused, 1, "reasons: violence", "filter"),
    "azure filter": (Status(400, body=AZURE_FILTER), ProviderRefused, 1, "filtered for hate", "filter"),
    "deepseek filter": (Status(400, "Content Exists Risk"), ProviderRefused, 1, "Risk", "filter"),
    "dashscope filter": (Status(400, "x", error_code="data_inspection_failed"), ProviderRefused, 1, "400", "filter"),
    # parameters
    "temperature": (
        Status(400, body=error(NO_TEMPERATURE, param="temperature")),
        ProviderRefused,
        1,
        "temperature",
        "sampling.temperature=null",
    ),
    "anthropic temperature": (
        Status(400, "`temperature` is deprecated for this model."),
        ProviderRefused,
        1,
        "deprecated",
        "sampling.temperature=null",
    ),
    "top_p": (
        Status(400, "temperature and top_p cannot both be specified"),
        ProviderRefused,
        1,
        "both",
        "sampling.temperature=null",
    ),
    "effort": (
        Status(400, "Unsupported parameter: 'reasoning_effort'"),
        ProviderRefused,
        1,
        "effort",
        "sampling.reasoning_effort=null",
    ),
    "key in a 400": (
        Status(400, "API key expired. Please renew the API key."),
        ProviderRefused,
        1,
        "expired",
        "--api-key-env",
    ),
    # as gateways word it
    "alibaba key": (
        in_200({"code": "InvalidApiKey", "message": "Invalid API-key provided."}),
        ProviderRefused,
        1,
        "Invalid API-key",
        "--api-key-env",
    ),
    "a bare key": (in_200({"error": "Invalid API key"}), ProviderRefused, 1, "Invalid API key", "--api-key-env"),
    "minimax key": (
        in_200({"id": "1", "choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}}),
        ProviderRefused,
        1,
        "login fail",
        "--api-key-env",
    ),
    "litellm key": (Status(500, "litellm.AuthenticationError: Incorrect API key"), ProviderRefused, 1, "500", "key"),
    "xai credits": (
        Status(403, "Your team doesn't have any credits or licenses yet"),
        AccountEnded,
        1,
        "any credits",
        "billing",
    ),
    "litellm budget": (
        Status(400, body=error("Budget has been exceeded!", type="budget_exceeded")),
        AccountEnded,
        1,
        "Budget",
        "billing",
    ),
    "one-api quota": (
        Status(403, body=error("用户额度不足", code="insufficient_user_quota")),
        AccountEnded,
        1,
        "额度",
        "billing",
    ),
    "openrouter key limit": (Status(403, "Key limit exceeded (total limit)"), AccountEnded, 1, "Key limit", "billing"),
    "tgi too long": (
        in_200({"error": "Input validation error: inputs + max_new_tokens > 4096", "error_type": "validation"}),
        ProviderRefused,
        1,
        "max_new_tokens",
        "--max-tokens",
    ),
    "dashscope filter in a 200": (
        in_200({"code": "DataInspectionFailed", "message": "Input data may contain it"}),
        ProviderRefused,
        1,
        "Input data",
        "filter",
    ),
    "gemini filter": (
        in_200({"promptFeedback": {"blockReason": "SAFETY"}}),
        ProviderRefused,
        1,
        "SAFETY",
        "filter",
    ),
    "bedrock throttling": (
        Status(400, body={"__type": "ThrottlingException", "message": "Rate exceeded"}),
        ProviderBusy,
        AGAIN,
        "Rate exceeded",
        "later",
    ),
    "groq capacity": (Status(498, "capacity exceeded"), ProviderBusy, AGAIN, "498", "later"),
}


@pytest.mark.parametrize("case", CASES)
async def test_an_error_is_judged_by_its_body(server, case):
    step, kind, requests, words, hint = CASES[case]
    server.default = step
    endpoint = EndpointConfig(model="m", base_url=server.url)
    retry = RetryPolicy(max_retries=RETRIES, first_wait_s=0.0, max_wait_s=0.0)
    async with ChatClient.open(endpoint, cache=None, retry=retry, environ={}) as client:
        with pytest.raises(RopdError) as caught:
            await client.complete(ChatRequest(messages=(Message(role="user", content="q"),), model="m"))
    assert type(caught.value) is kind, caught.value.message
    assert len(server.requests) == requests
    assert words in caught.value.message and hint in caught.value.hint, (caught.value.message, caught.value.hint)

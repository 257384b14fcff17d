"""What the body of a failed request says: the server's words, the status it stands for, how long to wait.

Servers put errors into one or several of: ``error`` as OpenAI has it, a list of those (Gemini), ``detail`` (FastAPI),
``message`` and ``code`` at the top, ``metadata.raw`` of a gateway (OpenRouter), ``innererror`` (Azure), ``details``
(Google). All of these are looked through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from ropd_cli.llm.limits import duration_s

_INNER = (
    *("error", "errors", "message", "metadata", "innererror", "inner_error", "details", "detail", "violations"),
    *("raw", "cause", "body", "base_resp", "promptFeedback"),
)
_CODES = (
    *("code", "type", "status", "reason", "quotaId", "err_code", "error_code", "errorCode", "status_code"),
    *("__type", "error_type", "blockReason"),
)
_WORDS = (
    "message",
    "msg",
    "status_msg",
    "error_msg",
    "blockReason",
    "error",
    "detail",
    "raw",
    "provider_name",
    "quotaId",
)
_WAITS = ("retryDelay", "retry_after", "retryAfter", "retry_after_seconds", "estimated_time")
_RESETS = ("x-ratelimit-reset", "retry-after", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens")
_DEPTH = 9

_STATUS_OF = {  # words in codes of errors, without case, and the status they stand for
    401: "invalid_api_key invalidapikey authentication_error unauthenticated unauthorized invalid_authentication_error "
    "1004",
    402: "insufficient_quota insufficient_balance insufficient_credits billing_hard_limit_reached billing_not_active "
    "exceeded_current_quota_error payment_required credit_limit_reached quota_exhausted account_deactivated "
    "access_terminated arrearage budget_exceeded insufficient_user_quota 1008 1113",  # numbers: MiniMax, Zhipu
    403: "permission_denied permission_error forbidden unsupported_country",
    404: "model_not_found not_found not_found_error",
    413: "context_length_exceeded request_too_large",
    429: "rate_limit_exceeded rate_limit_error rate_limit_reached_error resource_exhausted too_many_requests throttled "
    "throttlingexception",
    422: "validation",
    400: "invalid_request_error invalid_argument bad_request invalid_parameter_error failed_precondition",
    503: "server_error internal_error internal internal_server_error overloaded overloaded_error unavailable timeout "
    "api_error engine_overloaded_error service_unavailable deadline_exceeded upstream_error bad_gateway",
}
_STATUSES = {word: status for status, words in _STATUS_OF.items() for word in words.split()}
_NO_MONEY = re.compile(
    r"insufficient[ _](?:quota|balance|credit|funds)|balance (?:is )?(?:too low|insufficient|not enough)|"
    r"credit balance is too low|(?:out of|not enough|no|insufficient|requires more|run out of|used all.{0,30}) credits|"
    r"exceeded your current quota|any credits|budget has been exceeded|exceeded ?token ?budget|key limit exceeded|"
    r"free allocation|额度不足|billing (?:hard )?(?:limit|not active)|billing_|payment required|arrear|overdue|"
    r"spend(?:ing)? limit|(?:monthly|daily|weekly) (?:spend|quota|usage|limit)|余额不足|欠费|"
    r"account (?:is |has been )?(?:deactivated|suspended|disabled)|account_deactivated|access_terminated",
    re.IGNORECASE,
)
_PER_DAY = re.compile(r"per[ -]?day|\bTPD\b|\bRPD\b|daily (?:limit|quota)", re.IGNORECASE)
_KEY = re.compile(
    r"not authenticated|authentication ?error|api[ -]key (?:is |was )?(?:not valid|invalid|expired|provided)|"
    r"(?:invalid|incorrect|wrong)[ -]api[ -]?key|access token invalid|login fail",
    re.IGNORECASE,
)
_FILTER = re.compile(
    r"content_filter|data_?inspection_?failed|^safety$|^102[67]$|content_policy|responsibleai|content exists risk|"
    r"content management policy|"
    r"flagged|moderation|inappropriate content|safety system",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context (?:length|window|size)|maximum (?:context|prompt|input)|prompt is too long|too many (?:input )?tokens|"
    r"input (?:length|is too long)|inputs \+ max_new_tokens|longer than the model|"
    r"exceeds? .{0,40}(?:context|input tokens)",
    re.IGNORECASE,
)
_WAIT = re.compile(
    r"(?:try again|retry|wait|available again|resets?)\b[^.\d]{0,40}?\b(?:in|after|for|until)?\s*"
    r"((?:\d+(?:\.\d+)?\s*(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)\b[\s,]*(?:and\s)?)+"
    r"|(?:\d+(?:\.\d+)?[hms]s?)+)(?![-\w])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ErrorBody:
    """What an error says of itself; what it does not say is None.

    ``codes`` are the words that it is named by, in lower case, ``status`` an HTTP status, ``wait_s`` how long to wait,
    ``parameter`` what of the request it is about.
    """

    words: str = ""
    codes: frozenset[str] = frozenset()
    status: int | None = None
    wait_s: float | None = None
    parameter: str | None = None

    @property
    def is_out_of_money(self) -> bool:
        """Whether the account can't pay any more or was closed, so that no other request can succeed either.

        Google calls a limit per minute a quota as well, and then says how long to wait.
        """
        named = any(_STATUSES.get(code) == 402 for code in self.codes)
        per_day = _PER_DAY.search(self.words) is not None
        return named or per_day or (self.wait_s is None and _NO_MONEY.search(self.words) is not None)

    @property
    def is_about_the_key(self) -> bool:
        """Whether the key is the fault, which some servers say with a 400."""
        return _KEY.search(self.words) is not None

    @property
    def is_filtered(self) -> bool:
        """Whether a filter refused this one input."""
        return any(_FILTER.search(text) for text in (self.words, *self.codes))

    @property
    def is_too_long(self) -> bool:
        """Whether the prompt does not fit into the model's context."""
        return "context_length_exceeded" in self.codes or _TOO_LONG.search(self.words) is not None


def read_error(document: Any) -> ErrorBody:
    """Return what an error document says; an empty one for what is none."""
    parts = list(_parts(document, 0))
    if not parts:
        return ErrorBody(document if isinstance(document, str) else "")
    codes = [str(part[name]).lower() for part in parts for name in _CODES if isinstance(part.get(name), str | int)]
    numbers = [int(code) for code in codes if code.isdigit() and 400 <= int(code) < 600]
    named = [_STATUSES[code] for code in codes if code in _STATUSES]
    words = _words(document, parts)
    waits = [wait for part in parts if (wait := _wait_of(part)) is not None]
    if not waits and (said := _WAIT.search(words)):
        waits = [wait for wait in [duration_s(said[1])] if wait is not None]
    status = next(iter([402] if 402 in named else numbers or named), None)
    if status is None and _KEY.search(words):
        status = 401
    elif status is None and isinstance(document, dict) and isinstance(document.get("detail"), list):
        status = 422  # FastAPI's
    parameters = [part["param"] for part in parts if isinstance(part.get("param"), str)]
    parameters += [str(part["loc"][-1]) for part in parts if isinstance(part.get("loc"), list) and part["loc"]]
    return ErrorBody(
        words,
        frozenset(codes),
        status,
        max(waits, default=None),
        parameters[0] if parameters else None,
    )


def _parts(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Yield an error document and the objects in it, the outer ones first."""
    if depth > _DEPTH:
        return
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return
    if isinstance(value, list):
        for item in value[:8]:
            yield from _parts(item, depth + 1)
    elif isinstance(value, dict):
        yield value
        for name in _INNER:
            if name in value:
                yield from _parts(value[name], depth + 1)


def _words(document: Any, parts: list[dict[str, Any]]) -> str:
    """Return the server's words, and those of who stands behind it where they are others."""
    said: list[str] = []
    for part in parts:
        for name in _WORDS:
            text = part.get(name)
            if not isinstance(text, str) or not text.strip() or text.lstrip().startswith(("{", "[")):
                continue
            if not any(text in other for other in said):
                said.append(text)
        reasons = part.get("reasons")
        if isinstance(reasons, list):
            said.append(f"reasons: {', '.join(map(str, reasons))}")
        filters = part.get("content_filter_result")
        if isinstance(filters, dict):
            hit = [name for name, how in filters.items() if isinstance(how, dict) and how.get("filtered")]
            said.append(f"filtered for {', '.join(hit)}")
    if not said:
        for part in parts:
            for name in ("error", "detail", "errors"):
                if part.get(name) and not isinstance(part[name], str):
                    return orjson.dumps(part[name]).decode()
    return ": ".join(said[:5])


def _wait_of(part: dict[str, Any]) -> float | None:
    for name in _WAITS:
        value = part.get(name)
        if isinstance(value, dict):
            value = value.get("seconds")
        if value is not None and (wait := duration_s(str(value))) is not None:
            return wait
    if isinstance(part.get("retry_after_ms"), int | float):
        return float(part["retry_after_ms"]) / 1000
    headers = part.get("headers")
    if isinstance(headers, dict):
        for name, value in headers.items():
            if str(name).lower() in _RESETS and (wait := duration_s(str(value))) is not None:
                return wait
    return None

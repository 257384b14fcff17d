"""The built-in provider as an OpenAI-compatible ASGI application.

``POST /v1/chat/completions``, ``POST /v1/responses``, ``GET /v1/models``, ``GET /health``. Deterministic where
a ``seed`` is sent or the temperature is 0; otherwise the teacher picks one of its wordings by chance, as a
sampling model would. Tokens in ``usage`` are words and punctuation marks.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import TYPE_CHECKING, Any

import orjson

from ropd_cli.builtin.noise import Noise, read_noise
from ropd_cli.builtin.rule_judges import EXACT, NotJudgeable, role_of, write_rubric, write_scores, write_verdicts
from ropd_cli.builtin.solvers import Unsolvable
from ropd_cli.builtin.teacher import write_answer
from ropd_cli.errors import InputError
from ropd_cli.llm.transport import Response as Answer
from ropd_cli.method.block import render_question

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

NAMES = ("checkable",)
MAX_CHOICES = 128
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")


class BadRequest(ValueError):
    """A request that is answered with status 400 and this message."""


class InProcess:
    """The provider as a client's transport, without a port. Raises what ``check_name`` raises."""

    def __init__(self, name: str) -> None:
        self._noise = check_name(name)

    async def post(self, path: str, body: bytes) -> Answer:
        """Return the response to a request's body."""
        status, content = respond(path, body, self._noise)
        await asyncio.sleep(0)  # as a request over a wire would, it lets others go first
        return Answer(status, content)

    async def close(self) -> None:
        """Nothing is open."""


def check_name(name: str) -> Noise:
    """Return how often a provider is wrong on purpose. Raises InputError for a name that is no embedded provider's."""
    provider, _, query = name.partition("?")
    if provider not in NAMES:
        raise InputError(f"base_url 'builtin://{name}': no such embedded provider", f"there is {', '.join(NAMES)}")
    return read_noise(query)


def respond(path: str, body: bytes, noise: Noise = EXACT) -> tuple[int, bytes]:
    """Return (status, JSON) of a POST to ``path`` below ``/v1``."""
    try:
        document = complete_response(body, noise) if path == "responses" else complete(body, noise)
        return 200, orjson.dumps(document)
    except (BadRequest, NotJudgeable, Unsolvable) as fault:
        return 400, orjson.dumps({"error": {"message": str(fault), "type": "invalid_request_error", "code": None}})


def create_app(name: str) -> Starlette:
    """Return the application of ``builtin://name``. Raises InputError for a name that is none."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    noise = check_name(name)

    def answer(status: int, content: bytes) -> Response:
        return Response(content, status_code=status, media_type="application/json")

    async def post(request: Request) -> Response:
        return answer(*respond(request.url.path.removeprefix("/v1/"), await request.body(), noise))

    async def models(_request: Request) -> Response:
        listed = [{"id": one, "object": "model", "owned_by": "ropd"} for one in NAMES]
        return answer(200, orjson.dumps({"object": "list", "data": listed}))

    async def health(_request: Request) -> Response:
        return answer(200, b'{"status":"ok"}')

    return Starlette(
        routes=[
            Route("/v1/chat/completions", post, methods=["POST"]),
            Route("/v1/responses", post, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ]
    )


def complete_response(body: bytes, noise: Noise = EXACT) -> dict[str, Any]:
    """Return a document of the Responses API for a request's body. Raises as ``complete`` does."""
    request = _load(body)
    said = request.get("input")
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    if isinstance(request.get("instructions"), str) and isinstance(messages, list):
        messages = [{"role": "system", "content": request["instructions"]}, *messages]
    asked: dict[str, Any] = {name: request[name] for name in ("model", "temperature", "stream") if name in request}
    asked |= {"messages": messages, "max_tokens": request.get("max_output_tokens")}
    done = complete(orjson.dumps(asked), noise)
    choice, usage = done["choices"][0], done["usage"]
    cut = choice["finish_reason"] == "length"
    content = [{"type": "output_text", "text": choice["message"]["content"], "annotations": []}]
    return {
        "id": done["id"].replace("chatcmpl", "resp"),
        "object": "response",
        "created_at": done["created"],
        "model": done["model"],
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [{"type": "message", "role": "assistant", "status": "completed", "content": content}],
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
        },
    }


def complete(body: bytes, noise: Noise = EXACT) -> dict[str, Any]:
    """Return a chat completion for a request's body. Raises BadRequest, NotJudgeable or Unsolvable."""
    request = _read(body)
    messages = request["messages"]
    role, text = _judging(messages)
    choices = [
        _choice(index, _answer(role, text, request, index, noise), request) for index in range(request.get("n") or 1)
    ]
    asked = sum(_tokens(render_question([message])) for message in messages)
    said = sum(_tokens(choice["message"]["content"]) for choice in choices)
    return {
        "id": f"chatcmpl-{random.getrandbits(64):016x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": choices,
        "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
    }


def _judging(messages: list[dict[str, Any]]) -> tuple[str | None, str]:
    """Return (the judge that is asked, the text that asks it): of the last message that does, since a rubric that is
    asked for again is asked for in two. (None, "") of a conversation in which no judge is asked."""
    for message in reversed(messages):
        text = message["content"]
        if message["role"] == "user" and isinstance(text, str) and (role := role_of(text)) is not None:
            return role, text
    return None, ""


def _answer(role: str | None, text: str, request: dict[str, Any], index: int, noise: Noise) -> str:
    if role == "rubricator":
        return orjson.dumps(write_rubric(text)).decode()
    if role == "verifier":
        return orjson.dumps(write_verdicts(text, noise)).decode()
    if role == "scorer":
        return orjson.dumps(write_scores(text, noise)).decode()
    seed = request.get("seed")
    if seed is not None:
        number = seed + index
    else:
        number = index if request.get("temperature") == 0 else random.getrandbits(32)
    question = render_question(request["messages"])
    return write_answer(question, number, noise.slip(question, number))


def _choice(index: int, text: str, request: dict[str, Any]) -> dict[str, Any]:
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    pieces = _TOKEN.findall(text) if limit else []
    cut = len(pieces) > limit if limit else False
    return {
        "index": index,
        "message": {"role": "assistant", "content": "".join(pieces[:limit]) if cut else text},
        "finish_reason": "length" if cut else "stop",
    }


def _load(body: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise BadRequest(f"the body is not JSON ({fault})") from fault
    if not isinstance(request, dict):
        raise BadRequest("the body is not a JSON object")
    return request


def _read(body: bytes) -> dict[str, Any]:
    request = _load(body)
    if not isinstance(request.get("model"), str):
        raise BadRequest("'model' has to be a string")
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(_is_message(one) for one in messages):
        raise BadRequest("'messages' has to be a list of {role, content} objects")
    if request.get("stream"):
        raise BadRequest("streaming is not offered here")
    for name, low, high in (("n", 1, MAX_CHOICES), ("seed", -(2**63), 2**63), ("max_tokens", 1, 2**31)):
        value = request.get(name)
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise BadRequest(f"'{name}' has to be a whole number from {low} to {high}")
    return request


def _is_message(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("role"), str) and "content" in one


def _tokens(text: str) -> int:
    return len(_TOKEN.findall(text))

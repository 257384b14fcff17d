"""The reward server as an ASGI application.

``POST /rewards`` (a group, a batch of groups, or one rollout), ``POST /openrlhf``, ``POST /slime``, ``GET /health``,
``GET /metrics`` (Prometheus), ``GET /openapi.json``. What can't be answered is 4xx, or 5xx where the server is at
fault, with one line as JSON. A reward that is missing is null in our own shape; the others have no word for it, and get
status 503.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ropd_cli import __version__
from ropd_cli.errors import InputError, RopdError
from ropd_cli.records.schemas import Answer
from ropd_cli.serving.bodies import (
    BatchBody,
    BatchReply,
    ErrorReply,
    GroupBody,
    GroupReply,
    OpenRlhfBody,
    OpenRlhfReply,
    RolloutBody,
    RolloutReply,
    SlimeBody,
    read,
    response_of,
    rollout_text,
)
from ropd_cli.serving.gathering import Gatherer, RolloutReward
from ropd_cli.serving.served_run import Asked, ServedRun
from ropd_cli.util.counted import counted

Document = dict[str, Any] | float
POSTS = {
    "/rewards": ((GroupBody, BatchBody, RolloutBody), (GroupReply, BatchReply, RolloutReply)),
    "/openrlhf": ((OpenRlhfBody,), (OpenRlhfReply,)),
    "/slime": ((SlimeBody,), (float,)),
}
"""What each path takes and answers."""


class Missing(RopdError):
    """A reward is missing, and the client's shape has no word for that."""


def create_app(run: ServedRun, gatherer: Gatherer, token: str | None) -> Starlette:
    """Return the application of a run. ``token``: what clients have to send, as a bearer token or as the password of
    HTTP Basic (``http://any:TOKEN@host``, for trainers that can send no header)."""
    service = _Service(run, gatherer)

    def answering(work: Callable[[bytes], Awaitable[Document]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if not _is_allowed(request, token):
                return _json({"error": "missing or wrong token", "hint": "Authorization: Bearer TOKEN"}, 401)
            content = await request.body()
            try:
                return _json(await _while_connected(request, work(content)))
            except Missing as fault:
                return _json({"error": fault.message, "hint": fault.hint}, 503)
            except RopdError as fault:
                status = 400 if isinstance(fault, InputError) else 500
                return _json({"error": fault.message, "hint": fault.hint}, status)
            except asyncio.CancelledError:  # uvicorn's way to end requests after a signal
                return _json(
                    {"error": "the server is stopping", "hint": "start it again, then repeat the request"}, 503
                )

        return answer

    async def health(_: Request) -> Response:
        return _json({"status": "ok", "version": __version__, **run.health()})

    async def metrics(request: Request) -> Response:
        if not _is_allowed(request, token):
            return _json({"error": "missing or wrong token", "hint": "Authorization: Bearer TOKEN"}, 401)
        return Response(service.metrics(), media_type="text/plain; version=0.0.4")

    async def openapi(_: Request) -> Response:
        return _json(schema())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run.close()

    async def refused(request: Request, fault: Exception) -> Response:
        assert isinstance(fault, HTTPException)
        words = f"{request.method} {request.url.path}: {fault.detail}"
        hint = f"paths: POST {', '.join(POSTS)}; GET /health, /metrics, /openapi.json"
        return _json({"error": words, "hint": hint}, fault.status_code)

    async def failed(_: Request, fault: Exception) -> Response:
        return _json({"error": f"unexpected {type(fault).__name__}", "hint": "see the server's stderr"}, 500)

    return Starlette(
        lifespan=lifespan,
        exception_handlers={HTTPException: refused, Exception: failed},
        routes=[
            Route("/rewards", answering(service.own), methods=["POST"]),
            Route("/openrlhf", answering(service.openrlhf), methods=["POST"]),
            Route("/slime", answering(service.slime), methods=["POST"]),
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/openapi.json", openapi),
        ],
    )


class _Service:
    """Answers the bodies of requests."""

    def __init__(self, run: ServedRun, gatherer: Gatherer) -> None:
        self._run, self._gatherer = run, gatherer
        self._n = run.config.rollout.n
        self._tags = run.config.student.endpoint.thinking_tags

    async def own(self, content: bytes) -> Document:
        """Answer our own shape, whichever of the three it is."""
        keys = _keys(content)
        if "groups" in keys:
            batch = read(BatchBody, content)
            checked = []
            for k, body in enumerate(batch.groups):
                try:
                    checked.append((self._group(body.model_copy(update={"step": body.step or batch.step})), body))
                except InputError as fault:
                    raise InputError(f"groups.{k}: {fault.message}", fault.hint) from fault
            replies = await asyncio.gather(*(self._judged(asked, body) for asked, body in checked))
            return {"groups": list(replies)}
        if "completion" in keys:
            rollout = read(RolloutBody, content)
            answer = Answer(text=rollout.completion, finish_reason=rollout.finish_reason or "stop")
            reward = await self._gathered(self._run.asked(**rollout.about()), answer, rollout.n)
            return {"reward": reward.reward, "error": reward.error}
        body = read(GroupBody, content)
        return await self._judged(self._group(body), body)

    async def openrlhf(self, content: bytes) -> Document:
        """Answer OpenRLHF, which sends rollouts one by one or many at once."""
        body = read(OpenRlhfBody, content)
        labels = body.labels if body.labels is not None else [None] * len(body.query)
        if not len(body.query) == len(body.prompts) == len(labels):
            raise InputError("query, prompts and labels have different lengths", "send one entry of each per rollout")
        rows = [
            (self._labelled(prompt, label), rollout_text(response_of(query, prompt), prompt, self._tags))
            for query, prompt, label in zip(body.query, body.prompts, labels, strict=True)
        ]
        gathered = [self._gathered(asked, Answer(text=text, finish_reason="stop")) for asked, text in rows]
        rewards = [_present(one) for one in await asyncio.gather(*gathered)]
        return {"rewards": rewards, "scores": rewards, "extra_logs": {}}

    async def slime(self, content: bytes) -> Document:
        """Answer slime, which sends rollouts one by one."""
        body = read(SlimeBody, content)
        text = rollout_text(body.response, body.prompt, self._tags)
        asked = self._labelled(body.prompt, body.label)
        return _present(await self._gathered(asked, Answer(text=text, finish_reason="stop")))

    def metrics(self) -> str:
        """Return the counters in Prometheus' text form."""
        lines = []
        for name, value in sorted(self._run.figures().items()):
            lines += [f"# TYPE ropd_{name}_total counter", f"ropd_{name}_total {value}"]
        lines += ["# TYPE ropd_rollouts_waiting gauge", f"ropd_rollouts_waiting {self._gatherer.waiting}"]
        return "\n".join(lines) + "\n"

    def _group(self, body: GroupBody) -> Asked:
        """Return the prompt of a whole group. Raises InputError for a group of the wrong size."""
        wanted, count = body.n or self._n, len(body.completions)
        if count != wanted:
            why = "n" if body.n else "rollout.n"
            raise InputError(
                f"{counted(count, 'completion')}, and {why} is {wanted}", "send whole groups, or another n"
            )
        if body.finish_reasons is not None and len(body.finish_reasons) != count:
            raise InputError(f"completions: {count}, finish_reasons: {len(body.finish_reasons)}")
        return self._run.asked(**body.about())

    async def _judged(self, asked: Asked, body: GroupBody) -> dict[str, Any]:
        reasons = body.finish_reasons or [None] * len(body.completions)
        rollouts = [
            Answer(text=text, finish_reason=reason or "stop")
            for text, reason in zip(body.completions, reasons, strict=True)
        ]
        judged = await self._run.rewards(asked, rollouts)
        return {"rewards": judged.rewards or [None] * len(rollouts), "error": judged.error}

    async def _gathered(self, asked: Asked, rollout: Answer, n: int | None = None) -> RolloutReward:
        key = (asked.prompt.uid, asked.prompt.raw_prompt_hash, asked.step, asked.teacher_answers)
        return await self._gatherer.reward(key, n or self._n, rollout, lambda all_: self._run.rewards(asked, all_))

    def _labelled(self, prompt: Any, label: Any) -> Asked:
        """Return the prompt that a label names by its uid, else the one sent, with the label for its answer."""
        if label is not None and self._run.knows(str(label), prompt):
            return self._run.asked(None, uid=str(label))
        return self._run.asked(prompt, answer=None if label is None else str(label))


def _present(one: RolloutReward) -> float:
    if one.reward is None:
        raise Missing(f"no reward: {one.error}", "a missing reward is never 0: ask again")
    return one.reward


def _keys(content: bytes) -> set[str]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as fault:
        raise InputError(f"the body is not JSON ({fault})") from fault
    if not isinstance(document, dict):
        raise InputError("the body is not a JSON object", "see /openapi.json")
    return set(document)


async def _while_connected(request: Request, work: Awaitable[Document]) -> Document:
    """Return what the work comes to; cancel it where the client goes away."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Missing("the client went away")
        return await working
    finally:
        working.cancel()
        leaving.cancel()


def _is_allowed(request: Request, token: str | None) -> bool:
    if token is None:
        return True
    kind, _, sent = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            sent = base64.b64decode(sent, validate=True).decode().partition(":")[2]
        except ValueError:
            return False
    return hmac.compare_digest(sent.encode(), token.encode())


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status_code=status, media_type="application/json")


def schema() -> dict[str, Any]:
    """Return the OpenAPI description of the server."""
    models: dict[str, Any] = {}

    def named(kind: type) -> dict[str, Any]:
        if not issubclass(kind, BaseModel):
            return {"type": "number"}
        made = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        models.update(made.pop("$defs", {}))
        models[kind.__name__] = made
        return {"$ref": f"#/components/schemas/{kind.__name__}"}

    def content(kinds: Sequence[type]) -> dict[str, Any]:
        refs = [named(kind) for kind in kinds]
        return {"application/json": {"schema": refs[0] if len(refs) == 1 else {"oneOf": refs}}}

    def reply(description: str, kinds: Sequence[type]) -> dict[str, Any]:
        return {"description": description, "content": content(kinds)}

    errors = {
        "400": reply("what is wrong with the request", [ErrorReply]),
        "401": reply("the token is missing or wrong", [ErrorReply]),
        "500": reply("the server is at fault", [ErrorReply]),
    }
    paths: dict[str, Any] = {}
    for path, (bodies, replies) in POSTS.items():
        answers = {"200": reply("rewards", replies), **errors}
        if path != "/rewards":
            answers["503"] = reply("a reward is missing: ask again", [ErrorReply])
        paths[path] = {"post": {"requestBody": {"required": True, "content": content(bodies)}, "responses": answers}}
    for path, what in (
        ("/health", "the server runs; how the judge does"),
        ("/metrics", "counters in Prometheus' text form"),
    ):
        paths[path] = {"get": {"responses": {"200": {"description": what}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ropd serve-reward", "version": __version__},
        "paths": paths,
        "components": {"schemas": models},
    }

"""What is asked of a model and what it answers, without the wire between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field

from ropd_cli.answers.thinking import canonical
from ropd_cli.config.models import EndpointConfig, SamplingConfig
from ropd_cli.llm.urls import model_name
from ropd_cli.records.schemas import Message, Usage, Written

Sampling = SamplingConfig


class Frozen(BaseModel):
    """A frozen value; fields may be given by their own name or by the one on the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())


class JsonSchema(Frozen):
    """The JSON schema a reply has to follow, and the name it is sent under: ``JsonSchema(name=…, schema=…)``."""

    name: str
    body: dict[str, Any] = Field(alias="schema")

    @cached_property
    def digest(self) -> str:
        """What tells the schema from others."""
        return hashlib.sha256(self.name.encode() + _canonical(self.body)).hexdigest()[:16]


class ChatRequest(Frozen):
    """What determines an answer: with the endpoint's URL it is the cache key.

    ``sample`` numbers several answers to the same question. ``schema=`` is read back as ``form``
    (pydantic has a ``schema`` of its own).
    """

    messages: tuple[Message, ...]
    model: str
    sampling: Sampling = Sampling()
    form: JsonSchema | None = Field(None, alias="schema")
    sample: int = 0
    api: Literal["chat", "responses"] = "chat"
    affinity: str | None = None
    """Requests with the same one begin with the same long text; sent as ``prompt_cache_key`` where that is configured.
    No part of the question."""
    extra_body: dict[str, Any] = {}
    """Sent beside what the program sends itself."""
    written: Written | None = Field(None, repr=False)
    """The messages once more, as they are sent: long texts are encoded and hashed once for several requests."""

    @cached_property
    def messages_json(self) -> bytes:
        """The messages as JSON, as they are sent; half surrogate pairs, which no request can carry, are replaced."""
        if self.written is not None:
            return self.written.json
        return _canonical([message.model_dump(mode="python") for message in self.messages])

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of all that determines the answer, but for the endpoint and ``max_tokens``: an answer
        that was complete under one limit is complete under a higher one."""
        sampling = self.sampling.model_dump(mode="json", exclude_none=True, exclude={"max_tokens"})
        form = [self.form.name, self.form.body] if self.form else None
        rest = [self.model, sampling, form, self.sample, *([] if self.api == "chat" else [self.api])]
        if self.extra_body:
            rest.append(self.extra_body)
        hashed = hashlib.sha256(self.written.hash.encode() if self.written else self.messages_json)
        hashed.update(b"\n" + _canonical(rest))
        return hashed.hexdigest()

    def model_copy(self, **how: Any) -> Self:
        """As pydantic's; what is derived is derived anew."""
        copied = super().model_copy(**how)
        copied.__dict__.pop("messages_json", None)
        copied.__dict__.pop("digest", None)
        return copied


class ChatReply(Frozen):
    """One reply. ``reasoning`` is thinking text that the endpoint kept apart from the answer;
    ``finish_reason`` is an ``Ending``: "stop", "length" or "content_filter"; ``cached``: nothing was sent for it;
    ``created`` is the Unix time at which it came."""

    text: str
    finish_reason: str
    usage: Usage | None = None
    reasoning: str | None = None
    model: str = ""
    cached: bool = False
    created: float | None = None


@dataclass
class ClientStats:
    """What a client did so far. Tokens and money are those of the replies that were sent for;
    ``cost_usd`` is None where the model has no price."""

    requests_sent: int = 0
    cache_hits: int = 0
    retries: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the counters by name. What was not sent costs nothing, whatever the price."""
        counters = asdict(self)
        return counters if self.requests_sent else counters | {"cost_usd": self.cost_usd or 0.0}

    @classmethod
    def total(cls, parts: Iterable[ClientStats]) -> ClientStats:
        """Return the sums over several clients."""
        total = cls()
        for part in parts:
            for name, value in asdict(part).items():
                if value is not None:
                    setattr(total, name, (getattr(total, name) or 0) + value)
        return total


def endpoint_request(
    endpoint: EndpointConfig,
    messages: tuple[Message, ...],
    schema: JsonSchema | None = None,
    *,
    sample: int = 0,
    section: str | None = None,
    affinity: str | None = None,
    written: Written | None = None,
) -> ChatRequest:
    """Return a request with an endpoint's model and sampling.

    Where a seed is set, sample s is sent ``seed + s``: the same seed would give the same answer m times.
    Raises InputError, naming ``section``, where no model is configured.
    """
    sampling = endpoint.sampling
    if sampling.seed is not None and sample:
        sampling = sampling.model_copy(update={"seed": sampling.seed + sample})
    model = model_name(endpoint, section)
    return ChatRequest(
        messages=messages,
        model=model,
        sampling=sampling,
        form=schema,
        sample=sample,
        api="responses" if endpoint.api == "responses" else "chat",  # Azure's chats are OpenAI's at another URL
        affinity=affinity,
        extra_body=endpoint.extra_body,
        written=written,
    )


def canonical_reply(reply: ChatReply, endpoint: EndpointConfig) -> ChatReply:
    """Return a reply with ``<think>…</think>`` around its thinking, whichever tags its model writes."""
    text = canonical(reply.text, endpoint.thinking_tags)
    return reply if text is reply.text else reply.model_copy(update={"text": text})


def joinable(request: ChatRequest) -> bool:
    """Return whether several samples of a request may be asked for at once: a schema's reply is checked one by one,
    the Responses API gives one reply, and a seed is another for each sample."""
    return request.api == "chat" and request.form is None and request.sampling.seed is None


def sendable(value: Any) -> Any:
    """Return a JSON value whose every text is valid in UTF-8: half surrogate pairs become "?"."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list | tuple):
        return [sendable(item) for item in value]
    if isinstance(value, dict):
        return {sendable(key): sendable(item) for key, item in value.items()}
    return value


def _canonical(value: Any) -> bytes:
    """Return JSON with sorted keys, in UTF-8."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # half a surrogate pair, or a number of more than 64 bits
        return json.dumps(sendable(value), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()

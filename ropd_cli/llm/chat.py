"""What is asked of a model and what it answers, without the wire between."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ropd_cli.config.models import EndpointConfig, SamplingConfig
from ropd_cli.llm.endpoints import model_name
from ropd_cli.schemas import Message, Usage

Sampling = SamplingConfig


class Frozen(BaseModel):
    """A frozen value; fields may be given by their own name or by the one on the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())


class JsonSchema(Frozen):
    """The JSON schema a reply has to follow, and the name it is sent under: ``JsonSchema(name=…, schema=…)``."""

    name: str
    body: dict[str, Any] = Field(alias="schema")


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


class ChatReply(Frozen):
    """One reply. ``reasoning`` is thinking text that the endpoint kept apart from the answer;
    ``finish_reason`` is "stop", "length" or the endpoint's own word; ``cached``: nothing was sent for it."""

    text: str
    finish_reason: str
    usage: Usage | None = None
    reasoning: str | None = None
    model: str = ""
    cached: bool = False


@dataclass
class ClientStats:
    """What a client did so far; tokens are those of the replies that were sent for."""

    requests_sent: int = 0
    cache_hits: int = 0
    retries: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""
        return asdict(self)


def endpoint_request(
    endpoint: EndpointConfig,
    messages: tuple[Message, ...],
    schema: JsonSchema | None = None,
    *,
    sample: int = 0,
    section: str | None = None,
) -> ChatRequest:
    """A request with an endpoint's model and sampling.

    Where a seed is set, sample s is sent ``seed + s``: the same seed would give the same answer m times.
    Raises InputError, naming ``section``, where no model is configured.
    """
    sampling = endpoint.sampling
    if sampling.seed is not None:
        sampling = sampling.model_copy(update={"seed": sampling.seed + sample})
    model = model_name(endpoint, section)
    return ChatRequest(messages=messages, model=model, sampling=sampling, form=schema, sample=sample)

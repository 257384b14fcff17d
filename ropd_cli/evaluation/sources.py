"""Where samples come from: an endpoint, or a checkpoint on vLLM."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ropd_cli.engines.vllm_sampling import LocalModel, SamplingOptions
from ropd_cli.llm.client import ChatClient, endpoint_request
from ropd_cli.records.schemas import Answer, Message

ASKED_AT_ONCE = 4096
"""Questions handed to a local engine before the first is finished; it queues what it can't hold."""
_EDGE_BYTES = 1 << 16

OnAnswer = Callable[[int, Answer], None]


class Source(Protocol):
    """The model under test."""

    @property
    def at_once(self) -> int:
        """Questions to ask at once."""

    async def sample(
        self, messages: tuple[Message, ...], indices: Sequence[int], question: str, on_answer: OnAnswer
    ) -> bool:
        """Hand the answers of these sample numbers to ``on_answer``, each when it is there. Whether anything had to be
        asked for. ``question`` names the question: its chances are its own. Raises what one question may fail of."""


class EndpointSource:
    """An OpenAI-compatible endpoint: the samples of a question in one request, where it knows that. A seed makes each
    sample a request of its own, with ``seed + number``."""

    def __init__(self, client: ChatClient) -> None:
        self._client = client

    @property
    def at_once(self) -> int:
        return self._client.endpoint.limits.concurrency

    async def sample(
        self, messages: tuple[Message, ...], indices: Sequence[int], question: str, on_answer: OnAnswer
    ) -> bool:
        requests = [endpoint_request(self._client.endpoint, messages, sample=index) for index in indices]
        replies = await self._client.samples(requests)
        for index, reply in zip(indices, replies, strict=True):
            fields = reply.model_dump(include={"text", "finish_reason", "reasoning", "created"})
            on_answer(index, Answer(usage=reply.usage, **fields))
        return not all(reply.cached for reply in replies)


class LocalSource:
    """A checkpoint on vLLM. With a seed, sample k of a question is drawn by a number made of seed, question and k."""

    at_once = ASKED_AT_ONCE

    def __init__(self, model: LocalModel, sampling: SamplingOptions) -> None:
        self._model, self._sampling = model, sampling

    async def sample(
        self, messages: tuple[Message, ...], indices: Sequence[int], question: str, on_answer: OnAnswer
    ) -> bool:
        sampling = self._sampling
        if sampling.seed is not None:
            named = hashlib.sha256(f"{sampling.seed}/{question}".encode()).digest()
            sampling = replace(sampling, seed=int.from_bytes(named[:4], "big"))
        await self._model.sample(messages, sampling, indices=indices, on_answer=on_answer)
        return True


def fingerprint(model: str) -> str:
    """What tells the weights of a local folder from others: names, sizes, and the ends of its files; of a hub name the
    name."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    hashed = hashlib.sha256()
    for file in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        if file.is_file():
            with open(file, "rb") as content:
                size = file.stat().st_size
                hashed.update(f"{file.name} {size}\n".encode() + content.read(_EDGE_BYTES))
                content.seek(max(0, size - _EDGE_BYTES))
                hashed.update(content.read(_EDGE_BYTES))
    return hashed.hexdigest()[:16]

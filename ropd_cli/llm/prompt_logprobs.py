"""Log-probabilities of given tokens under a model on a vLLM server, over ``/v1/completions``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

import orjson

from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import ProviderRefused, ReplyInvalid
from ropd_cli.llm.api_key import Peer
from ropd_cli.llm.faults import Fault, status_fault, transport_fault
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.transport import NoResponse, Transport, open_transport
from ropd_cli.llm.urls import base_url, model_name


class PromptLogProbs:
    """A client of one server. What a chat's client does besides (cache, money, limits of a rate) has no place here: the
    server is one's own, and no two rollouts are alike."""

    def __init__(
        self, endpoint: EndpointConfig, retry: RetryPolicy | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        base_url(endpoint)
        self._endpoint, self._environ = endpoint, environ
        self._retry = retry or RetryPolicy(max_retries=endpoint.limits.max_retries)
        self._gate = asyncio.Semaphore(endpoint.limits.concurrency)
        self._transport: Transport | None = None

    async def of(self, tokens: Sequence[int]) -> list[float]:
        """Return the log-probability of each token after the first, given those before it; shape (len(tokens) - 1,).

        Raises ProviderError where the server can't be reached, refuses, or is none that gives them.
        """
        body = orjson.dumps(
            {
                "model": model_name(self._endpoint, "distil.endpoint"),
                "prompt": list(tokens),
                "max_tokens": 1,
                "temperature": 1.0,
                "prompt_logprobs": 0,
            }
        )
        failed = 0
        while True:
            try:
                async with self._gate:
                    return await self._ask(body, tokens)
            except Fault as fault:
                wait_s = self._retry.wait_s(failed, fault.retry_after_s) if fault.again else None
                if wait_s is None:
                    raise fault.error from None
                failed += 1
                await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            await self._transport.close()

    async def _ask(self, body: bytes, tokens: Sequence[int]) -> list[float]:
        if self._transport is None:
            self._peer = Peer.read(self._endpoint, self._environ)
            self._transport = open_transport(self._endpoint, self._peer)
        try:
            response = await self._transport.post("completions", body)
        except NoResponse as fault:
            raise transport_fault(fault, self._peer) from None
        if response.status >= 300:
            raise status_fault(response, self._peer)
        try:
            entries = orjson.loads(response.content)["choices"][0]["prompt_logprobs"]
        except (orjson.JSONDecodeError, LookupError, TypeError) as missing:
            raise ProviderRefused(
                f"{self._peer.shown}: the reply holds no prompt_logprobs", "it has to be a server of vLLM's"
            ) from missing
        try:
            if len(entries) != len(tokens):
                raise LookupError
            pairs = zip(entries[1:], tokens[1:], strict=True)
            return [float(entry[str(token)]["logprob"]) for entry, token in pairs]
        except (LookupError, TypeError, ValueError) as other:
            raise ReplyInvalid(
                f"{self._peer.shown}: prompt_logprobs are not those of the {len(tokens)} tokens that were sent",
                "does the server have the teacher of distil.teacher_path?",
            ) from other

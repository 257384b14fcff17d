"""Files and batches of an endpoint. What can be asked twice is asked again when it fails; what makes a batch is not."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import ProviderUnreachable
from ropd_cli.llm.api_key import Peer
from ropd_cli.llm.faults import Fault, embedded_fault, status_fault, transport_fault
from ropd_cli.llm.retry import RetryPolicy

if TYPE_CHECKING:
    import openai

T = TypeVar("T")
Call = Callable[["openai.AsyncOpenAI"], Awaitable[T]]

READ_TIMEOUT_S = 300.0
"""Between two pieces of a response; a file of results may take as long as it likes."""
LINE_BYTES = 64_000_000
"""Longest line of a file of results that is read."""
FILE_BYTES = 8 << 30
"""Largest file of results that is fetched: some 160 KB for each of the most requests that a batch may have."""
LISTED = 100


class BatchApi:
    """The Batch API of one endpoint. Use as an async context manager. Every call raises ProviderUnreachable,
    ProviderRefused or ProviderBusy when it failed for good."""

    def __init__(
        self, endpoint: EndpointConfig, retry: RetryPolicy | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._endpoint = endpoint
        self._retry = retry or RetryPolicy(max_retries=endpoint.limits.max_retries)
        self.peer = Peer.read(endpoint, environ)
        self._sdk: openai.AsyncOpenAI | None = None
        self._files: openai.AsyncOpenAI | None = None
        """For files of results, which go to the disk and may be large."""

    async def __aenter__(self) -> BatchApi:
        from ropd_cli.llm.openai_sdk import sdk_client

        # files may lie elsewhere: the server redirects to their storage
        opened = partial(sdk_client, self._endpoint, self.peer, read_timeout_s=READ_TIMEOUT_S, follow_redirects=True)
        self._sdk, self._files = opened(), opened(largest=FILE_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._sdk is not None and self._files is not None
        await self._sdk.close()
        await self._files.close()

    async def upload(self, file: Path, name: str) -> str:
        """Return the id of an uploaded file of requests. Uploaded twice after a fault, the first one is never used."""

        async def send(sdk: openai.AsyncOpenAI) -> str:
            with open(file, "rb") as content:
                uploaded = await sdk.files.with_raw_response.create(
                    file=(name, content, "application/jsonl"), purpose="batch"
                )
            return str(self._document(uploaded.content)["id"])

        return await self._again(send)

    async def create(self, file_id: str, path: str, tag: str) -> str:
        """Make a batch of a file's requests, and return its id; asked once, since twice would be two batches."""

        async def send(sdk: openai.AsyncOpenAI) -> str:
            endpoint: Any = f"/v1/{path}"
            made = await sdk.batches.with_raw_response.create(
                input_file_id=file_id, endpoint=endpoint, completion_window="24h", metadata={"ropd": tag}
            )
            return str(self._document(made.content)["id"])

        try:
            return await self._call(send)
        except Fault as fault:
            if fault.lost:
                raise MaybeMade(fault.error.message) from fault
            raise fault.error from None

    async def batch(self, batch_id: str) -> dict[str, Any]:
        """Return how a batch stands."""

        async def send(sdk: openai.AsyncOpenAI) -> dict[str, Any]:
            return self._document((await sdk.batches.with_raw_response.retrieve(batch_id)).content)

        return await self._again(send)

    async def tagged(self, tag: str) -> str | None:
        """Return the id of the batch that was made with this tag; None where there is none."""

        async def send(sdk: openai.AsyncOpenAI) -> str | None:
            async for one in sdk.batches.list(limit=LISTED):
                if (one.metadata or {}).get("ropd") == tag:
                    return one.id
            return None

        return await self._again(send)

    async def lines(self, file_id: str, into: Path) -> AsyncIterator[dict[str, Any]]:
        """Yield the records of a file of results; it is fetched whole first, so that a broken connection costs
        nothing."""

        async def fetch(_sdk: openai.AsyncOpenAI) -> None:
            assert self._files is not None, "used outside of its context"
            async with self._files.files.with_streaming_response.content(file_id) as response:
                await response.stream_to_file(into)

        await self._again(fetch)
        with open(into, "rb") as content:
            for line in iter(lambda: content.readline(LINE_BYTES), b""):
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError:  # or longer than LINE_BYTES: as if it had not come
                    continue
                if isinstance(record, dict):
                    yield record

    async def delete(self, file_id: str) -> None:
        """Delete a file; that it could not be deleted harms nobody."""
        try:
            await self._call(lambda sdk: sdk.files.delete(file_id))
        except Fault:
            return

    def _document(self, content: bytes) -> dict[str, Any]:
        """Return a response's JSON object. Raises Fault for an error in it, ValueError for what is none."""
        document = orjson.loads(content)
        if (fault := embedded_fault(document, self.peer)) is not None:
            raise fault
        if not isinstance(document, dict):
            raise ValueError("no object")
        return document

    async def _again(self, call: Call[T]) -> T:
        """Return what ``call`` returns, asked again as the policy says."""
        for attempt in itertools.count():
            try:
                return await self._call(call)
            except Fault as fault:
                wait_s = self._retry.wait_s(attempt, fault.retry_after_s) if fault.again else None
                if wait_s is None:
                    raise fault.error from None
                await asyncio.sleep(wait_s)
        raise AssertionError

    async def _call(self, call: Call[T]) -> T:
        """Return what ``call`` returns. Raises Fault."""
        import openai

        from ropd_cli.llm.openai_sdk import CLOSED_OR_BROKEN, fault_of, response_of

        assert self._sdk is not None, "used outside of its context"
        try:
            return await call(self._sdk)
        except openai.APIStatusError as error:
            fault = status_fault(response_of(error), self.peer)
            if fault.status == 404 and error.request.url.path.endswith(("/files", "/batches")):
                fault.error.hint = "this server has no Batch API: leave --batch-api out"
            raise fault from error
        except (AttributeError, KeyError, ValueError) as error:  # the SDK hands on a text where JSON was to come
            url = f"{self.peer.shown}: the response is not JSON of the Batch API"
            unreadable = ProviderUnreachable(url, "is it the URL of an API with batches?")
            raise Fault(unreadable, again=True, lost=True) from error
        except CLOSED_OR_BROKEN as error:
            raise transport_fault(fault_of(error, self._endpoint), self.peer) from error


class MaybeMade(Exception):
    """The request to make a batch was lost: it may have been made or not."""

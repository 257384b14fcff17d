"""Files and batches over HTTP. What can be asked twice is asked again when it fails; what makes a batch is not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import orjson

from ropd_cli import __version__
from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import ProviderUnreachable
from ropd_cli.llm.keys import Secrets, api_key, headers_of
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.transport import Lost, NoConnection, Response, TimedOut, proxy_of
from ropd_cli.llm.urls import base_url
from ropd_cli.llm.wire import Fault, Peer, status_fault, transport_fault

LINE_BYTES = 64_000_000
"""Longest line of a file of results that is read."""
LISTED = 100


class BatchApi:
    """The Batch API of one endpoint. Use as an async context manager. Every call raises ProviderUnreachable,
    ProviderRefused or ProviderBusy when it failed for good."""

    def __init__(
        self, endpoint: EndpointConfig, retry: RetryPolicy | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._url, _, query = base_url(endpoint).partition("?")
        self._query = f"?{query}" if query else ""
        self._limits = endpoint.limits
        self._retry = retry or RetryPolicy(max_retries=endpoint.limits.max_retries)
        key = api_key(endpoint, environ)
        value = key.get_secret_value() if key is not None else ""
        own, secret = headers_of(endpoint, environ)
        self._headers = {"Authorization": f"Bearer {value or 'none'}", **own}
        self.peer = Peer(self._url, endpoint.api_key_env, key is not None, Secrets([value, *secret, query]))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> BatchApi:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_timeout_s, sock_read=300),
            headers={"User-Agent": f"ropd/{__version__}", **self._headers},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.close()

    async def upload(self, file: Path, name: str) -> str:
        """The id of an uploaded file of requests. Uploaded twice after a fault, the first one is never used."""

        async def send() -> dict[str, Any]:
            with open(file, "rb") as content:
                form = aiohttp.FormData()
                form.add_field("purpose", "batch")
                form.add_field("file", content, filename=name, content_type="application/jsonl")
                return await self._json("POST", "files", data=form)

        return str((await self._again(send))["id"])

    async def create(self, file_id: str, path: str, tag: str, window: str = "24h") -> dict[str, Any]:
        """Make a batch of a file's requests; asked once, since twice would be two batches."""
        body = {
            "input_file_id": file_id,
            "endpoint": f"/v1/{path}",
            "completion_window": window,
            "metadata": {"ropd": tag},
        }
        try:
            return await self._json("POST", "batches", json=body)
        except Fault as fault:
            if fault.lost:
                raise MaybeMade(fault.error.message) from fault
            raise fault.error from None

    async def batch(self, batch_id: str) -> dict[str, Any]:
        """How a batch stands."""
        return await self._again(lambda: self._json("GET", f"batches/{batch_id}"))

    async def tagged(self, tag: str) -> str | None:
        """The id of the batch that was made with this tag; None where there is none."""
        after = ""
        while True:
            listed = await self._again(lambda after=after: self._json("GET", f"batches?limit={LISTED}{after}"))
            page = _data(listed)
            for one in page:
                if (one.get("metadata") or {}).get("ropd") == tag:
                    return str(one["id"])
            if not listed.get("has_more") or not page:
                return None
            after = f"&after={page[-1]['id']}"

    async def lines(self, file_id: str, into: Path) -> AsyncIterator[dict[str, Any]]:
        """The records of a file of results; it is fetched whole first, so that a broken connection costs nothing."""
        await self._again(lambda: self._fetch(f"files/{file_id}/content", into))
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
            await self._json("DELETE", f"files/{file_id}")
        except Fault:
            return

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "used outside of its context"
        return self._session

    async def _fetch(self, path: str, into: Path) -> None:
        async with self._request("GET", path) as response:
            if response.status >= 300:
                await self._refused(response)
            with open(into, "wb") as file:
                async for chunk in response.content.iter_chunked(1 << 20):
                    file.write(chunk)

    async def _json(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        async with self._request(method, path, **body) as response:
            if response.status >= 300:
                await self._refused(response)
            content = await response.read()
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            said = self.peer.clean(content[:2000].decode("utf-8", "replace"))
            error = ProviderUnreachable(f"{self.peer.shown}/{path}: the response is not JSON: {said!r}", _HINT)
            raise Fault(error, again=True, lost=True)
        return document

    def _request(self, method: str, path: str, **body: Any) -> _Asked:
        joiner = "&" if "?" in path and self._query else ""
        url = f"{self._url}/{path}{joiner}{self._query[1:] if joiner else self._query}"
        proxy = proxy_of(self._url)
        return _Asked(self._open.request(method, url, proxy=proxy, allow_redirects=True, **body), self.peer)

    async def _refused(self, response: aiohttp.ClientResponse) -> None:
        fault = status_fault(Response(response.status, await response.read(), response.headers), self.peer)
        if response.status == 404 and str(response.url.path).endswith(("/files", "/batches")):
            fault.error.hint = "this server has no Batch API: leave --batch-api out"
        raise fault

    async def _again(self, call: Any) -> Any:
        """What ``call`` returns, asked again as the policy says."""
        for attempt in range(1_000_000):
            try:
                return await call()
            except Fault as fault:
                wait_s = self._retry.wait_s(attempt, fault.retry_after_s) if fault.again else None
                if wait_s is None:
                    raise fault.error from None
                await asyncio.sleep(wait_s)
        raise AssertionError


class MaybeMade(Exception):
    """The request to make a batch was lost: it may have been made or not."""


class _Asked:
    """A request's response as a context; what goes wrong on the way becomes a Fault."""

    def __init__(self, asked: Any, peer: Peer) -> None:
        self._asked, self._peer = asked, peer

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            return await self._asked.__aenter__()
        except Exception as fault:
            raise _fault(fault, self._peer) from fault

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._asked.__aexit__(kind, error, trace)
        if isinstance(error, aiohttp.ClientError | TimeoutError | OSError) and not isinstance(error, Fault):
            raise _fault(error, self._peer) from error


def _fault(fault: Exception, peer: Peer) -> Exception:
    if isinstance(fault, TimeoutError):
        return transport_fault(TimedOut(str(fault) or "no answer in time"), peer)
    if isinstance(fault, aiohttp.ClientConnectorError):
        return transport_fault(NoConnection(str(fault)), peer)
    if isinstance(fault, aiohttp.ClientError | OSError):
        return transport_fault(Lost(str(fault) or type(fault).__name__), peer)
    return fault


def _data(listed: dict[str, Any]) -> list[dict[str, Any]]:
    data = listed.get("data")
    return [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []


_HINT = "is it the URL of an API with batches?"

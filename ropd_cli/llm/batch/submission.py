"""Submitting requests as batches, and collecting their replies into the cache."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.config.masking import shown_url
from ropd_cli.config.models import EndpointConfig
from ropd_cli.errors import CostLimit
from ropd_cli.llm.batch.api import BatchApi, MaybeMade
from ropd_cli.llm.batch.state import Batch, BatchState
from ropd_cli.llm.cache import ReplyCache, cache_key
from ropd_cli.llm.chat import ChatRequest, ClientStats
from ropd_cli.llm.faults import Fault
from ropd_cli.llm.money import Budget, Expectation, cost_usd
from ropd_cli.llm.reply_json import read_replies
from ropd_cli.llm.request_json import PATHS, request_body
from ropd_cli.llm.structured import STARTS, Form
from ropd_cli.llm.urls import OPENAI_URL, base_url, identity
from ropd_cli.records.schemas import Message, Usage
from ropd_cli.util.counted import counted

MOST_REQUESTS = 50_000
MOST_BYTES = 190_000_000
"""Of one batch; the API's own limits are 50,000 requests and 200 MB."""
TRIES = 3
"""So many batches at most for a request that comes back without a reply that can be kept."""
OVER = ("completed", "failed", "expired", "cancelled")
_RETRY_STATUS = (408, 409, 425, 429)


@dataclass
class Standing:
    """How the batches of an output stand. ``again``: requests that came back without a reply, for a reason that may
    pass (429, 5xx, expired), and go into the next batch; ``refused``: those that will not be answered."""

    submitted: int = 0
    collected: int = 0
    refused: int = 0
    again: int = 0
    running: int = 0
    running_done: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    """Batches that the server refused as a whole, with its words, or that were cancelled."""


class BatchFiller:
    """Fills the cache with the replies to requests of one endpoint. ``most_requests`` and ``most_bytes`` limit one
    batch; ``say`` is told in a line each what a user should know."""

    def __init__(
        self,
        endpoint: EndpointConfig,
        api: BatchApi,
        cache: ReplyCache,
        state: BatchState,
        budget: Budget,
        stats: ClientStats,
        say: Callable[[str], None],
        *,
        most_requests: int = MOST_REQUESTS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._endpoint, self._api, self._cache, self._state = endpoint, api, cache, state
        self._budget, self._stats, self._say = budget, stats, say
        self._most_requests, self._most_bytes = most_requests, most_bytes
        self._url = base_url(endpoint)
        self._place = shown_url(identity(self._url))
        self._learnt = Expectation()

    def key(self, request: ChatRequest) -> str:
        """Return what the reply to a request is kept under."""
        return cache_key(self._url, request)

    @property
    def _mine(self) -> list[Batch]:
        model, place = self._endpoint.model, self._place
        return [batch for batch in self._state.open if batch.model == model and shown_url(batch.url) == place]

    async def submit(self, requests: Sequence[ChatRequest]) -> int:
        """Hand over the requests that are in no batch and were not refused; how many. Those that a killed run had
        begun to hand over are finished first. Raises CostLimit where they could cost more than may be spent."""
        await self.resume()
        under_way = {key for batch in self._state.open for key in batch.keys}
        left: dict[str, ChatRequest] = {}
        for request in requests:
            key = self.key(request)
            if key not in under_way and key not in self._state.refused:
                left[key] = request
        for group in _by_limit(left):
            await self._submit_all(group)
        return len(left)

    async def resume(self) -> None:
        """Finish handing over what a killed run had begun to."""
        for batch in self._mine:
            if batch.phase == "submitting":
                await self._adopt_or_create(batch)
            elif batch.phase == "uploaded":
                self._file(batch).unlink(missing_ok=True)
                await self._create(batch)
            elif batch.phase == "prepared":  # nobody knows of it yet: its requests are put into another
                self._state.batches.remove(batch)
                self._file(batch).unlink(missing_ok=True)
                self._state.save()

    async def look(self, standing: Standing) -> None:
        """See how the batches stand, and collect those that are over."""
        for batch in self._mine:
            if batch.phase != "submitted":
                continue
            document = await self._api.batch(str(batch.batch_id))
            batch.status = str(document.get("status"))
            if batch.status in OVER:
                await self._collect(batch, document, standing)
            else:
                counts = document.get("request_counts") or {}
                standing.running += len(batch.keys)
                standing.running_done += int(counts.get("completed") or 0) + int(counts.get("failed") or 0)
            standing.statuses[batch.status] += 1
        self._state.save()

    async def _submit_all(self, group: dict[str, ChatRequest]) -> None:
        """Batches of requests of one limit of tokens, each as large as may be."""
        part: dict[str, bytes] = {}
        size = 0
        for key, request in group.items():
            line = self._line(key, request)
            if part and (len(part) >= self._most_requests or size + len(line) > self._most_bytes):
                await self._submit(part, group)
                part, size = {}, 0
            part[key] = line
            size += len(line)
        if part:
            await self._submit(part, group)

    async def _submit(self, lines: dict[str, bytes], group: dict[str, ChatRequest]) -> None:
        first = group[next(iter(lines))]
        content = hashlib.sha256(str(len(self._state.batches)).encode())  # the same again later is another batch
        for line in lines.values():
            content.update(line)
        most = self._most_usd(first, lines)
        batch = Batch(
            tag=content.hexdigest()[:32],
            url=self._place,
            model=first.model,
            api=first.api,
            max_tokens=first.sampling.max_tokens,
            keys=list(lines),
            count=len(lines),
            most_usd=most,
        )
        file = self._file(batch)
        file.touch(mode=0o600)  # ``extra_body`` is in it
        with open(file, "wb") as out:
            out.writelines(lines.values())
        self._state.add(batch)
        name = f"ropd-{batch.tag}.jsonl"
        batch.file_id = await self._api.upload(file, name)
        batch.phase = "uploaded"
        self._state.save()
        file.unlink()
        await self._create(batch)

    async def _create(self, batch: Batch) -> None:
        batch.phase = "submitting"
        self._state.save()
        try:
            batch_id = await self._api.create(str(batch.file_id), PATHS[batch.api], batch.tag)
        except MaybeMade:
            await self._adopt_or_create(batch)
            return
        except Exception:
            batch.phase = "uploaded"  # refused: nothing was made
            self._state.save()
            raise
        self._submitted(batch, batch_id)

    async def _adopt_or_create(self, batch: Batch) -> None:
        """The batch that was made without our knowing, else a new one."""
        known = await self._api.tagged(batch.tag)
        if known is None:
            known = await self._api.create(str(batch.file_id), PATHS[batch.api], batch.tag)
        self._submitted(batch, known)

    def _submitted(self, batch: Batch, batch_id: str) -> None:
        batch.batch_id, batch.phase, batch.status = batch_id, "submitted", "validating"
        self._stats.requests_sent += len(batch.keys)
        self._state.save()
        self._say(f"batch {batch_id}: {counted(len(batch.keys), 'request')} to {batch.model} submitted")

    async def _collect(self, batch: Batch, document: dict[str, Any], standing: Standing) -> None:
        """Put a batch's replies into the cache; what it has no reply to goes into the next one, or is refused."""
        left = set(batch.keys)
        for name in ("output_file_id", "error_file_id"):
            if not document.get(name):
                continue
            into = self._file(batch)
            try:
                async for record in self._api.lines(str(document[name]), into):
                    key = str(record.get("custom_id"))
                    if key in left and await self._take(batch, key, record, standing):
                        left.discard(key)
            finally:
                into.unlink(missing_ok=True)
        if batch.status == "failed":
            why = self._api.peer.clean(_errors(document) or "the server does not say why")
            standing.failed.append(f"{self._api.peer.shown}: batch {batch.batch_id} failed: {why}")
        elif batch.status == "cancelled":  # by somebody who wants no more of it
            standing.failed.append(f"{self._api.peer.shown}: batch {batch.batch_id} was cancelled")
        for key in left:
            if batch.status == "completed" and self._state.came_back(key) >= TRIES:
                self._state.refused[key] = f"no usable reply in {TRIES} batches"
                standing.refused += 1
            else:
                standing.again += 1
        batch.phase, batch.keys = "collected", []
        self._state.save()
        if batch.file_id:
            await self._api.delete(batch.file_id)

    async def _take(self, batch: Batch, key: str, record: dict[str, Any], standing: Standing) -> bool:
        """Book one result; True where it need not be asked for again."""
        response = record.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
        if status == 200 and isinstance(body, dict):
            reply_to = ChatRequest(messages=(Message(role="user", content=""),), model=batch.model, api=batch.api)
            try:
                (reply,) = read_replies(orjson.dumps(body), reply_to, self._api.peer, say=self._say)
            except Fault:
                return False
            await self._cache.store(key, reply, max_tokens=batch.max_tokens)
            self._book(batch, reply.usage)
            if self._cache.get(key, batch.max_tokens) is None:
                return False  # empty, or stopped by a filter
            standing.collected += 1
            return True
        error = record.get("error") or (body.get("error") if isinstance(body, dict) else None) or {}
        if isinstance(status, int) and 400 <= status < 500 and status not in _RETRY_STATUS:
            words = error.get("message") if isinstance(error, dict) else error
            self._state.refused[key] = self._api.peer.clean(f"status {status}: {words}")
            standing.refused += 1
            return True
        return False

    def _book(self, batch: Batch, usage: Usage | None) -> None:
        if usage is None:
            return
        stats = self._stats
        stats.prompt_tokens += usage.prompt_tokens
        stats.cached_tokens += usage.cached_tokens
        stats.completion_tokens += usage.completion_tokens
        price = self._budget.price(batch.model, self._url)
        if price is not None:
            spent = cost_usd(price, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
            stats.cost_usd = (stats.cost_usd or 0.0) + spent
            batch.cost_usd += spent
            self._budget.spent_usd += spent

    def _most_usd(self, first: ChatRequest, lines: dict[str, bytes]) -> float:
        """Return what a batch can cost at most. Raises CostLimit where that is more than is left."""
        budget = self._budget
        price = budget.price(first.model, self._url)
        if price is None or budget.max_usd is None:
            return 0.0
        prompts = sum(self._learnt.prompt_tokens(len(line)) for line in lines.values())
        replies = len(lines) * self._learnt.most_reply_tokens(first.sampling.max_tokens)
        most = cost_usd(price, prompts, replies)
        running = sum(batch.most_usd for batch in self._state.open)
        if budget.spent_usd + running + most > budget.max_usd:
            raise CostLimit(
                f"a batch of {counted(len(lines), 'request')} could cost ${most:.4f}; ${budget.spent_usd:.4f} of "
                f"${budget.max_usd:g} are spent, and batches that run could cost ${running:.4f}",
                "raise --max-cost, lower --max-tokens, or take fewer prompts by --limit",
            )
        return most

    def _line(self, key: str, request: ChatRequest) -> bytes:
        form = STARTS[self._endpoint.structured_output] if request.form is not None else Form.TEXT
        limit_name = "max_completion_tokens" if self._url == OPENAI_URL else "max_tokens"
        body = request_body(request, form, [], limit_name)
        head = orjson.dumps({"custom_id": key, "method": "POST", "url": f"/v1/{PATHS[request.api]}"})
        return head[:-1] + b',"body":' + body + b"}\n"

    def _file(self, batch: Batch) -> Path:
        return self._state.path.with_name(f".{self._state.path.name}.{batch.tag[:12]}.jsonl")


def _by_limit(requests: dict[str, ChatRequest]) -> list[dict[str, ChatRequest]]:
    """Requests by their ``max_tokens``: a batch remembers one for all."""
    groups: dict[int | None, dict[str, ChatRequest]] = {}
    for key, request in requests.items():
        groups.setdefault(request.sampling.max_tokens, {})[key] = request
    return list(groups.values())


def _errors(document: dict[str, Any]) -> str:
    """Why a whole batch failed, in the server's words."""
    errors = document.get("errors")
    data = errors.get("data") if isinstance(errors, dict) else errors
    if not isinstance(data, list):
        return ""
    return "; ".join(str(one.get("message") if isinstance(one, dict) else one) for one in data[:3])

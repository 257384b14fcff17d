"""One entry of the reply cache as bytes: a checksum, and behind it JSON.

The checksum covers everything behind it, so a flipped bit is a miss and never another answer.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ropd_cli.answers.endings import Ending, ending_of
from ropd_cli.llm.chat import ChatReply
from ropd_cli.records.schemas import Usage

MAGIC = b"ropd.reply.v2\n"
_SUM_BYTES = 16
_HEAD = len(MAGIC) + _SUM_BYTES


@dataclass(frozen=True)
class Entry:
    """A reply that was kept: under which key, when (Unix time), and the ``max_tokens`` it was asked under."""

    key: str
    reply: ChatReply
    max_tokens: int | None
    stored_at: float

    def fits(self, max_tokens: int | None) -> bool:
        """Return whether the same reply would have come under another limit: a whole one, or one cut off there."""
        if self.reply.finish_reason == Ending.CUT_OFF:
            return max_tokens == self.max_tokens
        if ending_of(self.reply.finish_reason) is not Ending.WHOLE:
            return False  # another word, which versions before 0.2 kept: it may stand for half a reply
        if max_tokens is None or (self.max_tokens is not None and max_tokens >= self.max_tokens):
            return True
        tokens = self.reply.usage.completion_tokens if self.reply.usage is not None else 0
        return 0 < tokens <= max_tokens

    def as_json(self) -> dict[str, Any]:
        """For an export."""
        return {
            "key": self.key,
            "model": self.reply.model,
            "stored_at": self.stored_at,
            "max_tokens": self.max_tokens,
            "reply": self.reply.model_dump(mode="json", exclude={"cached"}),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Entry:
        """Return the entry of an export. Raises ValueError where it is none."""
        key, max_tokens, stored_at = (record.get(name) for name in ("key", "max_tokens", "stored_at"))
        if not (isinstance(key, str) and isinstance(max_tokens, int | None) and isinstance(stored_at, int | float)):
            raise ValueError("key, max_tokens or stored_at is missing, or of another type")
        reply = ChatReply.model_validate(record.get("reply"))
        return cls(key, reply.model_copy(update={"created": stored_at}), max_tokens, stored_at)


class Corrupt(Exception):
    """Bytes that are no entry, or another key's."""


def encode(key: str, reply: ChatReply, max_tokens: int | None) -> bytes:
    """Return the bytes of a reply."""
    usage = reply.usage
    counts = [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens] if usage is not None else None
    parts = [
        key,
        reply.text,
        reply.finish_reason,
        reply.reasoning,
        reply.model,
        counts,
        max_tokens,
        reply.created or time.time(),
    ]
    body = orjson.dumps(parts)
    return b"".join((MAGIC, hashlib.sha256(body).digest()[:_SUM_BYTES], body))


def decode(key: str | None, data: Any) -> Entry:
    """Return the entry in ``data``; with a ``key`` it has to be that key's. Raises Corrupt."""
    if not isinstance(data, bytes) or not data.startswith(MAGIC):
        raise Corrupt
    body = memoryview(data)[_HEAD:]
    if hashlib.sha256(body).digest()[:_SUM_BYTES] != data[len(MAGIC) : _HEAD]:
        raise Corrupt
    stored_key, text, finish_reason, reasoning, model, counts, max_tokens, stored_at = orjson.loads(body)
    if key is not None and stored_key != key:
        raise Corrupt
    usage = None
    if counts is not None:
        names = ("prompt_tokens", "completion_tokens", "cached_tokens")
        usage = Usage.model_construct(**dict(zip(names, counts, strict=True)))
    reply = ChatReply.model_construct(  # the checksum has vouched for it
        text=text,
        finish_reason=finish_reason,
        usage=usage,
        reasoning=reasoning,
        model=model,
        cached=True,
        created=stored_at,
    )
    return Entry(stored_key, reply, max_tokens, stored_at)


def worth_keeping(reply: ChatReply) -> bool:
    """Return whether a usable reply need not be paid for again: not one that an endpoint's filter ended, nor an empty
    one without a reason. (One that was cut off is usable where no schema was asked for.)"""
    if reply.finish_reason == Ending.REFUSED:
        return False
    return bool(reply.text.strip()) or reply.reasoning is not None or reply.finish_reason == Ending.CUT_OFF


def own_key(key: str, reply: ChatReply, max_tokens: int | None) -> str:
    """Return the key that a reply is stored under: that of its request, or its own where it was cut off."""
    return cut_off_key(key, max_tokens) if reply.finish_reason == Ending.CUT_OFF else key


def cut_off_key(key: str, max_tokens: int | None) -> str:
    """Return the key of the reply that was cut off under a limit; a whole one under another limit has the request's."""
    return f"{key}.cut-off.{max_tokens}"

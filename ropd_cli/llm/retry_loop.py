"""The retry loop: send a request until a usable reply is there.

Retries have one budget and one owner, here: 429, 5xx, lost connections, timeouts and replies that can't be used all
draw on it. How long is waited before each is ``retry``'s to say.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

from ropd_cli.answers.endings import Ending
from ropd_cli.errors import ProviderRefused, ReplyInvalid, RopdError
from ropd_cli.llm.chat import ChatReply, ChatRequest, ClientStats
from ropd_cli.llm.faults import Fault
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.sender import Sender
from ropd_cli.llm.structured import parse_json

T = TypeVar("T")
Read = Callable[[ChatReply], T]
_QUOTED_CHARS = 4000
"""So much of a reply that can't be used is shown to the model again."""


class RetryLoop:
    """Sends requests of one client, each as often as ``policy`` allows."""

    def __init__(self, sender: Sender, policy: RetryPolicy, stats: ClientStats) -> None:
        self._sender, self._policy, self._stats = sender, policy, stats

    async def send(self, key: str, request: ChatRequest, read: Read[T], choices: int = 1) -> tuple[list[ChatReply], T]:
        """Send until a usable reply is there (1 to ``choices`` of them; ``read`` is given the first) or the retries are
        used up. What is lost while the endpoint is not there at all (its breaker is open) is not counted: the next
        attempt waits for it."""
        correction: list[dict[str, Any]] = []
        corrected = False
        failed = 0
        for attempt in itertools.count(1):
            try:
                reply, *more = await self._sender.send(request, correction, choices)
                return [reply, *more], read(reply)
            except Fault as caught:
                fault = caught
                if correction and isinstance(fault.error, ProviderRefused):
                    fault.again = True  # it was the longer conversation that was refused; the question alone was not
                correction = []
                if fault.lost and self._sender.lost(key, fault):
                    self._stats.retries += 1
                    continue
                wait_s = self._policy.wait_s(failed, fault.retry_after_s)
            except ReplyInvalid as caught:
                error = ReplyInvalid(f"{request.model} at {self._sender.peer.shown}: {caught.message}", caught.hint)
                is_refused = reply.finish_reason == Ending.REFUSED  # it would be again, and is paid for
                fault, wait_s = Fault(error, again=not is_refused), 0.0 if failed < self._policy.max_retries else None
                correction = [] if corrected else _correction(reply, caught)
                corrected = True
            failed += 1
            if wait_s is None or not fault.again:
                raise _final(fault, attempt) from None
            self._stats.retries += 1
            await self._sender.pause(wait_s)
        raise AssertionError  # the loop has no other end


def nothing(_reply: ChatReply) -> None:
    """The ``read`` of whoever wants no value."""


def read_reply(reply: ChatReply, request: ChatRequest, read: Read[T]) -> T:
    """Return what ``read`` makes of a reply. Raises ReplyInvalid for one that can't be used."""
    if request.form is not None:
        if reply.finish_reason == Ending.REFUSED:
            raise ReplyInvalid(
                "the reply was refused (content filter)", "leave the prompt out, or take a judge without that filter"
            )
        if reply.finish_reason == Ending.CUT_OFF:
            raise ReplyInvalid("the reply was cut off at its length limit", "raise --max-tokens (or do not set it)")
        if read is nothing:
            parse_json(reply.text)
    return read(reply)


def _correction(reply: ChatReply, fault: ReplyInvalid) -> list[dict[str, Any]]:
    """Return what is said to the model of a reply that can't be used: the reply, as its own turn, and the reason."""
    quoted = reply.text if len(reply.text) <= _QUOTED_CHARS else reply.text[:_QUOTED_CHARS] + " […]"
    instruction = (
        f"Your reply can't be used: {fault.message}. Give the whole answer again, corrected, and nothing else."
    )
    return [{"role": "assistant", "content": quoted or "…"}, {"role": "user", "content": instruction}]


def _final(fault: Fault, attempts: int) -> RopdError:
    """Return the error a user sees, with how often it was tried."""
    error = copy.copy(fault.error)
    if attempts > 1:
        error.message = f"{error.message} (tried {attempts} times)"
        error.args = (error.message,)
    return error

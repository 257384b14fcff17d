"""Several answers of one model to one prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ropd_cli.errors import RopdError
from ropd_cli.llm.client import ChatClient, ChatReply, endpoint_request
from ropd_cli.schemas import Answer, Message


async def sample(client: ChatClient, messages: tuple[Message, ...], numbers: Iterable[int]) -> list[Answer]:
    """The answers of these sample numbers, asked for at once, in the order of the numbers.

    Sample s is cached apart from the others, and sent ``seed + s`` where a seed is set. The first failure
    cancels the rest; answers that have come are in the cache by then. Raises what ``ChatClient.complete`` raises.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(client.complete(endpoint_request(client.endpoint, messages, sample=number)))
                for number in numbers
            ]
    except ExceptionGroup as faults:
        expected, others = faults.split(RopdError)
        if others is not None or expected is None:
            raise
        raise expected.exceptions[0] from None  # one prompt's failure, whichever of its samples met it first
    return [_answer(task.result()) for task in asked]


def _answer(reply: ChatReply) -> Answer:
    return Answer(text=reply.text, finish_reason=reply.finish_reason, usage=reply.usage)

"""Several answers of one model to one prompt."""

from __future__ import annotations

from collections.abc import Iterable

from ropd_cli.llm.client import ChatClient, ChatReply, endpoint_request
from ropd_cli.records.schemas import Answer, Message


async def sample(client: ChatClient, messages: tuple[Message, ...], numbers: Iterable[int]) -> list[Answer]:
    """Return the answers of these sample numbers, each a request of its own, in the order of the numbers.

    Sample s is cached apart from the others, and sent ``seed + s`` where a seed is set. Raises what
    ``ChatClient.samples`` raises.
    """
    requests = [endpoint_request(client.endpoint, messages, sample=number) for number in numbers]
    return [_answer(reply) for reply in await client.samples(requests, together=False)]


def _answer(reply: ChatReply) -> Answer:
    return Answer(text=reply.text, finish_reason=reply.finish_reason, usage=reply.usage)

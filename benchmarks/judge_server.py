"""A judge that costs next to nothing: HTTP/1.1 with kept connections on a bare asyncio protocol, a process of its own.

    python benchmarks/judge_server.py --latency-ms 200        # prints its base_url, serves until its stdin ends

It answers Chat Completions requests for a rubric (eight criteria, always the same) and for verdicts (true and
false by the group's tag). What it is asked is found by byte search, nothing is parsed: the machine's time is to go
to the client that is measured. A reply waits a fixed time, or, with ``--median-s`` and ``--sigma``, a lognormal one
drawn from the marker ``[[bench NAME]]`` in the question, which a benchmark can draw too (``lognormal_s``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

CRITERIA = 8
BUFFER_BYTES = 1 << 18
POINTS = (5, 4, 3, 2, 2, 2, 1, 1)
RUBRIC = {
    "schema_version": "ropd.rubric.v1",
    "rubrics": [
        {
            "criterion_id": f"c{k}",
            "category": ("Task Completion", "Observable Quality", "General Reasoning")[k % 3],
            "criterion": f"The answer states the value that step {k} of the task asks for, and shows how it is found.",
            "points": points,
        }
        for k, points in enumerate(POINTS, start=1)
    ],
    "maximum_score": sum(POINTS),
}
Latency = Callable[[str, str], float]
"""Seconds that the reply to (marker, "rubric" or "verdicts") waits."""


def lognormal_s(marker: str, kind: str, median_s: float, sigma: float) -> float:
    """The latency drawn for a request; the same arguments draw the same."""
    return median_s * math.exp(random.Random(f"{marker} {kind}").gauss(0.0, sigma))


class Judge(asyncio.BufferedProtocol):
    """One connection. The body is received into the buffer that it is searched in."""

    def __init__(self, latency: Latency) -> None:
        self._latency = latency
        self._data = bytearray(BUFFER_BYTES)
        self._filled = 0
        self._needed = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        room = max(self._needed, self._filled + 1)
        if room > len(self._data):  # as a new object: the loop may still hold a view of the old one
            self._data = self._data + bytes(room)
        return memoryview(self._data)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if not self._needed:
            end = self._data.find(b"\r\n\r\n", 0, self._filled)
            if end < 0:
                return
            self._needed = end + 4 + content_length(bytes(self._data[:end]))
        if self._filled >= self._needed:  # requests are not sent ahead, so this is one, whole
            self._answer(self._needed)
            self._filled = self._needed = 0

    def _answer(self, end: int) -> None:
        kind = "verdicts" if self._data.find(b"ropd_verdicts", 0, end) >= 0 else "rubric"
        if kind == "rubric":
            response = RUBRIC_RESPONSE
        else:
            response = as_response(verdicts(int(tag(self._data), 16), count_answers(self._data, end)))
        wait_s = self._latency(marker(self._data, end), kind)
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self._transport.write, response)
        else:
            self._transport.write(response)


def content_length(head: bytes) -> int:
    """The length of a request's body."""
    head = head.lower()
    start = head.index(b"\r\ncontent-length:") + len(b"\r\ncontent-length:")
    end = head.find(b"\r\n", start)
    return int(head[start : end if end >= 0 else None])


def marker(body: bytearray, end: int) -> str:
    """NAME of the question's ``[[bench NAME]]``, "" without one."""
    start = body.find(b"[[bench ", 0, end)
    return body[start + 8 : body.index(b"]]", start)].decode() if start >= 0 else ""


def tag(body: bytearray) -> bytes:
    """The group's tag, sixteen hex digits."""
    start = body.index(b"<question-") + 10
    return bytes(body[start : start + 16])


def count_answers(body: bytearray, end: int) -> int:
    """The number of the last answer."""
    start = body.rindex(b'<answer-%b index=\\"' % tag(body), 0, end) + 33
    return int(body[start : body.index(b"\\", start)])


def verdicts(bits: int, answers: int) -> str:
    """Verdicts on so many answers, their booleans the bits of a number."""
    rows = [
        f'{{"answer_index": {k}, "judgement": {ROWS[(bits >> k * 5 & 255) ^ k]}, "final_score": 0}}'
        for k in range(1, answers + 1)
    ]
    return f'{{"schema_version": "ropd.batch_verifier.v2", "answers": [{", ".join(rows)}]}}'


def as_response(text: str) -> bytes:
    """The HTTP response with a chat completion of this text."""
    message = {"role": "assistant", "content": text}
    document = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 0,
        "model": "judge",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 250_000, "completion_tokens": 400},  # more than any of these requests has
    }
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


ROWS = [json.dumps([bool(byte >> bit & 1) for bit in range(CRITERIA)]) for byte in range(256)]
RUBRIC_RESPONSE = as_response(json.dumps(RUBRIC))


async def serve(latency: Latency) -> None:
    """Serve until stdin ends: when whoever started it is gone, so is the server."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Judge(latency), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


@contextmanager
def running(*options: object) -> Iterator[str]:
    """A judge server started with these options; its ``base_url``."""
    command = [sys.executable, __file__, *map(str, options)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--median-s", type=float, help="draw lognormal latencies with this median instead")
    parser.add_argument("--sigma", type=float, default=0.4)
    parser.add_argument("--cpu", type=int, help="run on this core alone")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    fixed_s = options.latency_ms / 1000
    if options.median_s is None:
        asyncio.run(serve(lambda marker, kind: fixed_s))
    else:
        asyncio.run(serve(lambda marker, kind: lognormal_s(marker, kind, options.median_s, options.sigma)))


if __name__ == "__main__":
    main()

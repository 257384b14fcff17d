"""A scripted OpenAI-compatible server on loopback: every fault an endpoint can have, on real sockets.

    server.script(Reply("hello"), Status(429, retry_after=0.1), Drop(), Hang(), Half(), Raw(b"<html>"))

Each request takes the next step of the script, then ``server.default`` over and over. A step may be a
function from the request's body to a step. ``server.requests`` holds what came, in order.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """A chat completion; ``message`` and ``extra`` are merged into the message and the document."""

    text: str | None = "hello"
    finish_reason: str | None = "stop"
    usage: dict[str, int] | None = field(default_factory=lambda: {"prompt_tokens": 7, "completion_tokens": 3})
    message: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass(frozen=True)
class Status:
    """An error status with OpenAI's error document, or ``body`` as it is."""

    code: int
    message: str = "the server's words"
    retry_after: str | float | None = None
    body: Any = None
    error_code: str | None = None


@dataclass(frozen=True)
class Raw:
    """A 200 with these bytes."""

    data: bytes


@dataclass(frozen=True)
class Drop:
    """The connection is closed without a response."""


@dataclass(frozen=True)
class Half:
    """The connection is closed in the middle of a response."""


@dataclass(frozen=True)
class Hang:
    """No response, or with ``drip`` a byte now and then, until the server stops or the client goes away."""

    drip: bool = False


Step = Reply | Status | Raw | Drop | Half | Hang | Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Request:
    """What came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float


class ScriptedServer:
    """The server; ``url`` is its ``base_url``. Use as a context manager."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.default: Step = Reply()
        self.most_at_once = 0
        self.stopping = threading.Event()
        self._script: list[Step] = []
        self._at_once = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.scripted = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request.body for request in self.requests]

    @property
    def at_once(self) -> int:
        """Requests being answered now."""
        with self._lock:
            return self._at_once

    def script(self, *steps: Step) -> None:
        """What the next requests get, in order."""
        with self._lock:
            self._script += steps

    def take(self, request: Request) -> Step:
        with self._lock:
            self.requests.append(request)
            step = self._script.pop(0) if self._script else self.default
        while callable(step):
            step = step(request.body)
        return step

    def count(self, change: int) -> None:
        with self._lock:
            self._at_once += change
            self.most_at_once = max(self.most_at_once, self._at_once)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_POST(self) -> None:
        server: ScriptedServer = self.server.scripted
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.count(+1)
        try:
            self._play(server.take(Request(self.path, headers, body, time.monotonic())), body, server)
        except OSError:  # the client went away
            self.close_connection = True
        finally:
            server.count(-1)

    def do_GET(self) -> None:
        self._send(200, json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode())

    def _play(self, step: Any, body: dict[str, Any], server: ScriptedServer) -> None:
        if isinstance(step, Reply):
            server.stopping.wait(step.delay_s)
            self._send(200, completion(step, body))
        elif isinstance(step, Status):
            error = {"error": {"message": step.message, "type": "scripted", "code": step.error_code}}
            document = error if step.body is None else step.body
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            self._send(step.code, data, {} if step.retry_after is None else {"Retry-After": str(step.retry_after)})
        elif isinstance(step, Raw):
            self._send(200, step.data)
        elif isinstance(step, Half):
            self._send(200, completion(Reply(), body), cut=30)
        elif isinstance(step, Hang):
            self._hang(step, server)
        self.close_connection = self.close_connection or not isinstance(step, Reply | Status | Raw)

    def _hang(self, step: Hang, server: ScriptedServer) -> None:
        if step.drip:
            self._send(200, b" " * 10_000, cut=1)
        while not server.stopping.wait(0.02) and not self._gone():
            if step.drip:
                self.wfile.write(b" ")

    def _gone(self) -> bool:
        self.connection.setblocking(False)
        try:
            return self.connection.recv(1) == b""
        except BlockingIOError:
            return False
        finally:
            self.connection.settimeout(self.timeout)

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:cut])

    def log_message(self, *_: object) -> None: ...


def completion(reply: Reply, body: dict[str, Any]) -> bytes:
    """The document of a chat completion."""
    message = {"role": "assistant", "content": reply.text, **reply.message}
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
    }
    return json.dumps(document if reply.usage is None else {**document, "usage": reply.usage}).encode()

"""A scripted OpenAI-compatible server on loopback: every fault an endpoint can have, on real sockets.

    server.script(Reply("hello"), Status(429, retry_after=0.1), Drop(), Hang(), Half(), Raw(b"<html>"))

Each request takes the next step of the script, then ``server.default`` over and over. A step may be a
function from the request's body to a step, or ``FromRequest`` of one from the whole request. ``server.requests``
holds what came, in order. Chat Completions and Responses are told apart by the path. ``down`` and ``up`` take
the server off its port and bring it back. ``storms.py`` has a judge and a storm of faults for it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition to come true, for 20 seconds at most."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


@dataclass(frozen=True)
class Reply:
    """A reply; ``message`` is merged into a chat completion's messages, ``cached_tokens`` into the usage."""

    text: str | None = "hello"
    finish_reason: str | None = "stop"
    usage: dict[str, int] | None = field(default_factory=lambda: {"prompt_tokens": 7, "completion_tokens": 3})
    message: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.0
    cached_tokens: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    """Texts of further choices of a chat completion."""


@dataclass(frozen=True)
class Status:
    """An error status with OpenAI's error document, or ``body`` as it is."""

    code: int
    message: str = "the server's words"
    retry_after: str | float | None = None
    body: Any = None
    error_code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """A 200 with these bytes."""

    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """The connection is closed without a response."""


@dataclass(frozen=True)
class Half:
    """The connection is closed in the middle of a response."""

    text: str = "hello"


@dataclass(frozen=True)
class Hang:
    """No response, or with ``drip`` a byte now and then, until the server stops or the client goes away."""

    drip: bool = False


@dataclass(frozen=True)
class Request:
    """What came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float
    data: bytes = b""
    """The body as it came."""


@dataclass(frozen=True)
class FromRequest:
    """A step made from the whole request, headers included."""

    make: Callable[[Request], Any]


Step = Reply | Status | Raw | Drop | Half | Hang | FromRequest | Callable[[dict[str, Any]], Any]


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
        self._connections: set[socket.socket] = set()
        self._http = self._bound(0)
        self._port = self._http.server_address[1]
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

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
        while callable(step) or isinstance(step, FromRequest):
            step = step.make(request) if isinstance(step, FromRequest) else step(request.body)
        return step

    def count(self, change: int) -> None:
        with self._lock:
            self._at_once += change
            self.most_at_once = max(self.most_at_once, self._at_once)

    def connected(self, connection: socket.socket, now: bool) -> None:
        """A connection was opened or closed."""
        with self._lock:
            (self._connections.add if now else self._connections.discard)(connection)

    def up(self) -> None:
        """Listen, after ``down`` on the same port as before."""
        if self.stopping.is_set():
            self.stopping = threading.Event()
            self._http = self._bound(self._port)
        serve = self._http.serve_forever
        self._thread = threading.Thread(target=serve, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def down(self) -> None:
        """Close the port and all connections, answered or not."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed meanwhile
                continue
        self._thread.join(5)

    def _bound(self, port: int) -> ThreadingHTTPServer:
        http = _Http(("127.0.0.1", port), _Handler)
        http.scripted = self
        return http

    def __enter__(self) -> ScriptedServer:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client may go away at any time
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    def setup(self) -> None:
        super().setup()
        self.server.scripted.connected(self.connection, True)

    def finish(self) -> None:
        self.server.scripted.connected(self.connection, False)
        super().finish()

    def do_POST(self) -> None:
        server: ScriptedServer = self.server.scripted
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.loads(data)
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.count(+1)
        try:
            self._play(server.take(Request(self.path, headers, body, time.monotonic(), data)), body, server)
        except OSError:  # the client went away
            self.close_connection = True
        finally:
            server.count(-1)

    def do_GET(self) -> None:
        self._send(200, json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode())

    def _play(self, step: Any, body: dict[str, Any], server: ScriptedServer) -> None:
        if isinstance(step, Reply):
            server.stopping.wait(step.delay_s)
            self._send(200, self._document(step, body), step.headers)
        elif isinstance(step, Status):
            error = {"error": {"message": step.message, "type": "scripted", "code": step.error_code}}
            document = error if step.body is None else step.body
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            wait = {} if step.retry_after is None else {"Retry-After": str(step.retry_after)}
            self._send(step.code, data, step.headers | wait)
        elif isinstance(step, Raw):
            self._send(200, step.data, step.headers)
        elif isinstance(step, Half):
            data = self._document(Reply(step.text), body)
            self._send(200, data, cut=len(data) // 2)
        elif isinstance(step, Hang):
            self._hang(step, server)
        self.close_connection = self.close_connection or not isinstance(step, Reply | Status | Raw)

    def _document(self, reply: Reply, body: dict[str, Any]) -> bytes:
        return (response if self.path.partition("?")[0].endswith("/responses") else completion)(reply, body)

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
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, **reply.message},
            "finish_reason": reply.finish_reason,
        }
        for index, text in enumerate((reply.text, *reply.others))
    ]
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model"),
        "choices": choices,
    }
    if reply.usage is not None:
        document["usage"] = dict(reply.usage)
        if reply.cached_tokens is not None:
            document["usage"]["prompt_tokens_details"] = {"cached_tokens": reply.cached_tokens}
    return json.dumps(document).encode()


def response(reply: Reply, body: dict[str, Any]) -> bytes:
    """The document of the Responses API: the same reply after an item of reasoning."""
    cut_off = reply.finish_reason != "stop"
    reasons = {"length": "max_output_tokens"}
    content = [{"type": "output_text", "text": reply.text, "annotations": []}]
    document = {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "model": body.get("model"),
        "status": "incomplete" if cut_off else "completed",
        "incomplete_details": {"reason": reasons.get(reply.finish_reason, reply.finish_reason)} if cut_off else None,
        "error": None,
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content},
        ],
    }
    if reply.usage is not None:
        document["usage"] = {
            "input_tokens": reply.usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": reply.cached_tokens or 0},
            "output_tokens": reply.usage["completion_tokens"],
            "total_tokens": sum(reply.usage.values()),
        }
    return json.dumps(document).encode()

"""A server of OpenAI's Batch API on loopback: files, batches, results, on real sockets.

Batches are finished when they were looked at ``looks`` times. ``answer`` makes the text of a reply from a request's
body. Faults are told by attributes: what a test sets is what the server does.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class BatchServer:
    """The server; ``url`` is its ``base_url``. Use as a context manager."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        self.answer = answer
        """Body of a request -> text, or (text, finish_reason), or an int: the status of a refusal."""
        self.looks = 1
        self.ends_as: str | list[str] = "completed"
        """What becomes of batches: completed, failed, expired or cancelled (half of it answered); of each in turn."""
        self.lose_create = 0
        """So many batches are made without a word to who asked."""
        self.lose_upload = 0
        self.error: dict[str, Any] | None = None
        """Sent with status 200 in the place of an uploaded file."""
        self.busy = 0
        """So many requests are answered with 503."""
        self.files: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []
        self.seen: list[dict[str, Any]] = []
        """The bodies of all requests that were handed over in batches, in order."""
        self.headers: list[dict[str, str]] = []
        self.live = 0
        """Requests that came outside of batches."""
        self._looked: dict[str, int] = {}
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.batches = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> BatchServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        with self._lock:
            number = f"file-{len(self.names)}"
            self.files[number], self.names[number] = content, name
        return {"id": number, "object": "file", "filename": name, "purpose": "batch"}

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            number = f"batch-{len(self.batches)}"
            lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
            assert all(line["url"] == body["endpoint"] and line["method"] == "POST" for line in lines)
            assert len({line["custom_id"] for line in lines}) == len(lines)
            self.seen += [line["body"] for line in lines]
            self.batches[number] = {
                "id": number,
                "object": "batch",
                "status": "validating",
                "metadata": body.get("metadata"),
                "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
                "lines": lines,
            }
        return self.shown(number)

    def look(self, number: str) -> dict[str, Any]:
        with self._lock:
            self._looked[number] = self._looked.get(number, 0) + 1
            batch = self.batches[number]
            if self._looked[number] > self.looks:
                if batch["status"] not in ("completed", "failed", "expired", "cancelled"):
                    self._finish(batch)
            else:
                batch["status"] = "in_progress"
        return self.shown(number)

    def shown(self, number: str) -> dict[str, Any]:
        return {key: value for key, value in self.batches[number].items() if key != "lines"}

    def _finish(self, batch: dict[str, Any]) -> None:
        batch["status"] = end = self.ends_as if isinstance(self.ends_as, str) else self.ends_as.pop(0)
        if end == "failed":
            batch["errors"] = {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]}
            return
        lines = batch["lines"][:: -1 if end == "completed" else 2]  # results come in any order
        good, bad = [], []
        for line in lines:
            said = self.answer(line["body"])
            record = {"id": "x", "custom_id": line["custom_id"], "error": None}
            if isinstance(said, int):
                error = {"error": {"message": f"no, says {said}"}}
                bad.append(record | {"response": {"status_code": said, "body": error}})
                continue
            text, reason = said if isinstance(said, tuple) else (said, "stop")
            body = {
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 10},
                "model": line["body"]["model"],
            }
            good.append(record | {"response": {"status_code": 200, "body": body}})
        for name, records in (("output_file_id", good), ("error_file_id", bad)):
            if records:
                number = f"{batch['id']}-{name}"
                damaged = '{"custom_id": '
                text = "\r\n".join([damaged, *(json.dumps(record, ensure_ascii=False) for record in records)]) + "\r\n"
                self.files[number] = text.encode()
                batch[name] = number
        batch["request_counts"] |= {"completed": len(good), "failed": len(bad)}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    batches: BatchServer

    def handle_error(self, request: Any, client_address: Any) -> None: ...


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def do_POST(self) -> None:
        server: BatchServer = self.server.batches
        content = (
            self.rfile.read(int(self.headers["content-length"])) if self.headers["content-length"] else _chunks(self)
        )
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self._is_busy():
            return
        path = self.path.partition("?")[0]
        if path == "/v1/files":
            form = BytesParser(policy=HTTP).parsebytes(
                b"Content-Type: " + self.headers["content-type"].encode() + b"\r\n\r\n" + content
            )
            parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
            assert parts["purpose"].get_content().strip() == "batch"
            made = server.upload(parts["file"].get_filename(), parts["file"].get_payload(decode=True))
            if server.error is not None:
                return self._send(200, {"error": server.error})
            if server.lose_upload:
                server.lose_upload -= 1
                self.close_connection = True
                return
            self._send(200, made)
        elif path == "/v1/batches":
            made = server.create(json.loads(content))
            if server.lose_create:
                server.lose_create -= 1
                self.close_connection = True
                return
            self._send(200, made)
        else:
            server.live += 1
            self._send(500, {"error": {"message": "asked outside of a batch"}})

    def do_GET(self) -> None:
        server: BatchServer = self.server.batches
        if self._is_busy():
            return
        path = self.path.partition("?")[0]
        if path == "/v1/batches":
            self._send(200, {"data": [server.shown(number) for number in server.batches], "has_more": False})
        elif path == "/v1/files":
            self._send(200, {"data": [{"id": key, "filename": name} for key, name in server.names.items()]})
        elif found := re.fullmatch(r"/v1/batches/(.+)", path):
            self._send(200, server.look(found[1]))
        elif found := re.fullmatch(r"/v1/files/(.+)/content", path):
            self._send(200, server.files[found[1]])

    def do_DELETE(self) -> None:
        server: BatchServer = self.server.batches
        server.deleted.append(self.path.rpartition("/")[2])
        self._send(200, {"deleted": True})

    def _is_busy(self) -> bool:
        server: BatchServer = self.server.batches
        if not server.busy:
            return False
        server.busy -= 1
        self._send(503, {"error": {"message": "later"}})
        return True

    def _send(self, status: int, document: Any) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header(
            "Content-Type", "application/octet-stream" if isinstance(document, bytes) else "application/json"
        )
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


def _chunks(handler: BaseHTTPRequestHandler) -> bytes:
    """A body in chunks."""
    content = b""
    while size := int(handler.rfile.readline().strip(), 16):
        content += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return content

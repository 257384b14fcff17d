"""``ropd serve-judge``."""

from __future__ import annotations

from typing import Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen


def serve_judge(
    name: Annotated[str, typer.Argument(help="Which embedded provider.")] = "checkable",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8710,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Serve the built-in provider over HTTP.

    It is a set of rules for small checkable tasks and no language model. The URL to give as --base-url is
    printed on stdout once it listens; Ctrl-C ends it.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        import socket

        import uvicorn

        from ropd_cli.errors import InputError
        from ropd_cli.llm.builtin.app import create_app

        app = create_app(name)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as fault:
            raise InputError(
                f"can't listen on {host}:{port} ({fault.strerror})", "choose another --port or --host"
            ) from fault
        listener.listen(128)
        url = f"http://{host}:{listener.getsockname()[1]}/v1"
        screen.result({"url": url, "provider": name}, url)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        server.run(sockets=[listener])

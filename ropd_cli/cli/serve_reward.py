"""``ropd serve-reward``."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._options import CacheDir, Config, ConfigOptions, MaxCost, Set, command
from ropd_cli.cli._screen import Screen
from ropd_cli.errors import InputError


class RewardsServed(TypedDict):
    url: str
    run_dir: str


@command
def serve_reward(
    config: Config = None,
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Directory for the judged groups.", show_default="out of the configuration"),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than this machine's own need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 is any free one.")] = 8711,
    token_env: Annotated[
        str | None, typer.Option("--token-env", help="Environment variable that holds the token clients must send.")
    ] = None,
    gather_timeout: Annotated[
        float,
        typer.Option("--gather-timeout", min=0.1, help="Seconds to wait for the next rollout of a group."),
    ] = 600.0,
    max_cost: MaxCost = None,
    cache_dir: CacheDir = None,
    *,
    screen: Screen,
) -> None:
    """Serve rewards over HTTP to a trainer of your own.

    The trainer posts a prompt with its rollouts, all at once or one by one, and gets rewards by the configuration's
    method. POST /rewards is for any trainer, /openrlhf and /slime are for these two; /openapi.json describes all.

    Cache, limits, --max-cost and the files of --out are those of a run: ropd inspect-rubrics and ropd report read them.
    Ctrl-C stops it. The same command continues, and asks for no judgement again.
    """
    from ropd_cli.engines.judge_server import listening
    from ropd_cli.records.outputs import sole_writer
    from ropd_cli.serving.served_run import prepare
    from ropd_cli.training.run_dir import RunDir

    if not config:
        raise InputError("no configuration is named", "--config FILE")
    token = _token(token_env)
    if token is None and not _is_loopback(host):
        raise InputError(f"--host {host}: other machines could spend your money", "protect it by --token-env NAME")
    flags = {"out": str(out) if out else None, "max_cost": max_cost}
    resolved = ConfigOptions(config, set_, cache_dir).load(flags)
    with listening(host, port) as listener, sole_writer(RunDir.of(resolved.out).path, directory=True):
        run = prepare(resolved)
        url = f"http://{host}:{listener.getsockname()[1]}"

        async def serve() -> None:
            import uvicorn

            from ropd_cli.serving.application import create_app
            from ropd_cli.serving.gathering import Gatherer
            from ropd_cli.serving.served_run import ServedRun

            app = create_app(ServedRun(run, screen.note), Gatherer(gather_timeout, screen.note), token)
            screen.result(RewardsServed(url=url, run_dir=str(run.path)), url)
            settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
            await uvicorn.Server(settings).serve(sockets=[listener])

        with screen.serving(
            f"stopped; the same command continues, ropd inspect-rubrics {run.path} shows what was judged"
        ):
            screen.run(serve())


def _token(name: str | None) -> str | None:
    if name is None:
        return None
    if not (token := os.environ.get(name)):
        raise InputError(f"--token-env {name}: the variable is not set, or empty", f"export {name}=…")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

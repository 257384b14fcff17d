"""``ropd serve-judge``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._options import command
from ropd_cli.cli._screen import Screen
from ropd_cli.errors import InputError

BUILTIN_NAME = "checkable"
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GROUP = (4, 8)
"""Teacher answers and rollouts of the method's usual group, for the note on the context's size."""
BESIDES_TOKENS = 6000
"""Instructions, question, rubric and reply, roughly."""
_model_option = partial(typer.Option, rich_help_panel="A model of your own (with --model)")
_request_option = partial(typer.Option, rich_help_panel="Requests to it")


@dataclass(frozen=True)
class ModelOptions:
    """How vLLM serves the model of ``--model``; None: as JudgeOptions has it."""

    served_model_name: Annotated[
        str | None,
        _model_option("--served-model-name", help="Model name in requests.", show_default="its path or hub name"),
    ] = None
    max_model_len: Annotated[
        int | None,
        _model_option(
            "--max-model-len",
            metavar="N",
            min=1,
            help="Tokens of prompt and reply, at most.",
            show_default="the model's",
        ),
    ] = None
    max_num_seqs: Annotated[
        int | None, _model_option("--max-num-seqs", metavar="N", min=1, help="Requests at once.", show_default="64")
    ] = None
    dtype: Annotated[
        str | None, _model_option("--dtype", help="Type of the weights.", show_default="auto, as they are stored")
    ] = None
    tensor_parallel_size: Annotated[
        int | None, _model_option("--tensor-parallel-size", metavar="N", min=1, help="Devices that share the model.")
    ] = None
    gpu_memory_utilization: Annotated[
        float | None,
        _model_option("--gpu-memory-utilization", metavar="X", min=0.05, max=1.0, help="Share of a GPU's memory."),
    ] = None
    kv_cache_gb: Annotated[
        int | None, _model_option("--kv-cache-gb", metavar="GB", min=1, help="Memory of the KV cache on a CPU.")
    ] = None
    thinking: Annotated[
        bool | None, _request_option("--thinking/--no-thinking", help="Set the chat template's thinking switch.")
    ] = None
    api_key_env: Annotated[
        str | None, _request_option("--api-key-env", help="Environment variable that holds the key clients must send.")
    ] = None
    vllm_arg: Annotated[
        list[str] | None, _model_option("--vllm-arg", help="Another option of `vllm serve` (repeatable).")
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the options that were given, by the names of JudgeOptions."""
        values = vars(self) | {"vllm_args": tuple(self.vllm_arg) if self.vllm_arg else None, "vllm_arg": None}
        return {name: value for name, value in values.items() if value is not None}


class ProviderServed(TypedDict):
    """Without ``--model``."""

    url: str
    provider: str


class ModelServed(TypedDict):
    """With ``--model``, once the server answers."""

    url: str
    model: str
    max_model_len: int
    """Tokens of prompt and reply, at most."""
    log: str
    settings: dict[str, Any]
    """Keys of a configuration that make this server its judge."""


@command
def serve_judge(
    name: Annotated[
        str | None, typer.Argument(help="Embedded provider; not with --model.", show_default=BUILTIN_NAME)
    ] = None,
    model: Annotated[
        str | None, _model_option("--model", help="Model to serve with vLLM: a folder or hub name.")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every address of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 is any free one.")] = 8710,
    log: Annotated[
        Path | None, _model_option("--log", help="File for what vLLM prints.", show_default="in the cache directory")
    ] = None,
    *,
    serving: ModelOptions,
    screen: Screen,
) -> None:
    """Serve a judge over HTTP: vLLM, or built-in rules.

    With --model: starts vLLM's OpenAI server with prefix caching and strict structured output, prints the settings
    for a configuration on stdout once it answers, and watches the server. The log is kept.

    Without --model: serves the built-in provider, a set of rules for small checkable tasks, not a language model,
    and prints the URL to give as --base-url.

    Ctrl-C stops it.
    """
    import os

    from ropd_cli.engines.judge_server import JudgeOptions, JudgeServer, settings, settings_text
    from ropd_cli.engines.vllm_sampling import installed_device
    from ropd_cli.llm.cache import default_cache_dir

    given = serving.given()
    if model is None:
        _serve_builtin(screen, name or BUILTIN_NAME, host, port, [*given, *(["log"] if log else [])])
        return
    if name is not None:
        raise InputError(f"{name!r} is a built-in provider, and --model names a model", "give one of the two")
    device = installed_device()
    right, wrong = "gpu_memory_utilization", "kv_cache_gb"
    if device == "cpu":
        right, wrong = wrong, right
    if wrong in given:
        raise InputError(f"{_flag(wrong)}: the installed vLLM is built for a {device.upper()}", f"use {_flag(right)}")
    options = JudgeOptions(model=model, device=device, host=host, port=port, **given)
    if log is None:
        log = Path(os.environ.get("ROPD_CACHE_DIR") or default_cache_dir()) / "logs" / f"serve-judge-{port}.log"
    with _stopped_by_signals(screen, log), JudgeServer.start(options, environ=os.environ, log=log) as server:
        screen.note(f"{options.name}: vLLM is starting on {server.url}; its log: {log}")
        served = server.wait_ready(screen.note)
        part = settings(options, server.url)
        length = int(served["max_model_len"])
        document = ModelServed(url=server.url, model=served["id"], max_model_len=length, log=str(log), settings=part)
        screen.result(document, settings_text(part).rstrip())
        teacher, rollouts = GROUP
        tokens = (length - BESIDES_TOKENS) // (teacher + rollouts)
        room = f"{length} tokens hold groups of {teacher} + {rollouts} answers of up to about {tokens} tokens each"
        if tokens < 50:
            room = f"a context of {length} tokens is short for groups of {teacher} + {rollouts} answers"
        screen.note(f"ready; {room}; Ctrl-C ends it")
        server.watch(screen.note)


@contextmanager
def _stopped_by_signals(screen: Screen, log: Path) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end what is inside, cleanly, and then the command, with 128 + the signal's
    number; a second one does not disturb that."""

    def stop(number: int, _frame: Any) -> None:
        for each in STOPS:
            signal.signal(each, signal.SIG_IGN)
        screen.note("stopping")
        raise SystemExit(128 + number)

    before = {each: signal.signal(each, stop) for each in STOPS}
    try:
        yield
    except SystemExit:
        screen.note(f"stopped; the log is {log}")
        raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _serve_builtin(screen: Screen, name: str, host: str, port: int, not_its: list[str]) -> None:
    """Serve the built-in provider until Ctrl-C."""
    import uvicorn

    from ropd_cli.builtin.server import create_app
    from ropd_cli.engines.judge_server import listening

    if not_its:
        flags = ", ".join(map(_flag, not_its))
        raise InputError(f"{flags}: only with --model; the built-in provider has no such option", "add --model")
    app = create_app(name)
    listener = listening(host, port)
    url = f"http://{host}:{listener.getsockname()[1]}/v1"
    screen.result(ProviderServed(url=url, provider=name), url)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    with screen.serving():
        server.run(sockets=[listener])


def _flag(name: str) -> str:
    return "--" + {"vllm_args": "vllm-arg"}.get(name, name.replace("_", "-"))

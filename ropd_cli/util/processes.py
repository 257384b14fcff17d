"""Processes that a command starts: all that they start in turn, and the last error of their log."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

RUN_MARK = "ROPD_RUN_MARK"
"""Environment variable of a process that is started, and so of all that it starts: none is left behind."""
STOP_GRACE_S = 20.0

_ERROR = re.compile(r"^[\w.]*(Error|Exception)\b(?!\($).*|.*\berror: |.*(Error|Exception): ")
_DETAIL = re.compile(r"^Value error, (.*?)( \[type=.*)?$")
_OUTER = re.compile(r"Engine core initialization failed|EngineDeadError|WorkerProc initialization failed")
"""What vLLM's outer processes log of an inner one that has ended; that one has logged why, shortly before."""
_PREFIX = re.compile(r"^(\([^)]*pid=\d+\) )?((DEBUG|INFO|WARNING|ERROR) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?)?")
_NEAR_LINES = 300


def end_all(child: subprocess.Popen, mark: str, grace_s: float = STOP_GRACE_S) -> None:
    """End a process that leads a session, and all that it started.

    Ray's daemons and workers have sessions of their own, and are known by ``mark``, the value of RUN_MARK in their
    environment; vLLM's engine and workers write their title over their environment, and are known by the session.
    """
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            _signal_group(child.pid, signal.SIGKILL)
            child.wait()
    needle = f"{RUN_MARK}={mark}".encode()
    for pid in _processes_of(child.pid, needle):
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (left := _processes_of(child.pid, needle)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in left:
        _signal(pid, signal.SIGKILL)


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


def _processes_of(session: int, needle: bytes) -> list[int]:
    """Return the living processes of a session, and those of this user whose environment holds ``needle``."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                state, _parent, _group, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if state != "Z" and (int(its_session) == session or needle in (entry / "environ").read_bytes()):
                    pids.append(int(entry.name))
            except OSError:
                continue
    return pids


def _signal(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        pass


def _signal_group(pid: int, what: signal.Signals) -> None:
    try:
        os.killpg(pid, what)
    except ProcessLookupError:
        pass

"""Outputs: each is written by one process at a time, and none is an input of the same command.

A lock is a file beside the output (``.NAME.lock``; of a directory ``.lock`` in it) with an flock on it. The kernel
drops that when the process ends, however it ends, so a file left behind by a kill is in nobody's way. Child processes
do not get it: Python closes the descriptor on exec, and no child of ours is forked without one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ropd_cli.errors import InputError, OutputBusy
from ropd_cli.records.files import disk_errors, require_kind

SIDE_FILES = ("", ".failed.jsonl", ".journal.jsonl", ".batch.json", ".dropped.jsonl", ".vllm.log")
"""What the commands write beside an output, by what its name ends in."""
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def sole_writer(out: Path, *, directory: bool = False) -> Iterator[None]:
    """Keep other processes from writing a file or a ``directory`` while the block runs. The folders it needs are made.

    Raises OutputBusy where another process writes it, with who that is, and InputError where the path is of another
    kind.
    """
    with disk_errors(out):
        target = Path(os.path.realpath(out))  # all links and spellings of a path share one lock
        require_kind(out, directory=directory)
        folder = target if directory else target.parent
        lock = folder / ".lock" if directory else folder / f".{target.name}.lock"
        made = [each for each in (folder, *folder.parents) if not each.exists()]
        descriptor = _locked(lock, out)
    try:
        yield
    finally:
        if _is_at(descriptor, lock):  # still locked: who has it open meanwhile sees that it is gone, and opens another
            with suppress(OSError):
                os.unlink(lock)
        os.close(descriptor)
        for each in made:  # where nothing came of it
            with suppress(OSError):
                each.rmdir()


def is_being_written(directory: Path) -> bool:
    """Return whether a process is the sole writer of a directory."""
    try:
        descriptor = os.open(directory / ".lock", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def refuse_inputs(outs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise InputError where an output, or what is written beside it, is one of the inputs, by any name."""
    for out in outs:
        for ending in SIDE_FILES:
            written = out.with_name(out.name + ending) if out.name else out
            for given in inputs:
                if _is_same(written, given):
                    beside = f", which is written beside {out}" if ending else ""
                    raise InputError(
                        f"{written}: an input of this command{beside}", "give the output a name of its own"
                    )


def _is_same(one: Path, other: Path) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return not one.is_dir()
    try:
        return os.path.samefile(one, other) and not one.is_dir()  # a hard link
    except OSError:
        return False


def _locked(lock: Path, out: Path) -> int:
    """Open the lock file and lock it; it says who holds it."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = _opened(lock)
        except FileNotFoundError:  # the folder, or another user's file, has just gone again
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 300, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise OutputBusy(
                f"{out}: is being written by {holder or 'another process'}",
                "wait until that is finished, or give another output",
            ) from None
        except OSError as fault:
            if fault.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
        if _is_at(descriptor, lock):
            break
        os.close(descriptor)  # its holder removed it between our open and our lock
    if os.pread(descriptor, 5, 0) in (b"", b"ropd "):  # else somebody's file has got that name
        with suppress(OSError):  # of another user's file
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, _who().encode(), 0)
    return descriptor


def _opened(lock: Path) -> int:
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except PermissionError:  # another user's, left by a kill: it can be locked without writing to it
        if not lock.exists():
            raise
        return os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)


def _is_at(descriptor: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(lock))
    except FileNotFoundError:
        return False


def _who() -> str:
    # The names of the command alone: its options may hold secrets.
    words = [word for word in sys.argv[1:3] if re.fullmatch(r"[a-z][a-z-]*", word)]
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return f"{' '.join(['ropd', *words])} (process {os.getpid()} on {socket.gethostname()}, since {since})\n"

"""Disk: places that are written to, room for checkpoints, shared memory."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ropd_cli.doctor.check import Case, Check, Section, shown_bytes
from ropd_cli.doctor.model_folder import local_folder, parameters
from ropd_cli.llm.cache import replies_folder
from ropd_cli.training.versions import installed_versions

HERE = Section("disk")
PROBE_BYTES = 256 * 1024
LITTLE = 1e9
CHECKPOINT_BYTES = 16
"""A weight: in float32 by itself, as a Hugging Face model, and with AdamW's two moments."""
LORA_CHECKPOINT_BYTES = 8
SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED = 2e9
RAY_STOPS_AT = 0.95
"""Ray writes nothing any more to a disk that is so full."""

Open = Callable[[Path], int]
"""Opens a new file in a folder and returns its descriptor; the file need not have a name."""


def run_directory(case: Case) -> list[Check]:
    """Where a run is written to, and whether its checkpoints fit."""
    if case.config.out is None:
        return [HERE.skipped("run directory", "out is not set (ropd train --out)")] if case.named else []
    folder = Path(case.config.out).expanduser()
    checks = writable(folder, "run directory", "out: (or --out)")
    needed = _checkpoints(case)
    if checks[0].status == "fail" or needed is None:
        return checks
    return [*checks, room(_existing(folder), *needed)]


def cache(case: Case) -> list[Check]:
    """Where replies are kept."""
    return writable(replies_folder(case.config.cache_dir), "cache", "ROPD_CACHE_DIR (or cache_dir:, --cache-dir)")


def scratch(case: Case) -> list[Check]:
    """What Ray writes to."""
    if "ray" not in installed_versions():
        return []
    folder = Path(tempfile.gettempdir())
    used = shutil.disk_usage(folder)
    if used.free < (1 - RAY_STOPS_AT) * used.total:
        return [
            HERE.warn(
                "temporary",
                f"{folder}: {shown_bytes(used.free)} free, more than {RAY_STOPS_AT:.0%} full; Ray writes nothing there",
                "make room, or name another place by TMPDIR",
            )
        ]
    checks = [HERE.ok("temporary", f"{folder}: {shown_bytes(used.free)} free")]
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    found = f"{SHARED_MEMORY}: {shown_bytes(free)} free"
    if free < LEAST_SHARED:
        mend = "give it 2 GB or more, in a container by --shm-size=8g; Ray goes to a disk else, which is slow"
        return [*checks, HERE.warn("shared memory", found, mend)]
    return [*checks, HERE.ok("shared memory", found)]


def writable(folder: Path, name: str, setting: str, opened: Open | None = None) -> list[Check]:
    """Whether a file can be written in ``folder`` (or, where it is not there yet, in the nearest one above it):
    a probe is written, flushed and removed. ``setting`` is what moves the folder."""
    place = _existing(folder)
    try:
        probe(place, opened or _unnamed)
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            return [HERE.fail(name, f"{folder}: no space left on the disk", f"make room, or move it by {setting}")]
        found = f"{folder}: can't be written to ({fault.strerror})"
        return [HERE.fail(name, found, f"change the rights of {place}, or choose another place by {setting}")]
    free = shutil.disk_usage(place).free
    found = f"{folder}: writable, {shown_bytes(free)} free"
    if free < LITTLE:
        return [HERE.warn(name, found, f"make room, or move it by {setting}")]
    return [HERE.ok(name, found)]


def probe(folder: Path, opened: Open) -> None:
    """Write some blocks and have them put on the disk. Raises OSError."""
    descriptor = opened(folder)
    try:
        data = memoryview(os.urandom(PROBE_BYTES))  # a disk that compresses has to find room for it too
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def room(place: Path, one: float, count: int) -> Check:
    """Whether ``count`` checkpoints of ``one`` byte each fit, and the one that is being written."""
    free = shutil.disk_usage(place).free
    kept = "a checkpoint" if count == 1 else f"{count} checkpoints"
    found = f"{kept} of {shown_bytes(one)} and one being written, {shown_bytes(free)} free"
    if free < one:
        return HERE.fail("checkpoints", found, "not one has room: make some, or move the run by out: (or --out)")
    if free < one * (count + 1):
        return HERE.warn("checkpoints", found, "lower train.keep_checkpoints, make room, or move the run by out:")
    return HERE.ok("checkpoints", found)


def _checkpoints(case: Case) -> tuple[float, int] | None:
    """(bytes of a checkpoint, how many are kept); None where the student's size is not known."""
    folder = local_folder(case.config.student.model_path)
    weights = parameters(folder) if folder is not None else None
    if weights is None:
        return None
    each = LORA_CHECKPOINT_BYTES if case.config.student.lora_rank else CHECKPOINT_BYTES
    return float(weights * each), case.config.train.keep_checkpoints if case.config.train.save_every else 1


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def _unnamed(folder: Path) -> int:
    """A new file that is gone once it is closed, also after a kill."""
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder))
    descriptor, name = tempfile.mkstemp(prefix=".ropd-doctor-", dir=folder)
    os.unlink(name)
    return descriptor


CHECKS = (run_directory, cache, scratch)

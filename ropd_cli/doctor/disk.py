"""Disk: places that are written to, room for checkpoints, shared memory."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ropd_cli.config import RopdConfig
from ropd_cli.doctor.check import Case, Check, Section, shown_bytes
from ropd_cli.llm.cache import ReplyCache, replies_folder
from ropd_cli.training.model_shape import weights_of
from ropd_cli.training.versions import installed_versions
from ropd_cli.util.counted import counted

HERE = Section("disk")
PROBE_BYTES = 256 * 1024
LITTLE = 1e9
NO_SPACE = "no space left on the disk"
CHECKPOINT_BYTES = 16
"""Per weight: in float32 by itself, as a Hugging Face model, and with AdamW's two moments."""
LORA_CHECKPOINT_BYTES = 8
CRITIC_BYTES = 12
"""Further ones with gad, whose discriminator is a whole model, with AdamW's two moments, in each checkpoint."""
SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED = 2e9
RAY_STOPS_AT = 0.95
"""Ray stops writing to a disk that is fuller."""

Open = Callable[..., IO[bytes]]
"""Opens a new file in the folder ``dir``."""


def run_directory(case: Case) -> list[Check]:
    """Check the run directory, and that its checkpoints fit."""
    if case.config.out is None:
        return [HERE.skipped("run directory", "out is not set (ropd train --out)")] if case.named else []
    folder = Path(os.path.expanduser(case.config.out))
    check = writable(folder, "run directory", "out: (or --out)")
    weights = weights_of(case.config.student.model_path)
    if check.status == "fail" or weights is None:
        return [check]
    return [check, room(_existing(folder), *checkpoints(case.config, weights))]


def cache(case: Case) -> list[Check]:
    """Check the cache of replies. Raises InputError where the commands can't open it."""
    folder = replies_folder(case.config.cache_dir)
    check = writable(folder, "cache", "ROPD_CACHE_DIR (or cache_dir:, --cache-dir)")
    if folder.exists() and NO_SPACE not in check.found:
        ReplyCache.open(case.config.cache_dir, case.config.cache_max_gb).close()
    return [check]


def scratch(case: Case) -> list[Check]:
    """Check what Ray writes to: temporary files and shared memory."""
    if "ray" not in installed_versions():
        return []
    folder = Path(tempfile.gettempdir())
    used = shutil.disk_usage(folder)
    found = f"{folder}: {shown_bytes(used.free)} free"
    if used.free < (1 - RAY_STOPS_AT) * used.total:
        found += f", more than {RAY_STOPS_AT:.0%} full; Ray writes nothing there"
        return [HERE.warn("temporary", found, "make room, or name another place by TMPDIR")]
    checks = [HERE.ok("temporary", found)]
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    found = f"{SHARED_MEMORY}: {shown_bytes(free)} free"
    mend = "give it 2 GB or more, in a container by --shm-size=16g; Ray goes to a disk else, which is slow"
    return [*checks, HERE.ok_unless(free < LEAST_SHARED, "shared memory", found, mend)]


def writable(folder: Path, name: str, setting: str, opened: Open = tempfile.TemporaryFile) -> Check:
    """Check that a file can be written in ``folder`` (or, where it is not there yet, in the nearest one above it):
    a file without a name is written and flushed. ``setting`` is what moves the folder."""
    place = _existing(folder)
    try:
        with opened(dir=place) as file:
            file.write(os.urandom(PROBE_BYTES))  # a disk that compresses has to find room for it too
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            return HERE.fail(name, f"{folder}: {NO_SPACE}", f"make room, or move it by {setting}")
        found = f"{folder}: can't be written to ({fault.strerror})"
        return HERE.fail(name, found, f"change the rights of {place}, or choose another place by {setting}")
    free = shutil.disk_usage(place).free
    found = f"{folder}: writable, {shown_bytes(free)} free"
    return HERE.ok_unless(free < LITTLE, name, found, f"make room, or move it by {setting}")


def checkpoints(config: RopdConfig, weights: int, steps: int | None = None) -> tuple[float, int]:
    """Return the bytes of a checkpoint of so many weights, and how many a run of ``steps`` has at once at most, the
    one that is being written with them."""
    train = config.train
    steps = steps or train.steps
    each = LORA_CHECKPOINT_BYTES if config.student.lora_rank else CHECKPOINT_BYTES
    each += CRITIC_BYTES if config.method == "gad" else 0
    if not train.save_every:
        return float(weights * each), 1  # the last step's
    written = math.ceil(steps / train.save_every) if steps else math.inf
    return float(weights * each), int(min(train.keep_checkpoints + 1, written))


def room(place: Path, one: float, count: int) -> Check:
    """Check that ``count`` checkpoints of ``one`` byte each fit."""
    free = shutil.disk_usage(place).free
    found = f"{counted(count, 'checkpoint')} of {shown_bytes(one)} at once, {shown_bytes(free)} free"
    if free < one:
        return HERE.fail("checkpoints", found, "not one has room: make some, or move the run by out: (or --out)")
    mend = "lower train.keep_checkpoints, make room, or move the run by out:"
    return HERE.ok_unless(free < one * count, "checkpoints", found, mend)


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


CHECKS = (run_directory, cache, scratch)

"""The disk cache of replies: shared by all stages and runs, safe with several processes.

The key holds what determines an answer and nothing else: a run with another timeout, another limit or
another API key finds the same replies. What can't be read is a miss.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import diskcache
import orjson
from pydantic import ValidationError

from ropd_cli.errors import InputError
from ropd_cli.llm.chat import ChatReply, ChatRequest
from ropd_cli.llm.endpoints import identity
from ropd_cli.schemas import digest

ENTRY_VERSION = 1
LOCK_WAIT_S = 30.0
_FAULTS = (sqlite3.Error, diskcache.Timeout, OSError)

log = logging.getLogger(__name__)


def default_cache_dir() -> Path:
    """The user's cache directory of this program (``~/.cache/ropd`` on Linux)."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("ropd"))


def cache_key(base_url: str, request: ChatRequest) -> str:
    """SHA-256 of what determines the answer: endpoint, model, messages, sampling, schema, sample number.

    Sampling parameters that are not set are left out, so that a new one does not change old keys.
    """
    return digest([identity(base_url), request.digest])


class ReplyCache:
    """Replies by key. Use ``fetch`` and ``store`` in a coroutine: the disk is waited for in a thread.

    A cache that fails later on (disk full, file damaged) costs requests, not the run: it is said once.
    """

    def __init__(self, store: diskcache.Cache, folder: Path) -> None:
        self.folder = folder
        self._store = store
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ropd-cache")
        self._said = False

    @classmethod
    def open(cls, cache_dir: str | Path | None = None, max_gb: float | None = None) -> ReplyCache:
        """The cache in ``cache_dir`` (None: the user's cache directory), made where there is none.

        Raises InputError where it can't be made or opened.
        """
        folder = (Path(cache_dir).expanduser() if cache_dir is not None else default_cache_dir()) / "replies"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # "none": a paid-for answer is not evicted behind the user's back
            store = diskcache.Cache(str(folder), timeout=LOCK_WAIT_S, disk=_BytesDisk, eviction_policy="none")
        except _FAULTS as fault:
            what = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
            raise InputError(
                f"cache {folder}: {what}",
                "give another --cache-dir, or --no-cache, or delete the folder if it is damaged",
            ) from fault
        return cls(store, folder)

    def get(self, key: str, max_tokens: int | None = None) -> ChatReply | None:
        """The reply stored under ``key``; None where there is none that can be read."""
        try:
            data = self._store.get(key)
        except _FAULTS as fault:
            self._say(fault)
            return None
        return _decode(key, data)

    def put(self, key: str, reply: ChatReply) -> None:
        """Keep a reply under ``key``."""
        entry = {"v": ENTRY_VERSION, "key": key, "reply": reply.model_dump(mode="json", exclude={"cached"})}
        try:
            self._store.set(key, orjson.dumps(entry))
        except _FAULTS as fault:
            self._say(fault)

    async def fetch(self, key: str, max_tokens: int | None = None) -> ChatReply | None:
        """``get`` without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.get, key)

    async def store(self, key: str, reply: ChatReply, *, max_tokens: int | None = None) -> None:
        """``put`` without blocking the event loop; a caller that is cancelled does not lose the reply."""
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self.put, key, reply))

    def close(self) -> None:
        """Finish what is being written and close the files."""
        try:
            self._thread.submit(self._store.close)  # SQLite connections belong to threads
        except RuntimeError:  # closed before
            return
        self._thread.shutdown(wait=True)
        self._store.close()

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _say(self, fault: Exception) -> None:
        if not self._said:
            self._said = True
            log.warning("cache %s: %s; going on without what can't be read or kept", self.folder, fault)


class _BytesDisk(diskcache.Disk):
    """Stores bytes under text keys and never unpickles: a cache directory that somebody else can write to
    must not be able to run code."""

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == diskcache.core.MODE_PICKLE:
            raise OSError("pickled entry")  # diskcache makes a miss of it
        return super().fetch(mode, filename, value, read)


def _decode(key: str, data: Any) -> ChatReply | None:
    try:
        entry = orjson.loads(data)
        if entry["v"] != ENTRY_VERSION or entry["key"] != key:
            return None
        return ChatReply.model_validate({**entry["reply"], "cached": True})
    except (ValueError, TypeError, KeyError, ValidationError):
        return None

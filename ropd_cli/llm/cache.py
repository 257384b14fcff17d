"""The disk cache of replies: shared by all stages and runs, safe with several processes.

The key holds what determines an answer and nothing else: a run with another timeout, another limit or
another API key finds the same replies. What can't be read is a miss, and is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import queue
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diskcache

from ropd_cli.errors import InputError
from ropd_cli.llm.cache_entry import Corrupt, Entry, cut_off_key, decode, encode, own_key, worth_keeping
from ropd_cli.llm.chat import ChatReply, ChatRequest
from ropd_cli.llm.urls import identity

DATABASE = "cache.db"
LOCK_WAIT_S = 30.0
LOOK_EVERY = 500
"""Stores between two looks at the size."""
NEWEST = 5_000
"""Entries that are read to learn how long a model's replies are."""
BATCH = 256
_NO_LIMIT = 2**62
_FAULTS = (sqlite3.Error, diskcache.Timeout, OSError)
_MISS = object()

log = logging.getLogger(__name__)


def default_cache_dir() -> Path:
    """Return the user's cache directory of this program (``~/.cache/ropd`` on Linux)."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("ropd"))


def replies_folder(cache_dir: str | Path | None = None) -> Path:
    """Return where the replies lie in ``cache_dir`` (None: the user's cache directory)."""
    return (Path(os.path.expanduser(cache_dir)) if cache_dir is not None else default_cache_dir()) / "replies"


def catalogues_folder(cache_dir: str | Path | None = None) -> Path:
    """Return where ``ropd inspect-rubrics`` keeps what it has read of files and runs, prompts and answers too."""
    return replies_folder(cache_dir).with_name("catalogues")


def cache_key(base_url: str, request: ChatRequest) -> str:
    """Return the hex SHA-256 of what determines the answer: endpoint, model, messages, sampling but for ``max_tokens``,
    schema, API, number of the sample.

    Sampling parameters that are not set are left out, so that a new one does not change old keys.
    """
    return hashlib.sha256(f"{identity(base_url)}\n{request.digest}".encode()).hexdigest()


class ReplyCache:
    """Replies by key. ``get`` looks in the page cache of SQLite and returns in microseconds, less than handing it to a
    thread would take; ``store`` waits, in a coroutine, until a thread has written.

    A cache that fails later on (disk full, file damaged) costs requests, not the run: it is said once.
    """

    def __init__(self, store: diskcache.Cache, folder: Path, limit_bytes: int | None) -> None:
        self.folder = folder
        self.corrupt = 0
        """Entries that could not be read, so far."""
        self._store, self._limit = store, limit_bytes
        self._warned: set[str] = set()
        self._stores = 0
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closed = False
        self._writer = threading.Thread(target=self._write_all, name="ropd-cache", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, cache_dir: str | Path | None = None, max_gb: float | None = None) -> ReplyCache:
        """Return the cache in ``cache_dir`` (None: the user's cache directory), made where there is none.

        Above ``max_gb`` the replies that were stored first go; None: they are never removed. Raises InputError
        where it can't be made or opened.
        """
        folder = replies_folder(cache_dir)
        limit = int(max_gb * 1e9) if max_gb is not None else None
        try:
            store = open_store(folder, limit)
        except _FAULTS as fault:
            what = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
            raise InputError(
                f"cache {folder}: {what}",
                "give another --cache-dir, or --no-cache; if it is damaged: ropd cache clear",
            ) from fault
        return cls(store, folder, limit)

    def get(self, key: str, max_tokens: int | None = None) -> ChatReply | None:
        """Return the reply stored under ``key``; None where there is none that can be read, or that would have been cut
        off by ``max_tokens``. One that was cut off is given back under the same ``max_tokens`` alone."""
        for name in (key, cut_off_key(key, max_tokens)):
            try:
                data = self._store.get(name, default=_MISS)
                entry = decode(name, data) if data is not _MISS else None
            except Corrupt:
                self._drop_corrupt(name)
                continue
            except _FAULTS as fault:
                self._warn(fault)
                return None
            if entry is not None and entry.fits(max_tokens):
                return entry.reply
        return None

    def put(self, key: str, reply: ChatReply, *, max_tokens: int | None = None) -> None:
        """Keep a reply under ``key``; one that a filter ended, or that says nothing, is not kept. One that was cut off
        is kept beside the whole one, which it does not replace."""
        if worth_keeping(reply):
            key = own_key(key, reply, max_tokens)
            self._put([(key, encode(key, reply, max_tokens))])

    async def store(self, key: str, reply: ChatReply, *, max_tokens: int | None = None) -> None:
        """``put`` without blocking the event loop; returns when the reply is on disk. A caller that is cancelled
        does not lose it."""
        if self._closed or not worth_keeping(reply):
            return
        key = own_key(key, reply, max_tokens)
        loop = asyncio.get_running_loop()
        write = _Write(key, encode(key, reply, max_tokens), loop, loop.create_future())
        self._writes.put(write)
        await asyncio.shield(write.done)

    def add(self, entries: Iterable[Entry]) -> int:
        """Keep entries of another cache, as old as they are; how many of their keys were not there yet."""
        new = [entry for entry in entries if entry.key not in self._store and worth_keeping(entry.reply)]
        self._put([(entry.key, encode(entry.key, entry.reply, entry.max_tokens)) for entry in new])
        return len(new)

    def entries(self, *, drop: bool = True) -> Iterator[Entry]:
        """Yield every entry that can be read, the oldest first; the others are counted, and dropped if ``drop``."""
        for key in self._store.iterkeys():
            try:
                data = self._store.get(key, default=_MISS)
                if data is not _MISS:
                    yield decode(key if isinstance(key, str) else "", data)
            except Corrupt:
                if drop:
                    self._drop_corrupt(key)
                else:
                    self.corrupt += 1

    def reply_tokens(self, model: str) -> list[int]:
        """Return how long a model's newest replies in free text were, in tokens, those of its dated versions too;
        the newest ``NEWEST`` entries are looked at."""
        ours = re.compile(re.escape(model) + r"(-\d{4}.*)?")
        found = []
        for key in itertools.islice(self._store.iterkeys(reverse=True), NEWEST):
            try:
                reply = decode(key if isinstance(key, str) else "", self._store.get(key, default=_MISS)).reply
            except Corrupt:
                continue
            is_free = not reply.text.lstrip().startswith("{")  # else it filled in a form
            if is_free and reply.usage is not None and ours.fullmatch(reply.model):
                found.append(reply.usage.completion_tokens)
        return found

    def close(self) -> None:
        """Finish what is being written and close the files."""
        if self._closed:
            return
        self._closed = True
        self._writes.put(None)
        self._writer.join()
        self._store.close()

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_all(self) -> None:
        """The writing thread: everything that waits is one transaction."""
        ended = False
        while not ended:
            batch = [self._writes.get()]
            while len(batch) < BATCH and not self._writes.empty():
                batch.append(self._writes.get())
            writes = [write for write in batch if write is not None]
            ended = len(writes) < len(batch)
            if writes:
                self._put([(write.key, write.data) for write in writes])
                _tell(writes)
        self._store.close()  # SQLite connections belong to threads

    def _put(self, items: list[tuple[str, bytes]]) -> None:
        try:
            with self._store.transact(retry=True):
                for key, data in items:
                    self._store.set(key, data)
            self._stores += len(items)
            if self._limit is not None and self._stores >= LOOK_EVERY:
                self._stores = 0
                self._shrink()
        except _FAULTS as fault:
            self._warn(fault)

    def _shrink(self) -> None:
        if self._limit is None or self._store.volume() <= self._limit:
            return
        if "limit" not in self._warned:
            self._warned.add("limit")
            log.warning("cache %s: above its limit of %.3g GB, the oldest replies go", self.folder, self._limit / 1e9)
        self._store.cull(retry=True)

    def _drop_corrupt(self, key: Any) -> None:
        self.corrupt += 1
        if "corrupt" not in self._warned:
            self._warned.add("corrupt")
            log.warning(
                "cache %s: an entry can't be read and is asked for again (ropd cache gc finds all)", self.folder
            )
        try:
            self._store.delete(key, retry=True)
        except _FAULTS as fault:
            self._warn(fault)

    def _warn(self, fault: Exception) -> None:
        if "fault" not in self._warned:
            self._warned.add("fault")
            log.warning("cache %s: %s; going on without what can't be read or kept", self.folder, fault)


class _Write:
    """A reply to be written, and who waits for it."""

    __slots__ = ("data", "done", "key", "loop")

    def __init__(self, key: str, data: bytes, loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
        self.key, self.data, self.loop, self.done = key, data, loop, done


def _tell(writes: list[_Write]) -> None:
    """Wake those who wait, by one call into each event loop."""
    for loop in {write.loop for write in writes}:
        futures = [write.done for write in writes if write.loop is loop]
        try:
            loop.call_soon_threadsafe(_resolve, futures)
        except RuntimeError:
            continue  # closed: nobody waits any more


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def open_store(folder: Path, limit_bytes: int | None) -> diskcache.Cache:
    """diskcache's store in ``folder``. Nothing is removed unasked: ``cull`` is called here, where it is due.

    Raises InputError where somebody else owns the folder or can write to it.
    """
    _make_private(folder)
    _check_settings(folder / DATABASE)
    settings = {
        **diskcache.core.DEFAULT_SETTINGS,  # all of them: those in the database would win over an omitted one
        "eviction_policy": "least-recently-stored",
        "size_limit": limit_bytes if limit_bytes is not None else _NO_LIMIT,
        "cull_limit": 0,
        "disk_min_file_size": _NO_LIMIT,  # all in the one database: no file of its own that a kill could orphan
    }
    return diskcache.Cache(str(folder), timeout=LOCK_WAIT_S, disk=_BytesDisk, **settings)


def _make_private(folder: Path) -> None:
    """Make ``folder`` and its database the user's alone; older versions left them readable by all."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise InputError(f"cache {folder}: belongs to user {status.st_uid}", "give another --cache-dir, or --no-cache")
    if status.st_mode & 0o022:
        raise InputError(
            f"cache {folder}: other users can write to it",
            f"if you trust what is in it: chmod 700 {folder}; else delete it, or give another --cache-dir",
        )
    folder.chmod(0o700)
    for file in (folder / DATABASE, folder / f"{DATABASE}-wal", folder / f"{DATABASE}-shm"):
        if file.is_symlink():
            raise InputError(f"cache {file}: is a symbolic link", "delete it, or give another --cache-dir")
        if file.name == DATABASE:
            file.touch(mode=0o600)  # SQLite gives the files beside it the same mode
        if file.exists():
            file.chmod(0o600)


def _check_settings(database: Path) -> None:
    """Raise sqlite3.DatabaseError for a setting that diskcache does not have: it sets every row of that table as an
    attribute of its own, so that one named ``_directory`` would have it write elsewhere."""
    with contextlib.closing(sqlite3.connect(database, timeout=LOCK_WAIT_S)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'Settings'").fetchone():
            return
        names = {name for (name,) in connection.execute("SELECT key FROM Settings")}
    if names - diskcache.core.DEFAULT_SETTINGS.keys() - diskcache.core.METADATA.keys():
        raise sqlite3.DatabaseError("has settings that are not diskcache's")


@dataclass(frozen=True)
class _ForeignKey:
    """The key of a row that is not ours, as it lies in the database: enough to delete the row."""

    column: Any
    raw: int


class _BytesDisk(diskcache.Disk):
    """Stores bytes under text keys, in the database alone; never unpickles, and never touches a file that a row
    names: a cache directory that somebody else can write to must not be able to run code or delete files."""

    def put(self, key: Any) -> tuple[Any, int]:
        if isinstance(key, _ForeignKey):
            return key.column, key.raw
        if not isinstance(key, str):
            raise TypeError(f"a key is text, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: int) -> str | _ForeignKey:
        return key if raw == 1 and isinstance(key, str) else _ForeignKey(key, raw)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode != diskcache.core.MODE_RAW or filename is not None:
            return None  # no entry of ours: corrupt
        return super().fetch(mode, filename, value, read)

    def remove(self, file_path: str) -> None:
        """Delete nothing: no entry of ours has a file."""

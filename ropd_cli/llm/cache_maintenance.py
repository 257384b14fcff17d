"""Looking after the reply cache: what is in it, cleaning it up, emptying it, writing it out."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import diskcache

from ropd_cli.errors import InputError
from ropd_cli.llm.cache import DATABASE, ReplyCache, catalogues_folder, open_store, replies_folder
from ropd_cli.llm.cache_entry import Entry
from ropd_cli.records.files import read_records
from ropd_cli.records.journals import RecordWriter

TOGETHER = 256
"""Entries written in one transaction."""


@dataclass
class Contents:
    """What a cache holds; times are Unix times, ``bytes`` are those of replies on disk."""

    folder: str
    entries: int = 0
    """Replies."""
    bytes: int = 0
    limit_gb: float | None = None
    oldest: float | None = None
    newest: float | None = None
    models: dict[str, int] = field(default_factory=dict)
    """Replies by model."""
    corrupt: int = 0
    """Replies that can't be read."""
    catalogues_bytes: int = 0
    """Of what ``ropd inspect-rubrics`` keeps."""


@dataclass
class Removed:
    """Replies that ``gc`` removed, or with ``--dry-run`` would remove, by why."""

    old: int = 0
    over_limit: int = 0
    corrupt: int = 0
    """Unreadable."""
    entries_left: int = 0
    bytes_left: int = 0
    """On disk."""


def require_cache(cache_dir: str | Path | None) -> Path:
    """Return the folder of an existing cache. Raises InputError where there is none."""
    folder = replies_folder(cache_dir)
    if not (folder / DATABASE).is_file() and not catalogues_folder(cache_dir).is_dir():
        raise InputError(f"{folder}: no cache there", "give the folder by --cache-dir or ROPD_CACHE_DIR")
    return folder


def contents(cache_dir: str | Path | None, limit_gb: float | None) -> Contents:
    """Return what is in a cache. Raises InputError where there is none."""
    folder = require_cache(cache_dir)
    held = Contents(str(folder), limit_gb=limit_gb)
    models: Counter[str] = Counter()
    with ReplyCache.open(cache_dir) as cache:
        for entry in cache.entries(drop=False):
            held.entries += 1
            models[entry.reply.model] += 1
            held.oldest = min(entry.stored_at, held.oldest or entry.stored_at)
            held.newest = max(entry.stored_at, held.newest or entry.stored_at)
        held.corrupt = cache.corrupt
    held.models = dict(models.most_common())
    held.bytes, held.catalogues_bytes = bytes_of(folder), bytes_of(catalogues_folder(cache_dir))
    return held


def bytes_of(folder: Path) -> int:
    """Return the size of all files of a cache."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def collect(
    cache_dir: str | Path | None, *, older_than_s: float | None, max_gb: float | None, dry_run: bool
) -> Removed:
    """Remove entries stored longer ago than ``older_than_s``, then the oldest above ``max_gb``, and always what
    can't be read."""
    folder = require_cache(cache_dir)
    removed = Removed()
    now = time.time()
    with ReplyCache.open(cache_dir) as cache:
        kept: list[tuple[float, str]] = []
        old: list[tuple[float, str]] = []
        for entry in cache.entries(drop=not dry_run):
            too_old = older_than_s is not None and now - entry.stored_at > older_than_s
            (old if too_old else kept).append((entry.stored_at, entry.key))
        removed.corrupt = cache.corrupt
    removed.old = len(old)
    store = open_store(folder, None)
    try:
        if not dry_run:
            _delete(store, [key for _, key in old])
        kept.sort()
        if max_gb is not None:
            removed.over_limit = _shrink(store, kept, int(max_gb * 1e9), dry_run)
        removed.entries_left = len(kept) - removed.over_limit
    finally:
        store.close()
    removed.bytes_left = bytes_of(folder)
    return removed


def clear(cache_dir: str | Path | None) -> int:
    """Empty a cache, also one whose database is damaged, and remove the catalogues. Returns the bytes that were
    freed."""
    folder, catalogues = require_cache(cache_dir), catalogues_folder(cache_dir)
    freed = bytes_of(catalogues)
    if catalogues.is_dir():
        shutil.rmtree(catalogues)
    return freed + (_clear_replies(folder) if (folder / DATABASE).is_file() else 0)


def _clear_replies(folder: Path) -> int:
    freed = bytes_of(folder)
    try:
        store = open_store(folder, None)
        try:
            store.clear(retry=True)  # another process may have it open: the files stay its own
        finally:
            store.close()
        return freed - bytes_of(folder)
    except (sqlite3.Error, diskcache.Timeout):
        shutil.rmtree(folder)
        return freed


def export(cache_dir: str | Path | None, out: Path) -> tuple[int, int]:
    """Write every entry to ``out``, one JSON object a line. Returns (entries, those that could not be read)."""
    require_cache(cache_dir)
    if out.exists():
        raise InputError(f"{out}: exists", "give another file, or delete it")
    count = 0
    with ReplyCache.open(cache_dir) as cache, RecordWriter(out) as writer:
        for entry in cache.entries(drop=False):
            writer.append(entry.as_json())
            count += 1
        return count, cache.corrupt


def import_(cache_dir: str | Path | None, file: Path, max_gb: float | None = None) -> tuple[int, int]:
    """Keep the replies of an export. Returns (those read, those of them that were not there yet). Raises InputError,
    with the number of the record, for a file that is no export."""
    count = new = 0
    entries = _exported(file)
    with ReplyCache.open(cache_dir, max_gb) as cache:
        while some := list(islice(entries, TOGETHER)):
            count, new = count + len(some), new + cache.add(some)
    return count, new


def _exported(file: Path) -> Iterator[Entry]:
    for number, record in read_records(file):
        try:
            yield Entry.from_json(record)
        except ValueError as fault:
            what = f"{file}: record {number} is no cached reply"
            raise InputError(what, "give a file that ropd cache export wrote") from fault


def _delete(store: diskcache.Cache, keys: list[str]) -> None:
    for start in range(0, len(keys), 256):
        with store.transact(retry=True):
            for key in keys[start : start + 256]:
                store.delete(key)


def _shrink(store: diskcache.Cache, kept: list[tuple[float, str]], limit: int, dry_run: bool) -> int:
    """Remove the oldest until the store is no larger than ``limit``; how many that were (or, by their share of
    the size, would be)."""
    volume = store.volume()
    if volume <= limit:
        return 0
    if dry_run:
        each = volume / max(1, len(kept))
        return min(len(kept), int((volume - limit) / each) + 1)
    gone = 0
    while store.volume() > limit and gone < len(kept):
        step = max(1, min(256, (len(kept) - gone) // 20))
        _delete(store, [key for _, key in kept[gone : gone + step]])
        gone += step
    return min(gone, len(kept))

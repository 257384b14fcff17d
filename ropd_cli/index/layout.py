"""The file of an index: tables, checksums, and how it is opened.

Every text stands with a checksum over it and over the prompt it belongs to, so that a flipped bit is an error
and never another answer. What ``show`` counts stands before the texts, so that counting does not read them.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from pathlib import Path

import xxhash

from ropd_cli.errors import InputError
from ropd_cli.records.json_text import SQLITE

FORMAT = "ropd.index.v2"
APPLICATION_ID = 0x726F7064  # "ropd": what the file says of itself, also to `file`
PAGE_BYTES = 8192
CACHE_KIB = 4096
BUILD_HINT = "build one: ropd index build ANSWERS --out INDEX"
AGAIN_HINT = "copy it again, or build it again from the answers files"
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sources (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE);
CREATE TABLE prompts (
    id INTEGER PRIMARY KEY, uid TEXT NOT NULL, hash TEXT NOT NULL, sum INTEGER NOT NULL, prompt TEXT,
    UNIQUE (hash, uid)
);
CREATE INDEX prompts_by_uid ON prompts (uid);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY, prompt_id INTEGER NOT NULL, source_id INTEGER NOT NULL, usable INTEGER NOT NULL,
    chars INTEGER NOT NULL, tokens INTEGER, finish_reason TEXT, digest BLOB NOT NULL,
    sum INTEGER NOT NULL, rest_sum INTEGER NOT NULL, text TEXT NOT NULL, rest TEXT NOT NULL,
    UNIQUE (prompt_id, digest)
);
"""
_PAGE_SIZE, _PAGE_COUNT = slice(16, 18), slice(28, 32)
_HEADER_BYTES = 100


def seed_of(uid: str, raw_prompt_hash: str) -> int:
    """Return the seed of the checksums of a prompt's answers: an answer that moved to another prompt does not fit."""
    return xxhash.xxh3_64_intdigest(f"{uid}\0{raw_prompt_hash}".encode())


def checksum(data: bytes, seed: int) -> int:
    """Return the XXH3-64 of ``data`` as a signed integer, as SQLite holds it."""
    return xxhash.xxh3_64_intdigest(data, seed) - (1 << 63)


def text_seed(seed: int, usable: bool) -> int:
    """Return the seed of an answer's text: one flipped bit must not turn an unusable answer into a usable one."""
    return seed ^ usable


def text_digest(text: str) -> bytes:
    """Return 16 bytes that equal answers share; white space around an answer does not make it another."""
    return xxhash.xxh3_128_digest(text.strip().encode())


def open_read(path: Path) -> sqlite3.Connection:
    """Open a connection for reading; texts come as bytes. Time and memory do not depend on the size of the file.

    ``immutable``: no locks are taken, which network file systems get wrong and read-only ones refuse; a file of
    this format never changes once it has its name. Raises InputError for a file that is missing, none, or not whole.
    """
    _check_header(path)
    try:
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
        )
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        _check_format(db, path)
    except sqlite3.Error as fault:
        raise InputError(f"{path}: not a teacher index ({fault})", BUILD_HINT) from fault
    db.text_factory = bytes
    return db


def open_write(path: Path) -> sqlite3.Connection:
    """Open a connection to a file that this process alone knows of, and holds a lock on. Raises sqlite3.Error."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rwc&nolock=1", uri=True, isolation_level=None)
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    # The file of a build that fails or is killed is thrown away: there is nothing to roll back to.
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -32000")
    return db


def create(db: sqlite3.Connection) -> None:
    """Make an empty database an index."""
    db.executescript(
        f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; {SCHEMA}"
        f"INSERT INTO meta VALUES ('format', '{FORMAT}'); COMMIT;"
    )


def meta(db: sqlite3.Connection, key: str) -> str | None:
    """Return a value that belongs to the whole file; None where it is not set."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    return row[0].decode() if isinstance(row[0], bytes) else row[0]


def set_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    """Set a value that belongs to the whole file."""
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value))


def is_index(path: Path) -> bool:
    """Return whether a file begins as an index does."""
    with open(path, "rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def _check_header(path: Path) -> None:
    """Raise InputError unless the file says it is a database and is as long as it says."""
    if path.is_fifo():  # to open it would wait for who writes it
        raise InputError(f"{path}: a named pipe, not a teacher index", BUILD_HINT)
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise InputError(f"no teacher index {path}", BUILD_HINT) from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, not a teacher index", BUILD_HINT) from None
    except OSError as fault:
        raise InputError(f"{path}: {fault.strerror}", "check the path and its permissions") from fault
    if not header.startswith(SQLITE) or len(header) < _HEADER_BYTES:
        raise InputError(f"{path}: not a teacher index", BUILD_HINT)
    (page_bytes,) = struct.unpack(">H", header[_PAGE_SIZE])
    (pages,) = struct.unpack(">I", header[_PAGE_COUNT])
    whole = pages * (65536 if page_bytes == 1 else page_bytes)
    if size != whole:
        raise InputError(f"{path}: damaged, it has {size:,} bytes and should have {whole:,}", AGAIN_HINT)


def _check_format(db: sqlite3.Connection, path: Path) -> None:
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        db.close()
        raise InputError(f"{path}: not a teacher index but another program's database", BUILD_HINT)
    kind = meta(db, "format")
    if kind != FORMAT:
        db.close()
        raise InputError(
            f"{path}: an index of another format ({kind})",
            f"this program reads {FORMAT}: build the index again from the answers files",
        )

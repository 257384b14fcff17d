"""docs/cache.md: nothing in a cache is executed or unpickled, and no file outside it is touched."""

import os
import pickle
import sqlite3

import pytest

from ropd_cli.errors import InputError
from ropd_cli.llm import cache_maintenance
from ropd_cli.llm.cache import ReplyCache, replies_folder
from ropd_cli.llm.chat import ChatReply

REPLY = ChatReply(text="x", finish_reason="stop", created=1.5)
RAW, BINARY, TEXT, PICKLE = 1, 2, 3, 4


class Payload:
    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def plant(tmp_path, kind):
    outside = tmp_path / "outside.txt"
    outside.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    folder = replies_folder(tmp_path / "cache")
    with ReplyCache.open(tmp_path / "cache") as cache:
        cache.put("k", REPLY)
    if kind == "link":
        (folder / "link.val").symlink_to(outside)
    code = pickle.dumps(Payload(tmp_path / "ran"))
    rows = {
        "pickled key": (code, 0, RAW, None, b"v"),
        "bytes key": (b"k", 1, RAW, None, b"v"),
        "number key": (7, 1, RAW, None, b"v"),
        "pickled value": ("p", 1, PICKLE, None, code),
        "pickled file": ("p", 1, PICKLE, "../../outside.txt", None),
        "relative": ("p", 1, BINARY, "../../outside.txt", None),
        "text": ("p", 1, TEXT, "../../outside.txt", None),
        "absolute": ("p", 1, RAW, str(outside), b"v"),
        "link": ("p", 1, BINARY, "link.val", None),
    }
    with sqlite3.connect(folder / "cache.db") as connection:
        key, raw, mode, filename, value = rows[kind]
        connection.execute(
            "INSERT INTO Cache(key, raw, store_time, access_time, size, mode, filename, value)"
            " VALUES (?, ?, 1, 1, 10, ?, ?, ?)",
            (key, raw, mode, filename, value),
        )
    connection.close()
    return outside


KINDS = [
    "pickled key",
    "bytes key",
    "number key",
    "pickled value",
    "pickled file",
    "relative",
    "text",
    "absolute",
    "link",
]


def look_and_ask(cache_dir, tmp_path):
    with ReplyCache.open(cache_dir) as cache:
        assert cache.get("k").text == "x"
        assert cache.get("p") is None
        cache.put("p", REPLY)
        assert cache.get("p").text == "x"


def collect(cache_dir, tmp_path):
    removed = cache_maintenance.collect(cache_dir, older_than_s=None, max_gb=None, dry_run=False)
    assert (removed.corrupt, removed.entries_left) == (1, 1)
    assert cache_maintenance.contents(cache_dir, None).corrupt == 0


def shrink(cache_dir, tmp_path):
    cache_maintenance.collect(cache_dir, older_than_s=0, max_gb=0, dry_run=False)


USES = {
    "asking": look_and_ask,
    "info": lambda cache_dir, _: cache_maintenance.contents(cache_dir, None),
    "gc": collect,
    "gc to nothing": shrink,
    "clear": lambda cache_dir, _: cache_maintenance.clear(cache_dir),
    "export": lambda cache_dir, tmp_path: cache_maintenance.export(cache_dir, tmp_path / "out.jsonl"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", KINDS)
def test_planted_row_runs_nothing_and_touches_no_file_outside(tmp_path, kind, use):
    outside = plant(tmp_path, kind)
    before = outside.read_bytes()
    USES[use](tmp_path / "cache", tmp_path)
    assert not (tmp_path / "ran").exists()
    assert outside.read_bytes() == before


@pytest.mark.parametrize("name", ["_directory", "disk__directory", "disk_nonsense", "get"])
def test_planted_setting_is_refused_and_clear_mends_it(tmp_path, name):
    plant(tmp_path, "bytes key")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    database = replies_folder(tmp_path / "cache") / "cache.db"
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO Settings VALUES (?, ?)", (name, str(elsewhere)))
    connection.close()
    with pytest.raises(InputError, match="settings that are not diskcache"):
        ReplyCache.open(tmp_path / "cache")
    cache_maintenance.clear(tmp_path / "cache")
    assert list(elsewhere.iterdir()) == []
    ReplyCache.open(tmp_path / "cache").close()


def test_folder_and_files_are_the_users_alone(tmp_path):
    folder = replies_folder(tmp_path)
    folder.mkdir(mode=0o755)  # as older versions made it
    with ReplyCache.open(tmp_path) as cache:
        cache.put("k", REPLY)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_folder_that_others_can_write_to_is_refused(tmp_path):
    with ReplyCache.open(tmp_path):
        pass
    replies_folder(tmp_path).chmod(0o777)
    with pytest.raises(InputError, match="other users can write to it"):
        ReplyCache.open(tmp_path)


def test_database_that_is_a_link_is_refused(tmp_path):
    replies_folder(tmp_path).mkdir()
    (replies_folder(tmp_path) / "cache.db").symlink_to(tmp_path / "other.db")
    with pytest.raises(InputError, match="symbolic link"):
        ReplyCache.open(tmp_path)
    assert not (tmp_path / "other.db").exists()

"""The reply cache gives back what was put in, or nothing; and the commands that look after it."""

import asyncio
import json
import logging
import multiprocessing
import os
import pickle
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.errors import InputError
from ropd_cli.llm.cache import ReplyCache
from ropd_cli.llm.cache_entry import Corrupt, decode, encode
from ropd_cli.llm.chat import ChatReply
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Usage

REPLY = ChatReply(
    text="αβ\u2028 42",
    finish_reason="stop",
    usage=Usage(prompt_tokens=1, completion_tokens=2),
    reasoning="hm",
    model="m",
)


def changed(**fields):
    return REPLY.model_copy(update=fields)


def test_gives_back_what_was_put_in(tmp_path):
    replies = {
        "k": changed(created=1700000000.25),
        "long": changed(text="x" * 100_000, created=2.5),
        "bare": ChatReply(text="x", finish_reason="stop", created=1.5),
    }
    with ReplyCache.open(tmp_path) as cache:
        assert cache.get("k") is None
        for key, reply in replies.items():
            cache.put(key, reply)
    with ReplyCache.open(tmp_path) as cache:
        for key, reply in replies.items():
            assert cache.get(key) == reply.model_copy(update={"cached": True})


@pytest.mark.parametrize(
    ("asked", "said", "wanted", "found"),
    [
        (None, 2, None, True),
        (10, 2, None, True),
        (10, 2, 10, True),
        (10, 2, 99, True),
        (10, 2, 2, True),  # it would have fitted
        (10, 2, 1, False),
        (None, 2, 1, False),
        (None, 2, 2, True),
        (None, 0, 99, False),  # its length is not known
        (10, 0, 10, True),
        (10, 0, 9, False),
    ],
)
def test_a_reply_is_good_under_every_limit_that_would_have_left_it_whole(tmp_path, asked, said, wanted, found):
    with ReplyCache.open(tmp_path) as cache:
        cache.put("k", changed(usage=Usage(prompt_tokens=1, completion_tokens=said)), max_tokens=asked)
        assert (cache.get("k", wanted) is not None) == found


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, True),
        ({"finish_reason": "length"}, True),
        ({"finish_reason": "length", "text": "", "reasoning": None}, True),
        ({"finish_reason": "content_filter"}, False),
        ({"text": " ", "reasoning": None}, False),
        ({"text": ""}, True),  # its reasoning says that it was no accident
        ({"finish_reason": "tool_calls"}, True),
    ],
)
async def test_what_would_not_be_given_again_is_not_kept(tmp_path, fields, kept):
    with ReplyCache.open(tmp_path) as cache:
        cache.put("put", changed(**fields))
        await cache.store("stored", changed(**fields))
        assert [cache.get(key) is not None for key in ("put", "stored")] == [kept, kept]


def test_a_reply_that_was_cut_off_is_good_under_the_same_limit_alone_and_replaces_no_whole_one(tmp_path):
    cut, whole = changed(text="cu", finish_reason="length"), changed(text="whole", usage=Usage(completion_tokens=50))
    with ReplyCache.open(tmp_path) as cache:
        cache.put("k", cut, max_tokens=10)
        assert [cache.get("k", limit) is not None for limit in (10, 9, 11, None)] == [True, False, False, False]
        cache.put("k", whole, max_tokens=100)
        cache.put("k", cut, max_tokens=None)
        assert [cache.get("k", limit).text for limit in (10, 100, 50, 101, None)] == ["cu", *["whole"] * 4]
        assert cache.get("k", 49) is None
        assert len(list(cache.entries())) == 3 and cache.corrupt == 0
    assert [decode("k", encode("k", cut, 10)).fits(limit) for limit in (10, 11, None)] == [True, False, False]


@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(0, 10_000))
def test_a_damaged_entry_is_never_another_answer(at, flip, cut):
    data = encode("k", changed(created=1.5), 7)
    flipped = bytearray(data)
    flipped[at % len(data)] ^= flip
    for damaged in (bytes(flipped), data[: cut % len(data)], data + b" "):
        with pytest.raises(Corrupt):
            decode("k", damaged)
    assert decode("k", data).reply == changed(created=1.5, cached=True) and decode("k", data).max_tokens == 7
    with pytest.raises(Corrupt):
        decode("other", data)


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_corrupt_entry_is_a_miss_said_once_and_can_be_stored_again(tmp_path, caplog):
    with ReplyCache.open(tmp_path) as cache:
        cache.put("k", REPLY)
        whole = cache._store.get("k")
        damaged = [whole[:-20], b"", b"\xff", b"[]", "text", 7, None, whole.replace(b"42", b"43")]
        for data in damaged:
            cache._store.set("bad", data)
            assert cache.get("bad") is None, data
            cache.put("bad", REPLY)
            assert cache.get("bad") is not None
        cache._store.set("other", whole)
        assert cache.get("other") is None and cache.corrupt == len(damaged) + 1
        cache._store.set("evil", Bomb(tmp_path / "ran"))
        assert cache.get("evil") is None and not (tmp_path / "ran").exists()
        assert pickle.dumps(1)  # (pickle itself works)
        assert cache.get("k") is not None
    assert [record.levelno for record in caplog.records] == [logging.WARNING] and "can't be read" in caplog.text


def test_a_folder_that_is_no_cache(tmp_path):
    (tmp_path / "replies").mkdir()
    (tmp_path / "replies" / "cache.db").write_bytes(b"not a database" * 1000)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError) as caught:
            ReplyCache.open(folder)
        assert str(folder) in caught.value.message and "ropd cache clear" in caught.value.hint


def test_a_cache_that_fails_later_costs_no_run(tmp_path, caplog):
    with ReplyCache.open(tmp_path) as cache:
        cache.put("k", REPLY)
        with sqlite3.connect(tmp_path / "replies" / "cache.db") as database:
            database.execute("DROP TABLE Cache")
        cache.put("k", REPLY)
        asyncio.run(cache.store("k", REPLY))
        assert cache.get("k") is None
    assert len(caplog.records) == 1


def fill_a_full_disk(folder):
    """A child that may not write files of more than 300 KB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with ReplyCache.open(folder) as cache:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        for k in range(100):
            asyncio.run(cache.store(f"k{k}", changed(text="x" * 20_000)))
    os._exit(0)


def test_a_full_disk_costs_no_run_and_no_entry(tmp_path):
    child = multiprocessing.get_context("spawn").Process(target=fill_a_full_disk, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    with ReplyCache.open(tmp_path) as cache:
        found = [cache.get(f"k{k}") for k in range(100)]
        assert 1 <= sum(reply is not None for reply in found) < 100
        assert all(reply is None or reply.text == "x" * 20_000 for reply in found)


def test_above_its_limit_the_oldest_go_and_that_is_said(tmp_path, caplog):
    with ReplyCache.open(tmp_path, max_gb=0.005) as cache:
        for k in range(1500):
            cache.put(f"k{k}", changed(text=f"{k}" + "x" * 10_000))
        assert cache._store.volume() < 10e6 and cache.get("k0") is None and cache.get("k1499") is not None
    assert len(caplog.records) == 1 and "the oldest replies go" in caplog.text


def fill(folder, worker):
    with ReplyCache.open(folder) as cache:
        for k in range(30):
            cache.put(f"{worker}-{k}", REPLY)
            asyncio.run(cache.store("shared", REPLY))


def test_several_processes_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill, args=(tmp_path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with ReplyCache.open(tmp_path) as cache:
        assert all(cache.get(f"{worker}-{k}") for worker in range(3) for k in range(30)) and cache.get("shared")


def store_and_tell(folder, pipe):
    """Store replies and say which are stored, until killed."""

    async def one(cache, worker):
        for k in range(10**6):
            key = f"{worker}-{k}"
            await cache.store(key, changed(text=key * 200))
            pipe.send(key)

    async def several(cache):
        await asyncio.gather(*(one(cache, worker) for worker in range(8)))

    asyncio.run(several(ReplyCache.open(folder)))


@pytest.mark.parametrize("seed", range(int(os.environ.get("ROPD_TEST_KILLS", "4"))))
def test_a_kill_loses_nothing_that_was_stored(tmp_path, seed):
    """ROPD_TEST_KILLS=100 for more of them."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=store_and_tell, args=(tmp_path, theirs))
    child.start()
    theirs.close()
    stored = [ours.recv()]
    until = time.monotonic() + random.Random(seed).uniform(0.0, 0.3)
    while time.monotonic() < until:
        if ours.poll(0.01):
            stored.append(ours.recv())
    child.kill()
    child.join(30)
    try:
        while ours.poll():
            stored.append(ours.recv())
    except (EOFError, OSError):  # the kill fell into a message
        pass
    with ReplyCache.open(tmp_path) as cache:
        for key in stored:
            assert cache.get(key).text == key * 200
        assert cache.corrupt == 0
        cache.put("after", REPLY)
        assert cache.get("after") is not None


def ropd(folder, *arguments, stdin=subprocess.DEVNULL):
    command = [sys.executable, "-m", "ropd_cli", "cache", *map(str, arguments), "--cache-dir", "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=stdin)


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """Ten replies of two models, the first three stored forty days ago."""
    with ReplyCache.open(tmp_path) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda now=time.time(): now - 40 * 86_400)
            for k in range(3):
                cache.put(f"k{k}", changed(model="old"))
        for k in range(3, 10):
            cache.put(f"k{k}", changed(text="x" * 40_000))
    return tmp_path


def test_info(filled):
    found = json.loads(ropd(filled, "info", "--json").stdout)
    assert found["entries"] == 10 and found["models"] == {"m": 7, "old": 3} and found["bytes"] > 280_000
    assert found["newest"] - found["oldest"] == pytest.approx(40 * 86_400, abs=100)
    said = ropd(filled, "info").stdout
    assert "10 replies" in said and "at most 20 GB" in said


def test_gc_by_age_by_size_and_of_what_is_damaged(filled):
    with ReplyCache.open(filled) as cache:
        cache._store.set("bad", b"x")
    dry = json.loads(ropd(filled, "gc", "--older-than", "30d", "--dry-run", "--json").stdout)
    assert (dry["old"], dry["corrupt"], dry["entries_left"]) == (3, 1, 7)
    assert json.loads(ropd(filled, "info", "--json").stdout)["entries"] == 10
    done = json.loads(ropd(filled, "gc", "--older-than", "30d", "--json").stdout)
    assert (done["old"], done["corrupt"], done["entries_left"]) == (3, 1, 7)
    less = json.loads(ropd(filled, "gc", "--max-gb", "0.0002", "--json").stdout)
    assert 1 <= less["over_limit"] < 7 and less["entries_left"] == 7 - less["over_limit"]
    with ReplyCache.open(filled) as cache:
        assert cache.get("k9") is not None and cache.get("k3") is None  # the oldest went
    assert ropd(filled, "gc", "--older-than", "soon").returncode == 2


def test_export(filled):
    with ReplyCache.open(filled) as cache:
        cache._store.set("bad", b"x")
    done = json.loads(ropd(filled, "export", "out.jsonl.zst", "--json").stdout)
    assert (done["entries"], done["corrupt"]) == (10, 1)
    records = {record["key"]: record for _, record in read_records(filled / "out.jsonl.zst")}
    assert records["k0"]["model"] == "old" and records["k0"]["reply"]["text"] == REPLY.text
    assert set(records["k9"]) == {"key", "model", "stored_at", "max_tokens", "reply"}
    assert ropd(filled, "export", "out.jsonl.zst").returncode == 2  # it exists


def test_an_export_is_imported_elsewhere(filled, tmp_path):
    ropd(filled, "export", "out.jsonl.zst")
    other = tmp_path / "other"
    with ReplyCache.open(other) as cache:
        cache.put("k0", REPLY.model_copy(update={"text": "kept"}))
    done = json.loads(ropd(other, "import", filled / "out.jsonl.zst", "--json").stdout)
    assert (done["entries"], done["new"]) == (10, 9)
    with ReplyCache.open(filled) as cache, ReplyCache.open(other) as copied:
        ours, theirs = ({entry.key: entry for entry in each.entries()} for each in (cache, copied))
    assert theirs.pop("k0").reply.text == "kept" and theirs == {key: ours[key] for key in theirs} and len(theirs) == 9
    (other / "bad.jsonl").write_text('{"key": "k", "max_tokens": null, "stored_at": 1, "reply": {"text": 3}}\n')
    refused = ropd(other, "import", other / "bad.jsonl")
    assert refused.returncode == 2 and "record 1 is no cached reply" in refused.stderr


def test_clear_wants_to_be_told(filled):
    refused = ropd(filled, "clear")
    assert refused.returncode == 2 and "--yes" in refused.stderr
    assert ropd(filled, "clear", "--yes").returncode == 0
    assert json.loads(ropd(filled, "info", "--json").stdout)["entries"] == 0


def test_clear_of_a_damaged_cache_and_of_none(filled):
    (filled / "replies" / "cache.db").write_bytes(b"not a database" * 1000)
    assert ropd(filled, "info").returncode == 2
    assert ropd(filled, "clear", "--yes").returncode == 0
    assert ropd(filled, "clear", "--yes").returncode == 2  # nothing there any more
    with ReplyCache.open(filled) as cache:
        assert cache.get("k0") is None

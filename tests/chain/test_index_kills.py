"""``ropd index build`` killed again and again at random moments: nothing recorded is lost, nobody sees half a row.

ROPD_KILLS says how many kills; a hundred take two minutes.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from contextlib import closing

import orjson
import pytest
from processes import start_ropd

from ropd_cli.errors import InputError
from ropd_cli.index import TeacherIndex
from ropd_cli.index.integrity import integrity
from ropd_cli.records.schemas import prompt_hash

KILLS = int(os.environ.get("ROPD_KILLS", "4"))
ROWS, ANSWERS = 1500, 4
"""Of each of the files that are added one after the other: 50 MB, so that kills fall into all parts of a build."""


def text(part, number, k):
    return f"part {part}, prompt {number}, answer {k} — " + "x" * 8000 + " end"


def answers_file(path, part):
    with open(path, "wb") as out:
        for number in range(ROWS):
            prompt = f"question {part} {number}"
            record = {"uid": f"{part}-{number}", "prompt": prompt, "raw_prompt_hash": prompt_hash(prompt), "model": "t"}
            record["answers"] = [{"text": text(part, number, k), "finish_reason": "stop"} for k in range(ANSWERS)]
            out.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    return path


def watch(path, stop, seen):
    """Read whatever is there, again and again: all of a part or nothing of it, and every text whole."""
    faults = []
    draw = random.Random(1)
    while not stop.is_set():
        try:
            index = TeacherIndex.open(path)
        except InputError as fault:
            if "no teacher index" not in fault.message:
                faults.append(fault.message)
            time.sleep(0.01)
            continue
        with closing(index):
            ((count, whole),) = index.query("SELECT count(*), sum(usable) FROM answers")
            if count % (ROWS * ANSWERS) or count != whole:
                faults.append(f"{count} answers")
            for _ in range(5):
                part, number = draw.randrange(count // (ROWS * ANSWERS)), draw.randrange(ROWS)
                found = index.answers(f"{part}-{number}", prompt_hash(f"question {part} {number}"), ANSWERS)
                if found != tuple(text(part, number, k) for k in range(ANSWERS)):
                    faults.append(f"{part}-{number} reads {found}")
        seen.put((count, faults))
        faults = []
    seen.put((0, faults))


@pytest.mark.long
def test_kills_cost_nothing_that_was_recorded(tmp_path):
    index, draw = tmp_path / "teacher.index", random.Random(3)
    stop, seen = multiprocessing.Event(), multiprocessing.Queue()
    reader = multiprocessing.Process(target=watch, args=(index, stop, seen), daemon=True)
    reader.start()
    kills = part = 0
    whole_s = build_s(tmp_path)
    try:
        while kills < KILLS:
            file = answers_file(tmp_path / f"{part}.jsonl", part)
            command = ["index", "build", file, "--out", index, "--json"]
            copy = tmp_path / ".teacher.index.building"
            while kills < KILLS:
                child = start_ropd(command, tmp_path, os.environ)
                wait_until(lambda copy=copy, child=child: has_open(child, copy) or child.poll() is not None)
                time.sleep(draw.uniform(0, whole_s))
                if child.poll() is not None:  # it was finished before it could be killed
                    assert child.returncode == 0, child.stderr.read()
                    break
                child.send_signal(signal.SIGKILL)
                child.communicate()
                kills += 1
            child = start_ropd(command, tmp_path, os.environ)
            said, complaint = child.communicate()
            assert child.returncode == 0, complaint
            said = orjson.loads(said)
            assert said["answers"] + said["known"] == ROWS * ANSWERS
            part += 1
            file.unlink()
            if part == 3:  # large enough; begin anew
                looked_at(index, part)
                index.unlink()
                part = 0
        if part:
            looked_at(index, part)
    finally:
        stop.set()
    faults, readings = [], 0
    while True:
        count, found = seen.get(timeout=30)
        faults += found
        if not count:
            break
        readings += 1
    reader.join(10)
    assert not faults
    assert readings > 3
    assert not copy.exists()
    print(f"{kills} kills, {readings} readings")


def has_open(child, path):
    """Whether a process has a file open: it is past its start."""
    try:
        return any(os.readlink(fd.path) == str(path) for fd in os.scandir(f"/proc/{child.pid}/fd"))
    except OSError:  # one was closed meanwhile, or the process is gone
        return False


def build_s(folder):
    """Seconds that a build takes on this machine as it is now, its start left out."""
    file, copy = answers_file(folder / "first.jsonl", 0), folder / ".first.index.building"
    child = start_ropd(["index", "build", file, "--out", folder / "first.index", "--quiet"], folder, os.environ)
    wait_until(lambda: has_open(child, copy))
    begun = time.monotonic()
    assert child.wait(60) == 0
    return time.monotonic() - begun


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def looked_at(path, parts):
    """Everything that was recorded is there, once and whole."""
    with closing(TeacherIndex.open(path)) as index:
        assert list(integrity(index)) == []
        ((prompts, answers),) = index.query("SELECT (SELECT count(*) FROM prompts), (SELECT count(*) FROM answers)")
        assert (prompts, answers) == (parts * ROWS, parts * ROWS * ANSWERS)
        for part in range(parts):
            for number in range(0, ROWS, 97):
                found = index.answers(f"{part}-{number}", prompt_hash(f"question {part} {number}"), ANSWERS)
                assert found == tuple(text(part, number, k) for k in range(ANSWERS))

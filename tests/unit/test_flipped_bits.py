"""A single flipped bit anywhere in a file of records: seen, or without effect."""

from __future__ import annotations

import errno
import gzip
import random
import re
import subprocess
import sys
import tracemalloc

import orjson
import pytest
import zstandard
from runs import write_run
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.errors import InputError, NoSpace
from ropd_cli.records import lines
from ropd_cli.records.files import existing_records, read_journal, read_records, salvage, write_records
from ropd_cli.records.journals import RecordWriter

RECORDS = [{"uid": str(n), "text": f"{n * 7919} is not a prime number, é {'x' * (n % 50)}"} for n in range(200)]
FAST, CAMPAIGN = 40, 400


def _write_journal(path):
    with RecordWriter(path) as writer:
        for record in RECORDS:
            writer.append(record)


def _write_whole(path):
    write_records(path, RECORDS)


def _outcome(read, path, caplog):
    """What a reader makes of a file: the records, or why not, and whether it warned."""
    lines._warned.clear()
    caplog.clear()
    try:
        return [record for _, record in read(path)], None, bool(caplog.records)
    except InputError as fault:
        return None, fault.message, False


def _check_flips(tmp_path, caplog, write, flips, seed):
    path = tmp_path / "x.jsonl.zst"
    write(path)
    whole = path.read_bytes()
    for bit in random.Random(seed).sample(range(len(whole) * 8), flips):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        for read in (read_records, read_journal, existing_records):
            records, error, is_warned = _outcome(read, path, caplog)
            assert error is not None or records == RECORDS or (is_warned and records == RECORDS[:-1]), (bit, read)
            assert error is None or str(path) in error
        records, error, _ = _outcome(existing_records, path, caplog)
        try:
            RecordWriter(path).close()
        except InputError:
            assert path.read_bytes() == flipped, bit  # what is damaged is not cut
        else:
            assert error is None and [record for _, record in existing_records(path)] == records, bit
        with salvage():
            path.write_bytes(flipped)
            kept, _, _ = _outcome(read_journal, path, caplog)
        assert all(record in RECORDS for record in kept), bit
        if write is _write_journal:
            assert len(kept) >= len(RECORDS) - 2, bit  # a damaged size can swallow the frame behind it


@pytest.mark.parametrize("write", [_write_journal, _write_whole])
def test_no_flipped_bit_is_silent(tmp_path, caplog, write):
    _check_flips(tmp_path, caplog, write, FAST, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("write", [_write_journal, _write_whole])
@pytest.mark.parametrize("seed", [2, 3])
def test_no_flipped_bit_is_silent_in_a_campaign(tmp_path, caplog, write, seed):
    _check_flips(tmp_path, caplog, write, CAMPAIGN, seed)


@pytest.mark.parametrize("frame", [0, 199])
def test_every_bit_of_a_frame_header_and_its_checksum(tmp_path, caplog, frame):
    path = tmp_path / "x.jsonl.zst"
    starts = []
    with RecordWriter(path) as writer:
        for record in RECORDS:
            starts.append(path.stat().st_size)
            writer.append(record)
    whole = path.read_bytes()
    end = [*starts, len(whole)][frame + 1]
    for byte in [*range(starts[frame], starts[frame] + 10), *range(end - 4, end)]:
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[byte] ^= 1 << bit
            path.write_bytes(flipped)
            records, error, _ = _outcome(read_records, path, caplog)
            assert error is not None or records == RECORDS, (byte, bit)
            if error is not None:
                assert f"frame {frame + 1} " in error or f"frame {frame + 2} " in error, error


def _frame(content, **choices):
    return zstandard.ZstdCompressor(level=3, write_checksum=True, **choices).compress(content)


def _line(n):
    return orjson.dumps(RECORDS[n]) + b"\n"


def _claims(size, content=b"\x01\x00\x00"):
    """A frame whose header says that it holds ``size`` bytes."""
    return zstandard.FRAME_HEADER + b"\xe0" + size.to_bytes(8, "little") + content


GIGABYTES = _claims(1 << 33), _claims(1 << 62, b"\x03\xff\xff" + b"a"), _claims(0, b"\xff\xff\x0f" + b"a")
BOMB = zstandard.FRAME_HEADER + b"\x00\x58" + (b"\x02\x00\x10a" * 500) + b"\x01\x00\x00"  # 64 MB of one letter
CASES = {  # what a file holds, what the error says, records that are left with --salvage
    "half of a large one": (
        lambda: (w := _frame(b"".join(b'{"n":"%d"}\n' % (n * 7919**3) for n in range(20_000))))[: len(w) // 2],
        r"the file ends inside this frame; records that can be read: \d+ before it, 0 after it",
        None,
    ),
    "gzip": (lambda: gzip.compress(_line(0), mtime=0), r"frame 1 \(byte 0\): no zstandard frame .*gzip", 0),
    "text": (lambda: _line(0), r"no zstandard frame begins here \(it looks like text\)", 0),
    "another frame's checksum": (
        lambda: _frame(_line(0)) + _frame(_line(1))[:-4] + b"abcd" + _frame(_line(2)) + _frame(_line(3)),
        r"frame 2 \(byte \d+\): .*hecksum.*; records that can be read: 1 before it, 2 after it",
        3,
    ),
    "a hole": (lambda: _frame(_line(0)) + bytes(5000) + _frame(_line(1)), r"frame 2 .*1 after it", 2),
    "zeros at the end": (lambda: _frame(_line(0)) + bytes(5000), r"frame 2 \(byte \d+\): no zstandard frame", 1),
    "a skippable frame over the next": (
        lambda: _frame(_line(0)) + b"\x50\x2a\x4d\x18" + (200).to_bytes(4, "little") + b"".join(
            _frame(_line(n)) for n in range(1, 4)),
        "skippable",
        4,
    ),
    "a dictionary": (
        lambda: _frame(_line(0), dict_data=zstandard.ZstdCompressionDict(b"is not a prime" * 99)),
        "frame 1",
        0,
    ),
    "gigabytes claimed": (lambda: _frame(_line(0)) + GIGABYTES[0] + _frame(_line(1)), "frame 2", 2),
    "exabytes claimed": (lambda: _frame(_line(0)) + GIGABYTES[1] + _frame(_line(1)), "frame 2", 2),
    "nothing claimed": (lambda: _frame(_line(0)) + GIGABYTES[2] + _frame(_line(1)), "frame 2", 2),
    "an endless line": (lambda: _frame(_line(0)) + BOMB + _frame(b"\n" + _line(1)), ":2: longer than 8 MB", 2),
    "the last line cut off before it was compressed": (
        lambda: _frame(_line(0) + _line(1)[:20]), r":2: the last line is cut off; records that can be read: 1", 1),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_in_a_file_of_frames(tmp_path, case, caplog, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 8 << 20)
    content, message, left = CASES[case]
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(content())
    before = path.read_bytes()
    tracemalloc.start()
    for read in (read_records, read_journal, existing_records):
        with pytest.raises(InputError, match=message):
            list(read(path))
    if case != "an endless line":  # which is all that is wrong
        with pytest.raises(InputError):
            RecordWriter(path)
    assert path.read_bytes() == before
    with salvage():
        records = [record for _, record in read_records(path)]
    assert left in (None, len(records))
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()
    assert any("damaged parts skipped: 1" in record.getMessage() for record in caplog.records)


LINES = {  # the last line of a file, and what the error says; None: it is the torn last record of a journal
    b'{"uid":"2","text":"cut': None,
    b"{": None,
    b'{"uid":"2"},': r":3: not valid JSON",
    b'{"uid":"2"},\n': r":3: not valid JSON",
    b'{"uid":"2"\n': r":3: not valid JSON",
    b'{"uid":"2"}J': r":3: not valid JSON",
    b"uid,text": r":3: not valid JSON",
    bytes(300): r":3: not valid JSON",
    b"[2]": r":3: expected a JSON object, found list",
}


@pytest.mark.parametrize("tail", LINES)
def test_the_last_line(tmp_path, tail, caplog):
    path = tmp_path / "x.jsonl"
    path.write_bytes(_line(0) + _line(1) + tail)
    with pytest.raises(InputError, match=LINES[tail] or ":3: the last line is cut off; records that can be read: 2"):
        list(read_records(path))
    if LINES[tail] is None:
        assert [record for _, record in read_journal(path)] == RECORDS[:2] and "incomplete" in caplog.text
        RecordWriter(path).close()
        assert path.read_bytes() == _line(0) + _line(1)
        path.write_bytes(b'{"uid": "0", "n": 1.0}\n' + tail)  # as this program does not write lines: no journal of ours
    before = path.read_bytes()
    with pytest.raises(InputError):
        list(read_journal(path))
    if not tail.endswith(b"\n") and LINES[tail]:
        with pytest.raises(InputError):
            RecordWriter(path)
        assert path.read_bytes() == before


def test_a_flipped_bit_in_lines_names_the_line_and_counts_the_rest(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(map(_line, range(9))).replace(_line(4), _line(4).replace(b'"text":', b'"text"z')))
    with pytest.raises(
        InputError, match=r"x\.jsonl:5: not valid JSON .*; records that can be read: 4 before it, 4 after it"
    ):
        list(read_records(path))
    with salvage():
        assert [record for _, record in read_records(path)] == RECORDS[:4] + RECORDS[5:9]


@pytest.mark.parametrize(
    "content", [gzip.compress(b"a", mtime=0), b"notes", b"notes\n%PDF", zstandard.compress(b"a"), b"\xff{"]
)
@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.zst"])
def test_a_foreign_output_is_refused_and_stays(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    for on in (False, True):
        with salvage(on), pytest.raises(InputError, match=name):
            RecordWriter(path)
        assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [(name, content)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.zst"])
def test_salvage_writes_a_damaged_output_anew_and_keeps_it(tmp_path, name):
    path = tmp_path / name
    _write_journal(path)
    damaged = path.read_bytes()[:3000] + b"?????" + path.read_bytes()[3005:]
    path.write_bytes(damaged)
    with salvage(), RecordWriter(path) as writer:
        writer.append({"uid": "new"})
    records = [record for _, record in read_records(path)]
    assert records[-1] == {"uid": "new"} and 198 <= len(records[:-1]) < 200
    assert all(record in RECORDS for record in records[:-1])
    assert (tmp_path / f"{name}.damaged-1").read_bytes() == damaged


def test_a_file_without_checksums_is_read_and_named_once(tmp_path, caplog):
    for name in ("x.jsonl.zst", "y.jsonl.zst"):
        (tmp_path / name).write_bytes(b"".join(zstandard.compress(_line(n)) for n in range(5)))
        for _ in range(2):
            assert [record for _, record in read_records(tmp_path / name)] == RECORDS[:5]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/x.jsonl.zst: written without checksums, damage in it can go unseen"
    ]


def test_frames_of_other_programs_are_read(tmp_path):
    body = b"".join(map(_line, range(200)))
    parts = [_frame(body[place : place + 777]) for place in range(0, len(body), 777)]  # lines go over frames
    skippable = b"\x5a\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    stream = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    for content in (skippable.join(parts), stream.compress(body) + stream.flush(), _frame(b"") + _frame(body)):
        (tmp_path / "x.jsonl.zst").write_bytes(content)
        assert [record for _, record in read_records(tmp_path / "x.jsonl.zst")] == RECORDS
    content = b"".join(b'{"n":"%0100d"}\n' % n for n in range(90_000))
    (tmp_path / "x.jsonl.zst").write_bytes(_frame(content))  # more than is held at once
    assert sum(1 for _ in read_records(tmp_path / "x.jsonl.zst")) == 90_000


def test_a_record_that_did_not_fit_the_disk_leaves_no_part(tmp_path, monkeypatch):
    path = tmp_path / "x.jsonl"
    with RecordWriter(path) as writer:
        writer.append(RECORDS[0])
        with monkeypatch.context() as patched:
            real = writer._file

            class Full:
                def write(self, data):
                    if len(data) < 20:
                        raise OSError(errno.ENOSPC, "full")
                    return real.write(data[:20])

                def __getattr__(self, name):
                    return getattr(real, name)

            patched.setattr(writer, "_file", Full())
            with pytest.raises(NoSpace):
                writer.append(RECORDS[1])
        writer.append(RECORDS[2])
    assert [record for _, record in read_records(path)] == [RECORDS[0], RECORDS[2]]


def test_a_flipped_bit_in_a_parquet_page_is_an_error(tmp_path):
    path = tmp_path / "x.parquet"
    _write_journal(path)
    whole = path.read_bytes()
    for bit in random.Random(0).sample(range(4 * 8, len(whole) * 8 * 3 // 4), 30):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            records = [record for _, record in read_records(path)]
        except InputError as fault:
            assert str(path) in fault.message
        else:
            assert records == RECORDS, bit


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.zst"])
def test_a_torn_first_record_is_kept_beside(tmp_path, name, caplog):
    path = tmp_path / name
    _write_whole(path)
    half = path.read_bytes()[:300] if name == "x.jsonl.zst" else _line(0)[:-5]
    path.write_bytes(half)
    for read in (read_records, read_journal):
        with pytest.raises(InputError, match="records that can be read: 0 before it, 0 after it"):
            list(read(path))
    assert list(existing_records(path)) == []
    with RecordWriter(path) as writer:
        writer.append(RECORDS[0])
    assert [record for _, record in read_records(path)] == RECORDS[:1]
    assert (tmp_path / f"{name}.damaged-1").read_bytes() == half and f"{name}.damaged-1" in caplog.text


@pytest.fixture
def ropd(tmp_path, monkeypatch):
    """Runs a command in an empty folder; its stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        done = CliRunner().invoke(app, [*arguments, "--cache-dir", "cache"] if arguments[0] != "index" else arguments)
        assert done.exit_code == code, done.output
        return done.output

    return run


def _flip(path, place=0.5):
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    return bytes(data)


def test_the_commands_name_damage_and_go_on_with_salvage(ropd, tmp_path):
    prompts = [{"uid": f"p{n}", "prompt": f"What is {n} + 19?"} for n in range(20)]
    (tmp_path / "p.jsonl").write_bytes(b"".join(orjson.dumps(p, option=orjson.OPT_APPEND_NEWLINE) for p in prompts))
    ask = ("teacher-gen", "p.jsonl", "--out", "t.jsonl.zst", "--base-url", "builtin://checkable", "--model", "m")
    ask += ("--json", "--m", "1")
    ropd(*ask)
    damaged = _flip(tmp_path / "t.jsonl.zst")
    build = ("index", "build", "t.jsonl.zst", "--out", "t.index")
    for command in (build, ask):
        assert re.search(r"t\.jsonl\.zst: frame \d+ \(byte \d+\)", ropd(*command, code=2))
        assert not (tmp_path / "t.index").exists() and (tmp_path / "t.jsonl.zst").read_bytes() == damaged
    assert "19 answers to 19 new prompts added" in ropd(*build, "--salvage")
    again = ropd(*ask, "--salvage")
    assert '"done": 1' in again and '"skipped": 19' in again
    assert (tmp_path / "t.jsonl.zst.damaged-1").read_bytes() == damaged
    assert "1 answer to 1 new prompt added" in ropd(*build)  # as whole as before


def test_groups_of_a_run_that_can_not_be_read_are_not_left_out(ropd, tmp_path):
    run = write_run(tmp_path / "run", steps=3)
    _flip(run / "groups" / "step-2.jsonl.zst", 0.4)
    for command in (("rejudge", "run", "--model", "m"), ("inspect-rubrics", "run", "--json")):
        shown = ropd(*command, code=2)
        assert (
            "step-2.jsonl.zst: frame 2 (byte" in shown and "records that can be read: 1 before it, 2 after it" in shown
        )
    for _ in range(2):  # the catalogue of a look with --salvage is not the one of a look without
        assert '"groups": 11' in ropd("inspect-rubrics", "run", "--json", "--salvage")
        ropd("inspect-rubrics", "run", "--json", code=2)


def test_a_user_s_file_that_is_cut_off_makes_no_fewer_prompts(ropd, tmp_path):
    body = b"".join(b'{"question": "What is %d + 1?", "answer": "%d"}\n' % (n, n + 1) for n in range(300))
    command = ("data", "prepare", "mine", "--local", "FILE", "--prompt-field", "question", "--out", "out.jsonl")
    table = b"question,answer\n" + b"".join(b"What is %d + 1?,%d\n" % (n, n + 1) for n in range(9))
    files = {
        "half.jsonl.zst": ((whole := _frame(body))[: len(whole) // 2], "the file ends inside this frame"),
        "cut.jsonl": (body[:-9], ":300: the last line is cut off"),
        "comma.jsonl": (body[:-1] + b",", ":300: not valid JSON"),
        "cut.csv": (table[:-3], ":10: fewer values (1) than the 2 columns"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        done = CliRunner().invoke(app, [name if part == "FILE" else part for part in command])
        assert done.exit_code == 2 and f"{name}" in done.output and message in done.output, done.output
        assert not (tmp_path / "out.jsonl").exists()
    done = CliRunner().invoke(app, ["cut.jsonl" if part == "FILE" else part for part in command] + ["--salvage"])
    assert done.exit_code == 0 and "299 prompts" in done.output


def test_warnings_reach_the_terminal(tmp_path):
    _write_journal(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_bytes((tmp_path / "x.jsonl").read_bytes()[:-5])
    read = f"from ropd_cli.records.files import *; print(len(list(read_journal({str(tmp_path / 'x.jsonl')!r}))))"
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True)
    assert done.stdout == "199\n" and "its last record is incomplete" in done.stderr

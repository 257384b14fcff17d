"""Files of records: what a kill leaves, what a reader sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.errors import InputError
from ropd_cli.records.files import existing_records, failed_path, journal_of, read_journal, read_records, write_atomic
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, load_models

RECORDS = [{"uid": str(i), "text": "é\n" * i} for i in range(5)]


def _read(path):
    return [record for _, record in read_records(path)]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst", ".parquet"])
def test_round_trip_in_two_sittings(tmp_path, suffix):
    path = tmp_path / "deep" / f"x{suffix}"
    for part in (RECORDS[:2], RECORDS[2:]):
        with RecordWriter(path) as writer:
            for record in part:
                writer.append(record)
        if suffix == ".parquet":  # the journal became the file: later sittings begin a new one
            assert not journal_of(path).exists()
            assert _read(path) == part
    if suffix != ".parquet":
        assert _read(path) == RECORDS


def test_interrupted_parquet_keeps_its_journal(tmp_path):
    path = tmp_path / "x.parquet"
    with pytest.raises(KeyboardInterrupt), RecordWriter(path) as writer:
        writer.append(RECORDS[0])
        raise KeyboardInterrupt
    assert not path.exists()
    assert [record for _, record in existing_records(path)] == RECORDS[:1]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst"])
@given(cut=st.integers(min_value=1, max_value=400))
def test_a_kill_at_any_byte_loses_only_the_last_record(tmp_path_factory, suffix, cut):
    path = tmp_path_factory.mktemp("kill") / f"x{suffix}"
    sizes = [0]
    with RecordWriter(path) as writer:
        for record in RECORDS:
            writer.append(record)
            sizes.append(path.stat().st_size)
    keep = max(sizes[-1] - cut, 0)
    end = keep + (suffix == ".jsonl")  # a line that lacks its end alone gets it
    whole = max(i for i, size in enumerate(sizes) if size <= end)
    with open(path, "rb+") as file:
        file.truncate(keep)
    if suffix == ".jsonl" and whole > 0:  # a reader that comes before any writer
        seen = [record for _, record in read_journal(path)]
        assert seen[:whole] == RECORDS[:whole] and len(seen) <= whole + 1
    with RecordWriter(path) as writer:
        writer.append({"uid": "after"})
    assert _read(path) == [*RECORDS[:whole], {"uid": "after"}]


def test_malformed_line_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(InputError, match=r"x\.jsonl:2"):
        _read(path)
    path.write_text("[1]\n")
    with pytest.raises(InputError, match=r"x\.jsonl:1.*list"):
        _read(path)
    with pytest.raises(InputError, match=r"nothing\.jsonl"):
        _read(tmp_path / "nothing.jsonl")


def test_write_atomic_replaces_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_atomic(path, "one")
    write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_in_the_way_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        RecordWriter(tmp_path)


def test_failed_path():
    assert str(failed_path("a/b.jsonl")) == "a/b.jsonl.failed.jsonl"


def test_half_a_surrogate_pair_is_read_as_the_replacement_character(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": "\\ud800 \\udfff\\ud83d \\ud83d\\ude00", "\\udc00": 1.5}\n{"a": "\\\\ud800"}\n')
    assert _read(path) == [{"a": "\ufffd \ufffd\ufffd \U0001f600", "\ufffd": 1.5}, {"a": "\\ud800"}]
    path.write_text('{"a": "\\ud800", "b": ' + "[" * 5000 + "]" * 5000 + "}\n{}\n")
    with pytest.raises(InputError, match=r"x\.jsonl:1.*too deeply"):
        _read(path)


def test_parquet_keeps_fields_that_only_later_records_have(tmp_path):
    path = tmp_path / "a.parquet"
    with RecordWriter(path) as writer:
        writer.append({"uid": "a"})
        writer.append({"uid": "b", "extra": {"x": 1}})
    assert [record for _, record in read_records(path)] == [
        {"uid": "a", "extra": None},
        {"uid": "b", "extra": {"x": 1}},
    ]


def test_a_record_without_sampling_comes_through_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    answers = (Answer(text="a", sampling={}), Answer(text="b"))
    record = AnswerRecord(uid="u", prompt="p", raw_prompt_hash="h", answers=answers, model="m")
    with RecordWriter(path) as writer:
        writer.append(record.to_json())
    [read] = load_models(path, AnswerRecord)
    assert read.sampling == {} and [answer.text for answer in read.answers] == ["a", "b"]

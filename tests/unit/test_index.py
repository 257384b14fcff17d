"""The teacher index: what goes in comes out, once, by prompt and never by uid alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.errors import IndexMissing, InputError, TooFewAnswers
from ropd_cli.index import IndexWriter, TeacherIndex
from ropd_cli.index.contents import survey
from ropd_cli.records.schemas import Answer, AnswerRecord, Prompt


def record(uid, *texts, prompt=None, finish_reason="stop"):
    made = Prompt(uid=uid, prompt=prompt or f"question {uid}")
    answers = tuple(Answer(text=text, finish_reason=finish_reason) for text in texts)
    return AnswerRecord(
        uid=uid,
        prompt=made.prompt,
        raw_prompt_hash=made.raw_prompt_hash,
        answers=answers,
        model="big",
        sampling={"seed": 1},
    )


def build(path, *records):
    with IndexWriter(path) as writer:
        for one in records:
            writer.add(one)
    return writer.added


def answers(path, one, m):
    with closing(TeacherIndex.open(path)) as index:
        return index.answers(one.uid, one.raw_prompt_hash, m)


def test_distinct_answers_in_the_order_they_came(tmp_path):
    path, one = tmp_path / "i.db", record("a", "x", "y", "x", "z")
    added = build(path, one)
    assert (added.prompts, added.answers, added.known) == (1, 3, 1)
    assert answers(path, one, 2) == ("x", "y")
    with pytest.raises(TooFewAnswers, match=r"'a' has 3 distinct answers, 4"):
        answers(path, one, 4)
    with pytest.raises(IndexMissing, match="'b'"):
        answers(path, record("b"), 1)


def test_adding_again_adds_nothing_and_adding_more_adds_that(tmp_path):
    path = tmp_path / "i.db"
    build(path, record("a", "x"))
    before = path.read_bytes()
    assert build(path, record("a", "x")).answers == 0
    assert path.read_bytes() == before
    assert build(path, record("a", "x", "y"), record("b", "q")).answers == 2
    assert answers(path, record("a"), 2) == ("x", "y")


def test_the_hash_finds_a_prompt_under_another_uid_and_the_uid_never_another_prompt(tmp_path):
    path = tmp_path / "i.db"
    build(path, record("a", "x", prompt="same"), record("b", "y", prompt="other"))
    assert answers(path, record("renamed", prompt="same"), 1) == ("x",)
    with pytest.raises(IndexMissing):
        answers(path, record("a", prompt="something new"), 1)


def test_what_cannot_teach_is_left_out(tmp_path):
    path = tmp_path / "i.db"
    added = build(path, record("a", "", "<think>hm", " \n", "good"), record("b", "cut", finish_reason="length"))
    assert (added.answers, added.unusable, added.truncated) == (1, 3, 1)
    assert answers(path, record("a"), 1) == ("good",)
    with pytest.raises(IndexMissing, match="'b' has no usable answer \\(1 were cut off"):
        answers(path, record("b"), 1)
    with closing(TeacherIndex.open(path)) as index:
        assert [(one.answer.text, one.usable) for one in index.get("b")] == [("cut", False)]


def test_a_failed_build_leaves_the_index_as_it_was(tmp_path):
    path = tmp_path / "i.db"
    build(path, record("a", "x"))
    with pytest.raises(RuntimeError), IndexWriter(path) as writer:
        writer.add(record("b", "y"))
        raise RuntimeError
    with closing(TeacherIndex.open(path)) as index:
        assert list(index.uids()) == ["a"]


@pytest.mark.parametrize("command", ["build", "merge", "import"])
def test_a_file_that_is_missing_is_named_before_anything_is_made(tmp_path, command):
    found = CliRunner().invoke(app, ["index", command, str(tmp_path / "gone.jsonl"), "--out", str(tmp_path / "o/i.db")])
    assert found.exit_code == 2 and "gone.jsonl" in found.stderr.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_check_and_overview_count(tmp_path):
    path = tmp_path / "i.db"
    build(path, record("a", "x", "y"), record("b", "x"))
    with closing(TeacherIndex.open(path)) as index:
        coverage = index.check([Prompt(uid=u, prompt=f"question {u}") for u in "abc"], 2)
        assert (coverage.missing, coverage.short, coverage.complete) == (["c"], {"b": 1}, False)
        found = survey(index)
    assert (found.prompts, found.answers, found.distinct) == (2, 3, {1: 1, 2: 1})
    assert {name: figures.answers for name, figures in found.models.items()} == {"big": 3}


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to be one" * 50])
def test_a_file_that_is_no_index_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "i.db"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a teacher index|another format"):
        TeacherIndex.open(path)
    with pytest.raises(InputError, match="not a teacher index|another format"):
        IndexWriter(path)
    assert path.read_bytes() == content


def test_another_program_s_database_is_not_touched(tmp_path):
    path = tmp_path / "i.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
        db.commit()
    before = path.read_bytes()
    with pytest.raises(InputError):
        IndexWriter(path)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="no teacher index"):
        TeacherIndex.open(tmp_path / "absent.db")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), max_size=8))
def test_texts_come_back_exactly(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("index") / "i.db"
    usable = [text for text in texts if "<think>" not in text and "</think>" not in text]
    one = record("a", *usable)
    build(path, one)
    with closing(TeacherIndex.open(path)) as index:
        assert [stored.answer.text for stored in index.get(one.uid, one.raw_prompt_hash)] == list(dict.fromkeys(usable))

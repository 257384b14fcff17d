"""The file of a teacher index: whole or not there, damage found, one writer, many readers; which m of more."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropd_cli.errors import IndexMissing, InputError
from ropd_cli.index import IndexWriter, TeacherIndex
from ropd_cli.index.contents import Lengths, survey
from ropd_cli.index.integrity import integrity
from ropd_cli.index.selection import chosen
from ropd_cli.records.schemas import Answer, AnswerRecord, Prompt, Usage


def record(uid, *texts, model="big", finish_reason="stop", **more):
    made = Prompt(uid=uid, prompt=f"question {uid}")
    answers = tuple(
        Answer(text=text, finish_reason=finish_reason, usage=Usage(completion_tokens=len(text))) for text in texts
    )
    fields = {"sampling": {"temperature": 0.7}, "endpoint": "https://api.example/v1", **more}
    return AnswerRecord(
        uid=uid, prompt=made.prompt, raw_prompt_hash=made.raw_prompt_hash, answers=answers, model=model, **fields
    )


def build(path, *records, **how):
    with IndexWriter(path, **how) as writer:
        for one in records:
            writer.add(one)
    return writer.added


def get(path, uid):
    with closing(TeacherIndex.open(path)) as index:
        return index.get(uid)


def test_what_is_known_of_an_answer_comes_back(tmp_path):
    path = tmp_path / "i.db"
    answer = Answer(text="<think>hm</think>\n\n42", finish_reason="stop", created=12.5, correct=True)
    other = Answer(text="43", model="other", endpoint="http://b/v1", sampling={"temperature": 1.0}, reasoning="so")
    one = record("a").model_copy(update={"answers": (answer, other), "template": "abcd"})
    build(path, one)
    first, second = get(path, "a")
    assert (first.answer.text, first.answer.reasoning, first.answer.created) == ("42", "hm", 12.5)
    assert first.answer.correct is True
    assert (first.source.model, first.source.endpoint, first.source.template) == ("big", one.endpoint, "abcd")
    assert (second.source.model, second.source.endpoint, second.sampling) == (
        "other",
        "http://b/v1",
        {"temperature": 1},
    )
    assert second.answer.reasoning == "so"


def test_white_space_around_an_answer_makes_no_other_answer(tmp_path):
    assert build(tmp_path / "i.db", record("a", "x", "x\n", " x", "x y")).answers == 2


def test_a_reader_keeps_what_it_opened_and_a_new_one_sees_the_new(tmp_path):
    path = tmp_path / "i.db"
    build(path, record("a", "x"))
    with closing(TeacherIndex.open(path)) as before:
        with IndexWriter(path) as writer:
            writer.add(record("b", "y"))
            with closing(TeacherIndex.open(path)) as meanwhile:
                assert list(meanwhile.uids()) == ["a"]
        assert list(before.uids()) == ["a"]
    with closing(TeacherIndex.open(path)) as after:
        assert list(after.uids()) == ["a", "b"]
    assert os.listdir(tmp_path) == ["i.db"]


def test_a_reader_that_lost_its_file_opens_the_new_one(tmp_path):
    """As over a network, where the file that was replaced is gone."""
    path = tmp_path / "i.db"
    build(path, record("a", "x" * 200_000))
    with closing(TeacherIndex.open(path)) as index:
        gone = next(
            int(handle)
            for handle in os.listdir("/proc/self/fd")
            if os.path.realpath(f"/proc/self/fd/{handle}") == str(path)
        )
        nothing = os.open(os.devnull, os.O_WRONLY)  # reading it is an error, as of a stale handle
        os.dup2(nothing, gone)
        os.close(nothing)
        assert index.answers("a", record("a").raw_prompt_hash, 1) == ("x" * 200_000,)


def test_an_index_without_write_permission_can_be_read(tmp_path):
    path = tmp_path / "ro" / "i.db"
    build(path, record("a", "x"))
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert len(get(path, "a")) == 1
    finally:
        path.parent.chmod(0o755)
    build(path, record("b", "y"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_a_link_stays_a_link(tmp_path):
    path, link = tmp_path / "i.db", tmp_path / "link"
    build(path, record("a", "x"))
    link.symlink_to(path)
    build(link, record("b", "y"))
    assert link.is_symlink() and len(get(path, "b")) == 1


def test_a_second_writer_is_told_to_wait(tmp_path):
    path = tmp_path / "i.db"
    with IndexWriter(path) as writer:
        writer.add(record("a", "x"))
        with pytest.raises(InputError, match=r"is being written by ropd.* \(process \d+ on .*since"):
            IndexWriter(path)
    build(path, record("b", "y"))


@pytest.mark.parametrize("fault", [KeyboardInterrupt, InputError("x")], ids=["interrupted", "failed"])
@pytest.mark.parametrize("base", [(), ("z",)], ids=["new", "added to"])
def test_a_build_that_does_not_end_leaves_the_index_as_it_was(tmp_path, fault, base):
    path = tmp_path / "i.db"
    for uid in base:
        build(path, record(uid, uid))
    with pytest.raises((KeyboardInterrupt, InputError)), IndexWriter(path) as writer:
        writer.add(record("a", "x"))
        raise fault
    assert [each.name for each in tmp_path.iterdir()] == ([path.name] if base else [])
    build(path, record("b", "y"))
    with closing(TeacherIndex.open(path)) as index:
        assert list(index.uids()) == [*base, "b"] and list(integrity(index)) == []


def test_what_a_killed_build_left_is_not_taken_over(tmp_path):
    path = tmp_path / "i.db"
    build(path, record("a", "x"))
    (tmp_path / ".i.db.building").write_bytes(path.read_bytes() * 3)
    (tmp_path / ".i.db.building-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"x" * 2000)
    build(path, record("b", "y"))
    with closing(TeacherIndex.open(path)) as index:
        assert list(index.uids()) == ["a", "b"] and list(integrity(index)) == []
    assert [each.name for each in tmp_path.iterdir()] == ["i.db"]


@pytest.mark.parametrize("cut", [0, 99, 5000, -1])
def test_a_file_that_is_not_whole_is_refused_when_it_is_opened(tmp_path, cut):
    path = tmp_path / "i.db"
    build(path, *(record(str(k), "x" * 500) for k in range(30)))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"i\.db: (damaged|not a teacher index)"):
        TeacherIndex.open(path)


def test_no_flipped_bit_becomes_another_answer_and_check_finds_those_in_what_is_used(tmp_path):
    path = tmp_path / "i.db"
    records = [record(f"uid{k}", f"first answer {k} " * 40, f"second answer {k} " * 40) for k in range(12)]
    build(path, *records)
    good = path.read_bytes()
    keys = [(one.uid, one.raw_prompt_hash) for one in records]
    with closing(TeacherIndex.open(path)) as index:
        right = {key: index.answers(*key, 2) for key in keys}
        assert list(integrity(index)) == []
    draw, refused = random.Random(5), 0
    used = [at for at, byte in enumerate(good) if byte]  # not the room that pages have left
    for _ in range(150):
        bad = bytearray(good)
        at = draw.choice(used)
        bad[at] ^= 1 << draw.randrange(8)
        path.write_bytes(bad)
        try:
            index = TeacherIndex.open(path)
        except InputError:
            refused += 1
            continue
        wrong = False
        with closing(index):
            for key in keys:
                try:
                    assert index.answers(*key, 2) == right[key]
                except (InputError, IndexMissing):  # TooFewAnswers is an InputError
                    wrong = True
            found = len(list(integrity(index)))
        assert found or not wrong
        refused += bool(found)
    assert refused > 140  # the rest hit bytes that nothing is kept in


def test_damage_is_said_by_lookups_and_by_check(tmp_path):
    path = tmp_path / "i.db"
    build(path, record("a", "the answer of the teacher"), record("b", "kept"))
    path.write_bytes(path.read_bytes().replace(b"the answer of the teacher", b"the answer of the cheater"))
    with closing(TeacherIndex.open(path)) as index:
        with pytest.raises(InputError, match=r"i\.db: damaged \(an answer to uid 'a'"):
            index.answers("a", record("a").raw_prompt_hash, 1)
        assert index.answers("b", record("b").raw_prompt_hash, 1) == ("kept",)
        assert any("uid 'a'" in finding for finding in integrity(index))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE answers SET prompt_id = 3 - prompt_id", "uid 'a'"),
        ("UPDATE answers SET usable = 1", "uid 'b'"),
        ("UPDATE answers SET rest = '{}' WHERE id = 1", "what is known of an answer"),
        ('UPDATE sources SET body = \'{"model":"small"}\'', "what is known of an answer"),
        ("UPDATE answers SET chars = 9 WHERE id = 1", "what is counted"),
        ("UPDATE prompts SET prompt = '\"another question\"' WHERE id = 1", "the prompt of uid 'a'"),
        ("DELETE FROM sources", "without a source"),
    ],
)
def test_what_somebody_changed_is_found(tmp_path, change, said):
    path = tmp_path / "i.db"
    build(path, record("a", "x"), record("b", "y", finish_reason="length"))
    with closing(sqlite3.connect(path)) as db:
        db.execute(change)
        db.commit()
    with closing(TeacherIndex.open(path)) as index:
        found = list(integrity(index))
    assert any(said in finding for finding in found)


def test_a_hash_that_is_not_the_prompt_s_is_found(tmp_path):
    path = tmp_path / "i.db"
    build(path, record("a", "x"))
    with closing(TeacherIndex.open(path)) as index:
        row = next(index.rows())
    with IndexWriter(path := tmp_path / "j.db") as writer:
        writer.add_row(replace(row, raw_prompt_hash="0" * 64))
    with closing(TeacherIndex.open(path)) as index:
        assert "raw_prompt_hash is not that of the prompt" in next(integrity(index))


def test_truncated_answers_can_be_asked_for_by_name_only(tmp_path):
    path, one = tmp_path / "i.db", record("a", "cut", finish_reason="length")
    build(path, one)
    assert build(path, one, use_truncated=True).known == 1
    with closing(TeacherIndex.open(path)) as index:
        assert index.answers("a", one.raw_prompt_hash, 1) == ("cut",)
        assert survey(index).truncated == 1


def test_whose_provenance_an_equal_answer_keeps(tmp_path):
    for prefer, model in (("first", "big"), ("last", "small")):
        path = tmp_path / prefer
        build(path, record("a", "x", "y"))
        added = build(path, record("a", "x", model="small"), prefer=prefer)
        assert (added.known, added.differing, added.answers) == (1, 1, 0)
        assert [stored.model for stored in get(path, "a")] == [model, "big"]
    with pytest.raises(InputError, match="uid 'a' comes from two sources"):
        build(tmp_path / "first", record("a", "x", model="small"), prefer="error")


@pytest.mark.parametrize("prefer", ["first", "last"])
@pytest.mark.parametrize("ends", [("length", "stop"), ("stop", "length")])
def test_a_whole_answer_is_never_lost_to_one_that_was_cut_off(tmp_path, prefer, ends):
    path, one = tmp_path / "i.db", record("a", "x", finish_reason=ends[0])
    build(path, one)
    build(path, record("a", "x", finish_reason=ends[1], model="small"), prefer=prefer)
    with closing(TeacherIndex.open(path)) as index:
        assert index.answers("a", one.raw_prompt_hash, 1) == ("x",)


def test_a_prompt_of_several_uids_gives_each_answer_once(tmp_path):
    path, one = tmp_path / "i.db", record("a", "x", "y")
    build(path, one, one.model_copy(update={"uid": "b", "answers": (Answer(text="y"), Answer(text="z"))}))
    with closing(TeacherIndex.open(path)) as index:
        assert index.answers("c", one.raw_prompt_hash, 3) == ("x", "y", "z")
        assert index.count("c", one.raw_prompt_hash) == 3
        assert [stored.answer.text for stored in index.get("c", one.raw_prompt_hash)] == ["x", "y", "z"]
        assert index.answers("b", one.raw_prompt_hash, 2) == ("y", "z")


def test_survey_counts_by_hand(tmp_path):
    path = tmp_path / "i.db"
    build(
        path,
        record("a", "1", "22", "333"),
        record("b", "4444", model="small", sampling={}),
        record("c", "55555", finish_reason="length"),
    )
    with closing(TeacherIndex.open(path)) as index:
        found = survey(index)
    assert (found.prompts, found.answers, found.truncated, found.sources) == (3, 4, 1, 2)
    assert found.truncated_share == pytest.approx(1 / 5)
    assert found.distinct == {0: 1, 1: 1, 3: 1}
    assert found.chars == found.tokens == Lengths(least=1, median=2, p95=4, most=4)
    big, small = found.models["big"], found.models["small"]
    assert (big.answers, big.truncated, big.tokens, big.mean_chars) == (3, 1, 11, 2.0)
    assert (big.temperatures, small.temperatures) == ((0.7,), (None,))


@pytest.mark.parametrize(("count", "median", "p95"), [(1, 1, 1), (2, 1, 2), (20, 10, 19), (100, 50, 95), (101, 51, 96)])
def test_ranks_are_nearest_ranks(count, median, p95):
    found = Lengths.of(list(range(count, 0, -1)))
    assert (found.least, found.median, found.p95, found.most) == (1, median, p95, count)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 9), st.text(max_size=5), st.integers(0, 20))
def test_which_m_of_more(count, m, seed, uid, epoch):
    digests = [bytes([k]) * 16 for k in range(count)]
    places = chosen(digests, m, seed=seed, uid=uid, epoch=epoch)
    assert len(places) == len(set(places)) == min(m, count) and places == sorted(places)
    assert places == chosen(digests, m, seed=seed, uid=uid, epoch=epoch)
    order = random.Random(0).sample(range(count), count)  # nothing but the texts matters
    shuffled = chosen([digests[k] for k in order], m, seed=seed, uid=uid, epoch=epoch)
    assert {digests[order[k]] for k in shuffled} == {digests[k] for k in places}


def test_over_the_epochs_all_answers_are_used_equally_often():
    digests = [bytes([k]) * 16 for k in range(6)]
    used = Counter(k for epoch in range(3) for k in chosen(digests, 4, seed=1, uid="u", epoch=epoch))
    assert used == dict.fromkeys(range(6), 2)
    draws = {tuple(chosen(digests, 2, seed=seed, uid="u", epoch=0)) for seed in range(30)}
    assert len(draws) > 5


def test_more_answers_than_m_are_chosen_by_seed_uid_and_epoch(tmp_path):
    path, one = tmp_path / "i.db", record("a", *(f"answer {k}" for k in range(8)))
    build(path, one)
    with closing(TeacherIndex.open(path)) as index:
        by_epoch = [index.answers("a", one.raw_prompt_hash, 4, seed=3, epoch=epoch) for epoch in range(3)]
    assert set(by_epoch[0]) | set(by_epoch[1]) == {answer.text for answer in one.answers}
    assert by_epoch[0] == by_epoch[2] and by_epoch[0] == tuple(sorted(by_epoch[0]))


def test_stored_is_frozen(tmp_path):
    build(tmp_path / "i.db", record("a", "x"))
    (stored,) = get(tmp_path / "i.db", "a")
    assert replace(stored, usable=False) != stored

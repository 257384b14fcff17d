"""Prompt files: three formats that hold the same prompts, written whole, with verl's columns."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropd_cli.datasets.sums import make_sums
from ropd_cli.errors import InputError
from ropd_cli.records.fields import ROLES
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Message, Prompt, load_prompts
from ropd_cli.stages.prepare import Output, write_all

FORMATS = ("p.jsonl", "p.jsonl.zst", "p.parquet")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), min_size=1, max_size=3)
EXTRA = st.dictionaries(
    st.sampled_from(["name", "tool_call_id", "weight", "tool_calls"]), TEXT | st.integers(0, 9) | st.none()
)
MESSAGE = st.builds(
    lambda role, content, extra: {"role": role, "content": content} | extra, st.sampled_from(ROLES), TEXT | PARTS, EXTRA
) | st.builds(lambda role, content: {"role": role, "content": content}, st.sampled_from(["system", "user"]), TEXT)
MESSAGES = st.builds(lambda turns, last: [*turns, last | {"role": "user"}], st.lists(MESSAGE, max_size=2), MESSAGE)


def prompts_of(chats):
    return [Prompt(uid=str(k), prompt=tuple(Message(**m) for m in chat)) for k, chat in enumerate(chats)]


def write(prompts, out, *, force=False):
    return write_all([Output(out, "train", prompts)], force=force)[0]


@pytest.mark.parametrize("name", FORMATS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(chats=st.lists(MESSAGES, min_size=1, max_size=3))
def test_prompts_read_back_with_their_hashes_or_parquet_says_it_can_t(tmp_path, name, chats):
    out, prompts = tmp_path / name, prompts_of(chats)
    try:
        write(prompts, out, force=True)
    except InputError as fault:
        assert name == "p.parquet" and "Parquet can't hold" in fault.message and ".jsonl" in fault.hint
        keys = {tuple(sorted(m)) for chat in chats for m in chat}
        kinds = {type(value) for chat in chats for m in chat for value in m.values()}
        assert len(keys) > 1 or len(kinds) > 1  # messages of one form are held
        return
    assert [p.raw_prompt_hash for p in load_prompts(out)] == [p.raw_prompt_hash for p in prompts]


def test_parquet_holds_chats_of_one_form_and_refuses_mixed_ones(tmp_path):
    user, tool = {"role": "user", "content": "é 你好 \U0001f600"}, {"role": "tool", "content": "x", "tool_call_id": "1"}
    parts = {"role": "user", "content": [{"type": "text", "text": "q"}]}
    for chats in ([[user], [{"role": "system", "content": "s"}, user]], [[parts], [parts, parts]]):
        prompts = prompts_of(chats)
        assert write(prompts, tmp_path / "p.parquet", force=True)
        assert [p.raw_prompt_hash for p in load_prompts(tmp_path / "p.parquet")] == [p.raw_prompt_hash for p in prompts]
    before = (tmp_path / "p.parquet").read_bytes()
    for chats in ([[user], [tool, user]], [[user], [parts]]):
        with pytest.raises(InputError, match="Parquet can't hold") as caught:
            write(prompts_of(chats), tmp_path / "p.parquet", force=True)
        assert ".jsonl" in caught.value.hint
        assert write(prompts_of(chats), tmp_path / "q.jsonl", force=True)
    assert (tmp_path / "p.parquet").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["p.parquet", "q.jsonl"]


@pytest.mark.parametrize("name", FORMATS)
def test_files_have_our_fields_and_verl_s(tmp_path, name):
    given = {"uid": "u", "prompt": (Message(role="user", content="q"),)}
    full = Prompt(
        **given,
        answer="7",
        data_source="d",
        ability="MATH",
        reward_model={"style": "rule-x", "ground_truth": "old"},
        extra_info={"index": "a9", "level": 3},
        more=[1],
    )
    write([full], tmp_path / name)
    write([Prompt(**given)], tmp_path / f"bare-{name}")
    ((_, record),) = read_records(tmp_path / name)
    assert record == {
        "uid": "u",
        "prompt": [{"role": "user", "content": "q"}],
        "answer": "7",
        "data_source": "d",
        "ability": "MATH",
        "reward_model": {"style": "rule-x", "ground_truth": "7"},
        "extra_info": {"index": "a9", "level": 3, "split": "train", "ropd_uid": "u"},
        "more": [1],
    }
    ((_, record),) = read_records(tmp_path / f"bare-{name}")
    assert record["reward_model"] == {"style": "model", "ground_truth": None}
    assert record["extra_info"] == {"index": 0, "split": "train", "ropd_uid": "u"}
    assert load_prompts(tmp_path / f"bare-{name}")[0].answer is None


@pytest.mark.parametrize("name", FORMATS)
def test_columns_that_only_later_prompts_have_are_written(tmp_path, name):
    first, second = (Prompt(uid=str(k), prompt=(Message(role="user", content=str(k)),)) for k in range(2))
    write(
        [first, second.model_copy(update={"answer": "a", "rubric": [{"criterion": "c", "points": 1}]})], tmp_path / name
    )
    back = load_prompts(tmp_path / name)
    assert (back[0].answer, back[1].answer, back[1].rubric) == (None, "a", [{"criterion": "c", "points": 1}])


@pytest.mark.parametrize("name", FORMATS)
def test_writing_is_whole_and_never_over_something_else(tmp_path, name):
    split, out = make_sums(6, 2, 0), tmp_path / name
    assert write(split.train, out) is True
    assert [p.raw_prompt_hash for p in load_prompts(out)] == [p.raw_prompt_hash for p in split.train]
    before = out.read_bytes()
    assert write(split.train, out) is False
    with pytest.raises(InputError, match="other content"):
        write(split.held_out, out)
    other = Output(tmp_path / f"other-{name}", "dev", split.train)
    with pytest.raises(InputError, match="other content"):  # and then none of the files is written
        write_all([other, Output(out, "train", split.held_out)], force=False)
    assert out.read_bytes() == before and os.listdir(tmp_path) == [name]
    assert write(split.held_out, out, force=True) is True
    assert len(load_prompts(out)) == 2
    write(split.train, out, force=True)
    assert out.read_bytes() == before


def test_what_can_t_be_written_is_named(tmp_path):
    prompt = Prompt(uid="u", prompt=(Message(role="user", content="q"),), picture=b"\xff\xfe")
    with pytest.raises(InputError, match="uid u") as caught:
        write([prompt], tmp_path / "p.jsonl")
    assert "picture" in caught.value.hint and "--drop-column" in caught.value.hint
    mixed = [prompt.model_copy(update={"picture": value, "uid": str(value)}) for value in (1, "x")]
    with pytest.raises(InputError, match=r"p\.parquet.*'picture'"):
        write(mixed, tmp_path / "p.parquet")
    with pytest.raises(InputError, match=r"p\.txt"):
        write(mixed, tmp_path / "p.txt")
    assert os.listdir(tmp_path) == []

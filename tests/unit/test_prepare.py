"""Prompts from made tasks and from files of any columns."""

from __future__ import annotations

import orjson
import pytest

from ropd_cli.errors import InputError
from ropd_cli.schemas import load_prompts
from ropd_cli.stages.prepare import Source, Wording, prepare, write_prompts
from ropd_cli.tasks.sums import make_sums


def lines(path, *records):
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return path


def local(file, **more):
    return Source(name="mine", local=file, **more)


@pytest.mark.parametrize("name", ["sums", "reasoning-gym:chain_sum", "reasoning-gym:gcd"])
def test_a_made_task_is_drawn_by_its_seed_and_nothing_is_in_both_parts(name):
    train, held_out = prepare(Source(name=name, size=30, seed=4), Wording(), 10)
    assert (len(train), len(held_out)) == (30, 10)
    hashes = [prompt.raw_prompt_hash for prompt in train + held_out]
    assert len(set(hashes)) == len({prompt.uid for prompt in train + held_out}) == 40
    assert all(prompt.answer for prompt in train)
    assert (train, held_out) == prepare(Source(name=name, size=30, seed=4), Wording(), 10)
    assert train != prepare(Source(name=name, size=30, seed=5), Wording(), 10)[0]


def test_parameters_reach_the_task_and_wrong_ones_are_named():
    source = Source(name="reasoning-gym:chain_sum", size=5, parameters={"min_terms": 5, "max_terms": 5})
    train, _ = prepare(source, Wording())
    assert all(sum(prompt.prompt.count(sign) for sign in "+-") >= 4 for prompt in train)
    for parameters in ({"no_such": 1}, {"min_terms": 9, "max_terms": 2}):
        with pytest.raises(InputError, match="chain_sum"):
            prepare(Source(name="reasoning-gym:chain_sum", size=5, parameters=parameters), Wording())
    with pytest.raises(InputError, match="chain_sums") as caught:
        prepare(Source(name="reasoning-gym:chain_sums"), Wording())
    assert "chain_sum" in caught.value.hint
    with pytest.raises(InputError, match="323 different ones"):
        prepare(Source(name="sums", size=400), Wording())
    with pytest.raises(InputError, match="nothing-like-it"):
        prepare(Source(name="nothing-like-it"), Wording())


def test_columns_are_found_or_named(tmp_path):
    file = lines(
        tmp_path / "a.jsonl",
        {"question": "1 + 1?", "answer": "so\n#### 2", "extra": 5},
        {"question": "2 + 2?", "answer": 4},
    )
    train, _ = prepare(local(file), Wording())
    assert [(p.prompt, p.answer, p.data_source) for p in train] == [("1 + 1?", "2", "mine"), ("2 + 2?", "4", "mine")]
    assert train[0].extra == 5
    file = lines(tmp_path / "b.jsonl", {"text": "q", "gold": "a"})
    train, _ = prepare(local(file, prompt_field="text", answer_field="gold"), Wording())
    assert (train[0].prompt, train[0].answer) == ("q", "a")
    with pytest.raises(InputError, match=r"b\.jsonl:1.*text, gold") as caught:
        prepare(local(file), Wording())
    assert "--prompt-field" in caught.value.hint
    with pytest.raises(InputError, match=r"b\.jsonl:1: no field 'nope'"):
        prepare(local(file, prompt_field="text", answer_field="nope"), Wording())


def test_csv_json_and_verl_s_columns(tmp_path):
    (tmp_path / "a.csv").write_text('problem,answer\n"1,5 + 1?",2.5\n', encoding="utf-8")
    assert prepare(local(tmp_path / "a.csv"), Wording())[0][0].prompt == "1,5 + 1?"
    (tmp_path / "a.json").write_bytes(orjson.dumps([{"problem": "p", "answer": "a"}]))
    assert prepare(local(tmp_path / "a.json"), Wording())[0][0].answer == "a"
    row = {
        "prompt": [{"role": "user", "content": "q"}],
        "reward_model": {"ground_truth": "7"},
        "extra_info": {"index": 12},
    }
    prompt = prepare(local(lines(tmp_path / "v.jsonl", row)), Wording())[0][0]
    assert (prompt.uid, prompt.answer) == ("12", "7")


def test_repeated_prompts_count_once_and_too_few_are_said(tmp_path):
    file = lines(tmp_path / "a.jsonl", *({"prompt": text} for text in ("a", "b", "a", "c")))
    assert [p.prompt for p in prepare(local(file), Wording())[0]] == ["a", "b", "c"]
    with pytest.raises(InputError, match="3 different prompts, asked for are 3 and 1 held out"):
        prepare(local(file, size=3), Wording(), 1)
    lines(file, {"prompt": "a", "uid": "1"}, {"prompt": "b", "uid": "1"})
    with pytest.raises(InputError, match=r"a\.jsonl:2: uid '1'"):
        prepare(local(file), Wording())
    lines(file, {"prompt": ""})
    with pytest.raises(InputError, match=r"a\.jsonl:1"):
        prepare(local(file), Wording())


def test_wording_goes_around_the_question(tmp_path):
    file = lines(tmp_path / "a.jsonl", {"prompt": "q"})
    train, _ = prepare(local(file), Wording(instruction="Box it."))
    assert train[0].prompt == "q\n\nBox it."
    train, _ = prepare(local(file), Wording(system="Be brief.", instruction="Box it."))
    assert [(m.role, m.content) for m in train[0].messages] == [("system", "Be brief."), ("user", "q\n\nBox it.")]


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.zst", "p.parquet"])
def test_writing_is_whole_and_never_over_something_else(tmp_path, name):
    split, out = make_sums(6, 2, 0), tmp_path / name
    assert write_prompts(split.train, out, force=False) is True
    assert [p.uid for p in load_prompts(out)] == [p.uid for p in split.train]
    assert [p.raw_prompt_hash for p in load_prompts(out)] == [p.raw_prompt_hash for p in split.train]
    with pytest.raises(InputError, match="something else"):
        write_prompts(split.held_out, out, force=False)
    assert write_prompts(split.held_out, out, force=True) is True
    assert len(load_prompts(out)) == 2


def test_the_same_prompts_again_are_no_error(tmp_path):
    split, out = make_sums(6, 2, 0), tmp_path / "p.jsonl"
    write_prompts(split.train, out, force=False)
    assert write_prompts(split.train, out, force=False) is False

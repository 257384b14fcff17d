"""Prompts from made tasks and from files of any columns."""

from __future__ import annotations

import orjson
import pytest
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.errors import InputError
from ropd_cli.method.dataset_rubrics import dataset_rubric
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import prompt_hash
from ropd_cli.stages.prepare import Filters, Ledger, Part, Plan, Source, Wording, parse_part, prepare


def lines(path, *records):
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return path


def run(file, name="mine", columns=None, wording=Wording(), **more):
    """The prompts to train on of a local file."""
    return prepare(Plan(Source(name, local=file, columns=columns or {}), wording, **more)).train


def text(prompt):
    return prompt.messages[-1].content


@pytest.mark.parametrize("name", ["sums", "reasoning-gym:chain_sum", "reasoning-gym:gcd"])
def test_a_made_task_is_drawn_by_its_seed_and_nothing_is_in_both_parts(name):
    def made(seed):
        return prepare(Plan(Source(name), parts=(Part("held-out", 10), Part("dev", 0.2)), size=30, seed=seed))

    first = made(4)
    assert {part: len(prompts) for part, prompts in first.parts.items()} == {"held-out": 10, "dev": 10, "train": 30}
    every = [prompt for prompts in first.parts.values() for prompt in prompts]
    assert len({prompt.raw_prompt_hash for prompt in every}) == len({prompt.uid for prompt in every}) == 50
    assert all(prompt.answer for prompt in every)
    assert first.parts == made(4).parts
    assert first.train != made(5).train


def test_parameters_reach_the_task_and_wrong_ones_are_named():
    def made(name, size=5, **parameters):
        return prepare(Plan(Source(name, parameters=parameters), size=size)).train

    assert all(
        sum(text(p).count(sign) for sign in "+-") >= 4
        for p in made("reasoning-gym:chain_sum", min_terms=5, max_terms=5)
    )
    for parameters in ({"no_such": 1}, {"min_terms": 9, "max_terms": 2}):
        with pytest.raises(InputError, match="chain_sum"):
            made("reasoning-gym:chain_sum", **parameters)
    with pytest.raises(InputError, match="chain_sums") as caught:
        made("reasoning-gym:chain_sums")
    assert "chain_sum" in caught.value.hint
    with pytest.raises(InputError, match="only 323 different questions exist"):
        made("sums", 400)
    with pytest.raises(InputError, match="gsm9k") as caught:
        made("gsm9k")
    assert "did you mean gsm8k?" in caught.value.hint


def test_the_rows_of_a_column_are_a_number(tmp_path):
    (tmp_path / "one.jsonl").write_text('{"question": "a", "answer": "1"}\n')
    plan = Plan(Source("mine", local=tmp_path / "one.jsonl"), Wording())
    assert [type(each.rows) for each in prepare(plan).columns.values()] == [int, int]


def test_columns_are_found_or_named(tmp_path):
    file = lines(
        tmp_path / "a.jsonl",
        {"question": "1 + 1?", "answer": "so\n#### 2", "extra": 5},
        {"question": "2 + 2?", "answer": 4},
    )
    train = run(file)
    assert [(text(p), p.answer, p.data_source) for p in train] == [("1 + 1?", "2", "mine"), ("2 + 2?", "4", "mine")]
    assert train[0].extra == 5
    assert train[0].uid == prompt_hash("1 + 1?")[:16]
    assert train[0].raw_prompt_hash == prompt_hash([{"role": "user", "content": "1 + 1?"}])
    row = {"text": "q", "gold": {"value": "a"}, "who": "Be kind.", "n": 7, "prompt": "no"}
    file = lines(tmp_path / "b.jsonl", row)
    columns = {"prompt": "text", "answer": "gold.value", "system": "who", "uid": "n"}
    (prompt,) = run(file, columns=columns)
    assert [(m.role, m.content) for m in prompt.messages] == [("system", "Be kind."), ("user", "q")]
    assert (prompt.answer, prompt.uid) == ("a", "7") and not hasattr(prompt, "who") and prompt.gold == {"value": "a"}
    with pytest.raises(InputError, match=r"b\.jsonl:1: no field 'nope'"):
        run(file, columns={"prompt": "text", "answer": "nope"})
    file = lines(tmp_path / "c.jsonl", {"text": "q", "gold": "a"})
    with pytest.raises(InputError, match=r"c\.jsonl:1.*text, gold") as caught:
        run(file)
    assert "--prompt-field" in caught.value.hint


@pytest.mark.parametrize(
    ("columns", "noted"),
    [
        ({"id": "q1", "gold": "2"}, ("no column of answers found: --answer-field COLUMN", "uids are hashes")),
        ({"id": "q1", "answer": "2"}, ("uids are hashes of the prompts: --uid-field COLUMN (columns: id)",)),
        ({"uid": "q1", "gold": "2"}, ("no column of answers found: --answer-field COLUMN (columns: gold)",)),
        ({"uid": "q1", "answer": "2", "more": 3}, ()),
        ({}, ()),
    ],
)
def test_fields_without_a_column_are_told(tmp_path, columns, noted):
    file = lines(tmp_path / "mine.jsonl", {"question": "What is 1 + 1?"} | columns)
    done = CliRunner().invoke(
        app, ["data", "prepare", "mine", "--local", str(file), "--out", str(tmp_path / "p.jsonl")]
    )
    assert done.exit_code == 0, done.output
    assert all(each in done.stderr for each in noted) and (" COLUMN" in done.stderr) == bool(noted)


def test_chat_messages_are_prompts_up_to_the_last_question(tmp_path):
    user, reply = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    file = lines(
        tmp_path / "a.jsonl",
        {"messages": [user, reply]},
        {
            "messages": [
                {"from": "system", "value": "s"},
                {"from": "human", "value": "h"},
                {"from": "gpt", "value": "g"},
            ]
        },
    )
    prepared = prepare(Plan(Source("mine", local=file)))
    assert [[m.role for m in p.messages] for p in prepared.train] == [["user"], ["system", "user"]]
    assert prepared.notes == {"prompts whose last messages, replies, were cut off": 2}
    (kept,) = run(lines(tmp_path / "b.jsonl", {"prompt": [user, reply]}))
    assert [m.role for m in kept.messages] == ["user"]
    with pytest.raises(InputError, match=r"c\.jsonl:1.*no question"):
        run(lines(tmp_path / "c.jsonl", {"messages": [reply]}))
    for bad in ([{"role": "user"}], ["x"], {"a": 1}, [{"role": 3, "content": "x"}]):
        with pytest.raises(InputError, match=r"d\.jsonl:1"):
            run(lines(tmp_path / "d.jsonl", {"prompt": bad}))


def test_nulls_that_only_parquet_s_columns_have_are_no_keys_of_a_message(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    user, named = {"role": "user", "content": "q"}, {"role": "user", "content": "r", "name": "n"}
    pq.write_table(pa.table({"prompt": [[user], [named, user]]}), tmp_path / "a.parquet")
    assert [p.raw_prompt_hash for p in run(tmp_path / "a.parquet")] == [prompt_hash([user]), prompt_hash([named, user])]


def test_csv_json_and_verl_s_columns(tmp_path):
    (tmp_path / "a.csv").write_text('problem,answer\n"1,5 + 1?",2.5\n', encoding="utf-8")
    assert text(run(tmp_path / "a.csv")[0]) == "1,5 + 1?"
    (tmp_path / "b.csv").write_text("problem,answer\nq,1\nr,2,3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.csv:3: more values"):
        run(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_bytes(b"problem\nq\n\xff\n")
    with pytest.raises(InputError, match=r"c\.csv:\d: not UTF-8"):
        run(tmp_path / "c.csv")
    (tmp_path / "a.json").write_bytes(orjson.dumps([{"problem": "p", "answer": "a"}]))
    assert run(tmp_path / "a.json")[0].answer == "a"
    row = {
        "prompt": [{"role": "user", "content": "q"}],
        "reward_model": {"ground_truth": "7"},
        "extra_info": {"index": 12},
    }
    prompt = run(lines(tmp_path / "v.jsonl", row))[0]
    assert (prompt.uid, prompt.answer) == ("12", "7")
    for name in ("a.xlsx", "folder"):
        (tmp_path / "a.xlsx").touch()
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=name):
            run(tmp_path / name)


def test_repeated_prompts_count_once_and_too_few_are_said(tmp_path):
    file = lines(tmp_path / "a.jsonl", *({"prompt": each} for each in ("a", "b", "a", "c")))
    assert [text(p) for p in run(file)] == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"3 different prompts; 3 and 1 held out are requested.*1 \(duplicate\)"):
        run(file, size=3, parts=(Part("h", 1),))
    lines(file, {"prompt": "a", "uid": "1"}, {"prompt": "b", "uid": "1"})
    with pytest.raises(InputError, match=r"a\.jsonl:2: uid '1'") as caught:
        run(file)
    assert "@hash" in caught.value.hint
    assert len({p.uid for p in run(file, columns={"uid": "@hash"})}) == 2
    lines(file, {"prompt": "a"}, {"prompt": " "})
    with pytest.raises(InputError, match=r"a\.jsonl:2"):
        run(file)
    assert len(run(file, filters=Filters(bad_rows="drop"))) == 1


def test_wording_goes_around_the_question(tmp_path):
    file = lines(tmp_path / "a.jsonl", {"prompt": "q"})
    (prompt,) = run(file, wording=Wording(system="Be brief.", instruction="Box it."))
    assert [(m.role, m.content) for m in prompt.messages] == [("system", "Be brief."), ("user", "q\n\nBox it.")]
    file = lines(tmp_path / "g.jsonl", {"question": "q", "answer": "x\n#### 1,234,567"})
    (prompt,) = run(file, "gsm8k")
    assert prompt.answer == "1234567" and "boxed" in text(prompt) and prompt.data_source == "openai/gsm8k"
    assert text(run(file, "gsm8k", wording=Wording(instruction=""))[0]) == "q"


def test_known_sets_read_their_own_columns_from_a_local_file(tmp_path):
    rubric = [{"title": "t", "description": "Essential Criteria: Says so.", "weight": 5}]
    rar = {"question": "Why?", "reference_answer": "So.", "question_source": "s", "rubric": rubric}
    (prompt,) = run(lines(tmp_path / "r.jsonl", rar | {"rubric_list": ["x"], "rubric_count": 1}), "rar-medicine")
    assert dataset_rubric(prompt).rubrics[0].criterion == "Says so."
    assert prompt.answer is None and prompt.reference_answer == "So." and prompt.ability == "medicine"
    assert not {"rubric_list", "rubric_count"} & set(prompt.model_extra)
    assert run(tmp_path / "r.jsonl", "rar-medicine", columns={"answer": "reference_answer"})[0].answer == "So."
    dapo = {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": "q"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": "34", "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": "9a9b"},
    }
    (prompt,) = run(lines(tmp_path / "d.jsonl", dapo, dapo), "dapo-math-17k")
    assert (prompt.uid, prompt.answer, prompt.data_source) == ("9a9b", "34", "math_dapo")


@pytest.mark.parametrize(
    ("name", "rows", "ends", "answer", "source"),
    [
        ("gsm8k-sample", 100, "}.", "18", "openai/gsm8k"),
        ("math500", 500, "}.", r"\left( 3, \frac{\pi}{2} \right)", "HuggingFaceH4/MATH-500"),
        ("ifeval", 541, "*.", None, "google/IFEval"),
    ],
)
def test_sets_of_the_package_are_read_by_name(name, rows, ends, answer, source):
    prompts = prepare(Plan(Source(name))).train
    first = prompts[0]
    assert (len(prompts), first.answer, first.data_source) == (rows, answer, source)
    assert text(first).endswith(ends) and ("boxed" in text(first)) == (name != "ifeval")
    with pytest.raises(InputError, match=f"{name} comes with the package"):
        prepare(Plan(Source(name, split="test")))


def test_every_row_is_a_prompt_or_a_line_of_the_listing(tmp_path):
    rows = [{"prompt": f"question number {k}", "uid": str(k), "answer": str(k)} for k in range(40)]
    rows[5] |= {"prompt": "question number 4", "answer": "5"}
    rows[6] |= {"prompt": "Question  number, 4."}
    rows[7] |= {"answer": None}
    rows[8] |= {"prompt": None}
    file = lines(tmp_path / "a.jsonl", *rows)
    filters = Filters(dedup="normalized", require_answer=True, bad_rows="drop")
    plan = Plan(Source("mine", local=file), filters=filters, parts=(Part("dev", 0.25),), limit=20, seed=3)
    with Ledger(tmp_path / "x.dropped.jsonl") as ledger:
        prepared = prepare(plan, ledger)
        ledger.finish()
    left_out = {"duplicate": 1, "near duplicate": 1, "no answer": 1, "bad row": 1, "not drawn": 7}
    assert prepared.dropped == left_out
    assert (prepared.read, prepared.kept, len(prepared.parts["dev"]), len(prepared.train)) == (40, 29, 9, 20)
    assert prepared.notes["duplicates with another answer"] == 1
    listed = [record for _, record in read_records(tmp_path / "x.dropped.jsonl")]
    kept = {p.uid for prompts in prepared.parts.values() for p in prompts}
    assert {r["row"] for r in listed} | {int(uid) + 1 for uid in kept} == set(range(1, 41))
    by_row = {r["row"]: r for r in listed}
    assert by_row[6] == {"row": 6, "uid": "5", "why": "duplicate", "of": 5, "answer": "5", "answer_of": "4"}
    assert by_row[7]["why"] == "near duplicate" and "'prompt' is empty" in by_row[9]["error"]
    assert prepare(plan).parts == prepared.parts


def test_parts_are_taken_in_order_without_a_shuffle_and_are_numbers_or_shares(tmp_path):
    file = lines(tmp_path / "a.jsonl", *({"prompt": f"p{k}"} for k in range(10)))
    plan = Plan(Source("mine", local=file), parts=(Part("dev", 2),), limit=3, shuffle=False)
    assert [[text(p) for p in part] for part in prepare(plan).parts.values()] == [["p0", "p1"], ["p2", "p3", "p4"]]
    drawn = [text(p) for p in run(file, limit=5)]
    assert drawn == [text(p) for p in run(file, limit=5)] != [text(p) for p in run(file, limit=5, seed=1)]
    assert [parse_part("a", size, "--x").size for size in ("5", "0.5", "10%")] == [5, 0.5, 0.1]
    for bad in ("0", "1.5", "-3", "ten", "0%", "100%", "nan", "inf", ""):
        with pytest.raises(InputError, match="--x"):
            parse_part("a", bad, "--x")

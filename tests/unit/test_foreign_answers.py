"""Answers made elsewhere: from a file in the shape of another tool to an index that has every prompt."""

from __future__ import annotations

import csv
import json

import pytest
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import prompt_hash

QUESTIONS = {"a": "What is 17 + 25?", "b": "What is 8 + 9?", "c": "Name a prime above 10."}
TEXTS = {"a": ["It is 42.", "42"], "b": ["17", "It is 17."], "c": ["11", "13"]}
PAIRS = [(QUESTIONS[uid], text) for uid, texts in TEXTS.items() for text in texts]


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def turn(role, content, names=("role", "content")):
    return dict(zip(names, (role, content), strict=True))


def distilabel(folder):
    """A row per prompt; generations and their models in lists."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"instruction": QUESTIONS[uid], "generations": texts, "generation_models": ["big", "big"], "metadata": "x"}
        for uid, texts in TEXTS.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "set.parquet")
    return "set.parquet"


def curator(folder):
    """A row per response, with the prompt as messages."""
    row = {"model": "big", "finish_reason": "stop"}
    write_lines(folder / "set.jsonl", [{"prompt": [turn("user", q)], "response": text, **row} for q, text in PAIRS])
    return "set.jsonl"


def share_gpt(folder):
    names = ("from", "value")
    chats = [[turn("human", f" {question}\n", names), turn("gpt", text, names)] for question, text in PAIRS]
    (folder / "set.json").write_text(json.dumps([{"id": k, "conversations": chat} for k, chat in enumerate(chats)]))
    return "set.json"


def open_ai(folder):
    write_lines(folder / "set.jsonl", [{"messages": [turn("user", q), turn("assistant", text)]} for q, text in PAIRS])
    return "set.jsonl"


def plain_csv(folder):
    with open(folder / "set.csv", "w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *PAIRS])
    return "set.csv"


def alpaca(folder):
    rows = [{"instruction": q.partition(" ")[0], "input": q.partition(" ")[2], "output": text} for q, text in PAIRS]
    write_lines(folder / "set.jsonl", rows)
    return "set.jsonl"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "prompts.jsonl", [{"uid": uid, "prompt": [turn("user", q)]} for uid, q in QUESTIONS.items()])
    return tmp_path


def ropd(*words, code=0):
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code in (0, 3) else done.output


@pytest.mark.parametrize("shape", [distilabel, curator, share_gpt, open_ai, plain_csv])
def test_from_file_to_index_in_one_command(folder, shape):
    added = ropd("index", "import", shape(folder), "--prompts", "prompts.jsonl", "--out", "t.index", "--model", "big")
    assert (added["answers"], added["prompts"]) == (6, 3)
    assert ropd("index", "check", "t.index", "prompts.jsonl", "-m", "2")["complete"]
    stored = ropd("index", "get", "t.index", "--uid", "a")["answers"]
    assert [each["text"] for each in stored] == TEXTS["a"] and {each["model"] for each in stored} == {"big"}


def test_columns_are_shown_and_a_model_column_is_taken(folder):
    words = ["index", "import", distilabel(folder), "--prompts", "prompts.jsonl", "--out", "t.index"]
    done = CliRunner().invoke(app, words)
    assert "prompt: instruction, answers: generations, model: generation_models" in done.stderr
    assert ropd("index", "get", "t.index", "--uid", "b")["answers"][0]["model"] == "big"


def test_an_instruction_with_its_input(folder):
    prompts = [{"uid": uid, "prompt": q.replace(" ", "\n\n", 1)} for uid, q in QUESTIONS.items()]
    write_lines(folder / "prompts.jsonl", prompts)
    ropd("index", "import", alpaca(folder), "--prompts", "prompts.jsonl", "--out", "t.index")
    assert ropd("index", "check", "t.index", "prompts.jsonl", "-m", "2")["complete"]


def test_answers_without_a_prompts_file_and_their_hashes_later(folder):
    added = ropd("index", "import", plain_csv(folder), "--out", "t.index")
    assert added["answers"] == 6
    assert ropd("index", "get", "t.index", "--hash", prompt_hash(QUESTIONS["a"]))["answers"]
    checked = ropd("index", "check", "t.index", "prompts.jsonl", "-m", "2", code=3)
    assert (len(checked["missing"]), checked["same_text"]) == (3, 3)
    done = CliRunner().invoke(app, ["index", "check", "t.index", "prompts.jsonl", "-m", "2"])
    assert "3 of these prompts match by text, not by hash" in done.output
    assert "ropd index rehash t.index prompts.jsonl" in done.output
    assert ropd("index", "rehash", "t.index", "prompts.jsonl")["prompts"] == 3
    assert ropd("index", "check", "t.index", "prompts.jsonl", "-m", "2")["complete"]
    assert ropd("index", "rehash", "t.index", "prompts.jsonl")["prompts"] == 0


def test_rollouts_made_elsewhere(folder):
    ropd("index", "import", curator(folder), "--prompts", "prompts.jsonl", "--out", "rollouts.jsonl")
    records = [record for _, record in read_records(folder / "rollouts.jsonl")]
    assert [(r["uid"], [a["text"] for a in r["answers"]]) for r in records] == list(TEXTS.items())
    assert all(record["raw_prompt_hash"] == prompt_hash(record["prompt"]) for record in records)


def test_what_is_not_among_the_prompts_is_said(folder):
    write_lines(folder / "more.jsonl", [{"question": q, "answer": "x"} for q in (*QUESTIONS.values(), "Why?", "Who?")])
    done = CliRunner().invoke(app, ["index", "import", "more.jsonl", "--prompts", "prompts.jsonl", "--out", "t.index"])
    assert done.exit_code == 0 and "not in prompts.jsonl: 2 prompts of more.jsonl: more.jsonl:4" in done.stderr
    write_lines(folder / "other.jsonl", [{"question": "Why?", "answer": "x"}])
    text = ropd("index", "import", "other.jsonl", "--prompts", "prompts.jsonl", "--out", "u.index", code=2)
    assert "no prompt of other.jsonl (1) is in prompts.jsonl" in text and not (folder / "u.index").exists()
    assert "have to be equal: 'Why?' there (prompt: question" in text and f"'{QUESTIONS['a']}' in prompts.jsonl" in text


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"text": "x", "score": 1}, "no column of prompts among text, score"),
        ({"prompt": "x", "score": 1}, "no column of answers among prompt, score"),
        ({"prompt": "x", "response": {"a": 1}}, "set.jsonl:1: an answer is dict, not a text"),
        ({"prompt": "x", "response": " "}, "no column of answers among prompt, response"),
    ],
)
def test_a_file_without_a_usable_column(folder, record, words):
    write_lines(folder / "set.jsonl", [record])
    assert words in ropd("index", "import", "set.jsonl", "--out", "t.index", code=2)
    assert not (folder / "t.index").exists()


def test_a_named_column_that_is_not_there(folder):
    text = ropd("index", "import", plain_csv(folder), "--out", "t.index", "--response-field", "reply", code=2)
    assert "no column 'reply'" in text and "question, answer" in text


def test_prompts_of_one_text_with_different_answers_are_listed(folder):
    prompts = (("x", "Q?", "1"), ("y", "Q? ", "2"))
    write_lines(folder / "prompts.jsonl", [dict(zip(("uid", "prompt", "answer"), p, strict=True)) for p in prompts])
    text = ropd("index", "import", plain_csv(folder), "--prompts", "prompts.jsonl", "--out", "t.index", code=2)
    assert "1 texts stand there with different answers: uids x, y" in text


def test_a_record_with_another_prompt_s_hash_is_refused(folder):
    record = {"uid": "a", "prompt": "Q?", "raw_prompt_hash": prompt_hash("Q!"), "model": "m"}
    write_lines(folder / "teacher.jsonl", [record | {"answers": [{"text": "1"}]}])
    text = ropd("index", "build", "teacher.jsonl", "--out", "t.index", code=2)
    assert "uid 'a': raw_prompt_hash is not that of its prompt" in text and not (folder / "t.index").exists()


RUBRIC_HUB = {
    "prompt": [turn("user", "Q?")],
    "Rubrics": [{"criterion": "Names a cause.", "points": 7}, {"criterion": "Is kind.", "points": 3}],
}
OPEN_RUBRICS = {
    "instruction": "Q?",
    "rubric": "1. Names a cause\nof it. [Hard Rule]\n2. Is kind. [Principle]",
    "source": "s",
}


@pytest.mark.parametrize(
    ("name", "row", "criteria"),
    [
        ("rubrichub", RUBRIC_HUB, [("Names a cause.", 5), ("Is kind.", 2)]),  # of 5 at most
        ("openrubrics", OPEN_RUBRICS, [("Names a cause of it.", 1), ("Is kind.", 1)]),
    ],
)
def test_rubrics_made_elsewhere(folder, name, row, criteria):
    from ropd_cli.method.dataset_rubrics import dataset_rubric
    from ropd_cli.records.schemas import load_prompts

    write_lines(folder / "set.jsonl", [row])
    ropd("data", "prepare", name, "--local", "set.jsonl", "--out", "made.jsonl")
    (prompt,) = load_prompts(folder / "made.jsonl")
    assert [(c.criterion, c.points) for c in dataset_rubric(prompt).rubrics] == criteria

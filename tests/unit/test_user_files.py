"""Files as users bring them: each is read right, or refused with the file, the row and how to mend it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import user_files
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.datasets.eval_sets import load_eval_set
from ropd_cli.errors import InputError
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import load_prompts
from ropd_cli.stages.prepare import Output, Plan, Source, prepare, write_all


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def told(prompt, answer):
    """A prompt and its answer as the tables of cases hold them."""
    if isinstance(prompt, str):
        return prompt, answer
    turns = [(each["role"], each["content"]) for each in prompt]
    return (turns[0][1] if len(turns) == 1 and turns[0] == ("user", turns[0][1]) else turns), answer


def plain(want):
    """The cases' prompts, one user's text as that text."""
    return [told([{"role": r, "content": c} for r, c in p], a) if isinstance(p, list) else (p, a) for p, a in want]


def command(case, *arguments):
    """What a command says. A refusal is two lines: the file and the row, and how to mend it."""
    Path(case.name).write_bytes(case.content)
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(case.want, str):
        assert done.exit_code == 2, (done.output, done.exception)
        said = done.stderr[done.stderr.find("ropd: error") :]  # a command that has begun counts what it reads before
        fault, *hint = said.splitlines()
        assert re.match("ropd: error: " + case.want.replace("FILE", re.escape(case.name)), fault), fault
        assert len(hint) == 1 and hint[0].startswith("hint: ")
    else:
        assert done.exit_code == 0, (done.output, done.exception)
    return done


def check(case, read):
    """Compare what a function reads of a file, as (prompt, answer), with what is wanted."""
    Path(case.name).write_bytes(case.content)
    if isinstance(case.want, str):
        with pytest.raises(InputError) as caught:
            list(read())
        assert re.match(case.want.replace("FILE", re.escape(case.name)), caught.value.message), caught.value.message
        assert caught.value.hint
    else:
        assert plain(read()) == plain(case.want)


@pytest.mark.parametrize("kind", user_files.PREPARED)
def test_data_prepare(kind):
    case = user_files.PREPARED[kind]
    done = command(case, "data", "prepare", "mine", "--local", case.name, "--out", "out.jsonl")
    if isinstance(case.want, str):
        assert not Path("out.jsonl").exists()
        return
    rows = [record for _, record in read_records("out.jsonl")]
    assert [told(row["prompt"], row.get("answer")) for row in rows] == plain(case.want)
    assert all(row["reward_model"]["ground_truth"] == row.get("answer") for row in rows)
    assert case.says in done.stderr
    assert load_prompts("out.jsonl")


@pytest.mark.parametrize("kind", user_files.PROMPTS)
def test_prompts_files(kind):
    case = user_files.PROMPTS[kind]
    if isinstance(case.want, str):
        command(case, "teacher-gen", case.name, "--out", "out.jsonl", "--base-url", "builtin://checkable", "-m", 1)
        assert not Path("out.jsonl").exists()
    check(case, lambda: [told(p.to_json()["prompt"], p.answer) for p in load_prompts(case.name)])


@pytest.mark.parametrize("kind", user_files.INDEX)
def test_index_import(kind):
    case = user_files.INDEX[kind]
    done = command(case, "index", "import", case.name, "--out", "out.index")
    assert Path("out.index").exists() != isinstance(case.want, str)
    assert isinstance(case.want, str) or all(words in done.stdout for words in case.want), done.stdout


@pytest.mark.parametrize("kind", user_files.EVAL)
def test_evaluation_sets(kind):
    case = user_files.EVAL[kind]
    check(case, lambda: [told(q.to_json()["prompt"], q.answer) for q in load_eval_set(f"mine={case.name}").questions])


@pytest.mark.parametrize("kind", user_files.BENCHMARKS)
def test_benchmarks(kind):
    case = user_files.BENCHMARKS[kind]
    from_file = ("--benchmarks", "mine", "--data", f"mine={case.name}", "--base-url", "builtin://checkable")
    command(case, "eval", *from_file, "--model", "m", "--out", "out")


@pytest.mark.parametrize("kind", user_files.JUDGED)
def test_inspect_rubrics(kind):
    case = user_files.JUDGED[kind]
    command(case, "inspect-rubrics", case.name)


scalars = (
    st.none() | st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from(["", "{}", "[{", "['5']", "q", "#### 5"])
)
roles = st.sampled_from(["user", "Human", "assistant", "gpt", "system", "", 5])
chats = st.lists(st.builds(lambda role, content: {"role": role, "content": content}, roles, scalars), max_size=3)
values = scalars | st.just("q") | chats | chats.map(json.dumps) | chats.map(str)
columns = st.sampled_from(
    ["prompt", "messages", "instruction", "input", "system", "answer", "reward_model", "uid", "x"]
)


@settings(max_examples=80)
@given(st.lists(st.dictionaries(columns, values, max_size=4), min_size=1, max_size=3))
def test_a_row_is_a_prompt_that_reads_back_or_refused_by_its_place(tmp_path_factory, rows):
    file, out = (tmp_path_factory.mktemp("f") / name for name in ("a.jsonl", "out.jsonl"))
    file.write_bytes(user_files.jsonl(*rows))
    try:
        made = prepare(Plan(Source("mine", local=file))).train
        write_all([Output(out, "train", made)], force=False)
    except InputError as fault:
        assert fault.message.startswith((f"{file}:", "uid ")) and fault.hint
    else:
        back = load_prompts(out)
        assert [(p.raw_prompt_hash, p.answer) for p in back] == [(p.raw_prompt_hash, p.answer) for p in made]
    for read in (load_prompts, lambda path: load_eval_set(f"mine={path}")):
        try:
            read(file)
        except InputError as fault:
            assert fault.message.startswith(f"{file}:") and fault.hint

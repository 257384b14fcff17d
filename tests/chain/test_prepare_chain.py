"""``ropd data prepare`` as a user types it, twice, and what comes after it in the chain."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from processes import start_ropd

from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import load_prompts

DAPO = os.environ.get("ROPD_TEST_DAPO", "")


@pytest.fixture
def ropd(tmp_path):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
    environ |= {"ROPD_CACHE_DIR": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}

    def run(*arguments, code=0):
        """(stdout, stderr) of a command that ends with this code."""
        child = start_ropd(arguments, tmp_path, environ)
        out, err = child.communicate(timeout=120)
        assert child.returncode == code and "Traceback" not in err, err
        return out, err

    return run


def test_a_file_becomes_prompts_and_the_same_command_again_changes_nothing(ropd, tmp_path):
    rows = [{"question": f"What is {k} + {k}?", "answer": f"twice\n#### {2 * k}"} for k in range(20)]
    rows += [rows[3], {"question": "A robe takes 2 bolts of blue fiber and half that much white fiber. How many?"}]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("data", "prepare", "gsm8k", "--local", "mine.jsonl", "--out", "p.parquet", "--decontaminate")
    command += (
        "gsm8k-sample,math500",
        "--held-out",
        "10%",
        "--held-out-out",
        "h.jsonl",
        "--split-out",
        "dev=4:d.jsonl.zst",
    )
    out, err = ropd(*command)
    assert out.splitlines()[0] == "p.parquet: 14 prompts" and "contaminated" in err and "duplicate" in err
    listed = [record for _, record in read_records(tmp_path / "p.parquet.dropped.jsonl")]
    assert [(r["row"], r["why"]) for r in listed] == [(21, "duplicate"), (22, "contaminated")]
    assert listed[1]["set"] == "gsm8k-sample" and "blue fiber" in listed[1]["overlap"]
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    document = json.loads(ropd(*command, "--json", "--quiet")[0])
    assert {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
    assert document["read"] == 22 == document["kept"] + sum(document["dropped"].values())
    assert (document["prompts"], document["held_out"], document["answers"]) == (14, 6, 20)
    assert document["parts"]["dev"] == {"file": "d.jsonl.zst", "prompts": 4}
    files = ("p.parquet", "h.jsonl", "d.jsonl.zst")
    every = [prompt for name in files for prompt in load_prompts(tmp_path / name)]
    assert len({p.raw_prompt_hash for p in every}) == 20
    ropd("teacher-gen", "p.parquet", "--out", "t.jsonl", "-m", 2, "--seed", 0, "--base-url", "builtin://checkable")
    answered = {record["raw_prompt_hash"] for _, record in read_records(tmp_path / "t.jsonl")}
    assert answered == {p.raw_prompt_hash for p in load_prompts(tmp_path / "p.parquet")}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mine", "--out", "o.txt", "--local", "a.jsonl"), "o.txt"),
        (("mine", "--out", "a.jsonl", "--local", "a.jsonl"), "a.jsonl: an input of this command"),
        (("mine", "--out", "o.jsonl", "--local", "a.jsonl", "--max-prompt-tokens", 5), "tokenizer"),
        (("mine", "--out", "o.jsonl", "--local", "a.jsonl", "--split-out", "dev=4"), "NAME=N:FILE"),
        (("mine", "--out", "o.jsonl", "--local", "a.jsonl", "--map", "x=y"), "--map 'x=y'"),
        (("mine", "--out", "o.jsonl", "--local", "a.jsonl", "--decontaminate", "aime42"), "aime42"),
    ],
)
@pytest.mark.slow
def test_a_fault_is_one_line_and_nothing_is_written(ropd, tmp_path, arguments, says):
    (tmp_path / "a.jsonl").write_text('{"prompt": "q"}\n')
    out, err = ropd("data", "prepare", *arguments, code=2)
    assert out == "" and says in err.splitlines()[0] and err.splitlines()[1].startswith("hint: ")
    assert os.listdir(tmp_path) == ["a.jsonl"]


@pytest.mark.skipif(not Path(DAPO).is_file(), reason="ROPD_TEST_DAPO names no DAPO-Math-17K file")
@pytest.mark.long
def test_dapo_math_17k_has_17398_different_prompts(ropd):
    command = ("data", "prepare", "dapo-math-17k", "--local", DAPO, "--out", "p.parquet", "--json")
    document = json.loads(ropd(*command)[0])
    assert (document["read"], document["prompts"], document["dropped"]) == (17917, 17398, {"duplicate": 519})

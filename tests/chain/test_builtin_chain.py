"""What the API stages say of questions, answers and groups that are not there, with the built-in provider alone."""

import json
import re

import pytest
from typer.testing import CliRunner

from ropd_cli.cli.main import app

QUESTIONS = {
    "a1": "What is 12 + 30?",
    "a2": "What is 5 * 7?",
    "a3": "What is 3 + 4?",
    "a4": "What is the gcd of 12 and 18?",
    "b1": "Name the capital of France.",
}
JUDGE = ("--base-url", "builtin://checkable")


def ropd(*arguments, code=0):
    """Run a command to its end with this exit code; (stdout, stderr)."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == code, (arguments, done.output, done.exception)
    return done.stdout, done.stderr


def keep(folder, file, out, *uids):
    """Write the records of these uids to another file."""
    records = [json.loads(line) for line in (folder / file).read_text().splitlines()]
    (folder / out).write_text("".join(json.dumps(each) + "\n" for each in records if each["uid"] in uids))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Prompts, rollouts of all but b1, and an index that lacks a3 and a4 too."""
    monkeypatch.chdir(tmp_path)
    rows = [{"uid": uid, "prompt": question} for uid, question in QUESTIONS.items()]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ropd("rollout", "p.jsonl", "--out", "r.jsonl", "-n", 2, *JUDGE, "--model", "m", code=3)
    ropd("teacher-gen", "p.jsonl", "--out", "t.jsonl", "-m", 2, *JUDGE, code=3)
    keep(tmp_path, "t.jsonl", "some.jsonl", "a1", "a2")
    ropd("index", "build", "some.jsonl", "--out", "some.index")
    ropd("index", "build", "t.jsonl", "--out", "t.index")
    return tmp_path


def test_a_forecast_leaves_out_what_the_command_lists_as_failed(folder):
    some = ("p.jsonl", "--index", "some.index", "--rollouts", "r.jsonl", "-m", 2, *JUDGE)
    out, err = ropd("rubricate", *some, "--out", "rub.jsonl", "--dry-run")
    assert out.startswith("2 calls to ") and "2 of 4 groups would fail" in err and "no answer for uid 'a3'" in err
    out, _ = ropd("rubricate", *some, "--out", "rub.jsonl", code=3)
    assert "2 groups written, 2 failed" in out and "most of what failed: some.index: no answer for uid 'a3'" in out
    ropd("rubricate", *some, "--index", "t.index", "--out", "all.jsonl")
    out, err = ropd("verify", *some, "--rubrics", "all.jsonl", "--out", "v.jsonl", "--dry-run")
    assert out.startswith("2 calls to ") and "2 of 4 groups would fail" in err
    keep(folder, "r.jsonl", "others.jsonl", "a3", "a4")
    none = (*some, "--rollouts", "others.jsonl")
    errors = [ropd("rubricate", *none, "--out", "none.jsonl", *more, code=2)[1] for more in ((), ("--dry-run",))]
    assert all("ropd: error: some.index: no answer for uid 'a3'" in err for err in errors)


def test_rubrics_of_the_data_set_are_nobody_s_and_are_linted(folder):
    rows = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()][:2]
    brought = [
        {"criterion": "Gives the same result as the reference answer.", "points": 5},
        {"criterion": "Is short.", "points": 1},
    ]
    (folder / "own.jsonl").write_text("".join(json.dumps(row | {"rubric": brought}) + "\n" for row in rows))
    some = ("own.jsonl", "--index", "t.index", "--rollouts", "r.jsonl", "-m", 2, "--set", "judge.rubrics=dataset")
    out, _ = ropd("rubricate", *some, "--out", "nobody.jsonl", "--dry-run")
    assert out.startswith("0 calls, ")
    ropd("rubricate", *some, "--out", "nobody.jsonl", "--max-cost", 1)  # nobody is asked, so no model is needed
    ropd("rubricate", *some, "--out", "named.jsonl", *JUDGE)
    for file in ("nobody.jsonl", "named.jsonl"):
        records = [json.loads(line) for line in (folder / file).read_text().splitlines()]
        assert [(record["model"], len(record["rubric"]["rubrics"])) for record in records] == [("", 2)] * 2
    out, _ = ropd("inspect-rubrics", "named.jsonl", "--uid", "a1")
    assert "mentions-reference" in out and "not linted" not in out
    _, err = ropd("rubricate", *some[:-2], "--out", "x.jsonl", code=2)
    assert "no model name for the rubricator" in err


def test_a_teacher_that_answers_too_little_is_no_dead_endpoint(folder):
    _, err = ropd("teacher-gen", "p.jsonl", "--out", "nine.jsonl", "-m", 9, *JUDGE, code=1)
    assert re.search(r"ropd: error: uid a\d: .* 9 are wanted \(4 of 5 failed for this reason\)", err)
    assert "listed in nine.jsonl.failed.jsonl" in err


def test_the_student_s_samples_are_not_the_teacher_s(folder):
    out, _ = ropd("teacher-gen", "p.jsonl", "--out", "t2.jsonl", "-m", 2, *JUDGE, code=3)
    assert "t2.jsonl: 4 prompts written, 1 failed" in out
    out, _ = ropd("rollout", "p.jsonl", "--out", "r2.jsonl", "-n", 2, *JUDGE, "--dry-run")
    assert out.startswith("10 calls to ")  # the teacher is asked again, as a student


def test_a_stage_of_rubrics_refuses_a_method_without_them(folder):
    rest = ("p.jsonl", "--index", "t.index", "--rollouts", "r.jsonl", "--out", "x.jsonl", *JUDGE, "-m", 2)
    for command in (("rubricate", *rest), ("verify", *rest, "--rubrics", "rub.jsonl")):
        _, err = ropd(*command, "--set", "method=t-judge", code=2)
        assert f"method t-judge: ropd {command[0]} is a stage of method ropd" in err


def test_what_the_builtin_provider_works_out_is_said_where_it_can_t(folder):
    keep(folder, "p.jsonl", "odd.jsonl", "b1")
    _, err = ropd("teacher-gen", "odd.jsonl", "--out", "odd.out.jsonl", *JUDGE, code=4)
    assert "hint: the built-in provider works out sums" in err


def test_prompts_that_are_left_out_are_named_with_the_reason(folder):
    rows = [{"uid": uid, "prompt": QUESTIONS["a1"]} for uid in ("a1", "a2", "x1", "x2", "x3")]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"uid": "b1", "prompt": "?"}]))
    keep(folder, "p.jsonl", "fewer.jsonl", "a1", "x1")
    given = ("--index", "t.index", "--rollouts", "r.jsonl", "-m", 2, *JUDGE)
    _, err = ropd("rubricate", "p.jsonl", *given, "--out", "rub.jsonl")
    assert "4 prompts without rollouts, left out: x1, x2, x3 …\n" in err
    assert "1 prompt with another text than its rollouts, left out: a2\n" in err
    ropd("rollout", "fewer.jsonl", "--out", "r2.jsonl", "-n", 2, *JUDGE, "--model", "m")
    _, err = ropd(
        "verify", "fewer.jsonl", "--rollouts", "r2.jsonl", "--rubrics", "rub.jsonl", "--out", "v.jsonl", *JUDGE
    )
    assert "1 prompt without a rubric, left out: x1\n" in err


def test_what_a_file_was_made_from_and_is_gone_is_named(folder):
    ropd("rubricate", "p.jsonl", "--index", "t.index", "--rollouts", "r.jsonl", "-m", 2, *JUDGE, "--out", "rub.jsonl")
    assert (
        ropd("inspect-rubrics", "rub.jsonl", "-q")[1] == ""
        and "What is 12 + 30?" in ropd("inspect-rubrics", "rub.jsonl")[0]
    )
    (folder / "p.jsonl").rename(folder / "moved.jsonl")
    out, err = ropd("inspect-rubrics", "rub.jsonl")
    assert "p.jsonl is not there any more" in err and "--prompts FILE" in err and "What is" not in out
    out, err = ropd("inspect-rubrics", "rub.jsonl", "--prompts", "moved.jsonl")
    assert "not there" not in err and "What is 12 + 30?" in out


def test_eval_takes_the_benchmarks_that_data_names(folder):
    (folder / "mine.jsonl").write_text('{"question": "What is 3 + 4?", "answer": "7"}\n')
    out, _ = ropd("eval", "--data", "mine=mine.jsonl", *JUDGE, "--model", "m", "-n", 1, "--out", "e", "--json")
    assert [each["name"] for each in json.loads(out)["benchmarks"]] == ["mine"]
    assert "no benchmark is named" in ropd("eval", *JUDGE, "--model", "m", "--out", "none", code=2)[1]

"""Files of another kind than a command reads or writes: each is refused in words of what it holds, and stays."""

from __future__ import annotations

import gzip
import json

import pytest
import zstandard
from runs import write_run
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.records.files import read_records

RULES = ("--base-url", "builtin://checkable", "--model", "checkable")
NOTES = '{"my": "notes"}\n'
GROUPS = ("--index", "t.index", "--rollouts", "s.jsonl")
STAGES = {  # name: (what it writes, its command)
    "teacher-gen": ("answers", ("teacher-gen", "p.jsonl", "-m", "2", "--seed", "1")),
    "rollout": ("answers", ("rollout", "p.jsonl", "-n", "2")),
    "rubricate": ("rubrics", ("rubricate", "p.jsonl", "-m", "2", *GROUPS)),
    "verify": ("verdicts", ("verify", "p.jsonl", "-m", "2", "--rubrics", "r.jsonl", *GROUPS)),
}
KINDS = {"prompts": "p.jsonl", "answers": "s.jsonl", "rubrics": "r.jsonl", "verdicts": "v.jsonl"}


def run(*words):
    done = CliRunner().invoke(app, [*map(str, words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stderr


def refused(*words):
    """The error of a command, and its hint."""
    code, said = run(*words)
    assert code == 2, said
    return said[said.index("ropd: error: ") :]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a file of each kind."""
    folder = tmp_path_factory.mktemp("made")
    rows = [{"uid": f"p{k}", "prompt": f"What is {k + 11} + 5?", "answer": str(k + 16)} for k in range(3)]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ROPD_CACHE_DIR", str(folder / "cache"))
        for words in (
            (*STAGES["teacher-gen"][1], *RULES, "--out", "t.jsonl"),
            ("index", "build", "t.jsonl", "--out", "t.index"),
            (*STAGES["rollout"][1], *RULES, "--out", "s.jsonl"),
            (*STAGES["rubricate"][1], *RULES, "--out", "r.jsonl"),
            (*STAGES["verify"][1], *RULES, "--out", "v.jsonl"),
        ):
            assert run(*words)[0] == 0, words
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it."""
    for file in made.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROPD_CACHE_DIR", str(made / "cache"))
    return tmp_path


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("found", [*KINDS, "no records of ropd"])
def test_an_output_of_another_kind_is_named_and_stays(folder, stage, found):
    kind, words = STAGES[stage]
    if found == kind:
        return
    out = folder / "out.jsonl"
    out.write_text((folder / KINDS[found]).read_text() if found in KINDS else NOTES)
    before, names = out.read_bytes(), sorted(each.name for each in folder.iterdir())
    for more in ((), ("--dry-run",)):
        said = refused(*words, *RULES, "--out", out.name, *more)
        assert f"error: out.jsonl: holds {found}, and {kind} are written here\n" in said
        assert "give another --out" in said
    assert out.read_bytes() == before and sorted(each.name for each in folder.iterdir()) == names


def test_one_record_of_another_kind_is_enough(folder):
    for other in (NOTES, (folder / "p.jsonl").read_text()):
        (folder / "t.jsonl").write_text((folder / "t.jsonl").read_text() + other)
        before = (folder / "t.jsonl").read_bytes()
        said = refused(*STAGES["teacher-gen"][1], *RULES, "--out", "t.jsonl")
        assert "t.jsonl:4: holds " in said and (folder / "t.jsonl").read_bytes() == before
        (folder / "t.jsonl").write_bytes(b"".join(before.splitlines(keepends=True)[:3]))


@pytest.mark.parametrize("name", ["out.jsonl.zst", "out.parquet"])
def test_so_it_is_with_other_formats(folder, name):
    assert run(*STAGES["rollout"][1], *RULES, "--out", name)[0] == 0
    before = (folder / name).read_bytes()
    assert "holds answers, and verdicts are" in refused(*STAGES["verify"][1], *RULES, "--out", name)
    assert (folder / name).read_bytes() == before and not (folder / f"{name}.journal.jsonl").exists()
    assert run(*STAGES["rollout"][1], *RULES, "--out", name)[0] == 0
    assert run(*STAGES["verify"][1], *RULES, "--out", f"v-{name}")[0] == 0
    assert run(*STAGES["verify"][1], *RULES, "--out", f"v-{name}")[0] == 0


def test_answers_from_elsewhere_are_gone_on_with(folder):
    records = [record for _, record in read_records(folder / "s.jsonl")]
    by_hand = {name: records[0][name] for name in ("uid", "prompt", "raw_prompt_hash", "model")}
    by_hand["answers"] = [{"text": "16"}]
    (folder / "out.jsonl").write_text(json.dumps(by_hand) + "\n" + json.dumps(by_hand | {"uid": "p1", "answers": []}))
    assert run(*STAGES["rollout"][1], *RULES, "--out", "out.jsonl")[0] == 0
    assert [record["uid"] for _, record in read_records(folder / "out.jsonl")] == ["p0", "p1", "p2"]


def test_an_empty_output_is_begun(folder):
    (folder / "out.jsonl").write_text("")
    assert run(*STAGES["rollout"][1], *RULES, "--out", "out.jsonl")[0] == 0


def test_folders_with_records_of_others(folder):
    write_run(folder / "run")
    (folder / "run" / "config.yaml").unlink()
    command = ("rejudge", "run", "--out", "out", "--new-rubrics", *RULES)
    command += ("--set", f"rubricator.base_url={RULES[1]}", "--set", "rubricator.model=checkable")
    for name, source, said in (
        ("verdicts.jsonl", "v.jsonl", "holds verdicts of no training step"),
        ("verdicts.jsonl", "s.jsonl", "holds answers, and verdicts are written here"),
        ("rubrics.jsonl", "r.jsonl", "holds rubrics of no training step"),
        ("rubrics.jsonl", "p.jsonl", "holds prompts, and rubrics are written here"),
    ):
        out = folder / "out"
        out.mkdir(exist_ok=True)
        (out / name).write_bytes((folder / source).read_bytes())
        assert f"out/{name}: {said}" in refused(*command)
        assert (out / name).read_bytes() == (folder / source).read_bytes()
        (out / name).unlink()
    (out / "samples").mkdir()
    (out / "samples" / "mine.jsonl.zst").write_bytes(zstandard.compress((folder / "p.jsonl").read_bytes()))
    said = refused("eval", "-b", "mine", "--data", "mine=p.jsonl", "-n", "1", "--out", "out", *RULES)
    assert "mine.jsonl.zst:1: no sample of an evaluation" in said


def test_answers_are_imported_to_a_new_file_alone(folder):
    (folder / "a.csv").write_text("question,answer\nQ?,5\n")
    before = (folder / "p.jsonl").read_bytes()
    said = refused("index", "import", "a.csv", "--out", "p.jsonl")
    assert said == "ropd: error: p.jsonl: is there already\nhint: give another --out, or delete it\n"
    assert (folder / "p.jsonl").read_bytes() == before
    (folder / "out.jsonl").write_text("")
    for name in ("out.jsonl", "out.jsonl.zst", "out.index", "out"):
        assert run("index", "import", "a.csv", "--out", name)[0] == 0
    assert run("index", "import", "a.csv", "--out", "out.index")[0] == 0  # an index is added to


@pytest.mark.parametrize("name", ["z.parquet", "z.csv", "z.txt", "z.json", "z.tsv", "z.jsonl", "z.jsonl.zst"])
def test_no_index_under_the_name_of_another_format(folder, name):
    (folder / "a.csv").write_text("question,answer\nQ?,5\n")
    assert run("index", "export", "t.index", "--out", "reference.jsonl")[0] == 0
    words = "a teacher index would be written, under the name of another format\n"
    words += "hint: give another --out, such as teacher.index"
    for command in (("build", "t.jsonl"), ("merge", "t.index")):
        assert f"error: {name}: {words}" in refused("index", *command, "--out", name)
    if "jsonl" not in name:
        said = refused("index", "import", "a.csv", "--out", name)
        assert f"{name}: {words}; answers are written to .jsonl or .jsonl.zst" in said
    else:
        assert "--out names an index" in refused("index", "import", "reference.jsonl", "--out", name)
    assert not (folder / name).exists()


def test_a_page_replaces_pages_alone(folder):
    page = folder / "page.html"
    for words in (("inspect-rubrics", "v.jsonl"), ("report", "run")):
        page.unlink(missing_ok=True)
        if words[0] == "report":
            write_run(folder / "run")
        for name in ("p.jsonl", "t.index"):
            before = (folder / name).read_bytes()
            said = refused(*words, "--html", name)
            assert f"{name}: is there already, and no HTML page\nhint: give the page another name" in said
            assert (folder / name).read_bytes() == before
        for _ in range(2):
            assert run(*words, "--html", page.name)[0] == 0
        page.write_text("\ufeff\n<!DOCTYPE html><p>mine</p>")
        assert run(*words, "--html", page.name)[0] == 0
        page.write_text("")
        assert run(*words, "--html", page.name)[0] == 0
        assert "<html" in page.read_text()


@pytest.mark.parametrize(
    ("name", "text"), [("e.jsonl", ""), ("e.csv", ""), ("e.csv", "prompt,answer\n"), ("e.json", "[]")]
)
def test_files_without_rows(folder, name, text):
    (folder / name).write_text(text)
    for out in ("e.index", "out.jsonl"):
        said = refused("index", "import", name, "--out", out)
        assert f"error: {name}: no rows in it\n" in said and not (folder / out).exists()


def test_an_index_of_nothing(folder):
    (folder / "e.jsonl").write_text("")
    said = refused("index", "build", "e.jsonl", "--out", "e.index")
    assert "error: e.jsonl: no answers in it\n" in said and not (folder / "e.index").exists()
    assert run("index", "build", "e.jsonl", "t.jsonl", "--out", "e.index")[0] == 0


@pytest.mark.parametrize("salvage", [(), ("--salvage",)])
def test_an_input_of_another_format_is_named(folder, salvage):
    (folder / "q.csv").write_text("question,answer\nWhat is 2 + 2?,4\n")
    (folder / "one.csv").write_text('"question"\n"What is 2 + 2?"\n')
    (folder / "z.jsonl").write_bytes(gzip.compress((folder / "p.jsonl").read_bytes()))
    out = ("--out", "out.jsonl", *RULES, *salvage)
    index, csv = ("a teacher index", "are the files in the right places?"), ("CSV", "ropd data prepare makes prompts")
    for name, (kind, hint), words in (
        ("t.index", index, ("teacher-gen", "t.index", *out)),
        ("t.index", index, ("rollout", "t.index", *out)),
        ("t.index", index, ("rubricate", "p.jsonl", "--index", "t.index", "--rollouts", "t.index", *out)),
        ("t.index", index, ("verify", "p.jsonl", "--rubrics", "t.index", "--rollouts", "s.jsonl", *out)),
        ("t.index", index, ("index", "check", "p.jsonl", "t.index", *salvage)),
        ("t.index", index, ("inspect-rubrics", "t.index", *salvage)),
        ("q.csv", csv, ("teacher-gen", "q.csv", *out)),
        ("q.csv", csv, ("index", "build", "q.csv", "--out", "e.index", *salvage)),
        ("one.csv", csv, ("teacher-gen", "one.csv", *out)),
        ("z.jsonl", ("gzip", "decompress it"), ("teacher-gen", "z.jsonl", *out)),
    ):
        said = refused(*words)
        assert f"error: {name}:1: not JSON Lines (it looks like {kind})\n" in said, said
        assert f"hint: {hint}" in said and "--salvage" not in said
    said = refused("index", "build", "t.index", "--out", "e.index", *salvage)
    assert "error: t.index: a teacher index, not answers\nhint: ropd index merge" in said
    assert not (folder / "out.jsonl").exists() and not (folder / "e.index").exists()


@pytest.mark.parametrize("salvage", [(), ("--salvage",)])
def test_an_output_of_another_format_stays(folder, salvage):
    for name, data in (("t.index", None), ("z.jsonl", gzip.compress(b"{}\n")), ("notes.txt", b"my notes\nand more\n")):
        if data:
            (folder / name).write_bytes(data)
        before, names = (folder / name).read_bytes(), sorted(each.name for each in folder.iterdir())
        refused(*STAGES["rollout"][1], *RULES, "--out", name, *salvage)
        assert (folder / name).read_bytes() == before and sorted(each.name for each in folder.iterdir()) == names

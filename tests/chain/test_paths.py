"""Names and paths that can't be used, through the real commands: one line of what and where, one of how to mend it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from processes import mounts
from runs import write_run

import ropd_cli.builtin  # noqa: F401 (registers builtin://, as the command does)
from ropd_cli.cli.main import main
from ropd_cli.records.files import read_records

BUILTIN = ["--base-url", "builtin://checkable"]
INPUTS = {  # {} is the path in question
    "teacher-gen": ["teacher-gen", "{}", "--out", "o.jsonl", *BUILTIN],
    "rollout": ["rollout", "{}", "--out", "o.jsonl", *BUILTIN],
    "rubricate": ["rubricate", "{}", "--index", "t.index", "--rollouts", "r.jsonl", "--out", "o.jsonl", *BUILTIN],
    "rubricate --index": [
        "rubricate",
        "p.jsonl",
        "--index",
        "{}",
        "--rollouts",
        "r.jsonl",
        "--out",
        "o.jsonl",
        *BUILTIN,
    ],
    "rubricate --rollouts": [
        "rubricate",
        "p.jsonl",
        "--index",
        "t.index",
        "--rollouts",
        "{}",
        "--out",
        "o.jsonl",
        *BUILTIN,
    ],
    "verify --rubrics": ["verify", "p.jsonl", "--rubrics", "{}", "--rollouts", "r.jsonl", "--out", "o.jsonl", *BUILTIN],
    "templates": [
        "verify",
        "p.jsonl",
        "--rubrics",
        "b.jsonl",
        "--rollouts",
        "r.jsonl",
        "--out",
        "o.jsonl",
        "--templates",
        "{}",
        *BUILTIN,
    ],
    "config": ["rollout", "p.jsonl", "--out", "o.jsonl", "-c", "{}", *BUILTIN],
    "system prompt": ["teacher-gen", "p.jsonl", "--out", "o.jsonl", "--system-prompt", "@{}", *BUILTIN],
    "index build": ["index", "build", "{}", "--out", "o.index"],
    "index show": ["index", "show", "{}"],
    "index get": ["index", "get", "{}", "--uid", "p0"],
    "index check": ["index", "check", "t.index", "{}"],
    "index merge": ["index", "merge", "{}", "--out", "o.index"],
    "index export": ["index", "export", "{}", "--out", "o.jsonl"],
    "index import": ["index", "import", "{}", "--out", "o.index"],
    "data prepare": ["data", "prepare", "mine", "--local", "{}", "--out", "o.jsonl"],
    "decontaminate": ["data", "prepare", "mine", "--local", "p.jsonl", "--out", "o.jsonl", "--decontaminate", "x={}"],
    "eval --data": ["eval", "-b", "mine", "--data", "mine={}", "--out", "o", *BUILTIN],
    "eval compare": ["eval", "compare", "{}", "{}"],
    "inspect-rubrics": ["inspect-rubrics", "{}"],
    "inspect-rubrics --prompts": ["inspect-rubrics", "b.jsonl", "--prompts", "{}"],
    "rejudge": ["rejudge", "{}", "--out", "o", *BUILTIN],
    "rejudge --rubrics": ["rejudge", "run", "--rubrics", "{}", "--out", "o", *BUILTIN],
    "report": ["report", "{}", "--html", "o.html"],
    "train": ["train", "-c", "{}", "--out", "o"],
    "doctor": ["doctor", "--offline", "-c", "{}"],
}
OUTPUTS = {
    "teacher-gen": ["teacher-gen", "p.jsonl", "--out", "{}", *BUILTIN],
    "rollout": ["rollout", "p.jsonl", "--out", "{}", *BUILTIN],
    "rubricate": ["rubricate", "p.jsonl", "--index", "t.index", "--rollouts", "r.jsonl", "--out", "{}", *BUILTIN],
    "verify": ["verify", "p.jsonl", "--rubrics", "b.jsonl", "--rollouts", "r.jsonl", "--out", "{}", *BUILTIN],
    "index build": ["index", "build", "t.jsonl", "--out", "{}"],
    "index merge": ["index", "merge", "t.index", "--out", "{}"],
    "index export": ["index", "export", "t.index", "--out", "{}", "--force"],
    "index import": ["index", "import", "x.jsonl", "--out", "{}"],
    "data prepare": ["data", "prepare", "sums", "--size", "3", "--force", "--out", "{}"],
    "cache export": ["cache", "export", "{}"],
    "inspect-rubrics --html": ["inspect-rubrics", "b.jsonl", "--html", "{}"],
    "report --html": ["report", "run", "--html", "{}"],
    "eval": ["eval", "-b", "mine", "--data", "mine=p.jsonl", "--out", "{}", *BUILTIN],
    "rejudge": ["rejudge", "run", "--out", "{}", *BUILTIN],
}
DIRECTORIES = ("eval", "rejudge")
FAULTS = {
    "missing": "nothing.jsonl",
    "a folder": "folder.jsonl",
    "a pipe": "pipe.jsonl",
    "a circle of links": "circle.jsonl",
    "too long": "x" * 300,
    "below a file": "p.jsonl/x",
    "not UTF-8 and missing": "\udcff.jsonl",
    "UTF-16": "utf16.jsonl",
    "Latin-1": "latin1.jsonl",
    "no Parquet": "no.parquet",
    "a damaged page of Parquet": "page.parquet",
    "nobody's home": "~nobody-of-this-name/x.jsonl",
}
FINE = {("no Parquet", "system prompt"), ("a pipe", "system prompt")}
"""Where it is no fault: any text is a system prompt, and a shell's `<(command)` is a pipe."""


def outcome(arguments):
    """(exit code, stdout, stderr) of a command line in this process. What it does not catch is raised."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(sys, "argv", ["ropd", *arguments])
        out, err = stack.enter_context(redirect_stdout(StringIO())), stack.enter_context(redirect_stderr(StringIO()))
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, out.getvalue(), err.getvalue()


def is_two_lines(arguments, codes=(1, 2)):
    """Whether a command ends with an error as every error is printed: what and where, and how to mend it."""
    code, out, err = outcome(arguments)
    errors = [k for k, line in enumerate(err.splitlines()) if line.startswith("ropd: error: ")]
    told = code in codes and len(errors) == 1 and err.splitlines()[errors[0] + 1 :][:1] != []
    assert told and err.splitlines()[-1].startswith("hint: ") and not out, (arguments, code, out, err)
    return err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The inputs of every command, and what is none."""
    folder = tmp_path_factory.mktemp("paths")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ROPD_CACHE_DIR", str(folder / "cache"))
        prompts = [{"uid": f"p{k}", "prompt": f"What is {k} + 2?", "answer": str(k + 2)} for k in range(3)]
        Path("p.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
        for kind, out in (
            *(("teacher-gen", "t.jsonl"), ("index build", "t.index"), ("index export", "x.jsonl")),
            *(("rollout", "r.jsonl"), ("rubricate", "b.jsonl"), ("verify", "v.jsonl")),
        ):
            code, _, err = outcome([word.replace("{}", out) for word in OUTPUTS[kind]])
            assert code == 0, err
        write_run(folder / "run")
        Path("folder.jsonl").mkdir()
        os.mkfifo("pipe.jsonl")
        Path("circle.jsonl").symlink_to("circle.jsonl")
        with socket.socket(socket.AF_UNIX) as listener:  # no device: a test that fails would replace it
            listener.bind("socket.jsonl")
        Path("utf16.jsonl").write_bytes(json.dumps(prompts[0]).encode("utf-16"))
        Path("latin1.jsonl").write_bytes('{"uid": "é", "prompt": "é"}\n'.encode("latin-1"))
        Path("no.parquet").write_bytes(b"PAR1" + b"x" * 300 + b"PAR1")
        questions = [f"question {7919 * k}" for k in range(5000)]
        pq.write_table(pa.table({"uid": list(map(str, range(5000))), "prompt": questions}), "page.parquet")
        page = bytearray(Path("page.parquet").read_bytes())
        page[2000:4000] = bytes(byte ^ 0x55 for byte in page[2000:4000])
        Path("page.parquet").write_bytes(page)
    return folder


@pytest.fixture
def inputs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ROPD_CACHE_DIR", str(folder / "cache"))
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_an_input_that_can_t_be_read(inputs, fault):
    for name, words in INPUTS.items():
        if (fault, name) not in FINE:
            is_two_lines([word.replace("{}", FAULTS[fault]) for word in words])
    assert not [*inputs.glob("o*"), *inputs.glob(".*")]  # nothing was made, and no lock is left


PLACES = {name: FAULTS[name] for name in ("a folder", "a pipe", "a circle of links", "too long", "below a file")}
PLACES |= {
    "a socket": "socket.jsonl",
    "no folder can be there": "/proc/nothing/x.jsonl",
    "stdout": "-",
    "the root": "/",
}


@pytest.mark.parametrize("fault", PLACES)
def test_an_output_that_can_t_be_written(inputs, fault):
    for name, words in OUTPUTS.items():
        if not (fault in ("a folder", "the root") and name in DIRECTORIES):
            is_two_lines([word.replace("{}", PLACES[fault]) for word in words])
    assert Path("pipe.jsonl").is_fifo() and Path("socket.jsonl").is_socket() and Path("circle.jsonl").is_symlink()


@pytest.mark.parametrize("name", [*DIRECTORIES, "index build", "index merge", "index import"])
def test_an_output_that_is_another_file_of_the_user_s(inputs, name):
    before = Path("v.jsonl").read_bytes()
    is_two_lines([word.replace("{}", "v.jsonl") for word in OUTPUTS[name]])
    assert Path("v.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["index export", "data prepare", "report --html", "teacher-gen"])
def test_a_link_stays_and_its_file_is_written(inputs, tmp_path, name):
    (tmp_path / "link.jsonl").symlink_to("file.jsonl")
    code, _, err = outcome([word.replace("{}", str(tmp_path / "link.jsonl")) for word in OUTPUTS[name]])
    assert code == 0, err
    assert (tmp_path / "link.jsonl").is_symlink() and (tmp_path / "file.jsonl").stat().st_size
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file.jsonl", "link.jsonl"]


DAMAGE = [("config.yaml", b"\xe9\n"), ("config.yaml", b"{]"), ("config.yaml", b"[1]")]
DAMAGE += [("result.json", content) for content in (b"\xe9", b"{]", b"[1]", b"{}", b"")]


@pytest.mark.parametrize(("name", "content"), DAMAGE)
def test_a_damaged_file_of_a_run_is_named(inputs, tmp_path, name, content):
    (tmp_path / "model").mkdir()
    for part in ("config.json", "tokenizer.json"):
        (tmp_path / "model" / part).write_text("{}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_bytes(content)
    sets = [f"student.model_path={tmp_path / 'model'}", "data.prompts=p.jsonl", "data.index=t.index"]
    options = [word for text in sets for word in ("--set", text)]
    err = is_two_lines(["train", "-c", "quickstart", "--out", str(tmp_path / "run"), "--resume", *options])
    assert str(tmp_path / "run" / name) in err


def suffix_of(name):
    """What a command's output is called at its end."""
    return ".index" if name in ("index build", "index merge", "index import") else ".jsonl"


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_is(inputs, tmp_path, how):
    wrap = mounts()
    if wrap is None:
        pytest.skip("no mount namespace here (unshare -m)")
    mount = 'mount -t tmpfs -o size=64k none "$0" && '
    mount += 'head -c 100000 /dev/zero > "$0/zeros" 2> /dev/null; ' if how == "full" else 'mount -o remount,ro "$0"; '
    command = [*wrap, "sh", "-c", mount + 'exec "$@"', tmp_path, sys.executable, __file__, tmp_path]
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environ, timeout=60)
    assert done.returncode == 0, done.stderr
    if how == "full":
        assert done.stdout.count("no space left on the disk") == len(OUTPUTS), done.stdout


def test_names_that_are_not_utf_8(inputs, tmp_path):
    """Every command reads and writes such files, and prints their names."""
    for name, words in OUTPUTS.items():
        for more in ([], ["--json"]):
            out = str(tmp_path / f"{name.replace(' ', '-')}{len(more)}\udcff{suffix_of(name)}")
            command = [word.replace("{}", out) for word in words] + more
            if name == "rejudge":
                continue  # the built-in judge knows nothing of its run
            code, printed, err = outcome(command)
            assert code == 0, (command, err)
            if more and "--html" not in command:
                assert "\udcff" in json.loads(printed)["out"]
    for name, own in (("p", "p.jsonl"), ("b", "b.jsonl")):
        (tmp_path / f"{name}\udcff.jsonl").write_bytes(Path(own).read_bytes())
    out = str(tmp_path / "q\udcff.parquet")
    for command in (
        ["rollout", str(tmp_path / "p\udcff.jsonl"), "--out", out, *BUILTIN],
        ["inspect-rubrics", str(tmp_path / "b\udcff.jsonl"), "--rollouts", out],
    ):
        code, printed, err = outcome(command)
        assert code == 0 and printed, err
    assert "not UTF-8" in is_two_lines(["train", "-c", "quickstart", "--out", "\udcff"])


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "", "a\nb", "x" * 65, "a b"])
def test_a_benchmark_s_name_that_is_no_file_name(inputs, tmp_path, name):
    config = tmp_path / "c.json"  # which is YAML, too
    config.write_text(json.dumps({"eval": {"benchmarks": [name], "data": {name: "p.jsonl"}}}))
    err = is_two_lines(["eval", "-c", str(config), "--out", str(tmp_path / "a" / "o"), *BUILTIN])
    assert "can't name a benchmark" in err and [each.name for each in tmp_path.iterdir()] == ["c.json"]


PRINTING = [
    ["--help"],
    ["train", "--help"],
    ["inspect-rubrics", "run"],
    ["inspect-rubrics", "run", "--json"],
    ["inspect-rubrics", "run", "--uid", "s1g1"],
    ["report", "run", "--html", "page.html"],
    ["index", "show", "t.index"],
    ["index", "get", "t.index", "--uid", "p0", "--json"],
    ["data", "prepare", "sums", "--size", "3", "--out", "s.jsonl"],
    ["nosuch-é"],
]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_stdout_will_do(inputs, encoding, monkeypatch):
    for words in PRINTING:
        raw, err = BytesIO(), TextIOWrapper(BytesIO(), encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, "stdout", TextIOWrapper(raw, encoding))
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "argv", ["ropd", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        sys.stdout.flush()
        assert ended.value.code == (2 if words == ["nosuch-é"] else 0), words
        if "--json" in words:
            json.loads(raw.getvalue().decode(encoding))


def test_nobody_reads_stdout_any_more(inputs):
    """As `| head` leaves it: the work is done, and nothing is said."""
    for words in (["inspect-rubrics", "run"], ["rollout", "p.jsonl", "--out", "unread.jsonl", *BUILTIN]):
        reads, writes = os.pipe()
        os.close(reads)
        command = [sys.executable, "-m", "ropd_cli", *words]
        done = subprocess.run(command, stdout=writes, stderr=writes if "rollout" in words else None, timeout=60)
        os.close(writes)
        assert done.returncode == 1
    assert len(list(read_records("unread.jsonl"))) == 3


STREAMED = {  # what stands in a pipe at standard input, and a word of what comes of it
    "teacher-gen": ("p.jsonl", ["teacher-gen", "-", "--out", "{}", *BUILTIN]),
    "rollout": ("p.jsonl", ["rollout", "-", "--out", "{}", *BUILTIN]),
    "rubricate": (
        "r.jsonl",
        ["rubricate", "p.jsonl", "--index", "t.index", "--rollouts", "-", "--out", "{}", *BUILTIN],
    ),
    "verify": ("b.jsonl", ["verify", "p.jsonl", "--rubrics", "-", "--rollouts", "r.jsonl", "--out", "{}", *BUILTIN]),
    "index build": ("t.jsonl", ["index", "build", "-", "--out", "{}"]),
    "index import": ("x.jsonl", ["index", "import", "-", "--out", "{}"]),
    "index check": ("p.jsonl", ["index", "check", "t.index", "-"]),
    "data prepare": ("p.jsonl", ["data", "prepare", "mine", "--local", "-", "--out", "{}.jsonl"]),
    "inspect-rubrics": ("v.jsonl", ["inspect-rubrics", "-", "--rubrics", "b.jsonl"]),
}


@pytest.mark.parametrize("kind", STREAMED)
def test_standard_input_is_read_as_a_file(inputs, tmp_path, kind, monkeypatch):
    file, words = STREAMED[kind]
    before = sorted(inputs.rglob("*.db"))
    for data, codes in ((Path(file).read_bytes(), 0), (zstandard.compress(Path(file).read_bytes()), 0), (b"{]\n", 2)):
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(data)))
        out = str(tmp_path / f"o{len(data)}")
        code, _, err = outcome([word.replace("{}", out) for word in words])
        assert code == codes, err
        assert codes == 0 or ("ropd: error: standard input:1: " in err and not Path(out).exists())
    assert sorted(inputs.rglob("*.db")) == before  # no index is kept of what was piped in


def test_standard_input_is_read_once(inputs):
    is_two_lines(["rubricate", "-", "--index", "t.index", "--rollouts", "-", "--out", "o", *BUILTIN])
    is_two_lines(["index", "build", "-", "-", "--out", "o"])


if __name__ == "__main__":
    for number, (name, words) in enumerate(OUTPUTS.items()):
        out = f"{sys.argv[1]}/{number}{suffix_of(name)}"
        print(is_two_lines([word.replace("{}", out) for word in words]))

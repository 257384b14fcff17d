"""Texts of endpoints, files and options reach a terminal as plain characters, whatever command prints them."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest
from runs import group_record, rubric_of, write_run
from servers import FromRequest, Raw, ScriptedServer, Status
from storms import judge_by_rules
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.records.schemas import Criterion, Rubric
from ropd_cli.report.browser import Browser

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
PLAIN = "q[bold red]w[/]e:smile:"
"""What rich would take for markup; it stays as it is."""
NASTY = f"\x1b[31m\x07\x1b]52;c;aGk=\x1b\\\x9b2J{PLAIN}\u202er\u2066t\u200fy\x7f\r\x85"
FILE = f"{PLAIN.replace('/', '')}\x1b[2J\x07\u202e"
QUESTIONS = ("What is 17 + 25?", "What is 2 + 2?")


def assert_safe(printed):
    assert not UNSAFE.search(printed), UNSAFE.search(printed)
    assert "Traceback" not in printed, printed


def ropd(*arguments, code=0, shows=PLAIN):
    """Run a command, as text and as JSON; the text that it prints, which holds ``shows`` (less what no path can)."""
    for json_too in ((), ("--json",)):
        done = CliRunner().invoke(app, [*map(str, arguments), *json_too])
        assert done.exit_code == code, (arguments, done.output, done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert_safe(done.output)
        if not json_too:
            text = done.output
            assert re.sub(r"[/\s]", "", shows) in re.sub(r"[/\s]", "", text), text
        elif done.stdout.strip():
            json.loads(done.stdout)
    return text


def completion(request):
    """A usable reply with nasty words wherever the protocol has words, in the texts of a judge as well."""
    if "<answer-" not in json.dumps(request.body):
        text, finish = f"It is \\boxed{{42}} {NASTY}", "stop"
    else:
        document = json.loads(judge_by_rules(request.body))
        for each in document.get("rubrics", ()):
            each["criterion"] += NASTY
        text, finish = json.dumps(document), "stop"
    message = {"role": "assistant", "content": text, "reasoning_content": NASTY}
    choice = {"index": 0, "message": message, "finish_reason": finish, "native_finish_reason": NASTY}
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    return Raw(json.dumps({"id": NASTY, "model": NASTY, "choices": [choice], "usage": usage}).encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Prompts, teacher answers, an index, rollouts, rubrics and verdicts, all nasty."""
    here = tmp_path_factory.mktemp("screens")
    os.environ["ROPD_CACHE_DIR"] = str(here / "cache")
    before = os.getcwd()
    os.chdir(here)
    rows = [{"uid": f"{k}{NASTY}", "prompt": q + NASTY} for k, q in enumerate(QUESTIONS)]
    (here / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with ScriptedServer() as server:
        server.default = FromRequest(completion)
        asked = ["--base-url", server.url, "--model", NASTY]
        judging = ["--rollouts", f"r{FILE}.jsonl", "--index", f"i{FILE}", "-m", 1, *asked]
        ropd("teacher-gen", "prompts.jsonl", "-m", 1, "--out", f"t{FILE}.jsonl", *asked)
        ropd("rollout", "prompts.jsonl", "-n", 2, "--out", f"r{FILE}.jsonl", *asked)
        ropd("index", "build", f"t{FILE}.jsonl", "--out", f"i{FILE}")
        ropd("rubricate", "prompts.jsonl", *judging, "--out", f"b{FILE}.jsonl")
        ropd("verify", "prompts.jsonl", *judging, "--rubrics", f"b{FILE}.jsonl", "--out", f"v{FILE}.jsonl")
    rubric = Rubric(
        rubrics=tuple(
            Criterion(criterion_id=f"c{k}{NASTY}", category=NASTY, criterion=f"Has the word “w{k}”. {NASTY}", points=1)
            for k in range(4)
        ),
        maximum_score=4,
    )
    judged, lost = rubric.model_copy(), rubric_of(1)
    marks = [[True, False, True, True], [True] * 4]
    record = group_record(1, f"u{NASTY}", marks, marks[1:], rubric=judged, question=NASTY, rollout=NASTY)
    failed = group_record(1, f"f{NASTY}", [], [], rubric=lost, question=NASTY, error=NASTY)
    run = write_run(here / f"run{FILE}", steps=1, groups=0, extra=[record, failed])
    (run / "stopped.json").write_text(json.dumps({"kind": NASTY, "message": NASTY, "hint": NASTY}))
    yield here
    os.chdir(before)


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ROPD_CACHE_DIR", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "400")  # no line is broken inside a text that is looked for


RUN, INDEX = f"run{FILE}", f"i{FILE}"
PRINTS = {
    "index show": ["index", "show", INDEX, "--prompts", "prompts.jsonl"],
    "index get": ["index", "get", INDEX, "--uid", f"0{NASTY}"],
    "index check": ["index", "check", INDEX, "prompts.jsonl", "-m", 1],
    "list": ["inspect-rubrics", f"b{FILE}.jsonl"],
    "groups": ["inspect-rubrics", RUN, "--html", f"p{FILE}.html"],
    "group": ["inspect-rubrics", RUN, "--uid", f"u{NASTY}"],
    "failed group": ["inspect-rubrics", RUN, "--uid", f"f{NASTY}"],
    "report": ["report", RUN, "--html", f"p{FILE}.html"],
    "reports": ["report", RUN, RUN, "--html", f"p{FILE}.html"],
    "cache info": ["cache", "info"],
    "prepare": ["data", "prepare", "x", "--local", "prompts.jsonl", "--out", f"out{FILE}.jsonl", "--bad-rows", "drop"],
}
FAILS = {
    "no file": ["teacher-gen", f"no{FILE}.jsonl", "--out", "x.jsonl", "--model", "m"],
    "no uid": ["index", "get", INDEX, "--uid", NASTY],
    "no config": ["cache", "info", "--config", f"no{FILE}.yaml"],
    "no key": ["teacher-gen", "prompts.jsonl", "--out", "x.jsonl", "--set", f"teacher.{FILE}=1"],
    "no value": ["teacher-gen", "prompts.jsonl", "--out", "x.jsonl", "--set", f'judge.m="{PLAIN}\\e[2J\\a\\u202e"'],
    "no record": ["index", "build", f"bad{FILE}.jsonl", "--out", "x"],
    "no url": ["teacher-gen", "prompts.jsonl", "--out", "x.jsonl", "--base-url", f"http://{NASTY}", "--model", "m"],
    "no run": ["rejudge", f"no{FILE}", "--model", "m", "--out", "x"],
    "no run to train": ["train", "--dry-run", "--config", "train.yaml", "--out", "x"],
    "no run to report": ["report", f"no{FILE}"],
    "no benchmark": ["eval", "-b", NASTY, "--base-url", "http://localhost:1/v1", "--model", "m", "--out", "x"],
    "no evaluations": ["eval", "compare", f"a{FILE}", f"b{FILE}"],
}


@pytest.mark.parametrize("name", PRINTS)
def test_what_a_command_prints(name):
    ropd(*PRINTS[name])
    page = f"p{FILE}.html"
    if page in PRINTS[name]:
        with open(page, encoding="utf-8") as file:
            text = file.read()
        assert not UNSAFE.search(text) and PLAIN in text


@pytest.mark.parametrize("name", FAILS)
def test_what_an_error_says(name, folder):
    (folder / f"bad{FILE}.jsonl").write_text(json.dumps({NASTY: 1, "uid": NASTY}) + "\n")
    (folder / "train.yaml").write_text(json.dumps({"data": {"prompts": FILE}, "student": {"model_path": FILE}}))
    ropd(*FAILS[name], code=2)


FAULTS = {
    "body": Status(401, NASTY),
    "text": Status(400, body=NASTY.encode()),
    "location": Status(302, headers={"Location": f"http://h/{FILE.encode().decode('latin-1')}"}),
    "no JSON": Raw(NASTY.encode()),
    "no reply": Raw(json.dumps({"error": {"message": NASTY}}).encode()),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_server_says(name, server):
    server.default = FAULTS[name]
    asked = ["--base-url", server.url, "--model", "m", "--set", "teacher.limits.max_retries=0", "--no-cache"]
    ropd("teacher-gen", "prompts.jsonl", "--out", f"{name}.jsonl", *asked, code=1 if name == "no reply" else 4)


def test_doctor(server, folder):
    server.default = Status(401, NASTY)
    sections = ("teacher", "rubricator", "verifier")
    config = {name: {"base_url": server.url, "model": NASTY} for name in sections}
    config |= {"student": {"model_path": FILE}, "data": {"index": INDEX}, "cache_dir": f"c{FILE}"}
    (folder / "doctor.yaml").write_text(json.dumps(config))
    ropd("doctor", "--config", "doctor.yaml", code=1)


def test_rejudge(server, folder):
    server.default = FromRequest(completion)
    asked = ["--base-url", server.url, "--model", NASTY]
    ropd("rejudge", RUN, "--dry-run", *asked)
    ropd("rejudge", RUN, *asked)
    server.default = Status(401, NASTY)
    ropd("rejudge", RUN, "--base-url", server.url, "--model", "other", code=4)


def test_eval(server, folder):
    server.default = FromRequest(completion)
    rows = [{"id": f"{k}{NASTY}", "problem": q + NASTY, "answer": "42"} for k, q in enumerate(QUESTIONS)]
    (folder / f"e{FILE}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    name = "own"  # a benchmark's name may hold nothing nasty
    asked = ["--base-url", server.url, "--model", NASTY, "--data", f"{name}=e{FILE}.jsonl", "--show-items"]
    for out in (f"a{FILE}", f"b{FILE}"):
        ropd("eval", "-b", name, "--grader", f"{name}=math", "--out", out, *asked)
        for page in ("report.html", "report.md"):
            assert not UNSAFE.search((folder / out / page).read_text())
    ropd("eval", "compare", f"a{FILE}", f"b{FILE}", "--markdown", "c.md", "--html", "c.html")
    assert not UNSAFE.search((folder / "c.md").read_text() + (folder / "c.html").read_text())


def test_lint_judge(server):
    server.default = Status(401, NASTY)
    options = ["--lint-judge", "--model", NASTY, "--base-url", server.url]
    ropd("inspect-rubrics", RUN, *options, code=4)


async def test_full_screen(folder):
    from ropd_cli.analysis.catalogue import Catalogue
    from ropd_cli.analysis.query import Query

    with Catalogue.open(folder / RUN, folder / "cache") as catalogue:
        browser = Browser(catalogue, Query(search=None), f"run{NASTY}")
        async with browser.run_test(size=(160, 60)) as pilot:
            for keys in ([], ["f"], ["escape", "G", "enter"], ["]"], ["escape", "slash", "q"]):
                await pilot.press(*keys)
                await pilot.pause()
                lines = [strip.text for strip in browser.screen._compositor.render_strips()]
                assert_safe("".join(lines))
                assert PLAIN in "".join(lines) or keys in (["f"], ["]"])


def in_a_terminal(folder, *arguments):
    """What a real process writes to a terminal that is 200 columns wide."""
    ours, theirs = pty.openpty()
    environ = os.environ | {"ROPD_CACHE_DIR": str(folder / "cache"), "COLUMNS": "200", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "ropd_cli", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            written += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    process.wait(30)
    os.close(ours)
    return written.decode()


def test_the_bar_and_its_notes_on_a_terminal(server, folder):
    server.default = FromRequest(completion)
    written = in_a_terminal(
        folder,
        "teacher-gen",
        "prompts.jsonl",
        "--out",
        f"bar{FILE}.jsonl",
        "-m",
        1,
        "--base-url",
        server.url,
        "--model",
        NASTY,
        "--no-cache",
    )
    assert PLAIN.replace("/", "") in written and "teacher-gen" in written
    for sequence in ("\x1b]", "\x07", "\x1b[2J", "\x9b", "\u202e", "\x00"):
        assert sequence not in written


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["teacher-gen", f"no{FILE}.jsonl", "--out", "x", "--model", "m", "--debug"], "Traceback"),
        ([NASTY], "no such command"),
        (["index", "get", INDEX, f"--{FILE}"], "ropd: error: no such option"),
    ],
)
def test_what_the_process_itself_says(folder, arguments, shown):
    written = in_a_terminal(folder, *arguments)
    assert shown in written and "[bold red]" in written
    assert "\x07" not in written and "\x1b[2J" not in written and "\u202e" not in written


def test_a_path_that_is_not_utf8(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    command = [sys.executable, "-m", "ropd_cli", "data", "prepare", "sums", "--limit", "2", "--json"]
    done = subprocess.run([*command, "--out", folder + "/p.jsonl"], capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["out"] == folder + "/p.jsonl"


def test_an_output_of_another_encoding(folder):
    command = [sys.executable, "-m", "ropd_cli", "inspect-rubrics", RUN, "--uid", f"u{NASTY}"]
    done = subprocess.run(command, capture_output=True, cwd=folder, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and b"\\u2713" in done.stdout  # met

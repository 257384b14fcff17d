"""Secrets of a configuration are in no message, page or file, but in the user's own file and the run's copy of it."""

import json

import pytest
import yaml
from batch_server import BatchServer
from runs import group_record, rubric_of, write_run
from servers import FromRequest, Raw, Status, completion
from servers import Reply as Good
from storms import judge_by_rules
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.config import EndpointConfig, load_config
from ropd_cli.config.masking import masked, secrets_of, shown_url

QUERY, LITERAL, TAIL, BODY = "query-5f2c9b", "Literal/8d31+e7=", "-tail-9c4e77f0", "body-secret-6a70"
USER, NUMBER = "user-name-77aa01:pass-word-11bb", 424_242
KEY = "sk-environment-0a1b2c"
SECRETS = (f"{QUERY}1234567", LITERAL, TAIL, BODY, "pass-word-11bb")
HEADERS = {"Authorization": f"Bearer {LITERAL}", "X-Mixed": f"${{HUSH}}{TAIL}", "X-Team": "distil"}
EXTRA = {"route": {"tokens": [BODY]}, "top_k": NUMBER, "chat_template_kwargs": {"enable_thinking": False}}


def endpoint(url):
    return {"base_url": f"{url}?key={QUERY}1234567&v=1", "model": "m", "headers": HEADERS, "extra_body": EXTRA}


def echo(status):
    """A server that says back whatever it was sent, in replies or in errors."""

    def make(request):
        said = " ".join([request.path, *request.headers.values()])
        if status:
            return Status(status, f"{json.dumps(request.body.get('route'))} {said}")
        is_judge = "<answer-" in json.dumps(request.body)
        text = judge_by_rules(request.body) if is_judge else f"\\boxed{{42}} {request.headers['x-mixed']}"
        document = json.loads(completion(Good(text), request.body))
        document["model"], document["choices"][0]["finish_reason"] = said, f"stop {said}"
        return Raw(json.dumps(document).encode())

    return FromRequest(make)


@pytest.fixture
def folder(tmp_path, monkeypatch, server):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("ROPD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HUSH", "hush-3b5d7f9e")
    sections = {name: endpoint(server.url) for name in ("teacher", "rubricator", "verifier")}
    sections |= {"student": {"endpoint": endpoint(server.url)}, "lint": {"judge": endpoint(server.url)}}
    for section in (*sections.values(), sections["student"]["endpoint"], sections["lint"]["judge"]):
        if "model" in section:
            section["limits"] = {"max_retries": 0}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(sections))
    rows = [{"uid": f"p{k}", "prompt": f"What is {k} + {42 - k}?"} for k in range(2)]
    (tmp_path / "work" / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "work"


def ropd(*arguments, codes=(0,), config="../c.yaml"):
    options = ["--config", config] if config else []
    done = CliRunner().invoke(app, [*map(str, arguments), *options])
    assert done.exit_code in codes, (arguments, done.output, done.exception)
    assert_clean(done.output, str(arguments))
    return done


def assert_clean(text, where):
    for secret in (*SECRETS, "hush-3b5d7f9e"):
        assert secret not in text and json.dumps(secret)[1:-1] not in text, (where, secret)


def assert_clean_files(folder):
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "config.yaml":
            content = file.read_bytes()
            if file.suffix == ".zst":
                from ropd_cli.records.files import read_records

                content = json.dumps([record for _, record in read_records(file)]).encode()
            assert_clean(content.decode("utf-8", "replace"), str(file))


@pytest.mark.parametrize("status", [None, 400, 404])
def test_nothing_of_it_gets_out(folder, server, status):
    server.default = echo(None)
    ropd("teacher-gen", "p.jsonl", "-m", 1, "--out", "t.jsonl")
    ropd("rollout", "p.jsonl", "-n", 2, "--out", "r.jsonl")
    ropd("index", "build", "t.jsonl", "--out", "i", config=None)
    judging = ["--rollouts", "r.jsonl", "--index", "i", "-m", 1]
    ropd("rubricate", "p.jsonl", *judging, "--out", "b.jsonl")
    record = group_record(1, "u", [[True] * 4, [False] * 4], [[True] * 4], rubric=rubric_of(1))
    write_run(folder / "run", steps=1, groups=0, extra=[record])
    (folder / "run" / "config.yaml").write_bytes((folder.parent / "c.yaml").read_bytes())
    (folder / "q.jsonl").write_text('{"id": "1", "problem": "1 + 1", "answer": "2"}\n')
    server.default = echo(status)
    codes = (0, 1, 3) if status is None else (1, 3, 4)
    for json_too in ([], ["--json"]):
        ropd("verify", "p.jsonl", *judging, "--rubrics", "b.jsonl", "--out", "v.jsonl", *json_too, codes=codes)
        ropd("teacher-gen", "p.jsonl", "-m", 1, "--out", f"t{status}.jsonl", "--no-cache", *json_too, codes=codes)
        ropd("teacher-gen", "p.jsonl", "-m", 3, "--out", "d.jsonl", "--dry-run", *json_too)
        ropd("doctor", *json_too, codes=(0, 1))
        ropd("rejudge", "run", *json_too, config=None, codes=(2,))
        ropd("rejudge", "run", "--trust-run-config", *json_too, config=None, codes=codes)
        ropd("rejudge", "run", "--dry-run", *json_too, config=None)
        ropd("report", "run", *json_too, config=None)
        ropd("inspect-rubrics", "run", "--lint-judge", *json_too, codes=(*codes, 4))
        evaluation = ["eval", "-b", "q", "--data", "q=q.jsonl", "--grader", "q=math", "--out", "e", "--n", 1]
        ropd(*evaluation, *json_too, codes=codes)
    assert_clean_files(folder)
    assert server.requests[0].headers["x-mixed"] == f"hush-3b5d7f9e{TAIL}"  # it was sent all the same


def test_the_pages_of_runs_show_what_is_no_secret(tmp_path):
    def run(name, **more):
        path = write_run(tmp_path / name)
        (path / "config.yaml").write_text(yaml.safe_dump({"verifier": endpoint("https://h/v1") | more}))
        return path

    one, other = run("one"), run("other", base_url="https://other/v1?key=zzz", api_key_env="sk-live-in-the-file")
    for options in ([str(one)], [str(one), str(other), "--html", str(tmp_path / "both.html")]):
        assert CliRunner().invoke(app, ["report", *options]).exit_code == 0
    page, both = (one / "report.html").read_text(), (tmp_path / "both.html").read_text()
    assert_clean(page, "page")
    assert_clean(both, "both")
    for text in ("Bearer ***", "${HUSH}***", "https://h/v1", str(NUMBER), "enable_thinking: false", "X-Team"):
        assert text in page
    assert "https://other/v1" in both and "zzz" not in both and "sk-live" not in both


def test_what_is_masked():
    config = {"teachers": {"a": endpoint(f"https://{USER}@h/v1")}, "verifier": {"api_key_env": "MY_KEY"}, "m": 4}
    shown = masked(config)
    assert shown["teachers"]["a"] == {
        "base_url": "https://h/v1",
        "model": "m",
        "headers": {"Authorization": "Bearer ***", "X-Mixed": "${HUSH}***", "X-Team": "***"},
        "extra_body": EXTRA | {"route": {"tokens": ["***"]}},
    }
    assert (shown["verifier"], shown["m"]) == ({"api_key_env": "MY_KEY"}, 4)
    assert shown_url("http://[u:p@h/v1?k=1#f") == "h/v1"


def test_what_is_struck_out_of_messages_and_of_answers():
    headers = {"X-Api-Key": "literal-key-1", "Referer": "https://my.site/page"}
    secrets = secrets_of("https://h/v1?key=0123456789abc&v=1", headers, {"stop": ["</final answer>"]}, ["a"], KEY)
    said = f"{KEY} literal-key-1 0123456789abc v=1 https://my.site/page </final answer>"
    assert secrets.strike(said).split(" ") == ["***", "***", "***", "v=1", "***", "***"]
    answer = f"https://my.site/page </final answer> v=1 {KEY} literal-key-1 a"
    assert secrets.strike_from_answer(answer) == "https://my.site/page </final answer> v=1 *** *** a"


@pytest.mark.parametrize(
    "section",
    [
        {"headers": {"Authorization": [LITERAL]}},
        {"headers": f"Bearer {LITERAL}"},
        {"extra_body": {"messages": BODY}},
        {"extra_body": BODY},
        {"base_url": [f"http://h?key={QUERY}1234567"]},
        {"limits": {"rpm": f"http://{USER}@h/v1"}},
        {"sampling": {"headers": HEADERS}},
        {"model": HEADERS},
        {"base_url": f"http://{USER}@h/v1", "model": "m"},
        {"base_url": f"h?key={QUERY}1234567", "model": "m"},
        {"base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": LITERAL},
    ],
)
def test_an_error_of_a_configuration_shows_no_secret(folder, section):
    (folder / "bad.yaml").write_text(yaml.safe_dump({"teacher": section}))
    ropd("teacher-gen", "p.jsonl", "--out", "t.jsonl", config="bad.yaml", codes=(2,))


def test_a_run_keeps_its_configuration_to_itself_and_is_resumed_by_it(tmp_path):
    from omegaconf import OmegaConf

    from ropd_cli.training import launch

    flags = {f"verifier.{name}": value for name, value in endpoint("https://h/v1").items()}
    config = load_config(None, flags=flags | {"out": str(tmp_path / "run")}, environ={})
    run = launch.RunDir.of(config.out)
    run.path.mkdir()
    launch._write_inputs(config, run, OmegaConf.create({}))
    assert run.config.stat().st_mode & 0o777 == 0o600
    assert load_config(run.config, environ={}) == config
    assert launch._first_step(load_config(run.config, environ={}), run, resume=True) == 0
    for file in run.path.iterdir():
        assert file == run.config or QUERY not in file.read_text()


def test_files_of_batches(folder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    modes = []

    class Server(BatchServer):
        def upload(self, name, content):
            modes.extend(file.stat().st_mode & 0o777 for file in folder.glob(".t.jsonl.batch.json.*.jsonl"))
            return super().upload(name, content)

    with Server(lambda body: "It is 42.") as batches:
        batches.looks = 2
        config = {"teacher": endpoint(batches.url)}
        (folder.parent / "b.yaml").write_text(yaml.safe_dump(config))
        command = ["teacher-gen", "p.jsonl", "-m", 1, "--out", "t.jsonl", "--batch-api"]
        ropd(*command, "--no-batch-wait", config="../b.yaml")
        state = folder / "t.jsonl.batch.json"
        assert_clean_files(folder)
        document = json.loads(state.read_text())
        assert document["batches"][0]["url"] == batches.url
        document["batches"][0]["url"] += f"?key={QUERY}1234567&v=1"  # as older versions wrote it
        state.write_text(json.dumps(document))
        ropd(
            *command,
            "--batch-poll",
            "0.1",
            config="../b.yaml",
        )
        assert len(batches.batches) == 1 and modes == [0o600]
    assert (folder / "t.jsonl").read_text().count("\n") == 2


def trusted(run, *options, environ=None):
    done = CliRunner(env=environ or {}).invoke(app, ["rejudge", str(run), *map(str, options)])
    return done.exit_code, done.output


def test_keys_are_not_sent_where_the_configuration_of_a_run_says(folder, server, second_server, monkeypatch):
    server.default = second_server.default = lambda body: Good(judge_by_rules(body))
    record = group_record(1, "u", [[True] * 4, [False] * 4], [[True] * 4], rubric=rubric_of(1))

    def run(name, **section):
        path = write_run(folder / name, steps=1, groups=0, extra=[record])
        (path / "config.yaml").write_text(yaml.safe_dump({"verifier": {"model": "m"} | section}))
        return path

    theirs = run("theirs", base_url=f"{server.url}?x={QUERY}")
    named = run("named", base_url=server.url, api_key_env="AWS_SECRET")
    header = run("header", base_url=server.url, headers={"X-A": "${AWS_SECRET}"})
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AWS_SECRET", "aws-secret-1234")
    for path, name in ((theirs, "OPENAI_API_KEY"), (named, "AWS_SECRET"), (header, "OPENAI_API_KEY and AWS_SECRET")):
        code, said = trusted(path)
        assert code == 2 and f"variable {name} would be sent to {server.url}\n" in said and QUERY not in said
        assert "--trust-run-config" in said
    # an endpoint of one's own does not get a key that the run names
    code, said = trusted(named, "--base-url", second_server.url)
    assert code == 2 and f"AWS_SECRET would be sent to {second_server.url}" in said
    assert not server.requests and not second_server.requests
    trusted(theirs, "--trust-run-config")
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    count = len(server.requests)
    trusted(theirs, "--base-url", second_server.url)
    trusted(named, "--base-url", second_server.url, "--api-key-env", "OPENAI_API_KEY")
    (folder / "mine.yaml").write_text(yaml.safe_dump({"verifier": {"base_url": second_server.url, "model": "m2"}}))
    trusted(header, "--config", folder / "mine.yaml")
    assert {request.headers["authorization"] for request in second_server.requests} == {f"Bearer {KEY}"}
    assert len(second_server.requests) >= 2 and len(server.requests) == count
    # without a variable there is nothing to send
    monkeypatch.delenv("OPENAI_API_KEY")
    trusted(theirs, "--model", "another")
    assert len(server.requests) > count


def test_a_new_rubricator_is_asked_for_trust_too(folder, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    record = group_record(1, "u", [[True] * 4, [False] * 4], [[True] * 4], rubric=rubric_of(1))
    path = write_run(folder / "r", steps=1, groups=0, extra=[record])
    sections = {"verifier": {"model": "m"}, "rubricator": {"model": "m", "base_url": server.url}}
    (path / "config.yaml").write_text(yaml.safe_dump(sections))
    code, said = trusted(path, "--new-rubrics")
    assert code == 2 and server.url in said and not server.requests


def test_an_endpoint_without_secrets_is_as_before():
    plain = EndpointConfig(model="m", base_url="http://h:8000/v1").model_dump()
    assert masked(plain) == plain

"""An API key goes into the Authorization header and nowhere else, also where a server says it back."""

import json
import os
import subprocess
import sys

import pytest
from servers import FromRequest, Raw, Reply, Status, completion
from storms import judge_by_rules

pytestmark = pytest.mark.slow

KEY = "sk-proj/7f3a9c1e5b2d+Zq=="
OTHER_KEY = "sk-proj/0d4b8e6a1c5f+Xw=="
HEADER = "hush/5e9d3c7a1b0f+Vt=="
ENVIRON = {"OPENAI_API_KEY": KEY, "OTHER": OTHER_KEY, "HUSH": HEADER}
SECRETS = (KEY, OTHER_KEY, HEADER)
QUESTIONS = ("What is 17 + 25?", "What is 2 + 2?", "What is 5 + 5?")


class Echo:
    """Makes a step that says back every secret that came in so far."""

    def __init__(self, make):
        self.heard, self._make = set(), make

    def __call__(self, request):
        self.heard |= {value for value in request.headers.values() if any(secret in value for secret in SECRETS)}
        return self._make(", ".join(sorted(self.heard)), request.body)


def judged(body):
    """A reply that the commands can use: a judge's where there are answers in the request, else a teacher's."""
    return judge_by_rules(body) if "<answer-" in json.dumps(body) else "The result is \\boxed{42}, I am sure of it."


def everywhere(said, body):
    """A usable reply with the secrets in every text that comes with it."""
    text = judged(body)
    if text.startswith("{"):
        text = f"```json\n{text}\n```\nYour header was {said}."
        if "criterion" in text:
            text = text.replace("Has the word", f"({said}) Has the word")
    return Reply(
        text if text.startswith("```") else f"{text} {said}",
        message={"reasoning_content": f"they sent {said}", "annotations": [said]},
        headers={"X-Echo": said, "Set-Cookie": f"key={said}", "X-Request-Id": said},
    )


def elsewhere(said, body):
    """The secrets where words of the protocol stand."""
    document = {"id": said, "object": said, "created": 0, "model": said, "system_fingerprint": said}
    message = {"role": "assistant", "content": judged(body), "refusal": None}
    document["choices"] = [{"index": 0, "message": message, "finish_reason": f"stop {said}"}]
    document["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, said: said}
    return Raw(json.dumps(document).encode(), headers={"X-Echo": said})


def escaped(said, body):
    """As everywhere, in JSON that escapes what need not be."""
    reply = everywhere(said, body)
    data = completion(reply, body)
    for char, written in (("/", "\\/"), ("=", "\\u003d"), ("+", "\\u002B")):
        data = data.replace(char.encode(), written.encode())
    return Raw(data)


FAULTY = {
    "401": lambda said, body: Status(401, f"Incorrect API key provided: {said}.", error_code=said),
    "403": lambda said, body: Status(403, body={"detail": [{"msg": said, "headers": {"authorization": said}}]}),
    "400 html": lambda said, body: Status(400, body=f"<html><pre>Authorization: {said}</pre></html>".encode()),
    "404 escaped": lambda said, body: Status(
        404, body=json.dumps({"error": {"message": said}}).replace("/", "\\/").encode()
    ),
    "429": lambda said, body: Status(429, f"slow down, {said}", retry_after="0", headers={"X-Echo": said}),
    "500": lambda said, body: Status(500, f"KeyError: {said}"),
    "302": lambda said, body: Status(302, said, headers={"Location": f"http://127.0.0.1:9/{said}?key={said}"}),
    "not JSON": lambda said, body: Raw(f"Authorization: {said}".encode()),
    "no reply": lambda said, body: Raw(json.dumps({"error": {"message": f"what is {said}?"}}).encode()),
    "not a judge": lambda said, body: Reply(f"I would rather not judge {said}."),
    "wrong shape": lambda said, body: Reply(json.dumps({said: said, "rubrics": [said], "answers": [{said: said}]})),
    "wrong values": lambda said, body: Reply(
        json.dumps({"schema_version": said, "rubrics": [{"points": said}] * 5, "answers": [{"answer_index": said}]})
    ),
    "failed response": lambda said, body: Raw(
        json.dumps({"object": "response", "status": "failed", "error": {"message": said}, "output": []}).encode()
    ),
}


class Work:
    """A folder, and commands in it whose every word is kept."""

    def __init__(self, folder, server):
        self.folder, self.server = folder, server
        self.said = []

    def ropd(self, *arguments, codes=(0,)):
        done = subprocess.run(
            [sys.executable, "-m", "ropd_cli", *map(str, arguments)],
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
            | {"ROPD_CACHE_DIR": str(self.folder / "cache"), "HOME": str(self.folder / "home")}
            | ENVIRON,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.said += [done.stdout, done.stderr]
        assert done.returncode in codes, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def prepare(self):
        (self.folder / "mine.jsonl").write_text("".join(json.dumps({"question": q}) + "\n" for q in QUESTIONS))
        self.ropd("data", "prepare", "mine", "--local", "mine.jsonl", "--out", "prompts.jsonl")

    def chain(self, *options, suffix=""):
        """Teacher answers, rollouts, index, rubrics, verdicts."""
        files = [f"{name}{suffix}.jsonl" for name in ("teacher", "rollouts", "rubrics", "verdicts")]
        teacher, rollouts, rubrics, verdicts = files
        asked = ["--model", "m", "--base-url", self.server.url, *options]
        self.ropd("teacher-gen", "prompts.jsonl", "-m", 2, "--force", "--out", teacher, *asked)
        self.ropd("rollout", "prompts.jsonl", "-n", 2, "--out", rollouts, *asked)
        self.ropd("index", "build", teacher, "--out", f"index{suffix}")
        judging = ["--rollouts", rollouts, "--index", f"index{suffix}", "--m", 1, *asked]
        self.ropd("rubricate", "prompts.jsonl", *judging, "--out", rubrics)
        self.ropd("verify", "prompts.jsonl", *judging, "--rubrics", rubrics, "--out", verdicts)

    def leaks(self):
        """Secrets in anything that was said or written, and where."""
        texts = {f"output {number}": text.encode() for number, text in enumerate(self.said)}
        for file in self.folder.rglob("*"):
            if file.is_file():
                texts[str(file.relative_to(self.folder))] = file.read_bytes()
        return [(where, secret) for where, text in texts.items() for secret in SECRETS if secret.encode() in text]


@pytest.fixture
def work(tmp_path, server):
    made = Work(tmp_path, server)
    made.prepare()
    return made


def used(server):
    return {request.headers.get("authorization") for request in server.requests}


CALLS = [["--debug"], ["--json"], ["--debug", "--json"], []]


def test_a_good_server(work, server):
    server.default = lambda body: Reply(judged(body))
    work.chain("--debug")
    work.chain("--json", "--api", "responses", suffix="-responses")
    assert used(server) == {f"Bearer {KEY}"}
    assert len(work.said) > 20 and work.leaks() == []


@pytest.mark.parametrize("make", [everywhere, elsewhere, escaped])
def test_a_server_that_says_it_back_in_good_replies(work, server, make):
    server.default = FromRequest(Echo(make))
    work.chain("--debug")
    work.ropd("cache", "export", "replies.jsonl")
    assert KEY in next(iter(server.default.make.heard))
    assert work.leaks() == []
    assert "***" in (work.folder / "teacher.jsonl").read_text() or make is elsewhere


def test_a_key_of_another_name_and_a_header_of_ones_own(work, server):
    server.default = FromRequest(Echo(everywhere))
    headers = 'headers={X-Token: "${HUSH}"}'
    options = ["--api-key-env", "OTHER", "--debug"]
    for section in ("teacher", "student.endpoint", "rubricator", "verifier"):
        options += ["--set", f"{section}.{headers}"]
    work.chain(*options)
    assert used(server) == {f"Bearer {OTHER_KEY}"}
    assert {request.headers["x-token"] for request in server.requests} == {HEADER}
    work.ropd("cache", "export", "replies.jsonl")
    assert work.leaks() == []


@pytest.mark.long
def test_a_server_that_says_it_back_in_every_kind_of_fault(work, server):
    server.default = lambda body: Reply(judged(body))
    work.chain()
    endpoints = {"rubricate": "rubricator", "verify": "verifier", "teacher-gen": "teacher"}
    index = ["--rollouts", "rollouts.jsonl", "--index", "index", "--m", 1]
    words = {
        "teacher-gen": ["-m", 2, "--force"],
        "rubricate": index,
        "verify": [*index, "--rubrics", "rubrics.jsonl"],
    }
    number = 0
    for name, make in FAULTY.items():
        server.default = echo = FromRequest(Echo(make))
        for command, section in endpoints.items():
            call = CALLS[number % len(CALLS)]
            api = ["--api", "responses"] if name == "failed response" else []
            number += 1
            once = ["--set", f"{section}.limits.max_retries=1", "--no-cache", *api, *call]
            asked = ["--model", "m", "--base-url", server.url, "--out", f"out-{number}.jsonl", *once]
            work.ropd(command, "prompts.jsonl", *words[command], *asked, codes=(0, 1, 3, 4))
        assert echo.make.heard
    assert any("Incorrect API key provided: " in said for said in work.said)
    assert any("Traceback" in said for said in work.said)
    assert work.leaks() == []


def test_what_is_looked_for_would_be_found(work):
    work.said.append(f"Bearer {KEY}")
    (work.folder / "deep").mkdir()
    (work.folder / "deep" / "file.bin").write_bytes(b"\0\xff" + OTHER_KEY.encode())
    assert {secret for _, secret in work.leaks()} == {KEY, OTHER_KEY}

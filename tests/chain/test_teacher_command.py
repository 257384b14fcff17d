"""``ropd teacher-gen`` as a user types it: several teachers, what it says before and after, and its own mistakes."""

from __future__ import annotations

import json
import os

import pytest
from processes import start_ropd
from servers import Reply, ScriptedServer

from ropd_cli.cli._screen import LogLines
from ropd_cli.cli._stages import stats_words
from ropd_cli.cli._teachers import endpoints_of, text_or_file
from ropd_cli.config import load_config
from ropd_cli.errors import ConfigError, InputError
from ropd_cli.llm.chat import ClientStats
from ropd_cli.llm.shared import Shared
from ropd_cli.records.files import read_records

CONFIG = """
teacher: {{base_url: "{0}", model: first, sampling: {{temperature: 0.7}}, limits: {{concurrency: 9}}}}
teachers:
  cold: {{model: second, sampling: {{temperature: 0.2}}, limits: {{concurrency: 2}}}}
prices: {{second: {{input: 1.0, output: 2.0}}, third: {{input: 1.0, output: 2.0}}}}
"""


def said(body):
    n, name = body.get("n", 1), f"{body['model']} {body['temperature']}"
    return Reply(f"{name}/0", others=tuple(f"{name}/{k}" for k in range(1, n)))


def run(folder, *arguments, code=0):
    child = start_ropd(("teacher-gen", "p.jsonl", *arguments), folder, dict(os.environ))
    out, err = child.communicate(timeout=60)
    assert child.returncode == code, f"exit {child.returncode}\n{out}\n{err}"
    return out, err


@pytest.mark.slow
def test_several_teachers_of_a_configuration(tmp_path, server):
    server.default = said
    (tmp_path / "p.jsonl").write_text("".join(f'{{"uid": "{k}", "prompt": "q{k}"}}\n' for k in range(3)))
    (tmp_path / "c.yaml").write_text(CONFIG.format(server.url))
    with ScriptedServer() as other:
        other.default = said
        named = ("--teacher", "cold", "--teacher", f"third@{other.url}", "-c", "c.yaml", "-m", 4, "--out", "t.jsonl")
        forecast = json.loads(run(tmp_path, *named, "--dry-run", "--json")[0])
        assert (forecast["calls"], forecast["cached"], server.requests) == (6, 0, [])
        assert forecast["cost_usd"] > 0 and [one["calls"] for one in forecast["teachers"]] == [3, 3]
        document = json.loads(run(tmp_path, *named, "--json")[0])
        assert document["requests_sent"] == forecast["calls"] and document["done"] == 3
        assert [(t["model"], t["answers"], t["requests_sent"]) for t in document["teachers"]] == [
            ("second", 6, 3),
            ("third", 6, 3),
        ]
        assert sum(t["cost_usd"] for t in document["teachers"]) == pytest.approx(document["cost_usd"])
        for _, record in read_records(tmp_path / "t.jsonl"):
            texts = [answer["text"] for answer in record["answers"]]
            assert texts == ["second 0.2/0", "second 0.2/1", "third 0.7/0", "third 0.7/1"]
    assert json.loads(run(tmp_path, *named, "--out", "t2.jsonl", "--dry-run", "--json")[0])["calls"] == 0
    out, _ = run(tmp_path, *named, "--out", "t2.jsonl")
    assert f"third at {other.url}: 6 answers" in out and "0 requests sent, 12 answers from the cache" in out


@pytest.mark.parametrize(
    ("named", "model", "expected"),
    [
        ((), None, [("first", "http://a/v1", 0.7)]),
        (("x/y",), None, [("x/y", "http://a/v1", 0.7)]),
        (("cold", "z@http://b/v1"), None, [("second", "http://a/v1", 0.2), ("z", "http://b/v1", 0.7)]),
        (("m@2024@https://c/v1",), None, [("m@2024", "https://c/v1", 0.7)]),
        (("m@2024",), None, [("m@2024", "http://a/v1", 0.7)]),
        (("@http://b/v1",), None, "no model"),
        (("x",), "y", "exclude each other"),
    ],
)
def test_how_a_teacher_is_named(tmp_path, named, model, expected):
    (tmp_path / "c.yaml").write_text(CONFIG.format("http://a/v1"))
    config = load_config(tmp_path / "c.yaml", environ={})
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            endpoints_of(config, named, model)
        return
    found = endpoints_of(config, named, model)
    assert [(e.model, e.base_url, e.sampling.temperature) for e in found] == expected


def test_faults_of_further_teachers_are_found_at_load_and_their_limits_are_kept(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG.format("http://a/v1"))
    faults = ("teachers.cold.sampling.temprature=1", "teachers.new.limits.concurrency=0", "teachers.odd=3")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml", overrides=faults[:2], environ={})
    message = str(caught.value)
    assert "teachers.cold.sampling.temprature: unknown key, did you mean temperature?" in message
    assert "teachers.new.limits.concurrency: input should be greater" in message
    with pytest.raises(ConfigError, match=r"teachers\.odd"):
        load_config(tmp_path / "c.yaml", overrides=faults[2:], environ={})
    # teachers with the same model at the same place keep within the lowest limit of those that are asked
    config = load_config(tmp_path / "c.yaml", overrides=["teachers.cold.model=first"], environ={})
    for asked, concurrency in ((("first", "cold"), 2), (("first",), config.teacher.limits.concurrency)):
        shared = Shared.of(config)
        limiters = {shared.limiter(each) for each in endpoints_of(config, asked, None)}
        assert [limiter.concurrency for limiter in limiters] == [concurrency]


def test_a_mistake_is_one_line_and_a_hint(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"uid": "a", "prompt": "q"}\n')
    _, err = run(tmp_path, "--out", "t.jsonl", "--base-url", "builtin://checkable", "--n-per-request", 3, code=2)
    assert "'--n-per-request': '3' is not one of 'auto', '1'\nhint: " in err and "Traceback" not in err


def test_a_system_prompt_may_lie_in_a_file(tmp_path):
    (tmp_path / "s.txt").write_text("Sei kurz.\n", encoding="utf-8")
    assert text_or_file("--system-prompt", f"@{tmp_path / 's.txt'}") == "Sei kurz.\n"
    assert text_or_file("--system-prompt", "a @b") == "a @b" and text_or_file("--system-prompt", None) is None
    with pytest.raises(InputError, match=r"--system-prompt @absent.txt: No such file"):
        text_or_file("--system-prompt", "@absent.txt")


def test_the_money_of_the_whole_run_is_forecast_from_what_is_done(capsys):
    stats = [ClientStats(cost_usd=0.5, cache_hits=1), ClientStats(cost_usd=None, cache_hits=2)]
    progress = LogLines(lambda done, total: stats_words(stats, done, total, at_once=4))
    progress.start(8, "prompts")
    progress.finish()
    progress.start(8, "prompts")
    progress.advance(1, failed=1)
    progress.advance(1)
    progress.finish()
    progress.start(8, "prompts")
    progress.advance(8)
    progress.finish()
    begun, quarter, whole = (line for line in capsys.readouterr().err.splitlines() if "to do" not in line)
    assert begun.endswith(", 3 cached, $0.5000")
    assert quarter.endswith(", 1 failed, 3 cached, $0.5000 of about $1.00")
    assert whole.endswith(", 3 cached, $0.5000")
    said = stats_words([ClientStats(completion_tokens=500)], 25, 100, at_once=50)
    assert said == "0 cached, 500 of about 1,000 tokens of replies"


def test_the_pace_of_work_that_was_begun_before(capsys):
    progress = LogLines()
    progress.start(6, "train", 2)
    progress.advance(seconds=30.0)
    progress.advance(seconds=50.0)
    progress.finish()
    assert capsys.readouterr().err.splitlines() == ["train: 4 to do", "train: 4/6, 40 s each"]


@pytest.mark.slow
def test_only_right_answers_are_kept_by_math_verify(tmp_path, server):
    pytest.importorskip("ropd_cli.answers.math_equal")
    rows = [{"uid": "a", "prompt": "half of one?", "answer": "1/2"}, {"uid": "b", "prompt": "two?", "answer": "2"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = ["so \\boxed{0.5}", "so \\boxed{\\frac{1}{2}}", "so \\boxed{2}", "I can't say"]
    server.default = lambda body: Reply(texts[0], others=tuple(texts[1 : body.get("n", 1)]))
    options = ("--out", "t.jsonl", "--base-url", server.url, "--model", "m", "-m", 2, "--keep", "correct", "--json")
    document = json.loads(run(tmp_path, *options, "--tries", 2, code=3)[0])
    assert (document["done"], document["failed"]) == (1, 1)
    assert document["teachers"][0]["answers"] == 2 and document["teachers"][0]["wrong"] == 4
    [(_, record)] = read_records(tmp_path / "t.jsonl")
    assert record["uid"] == "a" and [a["correct"] for a in record["answers"]] == [True, True]


def test_what_goes_on_is_said_at_once_and_then_now_and_then(capsys, monkeypatch):
    progress = LogLines()
    for text in ("starting", "sampling"):
        progress.state(text)
    assert capsys.readouterr().err == "starting\n"
    monkeypatch.setattr("ropd_cli.cli._screen.STATE_EVERY_S", 0.0)
    progress = LogLines()
    for text in ("starting", "sampling"):
        progress.state(text)
    assert capsys.readouterr().err == "starting\nsampling\n"

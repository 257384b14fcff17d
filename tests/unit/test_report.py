"""The page of a run: its figures are right, no text of a model acts, and nothing is loaded from elsewhere."""

import json
import re
import subprocess
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from runs import group_record, rubric_of, write_run
from typer.testing import CliRunner

from ropd_cli.analysis.run_data import read_run
from ropd_cli.cli.main import app
from ropd_cli.cli.train import _write_report
from ropd_cli.index import IndexWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, prompt_hash
from ropd_cli.report.charts import Line, chart, in_unit
from ropd_cli.report.run_page import page
from ropd_cli.report.run_words import course, status

NASTY = "</script><script>alert(1)</script> <img src=x onerror=alert(2)> \x1b[2J \u202e & {x}"


def nasty_run(path):
    rubric = rubric_of(1, [("Task <b>Completion", NASTY, 4), ("Quality", "Names the river in the text.", 2)])
    hostile = group_record(
        6, f"u {NASTY}", [[True, False], [False, True]], [[True, True]], rubric=rubric, question=NASTY, rollout=NASTY
    )
    return write_run(path, extra=[hostile, group_record(6, "broken", [[True] * 4] * 2, [], error=f"late {NASTY}")])


def test_figures_are_those_of_the_groups(tmp_path):
    same = group_record(6, "same", [[True, True, False, True]] * 4, [[True] * 4] * 2)
    below = group_record(6, "below", [[True] * 4, [True, True, True, False]], [[False] * 4])
    failed = group_record(6, "failed", [[True] * 4] * 2, [], error="no reply after 5 tries")
    data = read_run(write_run(tmp_path / "r", extra=[same, below, failed]))
    assert len(data.rows) == 27 and len(data.judged) == 26 and [row.uid for row in data.failed] == ["failed"]
    assert [row.uid for row in data.rows if row.below] == ["below"]
    assert "same" in [row.uid for row in data.rows if row.zero_variance]
    before, after, change = data.trend
    by_hand = [row.mean for row in data.judged if row.step <= 2]
    assert before == pytest.approx(sum(by_hand) / len(by_hand)) and change.low <= after - before <= change.high
    marks = list(data.full.values())
    assert marks and data.chosen["failed"] and data.rows[data.chosen["failed"][0]].uid == "failed"
    for number, view in data.full.items():  # the second reading finds the same groups
        assert view.uid == data.rows[number].uid and view.step == data.rows[number].step


def test_groups_of_a_step_that_did_not_finish_do_not_count(tmp_path):
    whole = read_run(write_run(tmp_path / "r"))
    rows = (tmp_path / "r" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "r" / "metrics.jsonl").write_text("".join(rows[:-1]))
    data = read_run(tmp_path / "r")
    assert data.rows == [row for row in whole.rows if row.step < 6] and data.unfinished == [6]
    said = status(data)
    assert "5 of 6 steps" in said and said.endswith("Step 6 is not finished, and its groups do not count here.")
    assert "not finished, and" not in status(whole)


def test_criteria_that_differ_in_numbers_alone_are_one_line_and_the_costliest_comes_first(tmp_path):
    data = read_run(write_run(tmp_path / "r", groups=3))
    named = next(row for row in data.hardest if row.text.startswith("Names the country"))
    assert len(named.texts) == named.met.count == 18
    lost = [row.points * row.met.count * (1 - row.met.student_rate) for row in data.hardest]
    assert lost == sorted(lost, reverse=True)


def test_what_is_said_follows_the_rewards(tmp_path):
    rising = read_run(write_run(tmp_path / "up", groups=8))
    flat = read_run(write_run(tmp_path / "flat", groups=8, rises=False))
    assert course(rising)[0][0].startswith("The mean reward rose") and course(rising)[0][1] == "good"
    assert "did not clearly change" in course(flat)[0][0]
    assert "GRPO is given other numbers" not in words(page(rising))
    rising.config["reward"] = {"criterion_weights": "discriminating", "criterion_dropout": 0.1, "combine": "separate"}
    said = words(page(rising)).split("GRPO is given other numbers")[1].split(".")[0]
    assert "separates the rollouts" in said and "10% are left out" in said and "normalised within the group" in said
    (tmp_path / "up" / "result.json").unlink()
    assert status(read_run(tmp_path / "up")).startswith("The run is not finished: 6 steps, 48 groups")
    (tmp_path / "up" / "stopped.json").write_text('{"kind": "ProviderDown", "message": "step 7: gone", "hint": "x"}')
    assert "stopped: step 7: gone" in status(read_run(tmp_path / "up"))


def test_a_reward_server_s_groups_differ_in_size_and_it_has_no_device(tmp_path):
    path = write_run(tmp_path / "r", groups=1, extra=[group_record(6, "pair", [[True] * 4] * 2, [])])
    (path / "config.yaml").write_text("device: gpu\nmethod: ropd\n")
    run = read_run(path)
    assert "7 groups of 2 to 4 rollouts" in status(run) and "on GPU" not in words(page(run))
    (path / "verl.yaml").touch()
    assert "on GPU" in words(page(read_run(path)))


@pytest.mark.parametrize("is_trained", [True, False])
def test_a_run_without_groups_points_at_a_log_that_is_there(tmp_path, is_trained):
    (tmp_path / "config.yaml").write_text("method: ropd\n")
    if is_trained:
        (tmp_path / "train.log").touch()
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 2 and "no step of this run is finished" in done.stderr
    assert ("train.log" in done.stderr) == is_trained and ("wait for its first group" in done.stderr) != is_trained


def failures(run):
    """The section on failures, of the page."""
    return page(run).split('<section id="failures">')[1].split("</section>")[0]


def words(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_who_judged_is_said(tmp_path):
    path = write_run(tmp_path / "r")
    assert "rubricator , the LLM judge, compares" in words(page(read_run(path)))
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["rubricator"] = {"model": "checkable", "base_url": "builtin://checkable"}
    config["data"] = {"index": str(tmp_path / "gone.index")}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    assert "builtin://checkable (a built-in program with fixed rules, no LLM)" in words(page(read_run(path)))
    record = AnswerRecord(
        uid="a",
        prompt="Why?",
        raw_prompt_hash=prompt_hash("Why?"),
        model="big-teacher",
        answers=(Answer(text="So.", finish_reason="stop"),),
    )
    with IndexWriter(tmp_path / "gone.index") as index:
        index.add(record)
    assert read_run(path).teachers == ("big-teacher",)
    assert "the teacher's answers (big-teacher)" in words(page(read_run(path)))
    (tmp_path / "gone.index").write_bytes(b"no index")
    assert read_run(path).teachers == ()


def test_what_is_worth_a_look(tmp_path):
    path = write_run(tmp_path / "r")
    metrics = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for row in metrics:
        row["rollouts/cut_off"] = 0.4 if row["step"] == 2 else 0.0
    assert "were cut off" not in failures(read_run(path)) and "Nothing failed" in failures(read_run(path))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    assert "Up to 40% of a step&#39;s rollouts (step 2; 7% on average)" in failures(read_run(path))
    dead = [group_record(6, f"d{k}", [[True, False, False, True]] * 4, [[True] * 4] * 2) for k in range(8)]
    late = words(failures(read_run(write_run(tmp_path / "dead", extra=dead))))
    assert "0% in the first third of the steps, 50% in the last" in late
    assert "met-by-all" in late


def test_the_cost_of_judging_is_that_of_the_run(tmp_path):
    path = write_run(tmp_path / "r")
    rows = [json.loads(line) | {"judge/cost_usd": 0.5} for line in (path / "metrics.jsonl").read_text().splitlines()]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = f"${len(rows) / 2:,.2f}"
    assert f"{steps} for judging " in words(page(read_run(path)))
    (path / "spent.json").write_text(json.dumps({"usd": len(rows) / 2 + 1.25}))
    more = f"${len(rows) / 2 + 1.25:,.2f} for judging, $1.25 of it beside the finished steps"
    assert more in words(page(read_run(path)))


def test_no_text_acts_and_nothing_is_loaded(tmp_path):
    html = page(read_run(nasty_run(tmp_path / "r")))
    assert html.count("<script") == 2 and html.count("</script>") == 2  # the list's data, and the page's own
    assert "<img" not in html and "onerror=alert(2)&gt;" in html and "\x1b" not in html and "\u202e" not in html
    assert not re.search(r"<\w[^>]*\s(?:src|href)=(?![\"']?#)", html.split("<script", 1)[0])
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "default-src 'none'" in html
    assert "sk-secret-1" not in html and "${KEY}" in html
    listed = json.loads(re.search(r'id="groups-data">(.*?)</script>', html, re.DOTALL)[1])
    assert len(listed["rows"]) == 26 and all(len(row) == len(listed["columns"]) for row in listed["rows"])
    assert any("</script>" in str(row) for row in listed["rows"])
    for anchor in set(re.findall(r'href="#(g\d+)"', html)):
        assert f'id="{anchor}"' in html


def test_five_thousand_groups_stay_a_small_page(tmp_path):
    records = [group_record(1, f"g{k}", [[True, k % 2 == 0, False, True]] * 2, [[True] * 4]) for k in range(40)]
    path = write_run(tmp_path / "r", steps=3, extra=records)
    data = read_run(path)
    data.rows += data.rows[:1] * (5000 - len(data.rows))
    html = page(data)
    assert html.count("<details") < 150 and html.count("<tr") < 2500 and len(html) < 3_000_000


def test_the_command_writes_a_page_of_one_and_of_two(tmp_path):
    write_run(tmp_path / "a"), write_run(tmp_path / "b", rises=False, seed=1)
    runner = CliRunner()
    done = runner.invoke(app, ["report", str(tmp_path / "a"), "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    said_ = json.loads(done.stdout)
    assert said_["runs"][0]["groups"] == 24 and (tmp_path / "a" / "report.html").is_file()
    refused = runner.invoke(app, ["report", str(tmp_path / "a"), str(tmp_path / "b")])
    assert refused.exit_code == 2 and "--html" in refused.output
    both = tmp_path / "both.html"
    done = runner.invoke(app, ["report", str(tmp_path / "a"), str(tmp_path / "b"), "--html", str(both)])
    assert done.exit_code == 0, done.output
    html = both.read_text()
    assert "rose" in html and "did not clearly change" in html and html.count("<svg") >= 3


def test_a_run_on_the_teacher_s_answers_shows_its_loss_and_no_groups(tmp_path):
    sft, runner = tmp_path / "sft", CliRunner()
    sft.mkdir()
    (sft / "config.yaml").write_text("method: sft\ndata: {max_response_tokens: 9}\n")
    refused = runner.invoke(app, ["report", str(sft)])
    assert refused.exit_code == 2 and "no step is finished" in refused.output
    row = {"answers/trained": 8, "answers/tokens_mean": 5.5, "answers/too_long": 1, "timing_s/step": 2.0}
    rows = [row | {"step": step, "train/loss": 4.0 - step / 2} for step in range(1, 7)]
    (sft / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    html = page(read_run(sft))
    assert "6 steps, 48 teacher answers" in html and "The mean loss fell: 3.25 in the first third" in html
    assert "6 answers had more than 9 tokens" in html and "Loss on the teacher&#39;s answers" in html
    assert not re.search("[Rr]ubric|[Rr]eward|[Ll]inter", html.split("the whole configuration")[0].split("<main>")[1])
    both = tmp_path / "both.html"
    done = runner.invoke(
        app, ["report", str(write_run(tmp_path / "a")), str(sft), "--html", str(both), "--json", "--quiet"]
    )
    judged, trained = json.loads(done.stdout)["runs"]
    assert trained["loss_last_third"] == 1.25 and trained["linter_findings_per_group"] is None
    assert all(re.fullmatch("[a-z0-9_]+", name) for name in (*judged, *trained))
    assert judged["loss_last_third"] is None and judged["linter_findings_per_group"] is not None
    assert "Loss on the teacher&#39;s answers" in both.read_text()
    shown = runner.invoke(app, ["inspect-rubrics", str(sft)])
    assert shown.exit_code == 2 and "a run of method sft has no rubrics" in shown.output


def test_a_page_that_fails_hides_nothing(tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr("ropd_cli.report.run_page.page", lambda _: 1 / 0)
    _write_report(write_run(tmp_path / "r"), SimpleNamespace(note=notes.append))
    assert "ZeroDivisionError" in notes[0] and f"ropd report {tmp_path / 'r'}" in notes[0]


@pytest.mark.parametrize("missing", ["nothing", "empty"])
def test_what_is_no_run_is_said_in_one_line(tmp_path, missing):
    path = tmp_path / "run"
    if missing == "empty":
        path.mkdir()
    done = CliRunner().invoke(app, ["report", str(path)])
    assert done.exit_code == 2 and done.output.startswith("ropd: error:") and "hint:" in done.output


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(-1e9, 1e9)), min_size=1, max_size=60, unique_by=lambda p: p[0])
)
def test_a_line_stays_inside_its_frame(points):
    drawn = chart("t", [Line("l", sorted(points))])
    assert len(drawn.lines[0].points) == len(points)
    assert all(drawn.left <= x <= drawn.right and drawn.top <= y <= drawn.bottom for x, y in drawn.lines[0].points)


def test_zeros_lie_on_the_axis_and_its_numbers_differ():
    ticks = [label for _, label in chart("t", [Line("l", [(1, 0.0), (2, 0.0)])], unit="%").ticks]
    assert "0%" in ticks and len(set(ticks)) == len(ticks) > 2 and not any(tick.startswith("-") for tick in ticks)


def test_numbers_are_said_as_a_reader_wants_them():
    values = ((0.123, "%"), (0.0123, "%"), (1234567, ""), (12.5, "s"), (1.5, "$"), (0.0173, ""), (0.00553, "s"))
    assert [in_unit(*value) for value in values] == ["12.3%", "1.2%", "1.23M", "12.50 s", "$1.50", "0.017", "0.006 s"]
    assert chart("t", [Line("l", [])]) is None


def test_a_point_has_its_interval_and_a_step_without_a_point_nothing():
    lines = [Line("a", [(1, 0.5), (3, 0.25)], bars=[(3, 0.2, 0.3)]), Line("b", [(2, 1.0)])]
    drawn = chart("t", lines)
    assert drawn.pointed["steps"] == [1, 2, 3]
    assert [line["values"] for line in drawn.pointed["lines"]] == [
        ["0.50", None, "0.25 (0.20 to 0.30)"],
        [None, "1", None],
    ]


@pytest.mark.parametrize("top, unit", [(1.0, ""), (0.0095, "s"), (0.0123, "%"), (9.7, "$"), (0.3, ""), (12_600, "")])
def test_the_numbers_of_a_scale_differ_and_its_axes_have_names(top, unit):
    drawn = chart("t", [Line("l", [(1, 0.0), (2, top)])], axis="" if unit else "score", unit=unit)
    ticks = [label for _, label in drawn.ticks]
    assert len(set(ticks)) == len(ticks) and all(len(tick) <= 6 for tick in ticks)
    assert drawn.axis == {"": "score", "s": "seconds", "%": "share", "$": "US dollars"}[unit]
    assert drawn.across == "training step"


@pytest.mark.slow
def test_the_list_of_groups_works_in_a_browser(tmp_path):
    import shutil

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium")
    file = tmp_path / "r.html"
    file.write_text(page(read_run(nasty_run(tmp_path / "r"))))
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--virtual-time-budget=3000", "--dump-dom", f"file://{file}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    dom = done.stdout
    assert re.search(r'id="group-count"[^>]*>26 of 26 groups', dom)
    assert dom.count('<td class="uid" title="') == 26 and "<img" not in dom

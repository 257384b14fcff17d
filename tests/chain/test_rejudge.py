"""``ropd rejudge`` on runs that a judge over HTTP has judged."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from pathlib import Path

import pytest
import yaml
from judges import Reader, verdict
from servers import Reply, Status
from typer.testing import CliRunner

from ropd_cli.cli.main import app
from ropd_cli.records.files import read_records
from ropd_cli.records.schemas import Answer
from ropd_cli.training.judge_owner import RunJudge

pytestmark = pytest.mark.slow
STEPS = 40
WORDS = ("right", "wrong", "right, in a box", "rude", "in a box", "right and " + "long " * 10)


def texts(step):
    return [f"{WORDS[(step + k) % len(WORDS)]} {step}" for k in range(4)]


@pytest.fixture
async def judged_run(run_judge, server):
    """A run of 40 groups, judged by the server; its directory."""
    server.default = Reader()
    flags = {}
    for section in ("rubricator", "verifier"):
        flags |= {f"{section}__base_url": server.url, f"{section}__model": "judge"}
        flags |= {f"{section}__limits__max_retries": 0, f"{section}__limits__concurrency": 8}
    judge, directory = run_judge(**flags)
    for step in range(1, STEPS + 1):
        await judge.judge(step, "a", [Answer(text=text, finish_reason="stop") for text in texts(step)])
        await judge.step_metrics(step, 1)
    await judge.close()
    server.requests.clear()
    return directory


def rejudge(run, *options, code=0):
    cache = str(run.path.parent / "cache")  # the fixtures' environment names another
    done = CliRunner().invoke(app, ["rejudge", str(run.path), "--json", "--cache-dir", cache, *map(str, options)])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if done.stdout.strip().startswith("{") else done.stderr


def test_the_same_judge_is_answered_by_the_cache_and_agrees_in_everything(judged_run, server):
    found = rejudge(judged_run)
    assert not server.requests and found["requests_sent"] == 0 and found["cache_hits"] == STEPS
    agreement = found["agreement"]
    assert agreement["groups"] == STEPS and found["cost_usd"] == 0.0
    assert 0 < found["reward_mean"] < 1 and found["without_spread"] == 0.0
    assert agreement["judgements"]["kappa"]["value"] == 1.0 and agreement["judgements"]["agreement"]["value"] == 1.0
    assert agreement["judgements"]["n"] == STEPS * 6 * 4
    assert agreement["scores"]["pearson"] == pytest.approx(1.0)
    assert agreement["advantages"]["sign_changes"]["value"] == 0.0
    saved = {g["step"]: g["verdicts"] for k in range(1, STEPS + 1) for _, g in read_records(judged_run.group_file(k))}
    for _, record in read_records(judged_run.path / "rejudge" / found["out"].split("/")[-1] / "verdicts.jsonl"):
        assert record["answers"] == saved[record["step"]]["answers"] and record["repeat"] == 0
    again = rejudge(judged_run)
    assert (again["done"], again["skipped"]) == (0, STEPS)
    page = (judged_run.path / "rejudge" / found["out"].split("/")[-1] / "agreement.html").read_text()
    assert "Cohen" in page and "http" not in page.replace("http-equiv", "")


@pytest.fixture
async def repeated_prompt(run_judge):
    """A run of two steps, each with two groups of one prompt, judged by the built-in provider; its directory."""
    judge, directory = run_judge()
    for step, *groups in ((1, ("7", "8"), ("9", "7")), (2, ("3 + 4 = 7", "6"), ("5", "4"))):
        for number, group in enumerate(groups):
            rollouts = [Answer(text=text, finish_reason="stop") for text in group]
            await RunJudge.judge(judge, f"{step}/{number}", step, "a", rollouts)
        await judge.step_metrics(step, 2)
    await judge.close()
    return directory


def test_two_groups_of_one_prompt_in_a_step_are_told_apart(repeated_prompt):
    found = rejudge(repeated_prompt)
    assert (found["done"], found["requests_sent"], found["agreement"]["groups"]) == (4, 0, 4)
    assert found["agreement"]["judgements"]["agreement"]["value"] == 1.0
    assert found["agreement"]["advantages"]["sign_changes"]["value"] == 0.0
    again = rejudge(repeated_prompt)
    assert (again["done"], again["skipped"]) == (0, 4)
    new = rejudge(repeated_prompt, "--new-rubrics")
    assert new["requests_sent"] == 4  # the cache has the training's rubrics, and these are others
    records = [record for _, record in read_records(Path(new["out"]) / "rubrics.jsonl")]
    assert sorted((record["step"], record["nth"]) for record in records) == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_the_mean_reward_is_that_of_the_groups_asked_for(repeated_prompt):
    whole = rejudge(repeated_prompt, "--repeats", 2)
    assert whole["reward_mean"] == pytest.approx(whole["agreement"]["scores"]["mean_new"])
    part = rejudge(repeated_prompt, "--limit", 1, "--step", 1)
    assert part["agreement"]["groups"] == 1 and (part["done"], part["skipped"]) == (0, 1)
    assert part["reward_mean"] == pytest.approx(part["agreement"]["scores"]["mean_new"]) != whole["reward_mean"]


def inspected(*arguments):
    done = CliRunner().invoke(app, ["inspect-rubrics", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["groups"]


def test_what_was_judged_again_is_shown_with_its_texts(repeated_prompt, tmp_path):
    saved = inspected(repeated_prompt.path, "--uid", "a")
    out = Path(rejudge(repeated_prompt, "--repeats", 2)["out"])
    listed = inspected(out / "verdicts.jsonl")
    assert [group["step"] for group in listed] == [1] * 4 + [2] * 4
    shown = inspected(out / "verdicts.jsonl", "--uid", "a")
    texts = ("question", "teacher_answers", "answers", "rubric")
    for group in saved:
        mine = [each for each in shown if (each["step"], each["answers"]) == (group["step"], group["answers"])]
        assert [each["verdicts"]["repeat"] for each in mine] == [0, 1]
        assert all(each[name] == group[name] for each in mine for name in texts)
    done = CliRunner().invoke(app, ["export", "verdicts", str(out / "verdicts.jsonl"), "--out", str(tmp_path / "set")])
    assert done.exit_code == 0 and "from 8 groups" in done.output
    new = Path(rejudge(repeated_prompt, "--new-rubrics")["out"])
    for file in ("verdicts.jsonl", "rubrics.jsonl"):
        shown = inspected(new / file, "--uid", "a")
        assert len(shown) == 4 and all(each["question"] and each["rubric"] for each in shown)
    rubrics = tmp_path / "mine.jsonl"
    rubrics.write_text((new / "rubrics.jsonl").read_text().splitlines()[0] + "\n")
    by_file = Path(rejudge(repeated_prompt, "--rubrics", rubrics)["out"])
    shown = inspected(by_file / "verdicts.jsonl", "--uid", "a")
    assert len(shown) == 4 and all(each["rubric"]["rubric_hash"] == shown[0]["rubric"]["rubric_hash"] for each in shown)
    (of_step,) = repeated_prompt.path.glob("groups/step-2.*")
    arguments = ["rejudge", str(of_step), "--out", str(tmp_path / "two"), "--cache-dir", str(tmp_path / "cache")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    shown = inspected(tmp_path / "two" / "verdicts.jsonl", "--uid", "a")
    assert [(each["step"], bool(each["question"])) for each in shown] == [(2, True)] * 2


class Flipping(Reader):
    """Changes a tenth of its verdicts whenever it is asked again, by a hash of answer, criterion and time."""

    def __init__(self, share):
        self.asked: Counter[str] = Counter()
        self.flip_lock = threading.Lock()
        self.flipped = self.judged = 0

        def lies(seen, answer, nth):
            marks = []
            for k, mark in enumerate(verdict(answer)):
                drawn = hashlib.sha256(f"{answer} {k} {nth} of {seen.tag}".encode()).digest()
                flips = int.from_bytes(drawn[:4], "big") < share * 2**32
                with self.flip_lock:
                    self.judged += 1
                    self.flipped += flips
                marks.append(mark != flips)
            return marks

        super().__init__(lies=lies)


def test_a_judge_that_flips_a_tenth_has_that_flip_rate(judged_run, server):
    server.default = reader = Flipping(0.1)
    found = rejudge(judged_run, "--repeats", 2)
    assert found["requests_sent"] == STEPS  # the first judging is the run's own, from the cache
    flips = found["agreement"]["flips"]
    assert flips["n"] == STEPS * 6 * 4 == reader.judged
    assert flips["rate"]["value"] == pytest.approx(reader.flipped / reader.judged)
    assert flips["rate"]["low"] <= 0.1 <= flips["rate"]["high"]
    assert flips["rate"]["high"] - flips["rate"]["low"] < 0.06
    assert found["agreement"]["judgements"]["kappa"]["value"] == 1.0
    assert 0 < flips["sign_changes"]["value"] < 1 and flips["criteria"][0]["rate"] > 0


def test_another_judge_and_another_template_are_asked_and_named(judged_run, server, tmp_path):
    server.default = Reader(lies=lambda seen, answer, nth: [not mark for mark in verdict(answer)])
    found = rejudge(judged_run, "--model", "other", "--step", "3-7")
    assert found["requests_sent"] == 5 and found["agreement"]["groups"] == 5
    assert found["agreement"]["judgements"]["kappa"]["value"] < -0.9
    assert found["agreement"]["new"]["models"] == ["other"] and found["agreement"]["saved"]["models"] == ["judge"]
    assert found["agreement"]["advantages"]["sign_changes"]["value"] > 0.5
    folder = tmp_path / "own"
    folder.mkdir()
    shown = "Judge by this: {{rubric}} There are {{answer_count}} answers."
    (folder / "verifier.md").write_text(shown)
    server.default = Reader()
    server.requests.clear()
    found = rejudge(judged_run, "--templates", folder, "--limit", 2)
    assert len(server.requests) == 2 and "Judge by this" in server.bodies[-1]["messages"][-1]["content"]
    hashes = [found["agreement"][side]["template_hashes"] for side in ("saved", "new")]
    assert len(hashes[0]) == len(hashes[1]) == 1 and hashes[0] != hashes[1]


def test_new_rubrics_are_written_once_and_compared_by_scores(judged_run, server):
    server.default = Reader(own_rubrics=True)
    found = rejudge(judged_run, "--new-rubrics", "--limit", 3, "--repeats", 2, "--set", "rubricator.model=writer")
    names = Counter(body["response_format"]["json_schema"]["name"] for body in server.bodies)
    assert names == {"ropd_rubric": 3, "ropd_verdicts": 6}
    assert found["agreement"]["judgements"] is None and found["agreement"]["scores"]["n"] == 12
    again = rejudge(
        judged_run, "--new-rubrics", "--limit", 3, "--repeats", 2, "--set", "rubricator.model=writer", "--no-cache"
    )
    assert again["requests_sent"] == 0 and again["skipped"] == 6
    new = ("--new-rubrics", "--limit", 3)
    planned = rejudge(judged_run, *new, "--dry-run", "--set", "rubricator.model=writer")
    assert [each["calls"] for each in planned["forecast"]] == [0, 0]
    server.requests.clear()
    other = rejudge(judged_run, *new, "--set", "rubricator.model=second-writer")
    assert other["out"] != found["out"] and other["requests_sent"] >= 3
    message = rejudge(judged_run, *new, "--set", "rubricator.model=third", "--out", other["out"], code=2)
    assert "of second-writer, not of third" in message


def test_a_repeat_that_fails_leaves_the_others(judged_run, server, tmp_path):
    reader, calls = Reader(), []
    server.default = lambda body: calls.append(1) or (Reply("No.") if len(calls) <= 1 else reader(body))
    again = rejudge(judged_run, "--model", "third", "--limit", 1, "--repeats", 2, "--concurrency", 1, code=3)
    assert again["failed"] == 1 and again["agreement"]["groups"] == 1  # of the repeat that was judged
    (tmp_path / "none.jsonl").write_text("")
    assert "no rubric of a judged group" in rejudge(judged_run, "--rubrics", tmp_path / "none.jsonl", code=2)


def test_failed_groups_are_missing_and_tried_again(judged_run, server, tmp_path):
    bad = {"on": True}
    server.default = Reader(
        refuses=lambda seen: Status(400) if bad["on"] and f" {STEPS}" in "".join(seen.answers) else None
    )
    options = ("--model", "other", "--out", tmp_path / "again")
    found = rejudge(judged_run, *options, code=3)
    assert found["failed"] == 1 and found["agreement"]["groups"] == STEPS - 1
    ((_, failed),) = read_records(tmp_path / "again" / "verdicts.jsonl.failed.jsonl")
    assert f"step {STEPS}" in failed["uid"]
    bad["on"] = False
    server.requests.clear()
    found = rejudge(judged_run, *options)
    assert len(server.requests) == 1 and found["agreement"]["groups"] == STEPS


def test_another_judge_in_the_same_folder_is_refused_before_anything_is_asked(judged_run, server, tmp_path):
    out = ("--out", tmp_path / "again")
    rejudge(judged_run, "--model", "other", "--step", 20, *out)
    server.requests.clear()
    message = rejudge(judged_run, "--model", "third", *out, code=2)
    assert "another judge" in message and "--out" in message and not server.requests
    new = ("--new-rubrics", "--out", tmp_path / "new", "--step", 2)
    rejudge(judged_run, *new)
    (tmp_path / "new" / "rubrics.jsonl").unlink()
    assert "the rubric by which a (step 2) was judged is not there" in rejudge(judged_run, *new, code=2)


def test_what_it_refuses(judged_run, tmp_path):
    assert "no group judged by a rubric in these steps" in rejudge(judged_run, "--step", 99, code=2)
    assert "neither a step" in rejudge(judged_run, "--step", "a-b", code=2)
    assert "two choices" in rejudge(judged_run, "--new-rubrics", "--rubrics", "r.jsonl", code=2)
    for rubrics in ("dataset", "both"):
        said = rejudge(judged_run, "--new-rubrics", "--set", f"judge.rubrics={rubrics}", code=2)
        assert f"judge.rubrics is {rubrics}" in said and "--set judge.rubrics=induced" in said
    done = CliRunner().invoke(app, ["rejudge", str(tmp_path / "none")])
    assert done.exit_code == 2 and "none: no such run directory" in done.stderr
    (tmp_path / "x.jsonl").write_text('{"uid": "a"}\n')
    done = CliRunner().invoke(app, ["rejudge", str(tmp_path / "x.jsonl"), "--out", str(tmp_path / "o"), "--model", "m"])
    assert done.exit_code == 2 and "x.jsonl:1: no group of a training run" in done.stderr
    before = yaml.safe_load(judged_run.config.read_text())
    assert before["verifier"]["model"] == "judge"

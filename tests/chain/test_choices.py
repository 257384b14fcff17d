"""Each choice of ``judge`` changes what it names and nothing else: the rendered requests and the scores, by
``ropd rubricate`` and ``ropd verify`` as a user types them, and by the judge of a training run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from judged_runs import StepwiseJudge
from judges import Reader, Seen, score, verdict
from servers import Status

from ropd_cli.config import load_config
from ropd_cli.index import IndexWriter
from ropd_cli.index.layout import text_digest
from ropd_cli.index.selection import chosen
from ropd_cli.records.files import read_records
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import Answer, AnswerRecord, prompt_hash
from ropd_cli.training.run_dir import RunDir

QUESTION = "Which one?"
TEACHER = ("right box of a teacher", "right, as a teacher says it", "right: a third teacher's")
ROLLOUTS = ("right box", "wrong and rude", "right, but at some length that is more than short")
SILENT = "<think>no answer"
SCORES = [*map(score, ROLLOUTS), 0.0]
ALL = {*TEACHER, *ROLLOUTS}


@dataclass
class Outcome:
    """What the judge was shown, and what came of it."""

    asked: list[Seen]
    judged: list[Seen]
    rubric: dict
    verdicts: dict

    @property
    def rewards(self):
        return self.verdicts["rewards"]

    @property
    def teacher_scores(self):
        return [a["score"] for a in self.verdicts["answers"] if a["source"] == "teacher"]


class Stages:
    """``ropd rubricate`` and ``ropd verify``, each a process of its own."""

    def __init__(self, folder: Path, server):
        self.folder, self.server = folder, server
        self.code = 0

    def ropd(self, *arguments):
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROPD_", "OPENAI_"))}
        command = [sys.executable, "-m", "ropd_cli", *arguments, "--json", "--cache-dir", str(self.folder / "stages")]
        return subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=120)

    def play(self, reader: Reader, *settings: str, codes=(0, 0)) -> Outcome:
        self.server.default = reader
        files = ["prompts.jsonl", "--rollouts", "rollouts.jsonl", "--index", "teacher.index", "--base-url"]
        chosen = [word for each in ("judge.m=3", *settings) for word in ("--set", each)]
        done = self.ropd("rubricate", *files, self.server.url, "--out", "r.jsonl", *models("rubricator"), *chosen)
        assert done.returncode == codes[0], done.stderr
        rubrics = ["--rubrics", "r.jsonl", "--out", "v.jsonl", "--set", "verifier.limits.max_retries=0"]
        done = self.ropd("verify", *files, self.server.url, *rubrics, *models("verifier"), *chosen)
        assert done.returncode == codes[1], done.stderr
        ((_, rubric),) = read_records(self.folder / "r.jsonl")
        verdicts = [record for _, record in read_records(self.folder / "v.jsonl")] if codes[1] == 0 else [{}]
        return Outcome(reader.of("rubricator"), reader.of("verifier"), rubric, verdicts[-1])


class Train:
    """The judge of a training run, as it runs in a Ray actor."""

    def __init__(self, folder: Path, server):
        self.folder, self.server = folder, server

    def play(self, reader: Reader, *settings: str, cache="train") -> Outcome:
        self.server.default = reader
        flags = {f"{name}.base_url": self.server.url for name in ("rubricator", "verifier")}
        flags |= {"data.prompts": "prompts.jsonl", "data.index": "teacher.index", "verifier.limits.max_retries": 0}
        flags |= {"rubricator.limits.max_retries": 0, "rubricator.limits.max_pause_s": 0}
        flags = {key: str(self.folder / value) if key.startswith("data.") else value for key, value in flags.items()}
        flags |= {"rubricator.model": "r", "verifier.model": "v"}
        settings = ("judge.m=3", *settings)
        flags |= {"cache_dir": str(self.folder / cache)}
        config = load_config(None, flags=flags, overrides=settings, environ={})
        run = RunDir(self.folder / "run")
        run.path.mkdir(exist_ok=True)
        run.config.write_text(yaml.safe_dump(config.model_dump(mode="json")))

        async def work():
            judge = StepwiseJudge(str(run.path))
            rollouts = [Answer(text=text, finish_reason="stop") for text in (*ROLLOUTS, SILENT)]
            self.result = await judge.judge(1, "q", rollouts)
            self.metrics = await judge.step_metrics(1, 1)
            await judge.close()

        asyncio.run(work())
        ((_, group),) = read_records(run.group_file(1))
        return Outcome(reader.of("rubricator"), reader.of("verifier"), group["rubric"], group["verdicts"])


def models(section):
    return ["--model", section[0]]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"uid": "q", "prompt": QUESTION}) + "\n")

    def record(texts):
        answers = tuple(Answer(text=text, finish_reason="stop") for text in texts)
        return AnswerRecord(uid="q", prompt=QUESTION, raw_prompt_hash=prompt_hash(QUESTION), answers=answers, model="m")

    with RecordWriter(tmp_path / "rollouts.jsonl") as out:
        out.append(record((*ROLLOUTS, SILENT)).to_json())
    with IndexWriter(tmp_path / "teacher.index") as index:
        index.add(record(TEACHER))
    return tmp_path


@pytest.fixture(params=[pytest.param(Stages, marks=pytest.mark.long), Train], ids=["stages", "train"])
def way(request, folder, server):
    return request.param(folder, server)


@pytest.fixture
def default(folder, server, tmp_path_factory):
    """The requests and scores without any choice, to compare with."""
    return Train(folder, server).play(Reader(), cache="default")


def block(seen: Seen):
    return seen.question, seen.answers


def test_by_default_both_judges_begin_with_the_same_bytes(way):
    found = way.play(Reader())
    (asked,), (judged,) = found.asked, found.judged
    end = asked.text.rindex(f"</answer-{asked.tag}>") + len(f"</answer-{asked.tag}>")
    assert asked.text[:end] == judged.text[:end] and asked.system == judged.system
    assert asked.body["messages"][0] == judged.body["messages"][0]
    assert set(asked.answers) == ALL and asked.question == QUESTION
    assert asked.told == set(TEACHER)
    assert not {"references", "students", "judged"} & judged.inside.keys()
    assert "teacher" not in judged.frame and "strong model" not in judged.frame
    assert found.rewards == pytest.approx(SCORES)
    assert found.teacher_scores == pytest.approx([score(text) for text in TEACHER])


def test_group_form(way, default):
    found = way.play(Reader(), "judge.form=group")
    (asked,), (judged,) = found.asked, found.judged
    assert set(asked.answers[:3]) == set(TEACHER) == asked.told and set(asked.answers) == ALL
    assert block(judged) == block(default.judged[0])  # the same blind order
    assert "teacher" not in judged.frame and "strong model" not in judged.frame
    for seen in (asked, judged):
        assert seen.text.index("# Your job") < seen.text.index(f"<question-{seen.tag}>")
    assert found.rewards == default.rewards and found.teacher_scores == default.teacher_scores


def test_paper_form_has_a_verifier_call_an_answer(way, default):
    found = way.play(Reader(), "judge.form=paper")
    assert [set(each.answers) for each in found.asked] == [ALL]
    assert sorted(each.answers for each in found.judged) == sorted((answer,) for answer in ALL)
    assert all("teacher" not in each.frame and "strong model" not in each.frame for each in found.judged)
    assert len({each.frame for each in found.judged}) == 1  # nothing but the answer tells them apart
    assert found.rewards == default.rewards and found.teacher_scores == default.teacher_scores


def test_m(way, default):
    found = way.play(Reader(), "judge.m=1")
    (asked,), (judged,) = found.asked, found.judged
    (used,) = chosen([text_digest(text) for text in TEACHER], 1, seed=0, uid="q", epoch=0)
    assert set(asked.answers) == {TEACHER[used], *ROLLOUTS} == set(judged.answers)
    numbers = [re.sub("<references-TAG>.*?</references-TAG>", "", each.frame) for each in (asked, default.asked[0])]
    assert numbers[0] == numbers[1]
    assert found.rewards == default.rewards and len(found.teacher_scores) == 1


@pytest.mark.parametrize("form", ["shared-prefix", "group", "paper"])
def test_a_rubric_a_rollout(way, default, form):
    found = way.play(Reader(own_rubrics=True), "judge.rubric_per=rollout", f"judge.form={form}")
    assert sorted(text for each in found.asked for text in each.answers if text in ROLLOUTS) == sorted(ROLLOUTS)
    assert all(each.told == set(TEACHER) < set(each.answers) for each in found.asked)
    shown = [answer for each in found.judged for answer in each.answers]
    assert len(found.judged) == (3 * 4 if form == "paper" else 3)
    assert sorted(shown) == sorted([*ROLLOUTS, *TEACHER * 3])
    assert found.rewards == default.rewards
    assert found.rubric["rubric"] is None and [bool(each) for each in found.rubric["rubrics"]] == [True] * 3 + [False]
    rows = [(a["source"], a["index"], a.get("rubric_of")) for a in found.verdicts["answers"]]
    assert rows[:4] == [("student", 0, 0), ("student", 1, 1), ("student", 2, 2), ("student", 3, None)]
    assert sorted(rows[4:]) == sorted(("teacher", j, i) for j in range(3) for i in range(3))
    for seen in found.judged:  # each by the rubric that was written on its rollout
        (rollout,) = [text for text in seen.answers if text in ROLLOUTS] or [None]
        assert rollout is None or f"as for {rollout}" in seen.inside["rubric"]
    if form == "shared-prefix":
        blocks = {each.text.split("# Your job")[0] for each in (*found.asked, *found.judged)}
        assert len(blocks) == 3


@pytest.mark.parametrize("form", ["shared-prefix", "group", "paper"])
def test_a_verifier_that_knows_whose_answers_they_are(way, folder, server, form):
    blind = Train(folder, server).play(Reader(), f"judge.form={form}", cache="blind")
    found = way.play(Reader(), "judge.blind=false", f"judge.form={form}")
    assert [each.text for each in found.asked] == [each.text for each in blind.asked]  # the rubricator's are untouched
    assert {block(each) for each in found.judged} == {block(each) for each in blind.judged}
    for seen in found.judged:
        (before,) = [each for each in blind.judged if block(each) == block(seen)]
        added = [line for line in seen.frame.splitlines() if line not in before.frame.splitlines()]
        assert [line for line in before.frame.splitlines() if line not in seen.frame.splitlines()] == []
        assert 1 <= len(added) <= 2 and all("was written" in line or "were written" in line for line in added)
        if form == "paper":
            assert ("teacher" in added[0]) == (seen.answers[0] in TEACHER)
        else:
            assert seen.told == set(TEACHER)
            assert {seen.answers[k - 1] for k in seen.numbers("students")} == set(ROLLOUTS)
    assert found.rewards == blind.rewards and found.teacher_scores == blind.teacher_scores


@pytest.mark.parametrize("form", ["shared-prefix", "group", "paper"])
def test_the_teacher_out_of_the_pool(way, default, form):
    found = way.play(Reader(), "judge.teacher_in_pool=false", f"judge.form={form}")
    assert [set(each.answers) for each in found.asked] == [ALL]
    assert sorted(answer for each in found.judged for answer in each.answers) == sorted(ROLLOUTS)
    assert found.rewards == default.rewards and found.teacher_scores == [None] * 3
    if form == "shared-prefix":
        assert found.asked[0].text == default.asked[0].text


@pytest.mark.parametrize(("size", "sizes"), [(4, [3, 3]), (2, [2, 2, 2]), (5, [3, 3]), (6, [6]), (100, [6])])
def test_chunks_share_the_prefix_and_judge_their_own(way, default, size, sizes):
    found = way.play(Reader(), f"judge.chunk_size={size}")
    assert found.asked[0].text == default.asked[0].text
    assert {block(each) for each in found.judged} == {block(default.judged[0])}
    if len(sizes) > 1:
        numbers = sorted(each.numbers("judged") for each in found.judged)
        assert [len(each) for each in numbers] == sizes
        assert [k for each in numbers for k in each] == list(range(1, 7))
        rows = [each.body["response_format"]["json_schema"]["schema"]["properties"]["answers"] for each in found.judged]
        assert [row["minItems"] for row in rows] == sizes
    else:
        assert found.judged[0].text == default.judged[0].text
    assert found.rewards == default.rewards and found.teacher_scores == default.teacher_scores


def test_chunks_of_the_group_form_show_their_own_only(way, default):
    found = way.play(Reader(), "judge.chunk_size=4", "judge.form=group")
    assert [len(each.answers) for each in found.judged] == [3, 3]
    order = default.judged[0].answers
    assert {each.answers for each in found.judged} == {order[:3], order[3:]}
    assert not any(each.numbers("judged") for each in found.judged)
    assert found.rewards == default.rewards


def test_two_models(way, default):
    found = way.play(Reader())
    assert [each.body["model"] for each in (*found.asked, *found.judged)] == ["r", "v"]
    assert [each.body["temperature"] for each in (*found.asked, *found.judged)] == [0.7, 0.0]


@pytest.mark.parametrize(("lying", "flips"), [({1}, False), ({0, 2}, True), ({0, 1, 2}, True)])
def test_the_majority_of_repeats_counts(way, default, lying, flips):
    def lies(seen, answer, nth):
        return [not value for value in verdict(answer)] if nth in lying and answer == ROLLOUTS[1] else None

    found = way.play(Reader(lies), "judge.repeats=3")
    assert len(found.asked) == 1
    assert [each.text for each in found.judged] == [default.judged[0].text] * 3
    rewards = list(SCORES)
    if flips:
        rewards[1] = 1 - rewards[1]
    assert found.rewards == pytest.approx(rewards)
    assert found.verdicts["agreement"] == pytest.approx(1.0 if len(lying) == 3 else 5 / 6)
    assert "agreement" not in default.verdicts


def test_a_tie_is_no_verdict(way):
    def lies(seen, answer, nth):
        judgement = verdict(answer)
        return [judgement[0], judgement[1] if nth == 0 else not judgement[1], *judgement[2:]]

    found = way.play(Reader(lies), "judge.repeats=2")
    student = [a["judgement"] for a in found.verdicts["answers"] if a["source"] == "student"]
    assert [row[1] for row in student[:3]] == [None] * 3
    assert found.verdicts["coverage"] == pytest.approx(0.8)


def test_language(way, default):
    found = way.play(Reader(), "judge.language=zh")
    for seen, before in ((found.asked[0], default.asked[0]), (found.judged[0], default.judged[0])):
        assert block(seen) == block(before) and seen.told == before.told
        assert "评" in seen.frame and "评" in seen.system and "Your job" not in seen.frame
    assert found.rewards == default.rewards


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("form", ["shared-prefix", "group", "paper"])
def test_extra_instructions(folder, server, form, language):
    chosen = (f"judge.form={form}", f"judge.language={language}")
    before = Train(folder, server).play(Reader(), *chosen)
    said = ("judge.rubricator_instructions='Mind the units.'", "judge.verifier_instructions='Be {{strict}}.'")
    found = Stages(folder, server).play(Reader(), *chosen, *said)
    for now, then, words in (
        (found.asked, before.asked, "Mind the units."),
        (found.judged, before.judged, "Be {{strict}}."),
    ):
        assert len(now) == len(then)
        for seen in now:
            lines = next(each.frame.splitlines() for each in then if block(each) == block(seen))
            added = [line for line in seen.frame.splitlines() if line not in lines]
            assert added[-1] == words and len(added) <= 2  # and a heading
    assert found.rubric["template_hash"] != before.rubric["template_hash"]
    assert found.verdicts["template_hash"] != before.verdicts["template_hash"]


def test_own_templates(way, folder):
    (folder / "own").mkdir()
    (folder / "own" / "rubricator.md").write_text("T: {{question}} A: {{answers}} R: {{references}}")
    (folder / "own" / "verifier.md").write_text("{{rubric}}\n{{#judged}}never{{/judged}}{{question}}\n{{answers}}")
    found = way.play(Reader(), "judge.form=group", f"judge.templates={folder / 'own'}")
    assert found.asked[0].frame.startswith("T: …") and found.asked[0].told == set(TEACHER)
    assert found.judged[0].text.startswith("<rubric-") and "never" not in found.judged[0].text
    assert found.rewards == pytest.approx(SCORES)


def refusing(*texts):
    """A judge that is out of order for these answers."""
    return Reader(refuses=lambda s: Status(500) if s.role == "verifier" and s.answers[0] in texts else None)


def test_in_training_what_one_failed_call_was_about_is_missing(folder, server):
    train = Train(folder, server)
    found = train.play(refusing(ROLLOUTS[1], TEACHER[0]), "judge.form=paper")
    assert found.rewards == pytest.approx([SCORES[0], None, SCORES[2], 0.0])
    assert list(train.result.rewards) == found.rewards
    assert found.verdicts["answers"][1]["judgement"] == [None] * 4 and found.verdicts["coverage"] == 1.0
    assert train.metrics["groups/missing_rollouts"] == train.metrics["groups/no_answer_rollouts"] == 1
    with pytest.raises(AssertionError):  # no group is left of it where all calls fail
        assert train.play(refusing(*ALL), "judge.form=paper", cache="none").verdicts is not None
    assert train.result.rewards is None


def test_in_a_stage_the_group_is_tried_again_and_only_what_failed_is_asked(folder, server):
    stages = Stages(folder, server)
    stages.play(refusing(ROLLOUTS[1]), "judge.form=paper", codes=(0, 4))
    again = Reader()
    found = stages.play(again, "judge.form=paper")
    assert [each.answers for each in again.seen] == [(ROLLOUTS[1],)]
    assert found.rewards == pytest.approx(SCORES)


def test_votes_that_failed_leave_their_answers_out_and_no_other(folder, server):
    """Of three votes on one answer two fail: no majority is left for it, and the others are not touched."""

    def refuses(seen):
        if seen.role == "verifier" and seen.answers == (ROLLOUTS[2],):
            return Status(500) if sum(each.text == seen.text for each in reader.seen) > 1 else None
        return None

    reader = Reader(refuses=refuses)
    found = Train(folder, server).play(reader, "judge.form=paper", "judge.repeats=3")
    assert found.rewards == pytest.approx([*SCORES[:2], None, 0.0]) and found.verdicts["coverage"] == 1.0


def test_rubrics_of_rollouts_that_have_changed_since(folder, server):
    stages = Stages(folder, server)
    stages.play(Reader(own_rubrics=True), "judge.rubric_per=rollout")
    lines = (folder / "rollouts.jsonl").read_text()
    (folder / "rollouts.jsonl").write_text(lines.replace(ROLLOUTS[1], SILENT))
    (folder / "v.jsonl").unlink()
    chosen = ["--set", "judge.m=3", "--base-url", server.url, "--model", "v", "--index", "teacher.index"]
    files = ["prompts.jsonl", "--rollouts", "rollouts.jsonl", "--rubrics", "r.jsonl", "--out", "v.jsonl"]
    done = stages.ropd("verify", *files, *chosen)
    assert done.returncode == 0, done.stderr
    ((_, record),) = read_records(folder / "v.jsonl")
    assert record["rewards"] == pytest.approx([SCORES[0], 0.0, SCORES[2], 0.0])
    texts = [SILENT, SILENT, SILENT, ROLLOUTS[0]]  # only the one without a rubric has an answer now
    rollouts = json.loads(lines) | {"answers": [{"text": text} for text in texts]}
    (folder / "rollouts.jsonl").write_text(json.dumps(rollouts) + "\n")
    done = stages.ropd("verify", *files[:-1], "w.jsonl", *chosen)
    assert done.returncode == 1 and "without a rubric for them" in done.stderr
    assert not (folder / "w.jsonl").read_text()


def test_a_rubric_that_failed_costs_its_rollout(folder, server):
    def refuses(seen):
        return Status(500) if seen.role == "rubricator" and ROLLOUTS[0] in seen.answers else None

    train = Train(folder, server)
    found = train.play(Reader(refuses=refuses), "judge.rubric_per=rollout")
    assert found.rewards == pytest.approx([None, *SCORES[1:]])
    assert train.metrics["groups/missing_rollouts"] == 1


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["judge.form=paper", "judge.chunk_size=4"], "judge.chunk_size"),
        (["judge.rubric_per=rollout", "judge.rubrics=dataset"], "judge.rubric_per"),
        (["judge.form=pape"], "judge.form"),
        (["judge.repeats=0"], "judge.repeats"),
    ],
)
def test_what_does_not_fit_together(folder, server, settings, complaint):
    chosen = [word for each in settings for word in ("--set", each)]
    files = ["prompts.jsonl", "--rollouts", "rollouts.jsonl", "--index", "teacher.index", "--out", "r.jsonl"]
    done = Stages(folder, server).ropd("rubricate", *files, *chosen, "--model", "r", "--base-url", server.url)
    assert done.returncode == 2 and complaint in done.stderr and len(done.stderr.splitlines()) == 2
    assert not server.requests

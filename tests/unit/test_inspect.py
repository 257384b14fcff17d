"""Judged groups as they are shown: what is wrong is said, every width is readable, no text can play a trick."""

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console, Group
from typer.testing import CliRunner

from ropd_cli.analysis.catalogue import Catalogue
from ropd_cli.analysis.group_files import load_groups
from ropd_cli.analysis.judged_groups import GroupView
from ropd_cli.analysis.query import Query
from ropd_cli.cli.main import app
from ropd_cli.errors import InputError
from ropd_cli.method.scoring import score
from ropd_cli.records.group_sources import Sources
from ropd_cli.records.journals import RecordWriter
from ropd_cli.records.schemas import (
    AnswerRecord,
    AnswerVerdict,
    Criterion,
    Message,
    Rubric,
    RubricRecord,
    VerdictRecord,
    prompt_hash,
)
from ropd_cli.report.groups_page import page
from ropd_cli.report.groups_text import GroupList, in_full
from ropd_cli.report.words import short_number

NASTY = "boxed [bold red]42[/] \x1b[2J\x1b]0;title\x07 <script>alert(1)</script> \u202egnirts & {x}"
MESSAGES = (Message(role="user", content=f"What is 6 * 7? {NASTY}"),)
HASH = prompt_hash(MESSAGES)


def rubric_record(uid, k):
    criteria = tuple(
        Criterion(criterion_id=f"c{i}", category="Task Completion", criterion=f"States {i}. {NASTY}", points=i % 5 + 1)
        for i in range(k)
    )
    rubric = Rubric(rubrics=criteria, maximum_score=sum(c.points for c in criteria))
    return RubricRecord(
        uid=uid, raw_prompt_hash=HASH, rubric=rubric, rubric_hash=rubric.hash, model="m", template_hash="t"
    )


def verdict_record(rubric, students, teachers=()):
    def verdict(source, index, row):
        value = score(row, rubric.rubric.weights_K) if row else 0.0
        return AnswerVerdict(source=source, index=index, judgement=tuple(row), score=value)

    answers = [verdict("student", i, row) for i, row in enumerate(students)] + [
        verdict("teacher", i, row) for i, row in enumerate(teachers)
    ]
    rewards = tuple(a.score for a in answers if a.source == "student")
    return VerdictRecord(
        uid=rubric.uid,
        raw_prompt_hash=HASH,
        rubric_hash=rubric.rubric_hash,
        answers=tuple(answers),
        rewards=rewards,
        model="m",
        template_hash="t",
    )


@pytest.fixture
def run(tmp_path):
    """A run of two steps: a wide group, one without spread, one that failed, one with gaps."""
    groups = [
        ("wide", 12, [[(i + k) % 3 > 0 for k in range(12)] for i in range(32)], [[True] * 12] * 4, None),
        ("flat", 4, [[True] * 4] * 3, [[False, True, True, True]], None),
        ("lost", 4, None, None, {"stage": "verify", "type": "ReplyInvalid", "message": "no list 'answers' in it"}),
        ("gaps", 5, [[True, True, False, False, True], [None] * 5, [], [False, True, True, False, False]], [], None),
    ]
    for step in (1, 2):
        with RecordWriter(tmp_path / "run" / "groups" / f"step-{step}.jsonl.zst") as writer:
            for uid, k, students, teachers, error in groups:
                rubric = rubric_record(uid, k)
                verdicts = None if error else verdict_record(rubric, students, teachers)
                n = len(students) if students else 2
                writer.append(
                    {
                        "step": step,
                        "uid": uid,
                        "prompt": [m.model_dump() for m in MESSAGES],
                        "raw_prompt_hash": HASH,
                        "teacher_answers": [f"42 {NASTY}"] * len(teachers or ()),
                        "rollouts": [
                            {
                                "text": f"<think>hm</think>It is {i} {NASTY}"
                                if not students or students[i]
                                else "<think>",
                                "finish_reason": "length",
                            }
                            for i in range(n)
                        ],
                        "rubric": rubric.to_json(),
                        "verdicts": verdicts.to_json() if verdicts else None,
                        "rewards": list(verdicts.rewards) if verdicts else [None] * n,
                        "error": error,
                    }
                )
    return tmp_path / "run"


def shown(renderable, width):
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False, highlight=False).print(renderable)
    return out.getvalue()


def shown_in_full(view, width):
    return shown(Group(*in_full(view)), width)


SUMS = {"groups": 2, "mean": 0.5, "spread": 0.1, "teacher_mean": None, "failed": 1, "zero_variance": 1}
SUMS |= {"teacher_below_student": 0, "missing_rewards": 0}


def page_of(views, title):
    return page([view.row(n) for n, view in enumerate(views)], views, SUMS, title)


def test_what_is_wrong_is_said(run):
    faults = {view.uid: view.faults for view in load_groups(run) if view.step == 1}
    assert faults["wide"] == []
    assert faults["flat"] == ["without spread", "teacher below students"]
    assert faults["lost"] == ["failed: ReplyInvalid: no list 'answers' in it"]
    assert faults["gaps"] == ["1 of 4 rewards missing", "1 without an answer"]
    rules = {view.uid: [finding.rule for finding in view.findings] for view in load_groups(run) if view.step == 1}
    assert {"met-by-all", "met-by-none"} <= set(rules["gaps"])


def test_sums_leave_out_what_is_missing(run, tmp_path):
    with Catalogue.open(run, tmp_path / "cache") as catalogue:
        sums = catalogue.summary()
        of_flat = catalogue.summary(Query(uid="flat"))
    assert (sums["groups"], sums["failed"], sums["zero_variance"], sums["missing_rewards"]) == (8, 2, 2, 2)
    assert of_flat["mean"] == pytest.approx(1.0) and of_flat["failed"] == 0


def test_a_long_uid_is_whole_where_there_is_room(run):
    row = replace(load_groups(run)[0].row(0), uid="0123456789abcdef0123456789abcdef-0001")
    assert row.uid in shown(GroupList([row], SUMS), 140)
    narrow = shown(GroupList([row], SUMS), 80)
    assert row.uid not in narrow and "0123456789abcdef0123 " in narrow and "456789abcdef-0001" in narrow


@pytest.mark.parametrize("width", [80, 120])
def test_every_line_fits_and_no_score_is_cut(run, width):
    views = [view for view in load_groups(run) if view.step == 2]
    listed = shown(GroupList([view.row(n) for n, view in enumerate(views)], SUMS), width)
    full = [shown_in_full(view, width) for view in views]
    assert all(max(map(len, text.splitlines())) <= width for text in (listed, *full))
    assert not any("…" in text for text in full)
    assert all(f"{view.stats.mean:.2f}" in listed and view.uid in listed for view in views if not view.error)
    wide = shown_in_full(views[0], width)
    assert all(f" s{i}" in wide for i in range(32))
    assert all(f" t{i}" in wide for i in range(4))
    lines = [line for line in wide.splitlines() if line.startswith(" score")]
    scores = re.findall(r"(?<= )(\.\d\d|0|1)(?= )", " ".join(lines))
    assert len(scores) == 36 and len(lines) == (3 if width == 80 else 2)


def test_a_group_of_the_default_size_fits_80_columns():
    rubric = rubric_record("u", 12)
    verdicts = verdict_record(rubric, [[True] * 12, *[[True, False] * 6] * 7], [[True] * 12] * 4)
    view = GroupView("u", HASH, rubric=rubric, verdicts=verdicts, rewards=verdicts.rewards)
    [scores] = [line for line in shown_in_full(view, 80).splitlines() if line.startswith(" score")]
    of_half = f"{verdicts.rewards[1]:.2f}".removeprefix("0")
    assert scores.split() == ["score", *["1"] * 5, *[of_half] * 7]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.434, ".43"), (1.0, "1"), (0.0, "0"), (-0.5, "-.50"), (10.4, "10.40"), (None, "–")]
)
def test_a_figure_in_a_matrix_is_short(value, shown):
    assert short_number(value) == shown


def test_no_text_reaches_the_terminal_or_the_page_unescaped(run):
    views = load_groups(run)
    text = "".join(shown_in_full(view, 80) for view in views)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert "[bold red]42[/]" in text
    html = page_of(views, "<b>title</b>")
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"""(src|href)=["']?[^#"']""", html)  # self-contained


def test_a_verdicts_file_and_what_other_files_add(tmp_path):
    rubric = rubric_record("a", 4)
    with RecordWriter(tmp_path / "v.jsonl") as out:
        out.append(verdict_record(rubric, [[True, False, True, False]], [[True] * 4]).to_json())
    with RecordWriter(tmp_path / "r.jsonl") as out:
        out.append(rubric.to_json())
    with RecordWriter(tmp_path / "a.jsonl") as out:
        answers = [{"text": "It is 41."}]
        out.append(AnswerRecord(uid="a", prompt=MESSAGES, raw_prompt_hash=HASH, answers=answers, model="m").to_json())
    with RecordWriter(tmp_path / "p.jsonl") as out:
        out.append({"uid": "a", "prompt": [m.model_dump() for m in MESSAGES]})
    [bare] = load_groups(tmp_path / "v.jsonl")
    assert bare.criterion_ids == ("c1", "c2", "c3", "c4")
    sources = Sources(rubrics=tmp_path / "r.jsonl", rollouts=tmp_path / "a.jsonl", prompts=tmp_path / "p.jsonl")
    [view] = load_groups(tmp_path / "v.jsonl", sources)
    text = shown_in_full(view, 80)
    for part in ("What is 6 * 7?", "States 3.", "It is 41.", "teacher 1.00"):
        assert part in text
    [only] = load_groups(tmp_path / "r.jsonl")
    assert "States 3." in shown_in_full(only, 80)


def test_files_that_fit_nothing_and_what_is_not_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def said(*arguments, **more):
        done = CliRunner().invoke(app, ["inspect-rubrics", *map(str, arguments)], **more)
        assert done.exit_code == 0, done.output
        return done.stdout, "".join(line for line in done.stderr.splitlines(True) if not line.startswith("read:"))

    rubric = rubric_record("a", 4)
    (tmp_path / "v.jsonl").write_text(json.dumps(verdict_record(rubric, [[True, False, True, False]]).to_json()) + "\n")
    (tmp_path / "r.jsonl").write_text(json.dumps(rubric.to_json()) + "\n")
    (tmp_path / "others.jsonl").write_text(json.dumps(rubric_record("a", 5).to_json()) + "\n")
    (tmp_path / "p.jsonl").write_text(json.dumps({"uid": "a", "prompt": [m.model_dump() for m in MESSAGES]}) + "\n")
    (tmp_path / "q.jsonl").write_text('{"uid": "a", "prompt": "Another question?"}\n')
    line = "not known: questions, criteria, answers (to show them: --prompts, --rubrics, --rollouts)"
    assert said("v.jsonl")[1] == f"v.jsonl: {line}\n"
    assert said("-", input=(tmp_path / "v.jsonl").read_text())[1] == f"standard input: {line}\n"
    _, err = said("v.jsonl", "--rubrics", "r.jsonl", "--prompts", "p.jsonl")
    assert err == "v.jsonl: not known: answers (to show them: --rollouts)\n"
    for _ in range(2):  # the catalogue is there at the second call
        _, err = said("v.jsonl", "--rubrics", "others.jsonl", "--prompts", "q.jsonl")
        assert "--rubrics others.jsonl fits no group (by uid, prompt and the rubric that was judged by)" in err
        assert "--prompts q.jsonl fits no group (by uid and prompt), and is not shown" in err
    assert said("v.jsonl", "--failed")[0] == "v.jsonl: no group matches: failed\n"
    (tmp_path / "v.jsonl.failed.jsonl").write_text("")
    out, _ = said("v.jsonl", "--failed", "--missing")
    assert out == (
        "v.jsonl: no group matches: rewards missing, failed (failed groups are listed in v.jsonl.failed.jsonl)\n"
    )


def test_what_grpo_is_given_stands_beside_the_scores(tmp_path):
    rubric = rubric_record("u", 3)
    verdicts = verdict_record(rubric, [[True, False, True], [False, False, True], []], [[True] * 3])
    shaped = verdicts.model_copy(update={"shaped": (1.25, -0.75, -0.5), "weights": (6.0, 0.0, 0.0)})
    files = tmp_path / "v.jsonl", tmp_path / "r.jsonl"
    for record, shows in ((shaped, True), (verdicts, False)):
        written = rubric.model_copy(update={"origin": "reused" if shows else None})
        for file, one in zip(files, (record, written), strict=True):
            file.write_text(json.dumps(one.to_json()) + "\n")
        (view,) = load_groups(files[0], Sources(rubrics=files[1]))
        text = shown_in_full(view, 100)
        html = page_of([view], "Groups")
        assert ("1.25" in text, "6.00" in text, "-.75" in text) == (shows,) * 3
        assert (">1.25<" in html, "→ 6.00" in html, "in the place of the reward" in html) == (shows,) * 3
        said = "the rubric is that of an earlier group"
        assert (said in text, said in html) == (shows, shows)
        assert view.stats.mean == pytest.approx(sum(verdicts.rewards) / 3)


def test_verdicts_are_not_shown_under_another_rubric(tmp_path):
    with RecordWriter(tmp_path / "v.jsonl") as out:
        out.append(verdict_record(rubric_record("a", 4), [[True] * 4]).to_json())
    with RecordWriter(tmp_path / "r.jsonl") as out:
        out.append(rubric_record("a", 5).to_json())
    [view] = load_groups(tmp_path / "v.jsonl", Sources(rubrics=tmp_path / "r.jsonl"))
    assert view.rubric is None


@pytest.mark.parametrize(
    ("content", "complaint"), [("", "no groups"), ('{"uid": "a"}\n', "x.jsonl:1: neither a rubric nor verdicts")]
)
def test_files_that_hold_no_groups(tmp_path, content, complaint):
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(InputError, match=complaint):
        load_groups(tmp_path / "x.jsonl")
    with pytest.raises(InputError, match="no groups/step-N"):
        load_groups(tmp_path)


def test_the_command(run, tmp_path):
    def call(*arguments):
        return CliRunner().invoke(app, ["inspect-rubrics", *map(str, arguments)])

    listed = json.loads(call(run, "--json", "--step", 1).stdout)
    assert [g["uid"] for g in listed["groups"]] == ["wide", "flat", "lost", "gaps"]
    assert listed["groups"][3]["missing"] == 1
    full = json.loads(call(run, "--uid", "gaps", "--json", "--html", tmp_path / "x.html", "--quiet").stdout)
    assert len(full["groups"]) == 2
    assert full["groups"][0]["verdicts"]["answers"][1]["judgement"] == [None] * 5
    assert (tmp_path / "x.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    wrong = call(run, "--uid", "nobody")
    assert wrong.exit_code == 2
    assert "no group matches: uid nobody" in wrong.output


def test_a_rubric_a_rollout_is_shown_with_what_was_judged_by_it(tmp_path):
    first, second = rubric_record("u", 4).rubric, rubric_record("u", 5).rubric
    record = RubricRecord(
        uid="u",
        raw_prompt_hash=HASH,
        rubric=None,
        rubric_hash="h",
        rubrics=(first, None, second),
        model="m",
        template_hash="t",
    )
    rows = [
        ("student", 0, 0, 4),
        ("student", 1, None, 0),
        ("student", 2, 2, 5),
        ("teacher", 0, 0, 4),
        ("teacher", 0, 2, 5),
    ]
    answers = tuple(
        AnswerVerdict(source=source, index=index, judgement=(True,) * k, score=0.25 * (of or 1), rubric_of=of)
        for source, index, of, k in rows
    )
    verdicts = VerdictRecord(
        uid="u",
        raw_prompt_hash=HASH,
        rubric_hash="h",
        answers=answers,
        rewards=(0.5, 0.0, 0.75),
        model="m",
        template_hash="t",
    )
    for name, each in (("r.jsonl", record), ("v.jsonl", verdicts)):
        with RecordWriter(tmp_path / name) as out:
            out.append(each.to_json())
    (view,) = load_groups(tmp_path / "v.jsonl", Sources(rubrics=tmp_path / "r.jsonl"))
    parts = view.by_rubric
    assert [(part.of_rollout, len(part.criterion_ids), len(part.judged)) for part in parts] == [(0, 4, 2), (2, 5, 2)]
    assert view.score_of("teacher", 0) == pytest.approx((0.25 + 0.5) / 2)
    text = shown_in_full(view, 80)
    assert text.count("the rubric of rollout") == 2 and "rubric of rollout 2" in text
    assert page_of([view], "t").count("the rubric of rollout") == 2
    assert "no rollout has an answer" not in " ".join(view.faults)

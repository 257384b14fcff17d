"""What the quickstart shows."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from runs import write_run

from ropd_cli.analysis.intervals import Interval
from ropd_cli.analysis.run_data import read_run
from ropd_cli.recipes.quickstart_summary import Outcome, Sample, as_text, compare, curve, three_samples
from ropd_cli.records.schemas import Answer, AnswerRecord, Prompt
from ropd_cli.report.run_page import page


def _record(uid, *texts):
    return AnswerRecord(
        uid=uid, prompt="q", raw_prompt_hash="h", answers=tuple(Answer(text=t) for t in texts), model="m"
    )


def test_curve_rises_with_the_values():
    assert curve([0.0, 0.5, 1.0]) == [
        "  1.00 │  █",
        "       │  █",
        "       │  █",
        "       │ ██",
        "       │ ██",
        "  0.00 │▁██",
        "       └ steps 1 to 3",
    ]
    assert curve([]) == []


def test_a_long_curve_is_drawn_by_the_means_of_its_steps():
    rows = curve([0.0, 1.0] * 64 + [1.0, 1.0] * 64)
    columns = ["".join(row[8 + k] for row in rows[:-1]) for k in range(64)]
    assert len(set(columns[:32])) == len(set(columns[32:])) == 1
    assert columns[0] == "   ███" and columns[63] == "█" * 6


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=300))
def test_curve_fits_any_values(values):
    rows = curve(values)
    assert len({len(row) for row in rows[:6]}) == 1 and len(rows[0]) <= 8 + 64 and len(rows) == 7


def test_accuracy_is_exact_match_by_prompt_and_mean_over_samples():
    prompts = [Prompt(uid="a", prompt="1 + 1", answer="2"), Prompt(uid="b", prompt="1 + 2", answer="3")]
    before = {"a": _record("a", "2", r"\boxed{3}"), "b": _record("b", "3", "x")}
    after = {"a": _record("a", r"\boxed{2}", r"\boxed{3}"), "b": _record("b", r"\boxed{3}", r"\boxed{3}")}
    assert compare(prompts, before, after) == ([0.0, 0.0], [0.5, 1.0])
    assert [s.after for s in three_samples(prompts, before, after)] == [r"\boxed{2}", r"\boxed{3}"]


def test_text_says_whether_it_learned():
    sample = Sample("What is 1 + 1?", "2", "no\nidea", r"\boxed{2}")
    for low, said in ((0.1, False), (-0.1, True)):
        outcome = Outcome(
            0,
            200,
            0.1,
            0.5,
            Interval(0.4, low, 0.6),
            [0.1, 0.4],
            [1.0, 1.0],
            [sample],
            "ckpt",
            "run",
            "page.html",
            {"a": 60},
        )
        text = as_text(outcome)
        assert ("does not show" in text) is said and outcome.document()["learned"] is not said
        assert "wrong  no idea" in text and "+40.0 points" in text and "ckpt" in text


def test_an_outcome_comes_back_from_its_document_and_its_page_escapes_what_the_student_wrote(tmp_path):
    sample = Sample("1 + 1 =", "2", "<script>alert(1)</script>", r"\boxed{2}")
    outcome = Outcome(
        3, 5, 0.2, 0.8, Interval(0.6, 0.1, 0.9), [0.1, 0.4, 0.9], [1.0] * 3, [sample], "ckpt", "run", "p", {"a": 9.0}
    )
    assert Outcome.from_document(json.loads(json.dumps(outcome.document()))) == outcome
    html = page(read_run(write_run(tmp_path / "run")), template="quickstart.html", outcome=outcome)
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html
    assert "80.0%" in html and "The student learned" in html and "http" not in html.replace("http-equiv", "")

"""Reports of an evaluation: nothing breaks out of the page, what is missing is said, and what chose a checkpoint."""

import io
import json

import pytest
from rich.console import Console

from ropd_cli.evaluation.contamination import selection_warnings
from ropd_cli.report.eval_report import (
    compared_markdown,
    compared_page,
    compared_terminal,
    markdown,
    page,
    rows,
    terminal,
)

EVIL = '<script>alert(1)</script> | [red]x[/red] & "q"'


def figure(value, low=0.1, high=0.9):
    return {"value": value, "low": low, "high": high, "problems": 3}


def document(**more):
    figures = {
        "first": 0.25,
        "other": 0.5,
        "problems": 3,
        "graded_problems": 3,
        "samples": 12,
        "graded": 11,
        "missing": 1,
        "no_result": 2,
        "no_result_share": 2 / 11,
        "undecided": 1,
        "undecided_share": 1 / 11,
        "truncated": 3,
        "truncated_share": 0.25,
        "mean_tokens": 1234.5,
        "median_tokens": 1000,
        "mean_chars": 5000,
        "metrics": {"accuracy": figure(0.5)},
        "pass_at": {"1": figure(0.5), "2": figure(0.6), "4": figure(0.75)},
        "majority": figure(2 / 3),
    }
    metric = {"name": "accuracy", "title": f"accuracy {EVIL}", "binary": True, "clipped": False, "from_counts": False}
    benchmark = {
        "name": f"b {EVIL}",
        "kind": "math",
        "source": f"file {EVIL}",
        "shareable": True,
        "n": 4,
        "metrics_of": [metric],
        "figures": figures,
        "cost_usd": {"sampling": 1.0, "judging": 0.25},
        "questions": ["q1"],
    }
    said = {"ropd": "0", "created": "now", "model": EVIL, "endpoint": None, "sampling": {"temperature": 1.0}}
    return said | {"warnings": [f"careful {EVIL}"], "cost_usd": 1.25, "benchmarks": [benchmark], **more}


def shown(renderable, width=80):
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(renderable)
    return out.getvalue()


def test_the_page_holds_what_was_measured_and_no_markup_of_others():
    text = page(document())
    assert "<script" not in text and "&lt;script&gt;" in text and "http" not in text.replace("http-equiv", "")
    for part in ("50.0", "10.0 to 90.0", "pass@4", "75.0", "majority@4", "66.7", "25.0%", "18.2%", "1,234", "$1.25"):
        assert part in text, part
    assert "3 x 4, 1 missing" in text and "careful" in text


def test_items_are_shown_where_they_are_there_and_escaped():
    given = document()
    sample = {"text": EVIL, "finish_reason": "stop", "scores": {"accuracy": None}, "extracted": EVIL}
    given["benchmarks"][0]["items"] = [{"id": "q1", "question": EVIL, "answer": EVIL, "samples": [sample]}]
    text = page(given)
    assert "<script" not in text and "accuracy missing" in text and "questions and answers" in text
    assert "questions and answers" not in page(document())


def test_terminal_and_markdown():
    said = shown(terminal(document()), 70)
    assert "[red]x[/red]" in said and "50.0" in said and "without a grade" in said
    assert all(len(line) <= 70 for line in said.splitlines())
    lines = [line for line in markdown(document()).splitlines() if line.startswith("| b ")]
    assert len(lines) == 1 and lines[0].count(" | ") == 9 and "\\|" in lines[0]
    assert [row[2] for row in rows(document())] == ["50.0", "60.0", "75.0", "66.7"]


def test_what_was_never_graded_has_a_dash_and_no_zero():
    given = document()
    given["benchmarks"][0]["figures"] |= {"metrics": {}, "pass_at": {}, "majority": None, "mean_tokens": None}
    given["benchmarks"][0]["cost_usd"] = {"sampling": None, "judging": None}
    assert next(rows(given))[2:4] == ("–", "–") and "<svg" not in page(given)
    assert "–" in shown(terminal(given))


def test_comparisons():
    change = {
        "title": f"accuracy {EVIL}",
        "first": 0.25,
        "other": 0.5,
        "problems": 3,
        "only_in_one": 1,
        "difference": 0.25,
        "low": -0.1,
        "high": 0.6,
        "p_value": 0.0001,
        "gained": ["q1", EVIL],
        "lost": [],
    }
    given = {
        "runs": [{"name": f"a {EVIL}", "path": "a", "model": "m"}, {"name": "b", "path": "b", "model": EVIL}],
        "benchmarks": [
            {
                "name": "math",
                "metric": "accuracy",
                "title": "accuracy",
                "figures": [figure(0.25), None],
                "n": [4, 4],
                "differences": [{"from": "a", "to": "b", "metrics": {"accuracy": change}}],
                "problems": [{"id": "q1", "values": [0.25, None]}, {"id": EVIL, "values": [1.0, 0.0]}],
            }
        ],
    }
    text = compared_page(given)
    assert "<script" not in text and "+25.0" in text and "&lt;0.001" in text and "3 (+1 in one)" in text
    said = shown(compared_terminal(given), 120)
    assert "-10.0 to +60.0" in said and "math  b" in said and "gained: q1" in said
    assert "| q1 | 25.0% | – |" in compared_markdown(given)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_comparison_fits_the_terminal_and_breaks_no_word(width):
    title = "prompts with all instructions followed, strict"
    change = {"title": title, "problems": 541, "only_in_one": 12, "first": 0.25, "other": 0.5075, "difference": 0.2575}
    change |= {
        "low": -0.1,
        "high": 0.6125,
        "p_value": 0.0421,
        "gained": [f"test/number_theory/{k}.json" for k in range(20)],
        "lost": [],
    }
    long = "student-4b-thinking-off-seed-12-with-all-the-settings-in-its-name-step-400"
    benchmark = {
        "name": "ifeval",
        "metric": "prompt_strict",
        "figures": [figure(0.25), figure(0.5075)],
        "differences": [{"from": "base", "to": long, "metrics": {"prompt_strict": change}}],
    }
    runs = [{"name": "base", "model": "m"}, {"name": long, "model": "m"}]
    said = shown(compared_terminal({"runs": runs, "benchmarks": [benchmark]}), width)
    assert max(map(len, said.splitlines())) <= width
    assert "student-4b" in said and "…" in said and "step-400" in said
    words = said.replace(",", " ").split()
    for part in (title, "25.0", "50.7", "+25.8", "-10.0 to +61.3", "0.042", "+20 −0", "541 (+12 in one)"):
        assert set(part.replace(",", " ").split()) <= set(words), part
    assert {f"test/number_theory/{k}.json" for k in range(12)} <= set(words)
    assert ("\n    " in said) == (width < 140)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.yaml").write_text("validate: {benchmarks: [math500, ifeval]}\n")
    best = {"step": 40, "benchmark": "math500", "metric": "accuracy", "value": 0.5}
    (tmp_path / "best.json").write_text(json.dumps(best))
    for folder in (
        "best",
        "checkpoints/global_step_40/actor/huggingface",
        "checkpoints/global_step_60/actor/huggingface",
    ):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def test_a_set_that_chose_the_checkpoint_is_told_from_one_that_watched_the_run(run, tmp_path_factory):
    for folder in ("best", "checkpoints/global_step_40/actor/huggingface"):
        chosen, watched = selection_warnings(str(run / folder), ["ifeval", "math500", "gpqa"])
        assert chosen.startswith("math500: this checkpoint was chosen by its score on this set (step 40 of ")
        assert watched.startswith("ifeval: the run of this checkpoint was validated on this set")
    other = selection_warnings(str(run / "checkpoints/global_step_60/actor/huggingface"), ["math500"])
    assert other[0].startswith("math500: the run of this checkpoint was validated")
    assert selection_warnings(str(run / "best"), ["gpqa"]) == []
    assert selection_warnings(str(tmp_path_factory.mktemp("elsewhere")), ["math500"]) == []
    assert selection_warnings("Qwen/Qwen3-4B", ["math500"]) == []

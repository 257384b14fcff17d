"""Pages from templates: whatever a model writes is text, nothing is loaded, and only pages that say so run a script."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hostile import HOSTILE
from runs import group_record, rubric_of, write_run
from test_agreement import pair, record
from test_eval_reports import document

from ropd_cli.analysis.agreement import figures
from ropd_cli.analysis.group_files import load_groups
from ropd_cli.analysis.run_data import read_run
from ropd_cli.report import agreement_report, eval_report, groups_page, pages, run_page, runs_page
from ropd_cli.report.side_by_side import differing, shortened, sides
from ropd_cli.util.visible_text import visible

TEMPLATES = "".join(file.read_text() for file in (Path(pages.__file__).parent / "templates").glob("*.html"))
NASTY = (
    "</pre></script><script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7 * 7 }} \x1b[2J \u202e \ud800 & {x}"
)
SUMS = {"groups": 1, "mean": None, "failed": 0, "zero_variance": 0, "teacher_below_student": 0, "missing_rewards": 0}


class Reader(HTMLParser):
    """The tags and attributes of a page, and its texts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.ids, self.targets = set(), set(), [], set(), set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids |= {value for name, value in attrs if name == "id"}
        self.targets |= {value for name, value in attrs if name in ("href", "src")}

    def handle_data(self, data):
        self.texts.append(data)


def assert_harmless(page, *, script):
    page.encode()  # lone surrogates are gone
    read = Reader(page)
    assert read.tags <= set(re.findall(r"<([a-z]\w*)", TEMPLATES))
    assert read.attributes <= {"open", "hidden", *re.findall(r"\s([a-z][\w-]*)=", TEMPLATES.lower())}
    assert not {name for name in read.attributes if name.startswith("on")}
    assert all(target.startswith("#") and target[1:] in read.ids for target in read.targets)
    assert not set(page) & set("\x1b\u202e")
    assert "default-src 'none'" in page
    assert ("script-src" in page) is ("<script" in page) is script
    return read


@pytest.fixture
def run(tmp_path):
    rubric = rubric_of(1, [(f"Task {NASTY}", NASTY, 4), ("Quality", f"Names the river. {NASTY}", 2)])
    marks = [[True, False], [False, True]]
    hostile = group_record(6, f"u {NASTY[:40]}", marks, [[True, True]], rubric=rubric, question=NASTY, rollout=NASTY)
    failed = group_record(6, "broken", [[True] * 4] * 2, [], error=f"late {NASTY}")
    return write_run(tmp_path / "<b>run", extra=[without_surrogates(hostile), without_surrogates(failed)])


def without_surrogates(value):
    """As a file of JSON holds it."""
    if isinstance(value, dict):
        return {key: without_surrogates(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_surrogates(part) for part in value]
    return value.encode(errors="ignore").decode() if isinstance(value, str) else value


def test_the_page_of_a_run_and_that_of_two(run, tmp_path):
    data = read_run(run)
    data.monitor = [{"message": NASTY}]
    data.stopped, data.result = {"message": NASTY, "hint": NASTY}, {}
    data.config |= {NASTY: NASTY, "student": {"model_path": NASTY}}
    assert_harmless(run_page.page(data), script=True)
    assert_harmless(runs_page.compared_page([data, read_run(write_run(tmp_path / "other"))]), script=True)


def test_the_page_of_groups(run):
    views = load_groups(run)
    rows = [view.row(n) for n, view in enumerate(views)]
    page = groups_page.page(rows, views, SUMS, NASTY)
    assert_harmless(page, script=False)
    for step, missing in ((1, 0), (None, 2)):  # a column that says nothing is left out
        page = groups_page.page([replace(row, step=step, missing=missing) for row in rows], views, SUMS, "x")
        head, cells = (re.search(rf"<{part}>.*?</{part}>", page, re.DOTALL)[0] for part in ("thead", "tbody"))
        assert (">step<" in head, ">missing<" in head) == (step is not None, missing > 0)
        assert cells.count("<td") == head.count("<th") * len(rows) - head.count("<thead") * len(rows)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_is_on_the_page_as_it_was_written(tmp_path, name):
    text = without_surrogates(HOSTILE[name].replace("think>", "thin>"))
    run = write_run(tmp_path, steps=1, groups=0, extra=[group_record(1, "u", [[True] * 4], [[True] * 4], rollout=text)])
    views = load_groups(run)
    read = assert_harmless(groups_page.page([views[0].row(0)], views, SUMS, "t"), script=False)
    assert f"{visible(text)} 0" in "".join(read.texts)


def test_the_page_of_two_judgings():
    first = record([(True, True), (False, False)] * 3, [(True, True)], model=NASTY)
    second = record([(True, False), (False, False)] * 3, [(True, True)], model=NASTY)
    found = figures([pair(first, second, first, step=k) for k in range(1, 4)])
    for part in (found["judgements"], found["flips"]):
        part["criteria"][0] |= {"criterion": NASTY, "uid": NASTY}
        part["categories"][NASTY] = part["categories"].pop("General Reasoning")
    read = assert_harmless(agreement_report.page(found, NASTY), script=False)
    assert {"agreement", "table-0", "table-3"} <= read.ids


def test_the_page_of_an_evaluation():
    given = document(model=NASTY, system_prompt=NASTY)
    given["benchmarks"][0]["name"] = NASTY
    sample = {"text": NASTY, "finish_reason": NASTY, "scores": {NASTY: 1.0}, "extracted": NASTY}
    given["benchmarks"][0]["items"] = [{"id": NASTY, "question": NASTY, "answer": NASTY, "samples": [sample]}]
    assert_harmless(eval_report.page(given), script=False)


def test_long_texts_lose_their_middle_where_a_page_wants_it():
    assert shortened("abcdefghij", 4) == "ab\n[… 6 characters left out …]\nij"
    assert shortened("abcd", 4) == shortened("abcd", None) == "abcd"


def test_what_the_most_similar_answer_lacks_is_marked():
    text, others = "The sum of 15 and 10 is\n27, I think.\n", ["No.", "The sum of 15 and 10 is 25."]
    nearest, parts = differing(text, others)
    assert nearest == 1 and "".join(words for words, _ in parts) == text
    assert [words for words, is_marked in parts if is_marked] == ["\n27, I think", "\n"]
    assert differing("Rivers", others) == (None, [("Rivers", False)]) == differing("Rivers", [])


def test_a_group_stands_side_by_side(run):
    view = next(view for view in load_groups(run) if view.teacher_answers and view.rollouts)
    named = {side.name: [answer.source for answer, *_ in side.answers] for side in sides(view)}
    assert named["Teacher's answers"] == ["teacher"] * len(view.teacher_answers)
    assert named["Rollouts"] == ["student"] * len(view.rollouts)

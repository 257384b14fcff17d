"""The index over judged groups, the list made from it, and the full-screen browser."""

from __future__ import annotations

import html
import json
import multiprocessing
import random
import re
import sqlite3
import time

import pytest
from runs import write_run
from typer.testing import CliRunner

from ropd_cli.analysis import catalogue as catalogue_module
from ropd_cli.analysis.catalogue import Catalogue
from ropd_cli.analysis.group_files import load_groups, views_of
from ropd_cli.analysis.judged_groups import GroupView, common_sentences
from ropd_cli.analysis.query import SORTS, Query
from ropd_cli.cli.main import app
from ropd_cli.errors import InputError
from ropd_cli.records.files import read_records
from ropd_cli.records.journals import RecordWriter
from ropd_cli.report.browser import Browser, GroupScreen
from ropd_cli.report.groups_text import spread_bar


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def opened(path, tmp_path, **more):
    return Catalogue.open(path, tmp_path / "cache", **more)


def as_file(run, path):
    """All groups of a run in one file; its path."""
    with RecordWriter(path) as out:
        for file in sorted((run / "groups").glob("*")):
            for _, record in read_records(file):
                out.append(record)
    return path


@pytest.mark.parametrize("kind", ["run", "jsonl", "jsonl.zst", "parquet"])
def test_every_group_is_there_in_full(run, tmp_path, kind):
    path = run if kind == "run" else as_file(run, tmp_path / f"all.{kind}")
    if kind == "run":  # a step of it without compression, as other writers have it
        first = run / "groups" / "step-1.jsonl.zst"
        records = [json.dumps(record) + "\n" for _, record in read_records(first)]
        (run / "groups" / "step-1.jsonl").write_text("\n".join(records))
        first.unlink()
    views = load_groups(path)
    with opened(path, tmp_path) as catalogue:
        numbers = catalogue.numbers()
        assert len(catalogue) == len(numbers) == len(views)
        by_key = {(view.step, view.uid): view for view in views}
        for n, row in zip(numbers, catalogue.rows(numbers), strict=True):
            view = catalogue.group(n)
            expected = by_key.pop((view.step, view.uid))
            assert view.to_json() == expected.to_json()
            assert row == expected.row(n)
        assert not by_key
        assert [view.uid for view in catalogue.groups(numbers[::-3])] == [views[n].uid for n in range(len(views))][::-3]
        means = [view.stats.mean for view in views if view.stats.mean is not None]
        assert catalogue.summary()["mean"] == pytest.approx(sum(means) / len(means))


def test_a_growing_run_is_gone_on_with(run, tmp_path, monkeypatch):
    files = sorted((run / "groups").glob("step-*"), key=lambda f: int(f.name.split("-")[1].split(".")[0]))
    later = files[-1].read_bytes()
    files[-1].unlink()
    with opened(run, tmp_path) as catalogue:
        before = len(catalogue)
    files[-1].write_bytes(later)
    read = []
    from ropd_cli.analysis import catalogue as module

    plain = module.views_of
    monkeypatch.setattr(module, "views_of", lambda file: read.append(file.name) or plain(file))
    with opened(run, tmp_path) as catalogue:
        # the first one for what questions have in common
        assert len(catalogue) > before and read == [files[0].name, files[-1].name]
        assert [r.step for r in catalogue.rows(catalogue.numbers())] == sorted(
            r.step for r in catalogue.rows(catalogue.numbers())
        )
    files[0].unlink()
    with opened(run, tmp_path) as catalogue:
        assert 1 not in {row.step for row in catalogue.rows(catalogue.numbers())}
    assert len(read) == 2


def test_a_damaged_catalogue_and_an_unfinished_file(run, tmp_path):
    with opened(run, tmp_path) as catalogue:
        count = len(catalogue)
    (database,) = (tmp_path / "cache" / "catalogues").glob("*.db")
    database.write_bytes(b"this is no database" * 100)
    with opened(run, tmp_path) as catalogue:
        assert len(catalogue) == count
    file = as_file(run, tmp_path / "all.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])  # a killed writer's
    with opened(file, tmp_path) as catalogue:
        assert len(catalogue) == count - 1
    file.write_bytes(whole)
    with opened(file, tmp_path) as catalogue:
        assert len(catalogue) == count
    file.write_bytes(b'{"uid": "a"}\n' + whole)
    with pytest.raises(InputError, match=r"all\.jsonl:1"):
        opened(file, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "You are a careful mathematician. Answer briefly. How many eggs are {k} dozen? Count them.",
        "[system]\nAnswer briefly.\n\n[user]\nHow many eggs are 9 dozen?\n\n[assistant]\n108\n\n[user]\n"
        "How many eggs are {k} dozen? Count them.",
    ],
)
def test_a_list_leaves_out_shared_sentences_and_roles(text):
    views = [GroupView(f"u{k}", "", question=text.format(k=k)) for k in range(3)]
    common = common_sentences(iter(views))
    assert [view.row(0, common).question for view in views] == [
        f"How many eggs are {k} dozen? Count them." for k in range(3)
    ]
    assert views[0].row(0, common_sentences(views[:1])).question.endswith("Count them.")


def test_a_list_shows_what_is_a_question_s_own():
    instruction = "Reason step by step, and write the final answer in \\boxed{}."
    texts = [f"{instruction}\n\nHow many eggs are {k} dozen?\nCount them.\n{instruction}" for k in range(3)]
    views = [GroupView(f"u{k}", "", question=text) for k, text in enumerate(texts)]
    common = common_sentences(iter(views))
    assert [view.row(0, common).question for view in views] == [f"How many eggs are {k} dozen?" for k in range(3)]
    assert views[0].row(0, common_sentences(views[:1])).question == instruction  # nothing to tell it by
    assert GroupView("u", "").row(0, common).question == ""


def test_the_beginning_of_a_uid_is_enough(run, tmp_path):
    with opened(run, tmp_path) as catalogue:
        uids = {row.uid for row in catalogue.rows(catalogue.numbers())}
        for uid in uids:
            begun = next(uid[:k] for k in range(1, len(uid) + 1) if sum(u.startswith(uid[:k]) for u in uids) == 1)
            assert catalogue.uid_of(begun) == catalogue.uid_of(uid) == uid
        assert catalogue.uid_of("no such") == "no such"
        with pytest.raises(InputError, match="several uids begin so"):
            catalogue.uid_of("")
    shown = CliRunner().invoke(app, ["inspect-rubrics", str(run), "--uid", begun, "--cache-dir", str(tmp_path)])
    assert shown.exit_code == 0 and f", {uid}" in shown.output


QUERIES = [
    (Query(step=2), lambda v: v.step == 2),
    (Query(uid="*1"), lambda v: v.uid.endswith("1")),
    (Query(zero_variance=True), lambda v: v.stats.zero_variance),
    (Query(below=True), lambda v: v.stats.teacher_below_student),
    (Query(failed=True), lambda v: v.error is not None),
    (Query(missing=True), lambda v: v.stats.missing > 0 and v.verdicts is not None),
    (Query(lint="met-by-all"), lambda v: any(f.rule == "met-by-all" for f in v.findings)),
    (Query(lint=""), lambda v: bool(v.findings)),
    (Query(min_spread=0.1, max_spread=0.3), lambda v: v.stats.spread is not None and 0.1 <= v.stats.spread <= 0.3),
]


@pytest.mark.parametrize(("query", "fits"), QUERIES, ids=lambda each: each.words if isinstance(each, Query) else "")
def test_filters(run, tmp_path, query, fits):
    views = load_groups(run)
    with opened(run, tmp_path) as catalogue:
        found = {(row.step, row.uid) for row in catalogue.rows(catalogue.numbers(query))}
    assert found == {(view.step, view.uid) for view in views if fits(view)}


def test_search_looks_at_question_and_rubric_in_any_case(run, tmp_path):
    views = load_groups(run)
    word = random.Random(0).choice([v for v in views if v.criteria]).criteria.rubrics[0].criterion.split()[0]
    expected = {(v.step, v.uid) for v in views if v.criteria and any(word in c.criterion for c in v.criteria.rubrics)}
    with opened(run, tmp_path) as catalogue:
        found = {(r.step, r.uid) for r in catalogue.rows(catalogue.numbers(Query(search=word.upper())))}
        assert expected and expected <= found
        assert catalogue.numbers(Query(search="no such words anywhere")) == []


@pytest.mark.parametrize("name", SORTS)
def test_orders(run, tmp_path, name):
    values = {
        "step": lambda r: r.step,
        "uid": lambda r: r.uid,
        "mean": lambda r: r.mean,
        "spread": lambda r: r.spread,
        "teacher": lambda r: r.teacher,
        "missing": lambda r: r.missing,
        "lint": lambda r: len(r.rules),
    }[name]
    with opened(run, tmp_path) as catalogue:
        for reverse in (False, True):
            got = [values(r) for r in catalogue.rows(catalogue.numbers(Query(sort=name, reverse=reverse)))]
            known = [value for value in got if value is not None]
            assert known == sorted(known, reverse=reverse) and got[: len(known)] == known


def test_the_bar_of_a_spread():
    assert spread_bar(0.0) == "     " and spread_bar(0.5) == "█████" and spread_bar(None) == "     "
    assert spread_bar(0.25) == "██▌  " and len(spread_bar(0.9)) == 5


def test_the_command_filters_sorts_and_limits(run, tmp_path):
    def call(*arguments, code=0):
        done = CliRunner().invoke(
            app, ["inspect-rubrics", str(run), "--cache-dir", str(tmp_path / "cache"), *map(str, arguments)]
        )
        assert done.exit_code == code, done.output
        return done

    listed = json.loads(call("--json", "--sort", "spread", "--reverse", "--limit", 3).stdout)
    spreads = [group["spread"] for group in listed["groups"]]
    assert len(spreads) == 3 and spreads == sorted(spreads, reverse=True)
    assert listed["summary"]["groups"] > 3
    text = call("--sort", "spread", "--reverse", "--limit", 3).stdout
    assert "▌" in text or "█" in text
    assert "more: --limit N" in text
    assert "no such order" in call("--sort", "size", code=2).stderr
    assert "no such rule" in call("--lint", "size", code=2).stderr
    assert "no group matches: “nothing like it”" in call("--search", "nothing like it").stdout
    nothing = json.loads(call("--search", "nothing like it", "--json", "--html", tmp_path / "none.html").stdout)
    assert nothing["groups"] == [] and nothing["summary"]["groups"] == 0 and (tmp_path / "none.html").is_file()
    assert "needs a terminal" in call("--browse", code=2).stderr


def on_screen(browser):
    """What is on the browser's screen, as plain text."""
    svg = re.sub(r"<style.*?</style>", "", browser.export_screenshot(), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", svg)).replace("\xa0", " ")


async def test_the_browser_by_its_keys(run, tmp_path):
    with opened(run, tmp_path) as catalogue:
        browser = Browser(catalogue, Query(), "run")
        async with browser.run_test(size=(100, 24)) as pilot:
            rows = browser.rows
            count = len(catalogue)
            assert len(rows.numbers) == count
            await pilot.press("j", "down", "k")
            assert rows.highlighted == 1
            await pilot.press("G")
            assert rows.highlighted == count - 1 and rows.scroll_offset.y > 0
            await pilot.press("g", "pagedown")
            assert 15 < rows.highlighted < 24
            row = catalogue.rows([rows.current])[0]
            assert row.uid in on_screen(browser) and row.question[:18] in on_screen(browser)
            await pilot.press("slash", *row.uid)
            assert {row.uid} <= {row.uid for row in catalogue.rows(rows.numbers)} and len(rows.numbers) < count
            await pilot.press("enter", "enter")
            assert isinstance(browser.screen, GroupScreen)
            view = catalogue.group(rows.current)
            text = browser.screen.query_one("#text")
            assert view.title in on_screen(browser) and "criterion" in on_screen(browser)
            assert len(text.children) == 1 + len(view.teacher_answers) + len(view.rollouts)
            await pilot.resize_terminal(100, 10)
            await pilot.press("l")
            assert text.scroll_offset.y == text.children[1].virtual_region.y > 0
            await pilot.press("l", "h")
            assert text.scroll_offset.y == text.children[1].virtual_region.y
            await pilot.resize_terminal(100, 24)
            await pilot.press("slash")  # of the list: nothing happens over a group
            assert isinstance(browser.screen, GroupScreen)
            await pilot.press("q", "c")
            assert len(rows.numbers) == count
            before = rows.highlighted
            await pilot.press("enter", "right_square_bracket", "right_square_bracket", "left_square_bracket", "escape")
            assert rows.highlighted == before + 1
            await pilot.press("s", *["down"] * list(SORTS).index("spread"), "enter")
            spreads = [row.spread for row in catalogue.rows(rows.numbers) if row.spread is not None]
            assert spreads == sorted(spreads)
            await pilot.press("f", "j", "j", "enter")
            assert all(row.zero_variance for row in catalogue.rows(rows.numbers))
            await pilot.press("question_mark")
            assert "next, previous answer" in on_screen(browser)
            await pilot.press("escape")
            await pilot.press("slash", "x", "y", "escape")
            assert browser._query.search is None and browser._query.zero_variance
            await pilot.press("q")
        assert browser.return_code == 0


async def test_all_keys_of_a_group_fit_80_columns(run, tmp_path):
    with opened(run, tmp_path) as catalogue:
        browser = Browser(catalogue, Query(), "run")
        async with browser.run_test(size=(80, 24)) as pilot:
            await pilot.press("enter")
            await pilot.pause()
            footer = browser.screen._compositor.render_strips()[-1].text
            shown = ("l h next, previous answer", "esc back", "] [ next, previous group", "? keys")
            assert all(each in footer for each in shown), footer


@pytest.mark.parametrize("width", [40, 60, 160])
async def test_no_text_plays_a_trick_in_the_browser(run, tmp_path, width):
    nasty = "[bold red]x[/] \x1b[2J\x1b]0;title\x07 \u202egnirts"
    file = run / "groups" / "step-1.jsonl.zst"
    records = [record for _, record in read_records(file)]
    file.unlink()
    with RecordWriter(file) as out:
        for record in records:
            prompt = [{"role": "user", "content": nasty}]
            rollouts = [rollout | {"text": nasty} for rollout in record["rollouts"]]
            out.append(record | {"uid": nasty, "prompt": prompt, "rollouts": rollouts})
    with opened(run, tmp_path) as catalogue:
        browser = Browser(catalogue, Query(), nasty)
        async with browser.run_test(size=(width, 60)) as pilot:
            drawn = [on_screen(browser)]
            assert "mean" in drawn[0] and "spread" in drawn[0]
            assert ("teacher" in drawn[0]) is (width == 160)
            await pilot.press("enter")
            for _ in range(4):
                drawn.append(on_screen(browser))
                await pilot.press("pagedown")
            for text in drawn:
                assert "[bold red]x" in text and not set(text) & set("\x1b\x07\u202e")
            await pilot.press("q", "q")


def first_look(run, cache_dir, barrier):
    barrier.wait()
    with Catalogue.open(run, cache_dir) as catalogue:
        assert len(catalogue) > 0


def test_first_looks_at_once(run, tmp_path, monkeypatch):
    def slowly(file):  # a look longer than SQLite waits, as a large run's is
        time.sleep(0.2)
        return views_of(file)

    monkeypatch.setattr(catalogue_module, "views_of", slowly)
    monkeypatch.setattr(catalogue_module, "LOCK_WAIT_S", 0.05)
    context = multiprocessing.get_context("fork")
    for again in range(2):
        barrier = context.Barrier(3)
        looks = [context.Process(target=first_look, args=(run, tmp_path / f"{again}", barrier)) for _ in range(3)]
        for look in looks:
            look.start()
        for look in looks:
            look.join()
        assert [look.exitcode for look in looks] == [0, 0, 0]


def test_a_database_that_stays_locked_is_said_and_kept(run, tmp_path, monkeypatch):
    Catalogue.open(run, tmp_path / "cache").close()
    (place,) = (tmp_path / "cache" / "catalogues").glob("*.db")
    monkeypatch.setattr(catalogue_module, "LOCK_WAIT_S", 0.05)
    holder = sqlite3.connect(place)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    holder.execute("DELETE FROM groups WHERE 0")
    for file in run.rglob("*.jsonl*"):
        file.touch()
    try:
        with pytest.raises(InputError, match="locked"):
            Catalogue.open(run, tmp_path / "cache")
        assert place.exists()
    finally:
        holder.close()

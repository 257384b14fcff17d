"""``ropd inspect-rubrics``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ropd_cli.cli._options import CacheDir, Debug, Json, Quiet
from ropd_cli.cli._screen import Screen

if TYPE_CHECKING:
    from ropd_cli.analysis.catalogue import Catalogue
    from ropd_cli.analysis.query import Query

ON_A_SCREEN = 100
"""So many groups are listed on a terminal unless --limit says otherwise."""
ON_A_PAGE = 5_000
_WHICH, _SHOW = "Which groups", "How they are shown"


def inspect_rubrics(
    path: Annotated[Path, typer.Argument(help="Rubrics file, verdicts file, or directory of a training run.")],
    uid: Annotated[
        str | None,
        typer.Option("--uid", help="Show this group in full; with * or ? list those that fit.", rich_help_panel=_WHICH),
    ] = None,
    step: Annotated[
        int | None, typer.Option("--step", help="Only groups of this training step.", rich_help_panel=_WHICH)
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", help="Only groups with this text in uid, question or rubric.", rich_help_panel=_WHICH),
    ] = None,
    below: Annotated[
        bool,
        typer.Option("--teacher-below-student", help="Only groups whose teacher scores below.", rich_help_panel=_WHICH),
    ] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only groups with missing rewards.", rich_help_panel=_WHICH)
    ] = False,
    dead: Annotated[
        bool, typer.Option("--dead", help="Only groups whose rewards are all equal.", rich_help_panel=_WHICH)
    ] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only groups that could not be judged.", rich_help_panel=_WHICH)
    ] = False,
    lint: Annotated[
        str | None,
        typer.Option(
            "--lint", metavar="RULE|any", help="Only groups in which the linter finds this.", rich_help_panel=_WHICH
        ),
    ] = None,
    min_spread: Annotated[
        float | None, typer.Option("--min-spread", help="Spread of the rewards, at least.", rich_help_panel=_WHICH)
    ] = None,
    max_spread: Annotated[
        float | None, typer.Option("--max-spread", help="Spread of the rewards, at most.", rich_help_panel=_WHICH)
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            "--sort", metavar="step|uid|mean|spread|teacher|missing|lint", help="Order.", rich_help_panel=_SHOW
        ),
    ] = "step",
    reverse: Annotated[bool, typer.Option("--reverse", help="The largest first.", rich_help_panel=_SHOW)] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Show the first LIMIT groups.", rich_help_panel=_SHOW)
    ] = None,
    browse: Annotated[
        bool, typer.Option("--browse", "-b", help="Browse the groups full-screen.", rich_help_panel=_SHOW)
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a self-contained page of the groups there.", rich_help_panel=_SHOW),
    ] = None,
    rubrics: Annotated[Path | None, typer.Option("--rubrics", help="Rubrics file, where PATH holds verdicts.")] = None,
    rollouts: Annotated[
        Path | None, typer.Option("--rollouts", help="Answers file, to show the rollouts' texts.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="Prompts file, to show the questions.")] = None,
    cache_dir: CacheDir = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show rubrics, verdicts and scores of groups.

    Without --uid: one line a group, with its mean reward, the spread of its rewards, the mean score of the
    teacher's answers, what is wrong with it, and what the linter finds in its rubric. With --uid: question,
    criteria, the verdict on each answer. With --browse: all of it full-screen (? there shows the keys).

    The first look at a path makes an index of it in the cache directory; later looks open at once.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        import os

        from ropd_cli.analysis.catalogue import Catalogue
        from ropd_cli.analysis.query import SORTS, Query
        from ropd_cli.errors import InputError
        from ropd_cli.lint import RULES
        from ropd_cli.llm.cache import default_cache_dir

        if sort not in SORTS:
            raise InputError(f"--sort {sort}: no such order", f"one of {', '.join(SORTS)}")
        if lint not in (None, "any", *RULES):
            raise InputError(f"--lint {lint}: no such rule", f"any, or one of {', '.join(RULES)}")
        query = Query(
            step=step,
            uid=uid,
            search=search,
            below=below,
            missing=missing,
            dead=dead,
            failed=failed,
            lint="" if lint == "any" else lint,
            min_spread=min_spread,
            max_spread=max_spread,
            sort=sort,
            reverse=reverse,
        )
        cache = cache_dir or Path(os.environ.get("ROPD_CACHE_DIR") or default_cache_dir())
        progress = screen.progress()
        with Catalogue.open(
            path, cache, rubrics=rubrics, rollouts=rollouts, prompts=prompts, progress=progress
        ) as catalogue:
            if browse:
                _browse(catalogue, query, path, screen)
            else:
                _show(catalogue, query, path, screen, limit, html)


def _show(catalogue: Catalogue, query: Query, path: Path, screen: Screen, limit: int | None, html: Path | None) -> None:
    from rich.console import Group

    from ropd_cli.errors import InputError
    from ropd_cli.records.files import write_atomic
    from ropd_cli.report.groups_text import GroupList, in_full

    numbers = catalogue.numbers(query)
    if not numbers:
        raise InputError(f"{path}: no group of {query.words}", f"ropd inspect-rubrics {path} lists what is there")
    full = query.uid is not None and "*" not in query.uid and "?" not in query.uid
    sums = catalogue.summary(query)
    if html is not None:
        from ropd_cli.report.groups_page import page

        some = numbers[: min(limit or ON_A_PAGE, ON_A_PAGE)]
        write_atomic(html, page(catalogue.rows(some), catalogue.groups(some), sums, f"Groups of {path.name}"))
        left = f", the first {len(some):,} of {len(numbers):,} groups" if len(some) < len(numbers) else ""
        screen.note(f"wrote {html}{left}")
    on_screen = limit or (ON_A_SCREEN if sys.stdout.isatty() and not screen.json and not full else len(numbers))
    shown = numbers[:on_screen]
    more = ""
    if len(shown) < len(numbers):
        more = f"{len(numbers) - len(shown):,} more: --limit N shows more of them, --browse all"
    if full:
        views = catalogue.groups(shown)
        document = {"groups": [view.to_json() for view in views], "summary": sums}
        screen.result(document, Group(*(part for view in views for part in in_full(view))))
        return
    rows = catalogue.rows(shown)
    screen.result({"groups": [row.to_json() for row in rows], "summary": sums}, GroupList(rows, sums, more))


def _browse(catalogue: Catalogue, query: Query, path: Path, screen: Screen) -> None:
    from ropd_cli.errors import InputError

    if screen.json or not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise InputError("--browse needs a terminal", "leave it out: the list is printed then")
    from ropd_cli.report.browser import Browser

    Browser(catalogue, query, str(path)).run()

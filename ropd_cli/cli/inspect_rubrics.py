"""``ropd inspect-rubrics``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import typer
from typing_extensions import TypedDict

from ropd_cli.analysis.judged_groups import GroupLine, GroupShown, Summary
from ropd_cli.cli._completion import lint_rules, sort_orders, uids_of_groups
from ropd_cli.cli._files import is_stdin
from ropd_cli.cli._options import EndpointOptions, RequestOptions, command
from ropd_cli.cli._screen import Screen, exit_partial
from ropd_cli.errors import InputError
from ropd_cli.llm.chat import ClientStats

if TYPE_CHECKING:
    from ropd_cli.analysis.catalogue import Catalogue
    from ropd_cli.analysis.query import Query
    from ropd_cli.records.group_sources import Sources

ON_A_SCREEN = 100
"""Groups listed on a terminal without --limit."""
ON_A_PAGE = 5_000
_filter_option = partial(typer.Option, rich_help_panel="Which groups")
_source_option = partial(typer.Option, show_default="what PATH was made from")
_output_option = partial(typer.Option, rich_help_panel="Output")


@dataclass(frozen=True)
class Filters:
    """Which groups are shown; the names are those of Query."""

    uid: Annotated[
        str | None,
        _filter_option(
            "--uid",
            autocompletion=uids_of_groups,
            help="Show the group with this uid, or unique beginning of one; * and ? list groups.",
        ),
    ] = None
    step: Annotated[int | None, _filter_option("--step", help="Only groups of this training step.")] = None
    search: Annotated[
        str | None, _filter_option("--search", help="Only groups with this text in uid, question or rubric.")
    ] = None
    below: Annotated[
        bool, _filter_option("--teacher-below-student", help="Only groups whose teacher scores below the student.")
    ] = False
    missing: Annotated[bool, _filter_option("--missing", help="Only groups with missing rewards.")] = False
    zero_variance: Annotated[
        bool, _filter_option("--without-spread", help="Only groups whose rewards are all equal.")
    ] = False
    failed: Annotated[bool, _filter_option("--failed", help="Only groups that could not be judged.")] = False
    lint: Annotated[
        str | None,
        _filter_option(
            "--lint",
            metavar="RULE|any",
            autocompletion=lint_rules,
            help="Only groups in which the linter finds this rule, or any.",
        ),
    ] = None
    min_spread: Annotated[
        float | None, _filter_option("--min-spread", help="Only groups whose rewards spread at least this much.")
    ] = None
    max_spread: Annotated[
        float | None, _filter_option("--max-spread", help="Only groups whose rewards spread at most this much.")
    ] = None


@dataclass(kw_only=True)
class LintJudged(ClientStats):
    """What the lint judge was asked; ``cost_usd`` is null where its model has no price."""

    groups: int
    known: int
    """Groups whose rubrics it had read before."""
    asked: int
    missing: int
    """Groups of which a call failed."""


class GroupsListed(TypedDict):
    groups: list[GroupLine]
    summary: Summary
    lint_judge: NotRequired[LintJudged]
    """With ``--lint-judge``."""


class GroupsInFull(TypedDict):
    """With ``--uid``: groups in full."""

    groups: list[GroupShown]
    summary: Summary
    lint_judge: NotRequired[LintJudged]
    """With ``--lint-judge``."""


@command
def inspect_rubrics(
    path: Annotated[Path, typer.Argument(help="Rubrics file, verdicts file, or directory of a training run.")],
    *,
    filters: Filters,
    sort: Annotated[
        str,
        _output_option(
            "--sort",
            metavar="COLUMN",
            autocompletion=sort_orders,
            help="Sort groups by step, uid, mean, spread, teacher, missing or lint.",
        ),
    ] = "step",
    reverse: Annotated[bool, _output_option("--reverse", help="Sort the largest first.")] = False,
    limit: Annotated[
        int | None,
        _output_option(
            "--limit", min=1, help="Show the first LIMIT groups.", show_default="100 on a terminal, else all"
        ),
    ] = None,
    browse: Annotated[bool, _output_option("--browse", "-b", help="Browse the groups full-screen.")] = False,
    html: Annotated[
        Path | None, _output_option("--html", help="Write a self-contained page of the groups to this file.")
    ] = None,
    rubrics: Annotated[Path | None, _source_option("--rubrics", help="Rubrics file.")] = None,
    rollouts: Annotated[Path | None, _source_option("--rollouts", help="Answers file with the rollouts.")] = None,
    prompts: Annotated[Path | None, _source_option("--prompts", help="Prompts file.")] = None,
    lint_judge: Annotated[
        bool,
        typer.Option("--lint-judge", help="Also ask a model for faults of the rubrics: one call per rubric."),
    ] = False,
    endpoint: EndpointOptions,
    run: RequestOptions,
    screen: Screen,
) -> None:
    """Show rubrics, verdicts and scores of groups.

    Without --uid: one line per group, with its mean reward, the spread of its rewards, the mean score of the
    teacher's answers, its faults, and the linter's findings in its rubric. With --uid: question, criteria, and the
    verdict on each answer. With --browse: all of it full-screen (? shows the keys).

    With --lint-judge, a model (lint.judge) reads the rubrics of the groups that match the filters (with --limit, of the
    first LIMIT); its findings appear with the linter's. A failed call is reported as missing: exit code 3.

    The first call on a path writes an index of it to the cache directory; later calls start at once.
    """
    from ropd_cli.analysis.catalogue import Catalogue
    from ropd_cli.analysis.group_files import is_of
    from ropd_cli.analysis.query import SORTS, Query
    from ropd_cli.cli._lint_judge import LintJudge
    from ropd_cli.lint import CERTAIN, RULES
    from ropd_cli.llm.cache import default_cache_dir
    from ropd_cli.records.group_sources import Sources

    if sort not in SORTS:
        raise InputError(f"--sort {sort}: no such order", f"one of {', '.join(SORTS)}")
    lint = filters.lint
    if lint not in (None, "any", *RULES):
        raise InputError(f"--lint {lint}: no such rule", f"any, or one of {', '.join(RULES)}")
    if lint in RULES and lint not in CERTAIN and not lint_judge:
        raise InputError(f"--lint {lint}: only a lint judge finds that", "add --lint-judge and --model MODEL")
    if run.dry_run and not lint_judge:
        raise InputError("--dry-run: nothing is sent without --lint-judge", "add --lint-judge")
    settings = run.load(endpoint.flags("lint.judge"))
    named = vars(filters) | {"lint": "" if lint == "any" else lint}
    query = Query(**named, sort=sort, reverse=reverse)
    judge = LintJudge(settings) if lint_judge else None
    folder = Path(settings.cache_dir or default_cache_dir())
    spooled = next((each for each in (path, rubrics, rollouts, prompts) if is_stdin(each)), None)
    given = {"rubrics": rubrics, "rollouts": rollouts, "prompts": prompts}
    sources = Sources.of(path, **given)
    for name, file in sources.gone:
        if name != "index":
            another = "" if name == "groups" else f": --{name} FILE names another"
            screen.note(f"{file} is not there any more, and what it holds is not shown{another}")
    for name, each in given.items():
        if each is not None and not is_of(name, each, path):
            by = "uid, prompt and the rubric that was judged by" if name == "rubrics" else "uid and prompt"
            screen.note(f"--{name} {each} fits no group (by {by}), and is not shown")
    with Catalogue.open(
        path,
        spooled.parent if spooled is not None else folder,  # what was piped in goes, and its index with it
        sources,
        judge=judge.name if judge else "",
        progress=screen.progress(),
    ) as catalogue:
        if query.uid is not None and not query.is_pattern:
            query = replace(query, uid=catalogue.uid_of(query.uid))
        if not path.is_dir():
            _note_unknown(catalogue, sources, "standard input" if path == spooled else str(path), screen)
        judged: dict[str, Any] = {}
        if judge is not None:
            fitting = catalogue.numbers(replace(query, lint=None))[:limit]
            judged = judge.read(screen, catalogue, fitting, run)
            if run.dry_run:
                return
        if browse:
            if screen.json or not (sys.stdout.isatty() and sys.stdin.isatty()):
                raise InputError("--browse needs a terminal", "leave it out: the list is printed then")
            from ropd_cli.report.browser import Browser

            Browser(catalogue, query, str(path)).run()
        else:
            _show(catalogue, query, path, screen, limit, html, judged)
        exit_partial(judged.get("missing", 0))


def _note_unknown(catalogue: Catalogue, sources: Sources, path: str, screen: Screen) -> None:
    """Say which texts are in none of the known files, and which options name them."""
    view = catalogue.group(catalogue.numbers()[0])
    unknown = {
        "prompts": ("questions", view.question is None),
        "rubrics": ("criteria", view.rubric is None and view.criterion_ids),
        "rollouts": ("answers", not view.rollouts),
    }
    told = sources.by_name | dict(sources.gone)
    names = [name for name, (_, is_unknown) in unknown.items() if is_unknown and name not in told]
    if names:
        words, options = ", ".join(unknown[name][0] for name in names), ", ".join(f"--{name}" for name in names)
        screen.note(f"{path}: not known: {words} (to show them: {options})")


def _show(
    catalogue: Catalogue,
    query: Query,
    path: Path,
    screen: Screen,
    limit: int | None,
    html: Path | None,
    judged: dict[str, Any],
) -> None:
    from rich.console import Group

    from ropd_cli.records.files import failed_path, write_atomic
    from ropd_cli.report.groups_text import GroupList, in_full

    numbers = catalogue.numbers(query)
    full = query.uid is not None and not query.is_pattern
    none = f"{path}: no group matches: {query.words}"
    if full and not numbers:
        raise InputError(none, f"ropd inspect-rubrics {path} lists what is there")
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
    judged = {"lint_judge": judged} if judged else {}
    if full:
        views = catalogue.groups(shown)
        document = {"groups": [view.to_json() for view in views], "summary": sums} | judged
        screen.result(document, Group(*(part for view in views for part in in_full(view))))
        return
    rows = catalogue.rows(shown)
    if query.lint is not None:
        none += " (the linter does not check rubrics of the built-in provider)"
    if query.failed and failed_path(path).is_file():
        none += f" (failed groups are listed in {failed_path(path)})"
    listed = GroupList(rows, sums, more) if rows else none
    screen.result({"groups": [row.to_json() for row in rows], "summary": sums} | judged, listed)

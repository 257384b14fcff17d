"""``ropd inspect-rubrics``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen, exit_partial

if TYPE_CHECKING:
    from ropd_cli.analysis.catalogue import Catalogue
    from ropd_cli.analysis.query import Query
    from ropd_cli.config import RopdConfig
    from ropd_cli.llm.client import ChatClient, ChatRequest
    from ropd_cli.stages.runner import Tally
    from ropd_cli.util.progress import Progress

ON_A_SCREEN = 100
"""So many groups are listed on a terminal unless --limit says otherwise."""
ON_A_PAGE = 5_000
_WHICH, _SHOW, _JUDGE = "Which groups", "How they are shown", "The lint judge"


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
    lint_judge: Annotated[
        bool,
        typer.Option(
            "--lint-judge",
            help="Ask a model too what is wrong with the rubrics (lint.judge): one call per rubric.",
            rich_help_panel=_JUDGE,
        ),
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="Model name of the lint judge.", rich_help_panel=_JUDGE)
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="OpenAI-compatible endpoint of it.", rich_help_panel=_JUDGE)
    ] = None,
    concurrency: o.Concurrency = None,
    max_cost: o.MaxCost = None,
    dry_run: o.DryRun = False,
    cache_dir: o.CacheDir = None,
    no_cache: o.NoCache = False,
    config: o.Config = None,
    overrides: o.Set = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Show rubrics, verdicts and scores of groups.

    Without --uid: one line a group, with its mean reward, the spread of its rewards, the mean score of the
    teacher's answers, what is wrong with it, and what the linter finds in its rubric. With --uid: question,
    criteria, the verdict on each answer. With --browse: all of it full-screen (? there shows the keys).

    With --lint-judge, a model reads the rubrics of the groups that fit the filters (with --limit, of the first LIMIT),
    and its findings stand with the linter's. What it was not able to say is missing, and makes exit code 3.

    The first look at a path makes an index of it in the cache directory; later looks open at once.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from dataclasses import replace

        from ropd_cli.analysis.catalogue import Catalogue
        from ropd_cli.analysis.query import SORTS, Query
        from ropd_cli.errors import InputError
        from ropd_cli.lint import CERTAIN, RULES
        from ropd_cli.lint.judge import lint_template
        from ropd_cli.llm.cache import default_cache_dir

        if sort not in SORTS:
            raise InputError(f"--sort {sort}: no such order", f"one of {', '.join(SORTS)}")
        if lint not in (None, "any", *RULES):
            raise InputError(f"--lint {lint}: no such rule", f"any, or one of {', '.join(RULES)}")
        if lint in RULES and lint not in CERTAIN and not lint_judge:
            raise InputError(f"--lint {lint}: only a lint judge finds that", "add --lint-judge and --model MODEL")
        if dry_run and not lint_judge:
            raise InputError("--dry-run: nothing is sent without --lint-judge", "add --lint-judge")
        flags = o.endpoint_flags(
            "lint.judge", model=model, base_url=base_url, concurrency=concurrency, max_cost=max_cost
        )
        settings = o.load(config, overrides, flags, cache_dir=cache_dir)
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
        judge, template = "", ""
        if lint_judge:
            template = lint_template(settings.judge)
            where = settings.lint.judge.model_dump(exclude={"limits", "headers", "api_key_env", "structured_output"})
            judge = repr([where, template])
        place = Path(settings.cache_dir or default_cache_dir())
        with Catalogue.open(
            path, place, rubrics=rubrics, rollouts=rollouts, prompts=prompts, judge=judge, progress=screen.progress()
        ) as catalogue:
            asked: dict[str, Any] = {}
            if lint_judge:
                fitting = catalogue.numbers(replace(query, lint=None))[:limit]
                asked = _ask_judge(screen, settings, catalogue, fitting, template, not no_cache, dry_run)
                if dry_run:
                    return
            if browse:
                _browse(catalogue, query, path, screen)
            else:
                _show(catalogue, query, path, screen, limit, html, asked)
            exit_partial(asked.get("missing", 0))


def _ask_judge(
    screen: Screen,
    settings: RopdConfig,
    catalogue: Catalogue,
    numbers: list[int],
    template: str,
    cached: bool,
    dry_run: bool,
) -> dict[str, Any]:
    """Have the lint judge read the rubrics of these groups that it has not read; return how that went."""
    from collections.abc import Iterator
    from contextlib import ExitStack
    from dataclasses import dataclass

    from ropd_cli.cli._stages import dollars, in_words, open_cache, run_clients
    from ropd_cli.errors import InputError
    from ropd_cli.lint.judge import judge_lint, lint_request
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.llm.cost_estimate import forecast
    from ropd_cli.llm.shared import Shared
    from ropd_cli.llm.urls import model_name
    from ropd_cli.stages.runner import RECORD_ERRORS, run_jobs

    @dataclass(frozen=True)
    class Job:
        n: int
        uid: str
        """Unique in a run, where a prompt may come in several steps."""

    endpoint = settings.lint.judge
    endpoint = endpoint.model_copy(update={"model": model_name(endpoint, "lint.judge")})
    left = catalogue.unjudged(numbers)
    rows = catalogue.rows(left)
    if rows and not any(row.question for row in rows):
        raise InputError("the lint judge has to see the questions, which are not there", "name them by --prompts FILE")

    def requests() -> Iterator[ChatRequest]:
        for view in catalogue.groups(left):
            yield from (lint_request(endpoint, template, each) for each in view.linted)

    async def stage(client: ChatClient, progress: Progress) -> Tally:
        async def work(job: Job) -> bool:
            try:
                rubrics = catalogue.group(job.n).linted
                found = [finding for each in rubrics for finding in await judge_lint(client, template, each)]
            except RECORD_ERRORS as fault:
                catalogue.book_judge(job.n, None, fault.message)
                raise
            catalogue.book_judge(job.n, found)
            return bool(rubrics)

        return await run_jobs(
            (Job(row.n, f"{row.uid} {row.n}") for row in rows),
            work,
            total=len(left),
            out=catalogue.path,
            stage="lint",
            concurrency=endpoint.limits.concurrency,
            max_failed_fraction=None,
            progress=progress,
        )

    with ExitStack() as stack:
        cache = open_cache(stack, settings, cached)
        if dry_run:
            found = forecast(requests(), endpoint, cache, Shared.of(settings).budget)
            screen.result({"model": endpoint.model} | found.as_dict(), in_words(found, str(endpoint.model)))
            return {}
        stats = ClientStats()
        tally = run_clients(screen, settings, [endpoint], [stats], cache, lambda clients, bar: stage(clients[0], bar))
    known = len(numbers) - len(left)
    cost = f", {dollars(stats.cost_usd)}" if stats.cost_usd else ""
    again = "; the same command asks about these again" if tally.failed else ""
    screen.note(
        f"lint judge: {tally.done} groups asked about, {known} known before, {tally.failed} missing "
        f"({stats.requests_sent} requests sent{cost}){again}"
    )
    return {"groups": len(numbers), "known": known, "asked": tally.done, "missing": tally.failed} | stats.as_dict()


def _show(
    catalogue: Catalogue,
    query: Query,
    path: Path,
    screen: Screen,
    limit: int | None,
    html: Path | None,
    asked: dict[str, Any],
) -> None:
    from rich.console import Group

    from ropd_cli.errors import InputError
    from ropd_cli.records.files import write_atomic
    from ropd_cli.report.groups_text import GroupInFull, GroupList

    numbers = catalogue.numbers(query)
    if not numbers:
        raise InputError(f"{path}: no group of {query.words}", f"ropd inspect-rubrics {path} lists what is there")
    full = query.uid is not None and "*" not in query.uid and "?" not in query.uid
    sums = catalogue.summary(query)
    if html is not None:
        from ropd_cli.report.groups_html import page

        some = numbers[: min(limit or ON_A_PAGE, ON_A_PAGE)]
        write_atomic(html, page(list(catalogue.groups(some)), f"Groups of {path.name}"))
        left = f", the first {len(some):,} of {len(numbers):,} groups" if len(some) < len(numbers) else ""
        screen.note(f"wrote {html}{left}")
    on_screen = limit or (ON_A_SCREEN if sys.stdout.isatty() and not screen.json and not full else len(numbers))
    shown = numbers[:on_screen]
    more = ""
    if len(shown) < len(numbers):
        more = f"{len(numbers) - len(shown):,} more: --limit N shows more of them, --browse all"
    judged = {"lint_judge": asked} if asked else {}
    if full:
        views = list(catalogue.groups(shown))
        document = {"groups": [view.to_json(full=True) for view in views], "summary": sums} | judged
        screen.result(document, Group(*map(GroupInFull, views)))
        return
    rows = catalogue.rows(shown)
    screen.result({"groups": [row.to_json() for row in rows], "summary": sums} | judged, GroupList(rows, sums, more))


def _browse(catalogue: Catalogue, query: Query, path: Path, screen: Screen) -> None:
    from ropd_cli.errors import InputError

    if screen.json or not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise InputError("--browse needs a terminal", "leave it out: the list is printed then")
    from ropd_cli.report.browser import Browser

    Browser(catalogue, query, str(path)).run()

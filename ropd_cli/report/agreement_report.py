"""Two judgings beside each other, in a terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table

from ropd_cli.report.words import number
from ropd_cli.util.counted import counted
from ropd_cli.util.terminal import Text

Columns = tuple[str, ...]
Figures = Mapping[str, Any]
"""Of ``agreement.figures``, or a part of them."""


def terminal(figures: Figures) -> Iterator[RenderableType]:
    """Yield the figures for a terminal, readable from 80 columns on."""
    yield Text(judges(figures))
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold", max_width=28)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for row in rows(figures):
        table.add_row(*map(Text, row))
    yield table
    for title, columns, lines in tables(figures):
        yield Text(title, style="bold")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(columns[0], ratio=1)
        for column in columns[1:]:
            table.add_column(column, justify="right")
        for cells in lines:
            table.add_row(*map(Text, cells))
        yield table


def page(figures: Figures, title: str) -> str:
    """Return the figures as a page."""
    from ropd_cli.report.pages import render

    below = list(tables(figures))
    sections = {"agreement": "Agreement"} | {f"table-{k}": heading for k, (heading, _, _) in enumerate(below)}
    return render(
        "agreement.html",
        title=title,
        sections=sections,
        judges=judges(figures),
        rows=list(rows(figures)),
        tables=below,
    )


def judges(figures: Figures) -> str:
    """Return who judged."""

    def judge(side: Figures) -> str:
        models = ", ".join(model or "?" for model in side["models"])
        return f"{models} (template {', '.join(side['template_hashes'])})"

    repeats = f", {figures['flips']['repeats']} times" if figures["flips"] else ""
    groups = counted(figures["groups"], "group")
    return f"{groups}. Saved: {judge(figures['saved'])}. New: {judge(figures['new'])}{repeats}."


def rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """Yield (what, figure, what it means) of all groups together."""
    judgements, scores, advantages = figures["judgements"], figures["scores"], figures["advantages"]
    if judgements is None:
        yield "judgements", "–", "the rubrics are others, so criteria can't be compared one by one"
    elif judgements["n"]:
        yield "judgements that agree", _interval(judgements["agreement"], ".1%"), f"of {judgements['n']:,}"
        yield "Cohen's kappa", _interval(judgements["kappa"], ".3f"), "1: always, 0: as by chance"
        missing = judgements["missing"]
        if any(missing.values()):
            yield "left out", f"{sum(missing.values()):,}", f"missing: {missing['saved']} saved, {missing['new']} new"
    if scores["n"]:
        means = f"{scores['mean_saved']:.3f} → {scores['mean_new']:.3f}"
        yield "mean score of a rollout", means, f"difference {_interval(scores['difference'], '+.3f')}"
        ranks = f"of ranks {number(scores['spearman'], '.3f')}"
        yield "correlation of scores", number(scores["pearson"], ".3f"), ranks
        within = scores["within_groups"]
        tau = (
            f"mean Kendall's tau-b of {counted(within['groups'], 'group')}; correlation "
            f"{number(within['pearson'], '.3f')}"
        )
        yield "order within a group", number(within["kendall"], ".3f"), tau
    if advantages["groups"]:
        pushed = f"of {advantages['n']:,} rollouts; the update would push them elsewhere"
        yield "advantages of another sign", _interval(advantages["sign_changes"], ".1%"), pushed
        changed = f"{advantages['died']:,} lose their spread, {advantages['revived']:,} gain one"
        yield "groups without spread", changed, f"of {advantages['groups']:,}"
    teacher, flips = figures["teacher"], figures["flips"]
    for name in ("saved", "new") if teacher["groups"] else ():
        wins = f"of the groups; wins {_interval(teacher[name]['wins'], '.1%')} of the pairs"
        yield f"teacher above rollouts, {name}", _interval(teacher[name]["above"], ".1%"), wins
    if flips and flips["rate"]:
        others = f"of {flips['n']:,} judgements are others when asked again"
        yield "flip rate", _interval(flips["rate"], ".1%"), others
        meaning = "have another sign by that alone" if flips["sign_changes"] else ""
        yield "… and advantages", _interval(flips["sign_changes"], ".1%"), meaning


def tables(figures: Figures) -> Iterator[tuple[str, Columns, list[Columns]]]:
    """Yield (title, columns, rows) of what differs by category and by criterion."""
    judgements, flips = figures["judgements"], figures["flips"]
    if judgements and judgements["n"]:
        agree = {"judgements": ("n", ","), "agree": ("agreement", ".1%"), "kappa": ("kappa", ".3f")}
        parts = [*judgements["categories"].items(), *judgements["sources"].items()]
        yield _table("By category and source", agree, parts)
        if judgements["criteria"]:
            yield _table("Criteria they disagree on most", agree, _by_criterion(judgements["criteria"]))
    if flips and flips["rate"]:
        flip = {"judgements": ("n", ","), "flip": ("rate", ".1%")}
        yield _table("Flips by category", flip, flips["categories"].items())
        if flips["criteria"]:
            yield _table("Criteria that flip most", flip, _by_criterion(flips["criteria"]))


def _table(title: str, columns: Mapping[str, tuple[str, str]], parts: Any) -> tuple[str, Columns, list[Columns]]:
    """Return a table of (name, figures) pairs; ``columns``: the key and the format of each."""
    lines = [(name, *(number(row[key], form) for key, form in columns.values())) for name, row in parts]
    return title, ("", *columns), lines


def _by_criterion(rows: Sequence[Figures]) -> list[tuple[str, Figures]]:
    return [(f"{row['criterion']} (step {row['step']}, {row['uid']})", row) for row in rows]


def _interval(interval: Mapping[str, float | None] | None, form: str) -> str:
    """Return a figure with its interval."""
    if interval is None:
        return "–"
    low, high = interval["low"], interval["high"]
    around = "" if low is None or high is None else f" ({low:{form}} to {high:{form}})"
    return number(interval["value"], form) + around

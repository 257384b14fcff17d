"""An evaluation, or several side by side: the rows of their tables, for a terminal, as Markdown, and as a page.

Everything is read from the documents that ``report.json`` and ``ropd eval compare --json`` hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from ropd_cli.report.words import number
from ropd_cli.util.counted import counted
from ropd_cli.util.terminal import FittedTable, Text, shortened
from ropd_cli.util.visible_text import visible

Document = Mapping[str, Any]
HEAD = ("benchmark", "metric", "score", "95%", "samples", "cut off", "no result", "undecided", "tokens", "cost")
COMPARED = ("benchmark", "metric", "first", "other", "change", "95%", "p", "solved", "problems")
NOTE = "95%: intervals over problems, not over samples; a missing grade is left out and counted."
SHOWN_FLIPS = 12
LONGEST_NAME = 60
"""Of a run or a model, in a terminal."""


def rows(document: Document) -> Iterator[tuple[str, ...]]:
    """Yield one row per figure, the benchmark's name in its first; as ``HEAD``."""
    for benchmark in document["benchmarks"]:
        figures = benchmark["figures"]
        missing = f", {figures['missing']} missing" if figures["missing"] else ""
        about = [
            f"{figures['problems']} x {benchmark['n']}{missing}",
            number(figures["truncated_share"], ".1%"),
            number(figures["no_result_share"], ".1%"),
            number(figures.get("undecided_share"), ".1%"),
            number(figures["mean_tokens"], ",.0f"),
            dollars(benchmark["cost_usd"]),
        ]
        for k, (title, figure) in enumerate(figures_of(benchmark)):
            first = k == 0
            name = benchmark["name"] if first else ""
            yield (name, title, value(figure), interval(figure), *(cell if first else "" for cell in about))


def figures_of(benchmark: Document) -> Iterator[tuple[str, Document | None]]:
    """Yield (title, figure) of all figures of a benchmark, the first of which stands for it."""
    figures, n = benchmark["figures"], benchmark["n"]
    for k, metric in enumerate(benchmark["metrics_of"]):
        title = metric["title"]
        if metric["binary"] and k == 0 and n > 1:
            title = f"pass@1, mean of {n}: {title}"
        yield title, figures["metrics"].get(metric["name"])
        if k == 0:
            yield from ((f"pass@{k}", figure) for k, figure in figures["pass_at"].items() if k != "1")
            if figures["majority"]:
                yield f"majority@{n}", figures["majority"]


def value(figure: Document | None) -> str:
    """Return a figure in per cent."""
    return "–" if figure is None else f"{100 * figure['value']:.1f}"


def interval(figure: Document | None) -> str:
    """Return the interval of a figure in per cent."""
    if figure is None or figure["low"] is None or figure["high"] is None:
        return "–"
    return f"{100 * figure['low']:.1f} to {100 * figure['high']:.1f}"


def dollars(costs: Mapping[str, float | None]) -> str:
    """Return what a benchmark has cost; "–" where nobody knows."""
    known = [cost for cost in costs.values() if cost is not None]
    return f"${sum(known):.2f}" if known else "–"


def facts(document: Document) -> list[tuple[str, str]]:
    """Return what was measured and how, as (name, value)."""
    sampling = ", ".join(f"{name} {setting}" for name, setting in (document.get("sampling") or {}).items())
    thinking, limit = document.get("thinking"), document.get("limit")
    speed, cost = document.get("tokens_per_s"), document.get("cost_usd")
    facts = {
        "model": str(document.get("model")),
        "endpoint": document.get("endpoint"),
        "sampling": sampling or "the endpoint's own",
        "thinking": None if thinking is None else "on" if thinking else "off",
        "system prompt": document.get("system_prompt"),
        "judge": document.get("judge"),
        "limit": f"the first {counted(limit, 'problem')} of each" if limit else None,
        "speed": f"{speed:,.0f} tokens/s" if speed else None,
        "cost": None if cost is None else f"${cost:.2f}",
        "ropd": f"{document['ropd']}, {document['created']}",
    }
    sources = [(each["name"], each["source"]) for each in document["benchmarks"]]
    return [(name, str(fact)) for name, fact in facts.items() if fact] + sources


def terminal(document: Document) -> RenderableType:
    """Return an evaluation for a terminal: a block per benchmark."""
    parts: list[RenderableType] = []
    for benchmark in document["benchmarks"]:
        parts.append(Text.assemble((benchmark["name"], "bold"), "  ", (_about(benchmark), "dim")))
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, style="dim")
        for k, (title, figure) in enumerate(figures_of(benchmark)):
            style = "bold" if k == 0 else ""
            table.add_row(Text(title, style), Text(value(figure), style), Text(interval(figure)))
        parts.append(Padding(table, (0, 0, 1, 2), expand=False))
    return Group(*parts, *(Text(f"! {warning}", style="yellow") for warning in document["warnings"]))


def _about(benchmark: Document) -> str:
    """Return size, faults, length and cost of a benchmark in a line."""
    figures = benchmark["figures"]
    cost = dollars(benchmark["cost_usd"])
    parts = (
        f"{counted(figures['problems'], 'problem')} x {benchmark['n']}",
        figures["missing"] and f"{counted(figures['missing'], 'sample')} without a grade",
        figures["truncated"] and f"{number(figures['truncated_share'], '.1%')} cut off",
        figures["no_result"] and f"{number(figures['no_result_share'], '.1%')} without a result",
        figures.get("undecided") and f"{number(figures['undecided_share'], '.1%')} undecided, as wrong",
        figures["mean_tokens"] is not None and f"{figures['mean_tokens']:,.0f} tokens",
        cost != "–" and cost,
    )
    return ", ".join(part for part in parts if part)


def compared_rows(document: Document) -> Iterator[tuple[str, ...]]:
    """Yield one row per benchmark, run and metric; as ``COMPARED``."""
    for benchmark in document["benchmarks"]:
        name = benchmark["name"]
        for run, changes in _changes(benchmark):
            for title, first, other, *rest in changes:
                yield (name, title, first, f"{other} ({run})", *rest)
                name = ""


def _changes(benchmark: Document) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield each run after the first, with a row per metric; as ``COMPARED`` from the metric on."""
    for difference in benchmark["differences"]:
        changes: list[tuple[str, ...]] = []
        for change in difference["metrics"].values():
            only_in_one = f" (+{change['only_in_one']} in one)" if change["only_in_one"] else ""
            row = (
                change["title"],
                f"{100 * change['first']:.1f}",
                f"{100 * change['other']:.1f}",
                f"{100 * change['difference']:+.1f}",
                f"{100 * change['low']:+.1f} to {100 * change['high']:+.1f}",
                "<0.001" if change["p_value"] < 0.001 else f"{change['p_value']:.3f}",
                f"+{len(change['gained'])} −{len(change['lost'])}" if "gained" in change else "",
                f"{change['problems']}{only_in_one}",
            )
            changes.append(row)
        yield difference["to"], changes


def flips(benchmark: Document) -> Iterator[str]:
    """Yield what is solved by one run and not by another, in lines."""
    for difference in benchmark["differences"]:
        for line in _flips(benchmark, difference):
            yield f"{benchmark['name']}, {difference['to']} {line}"


def _flips(benchmark: Document, difference: Document) -> Iterator[str]:
    change = difference["metrics"].get(benchmark["metric"], {})
    for what in ("gained", "lost"):
        if ids := change.get(what):
            more = f" and {len(ids) - SHOWN_FLIPS} more" if len(ids) > SHOWN_FLIPS else ""
            yield f"{what}: {', '.join(ids[:SHOWN_FLIPS])}{more}"


def problems(benchmark: Document) -> Iterator[tuple[str, ...]]:
    """Yield each problem with its value in each run."""
    return ((each["id"], *(number(value, ".1%") for value in each["values"])) for each in benchmark["problems"])


def compared_terminal(document: Document) -> RenderableType:
    """Return a comparison for a terminal: a block per benchmark and run."""
    first = document["runs"][0]
    name, model = (shortened(str(first[key]), LONGEST_NAME) for key in ("name", "model"))
    parts: list[RenderableType] = [Text(f"first: {name} ({model})")]
    for benchmark in document["benchmarks"]:
        for (run, changes), difference in zip(_changes(benchmark), benchmark["differences"], strict=True):
            title = (benchmark["name"], "bold"), "  ", (shortened(run, LONGEST_NAME), "dim")
            lines = map(Text, _flips(benchmark, difference))
            parts += [Text(), Text.assemble(*title)]
            parts.append(Padding(Group(FittedTable(COMPARED[1:], changes), *lines), (0, 0, 0, 2), expand=False))
    return Group(*parts)


def markdown(document: Document) -> str:
    """Return an evaluation as a Markdown page."""
    lines = [f"# Evaluation of {_cell(document.get('model'))}", ""]
    lines += [f"> {_cell(warning)}\n" for warning in document["warnings"]]
    lines += [*_table(HEAD, rows(document)), "", NOTE, ""]
    return visible("\n".join([*lines, *(f"- {name}: {_cell(text)}" for name, text in facts(document))]) + "\n")


def compared_markdown(document: Document) -> str:
    """Return a comparison as a Markdown page, the per-problem tables with it."""
    first = document["runs"][0]
    lines = ["# Evaluations compared", "", f"first: {_cell(first['name'])} ({_cell(first['model'])})", ""]
    lines += _table(COMPARED, compared_rows(document))
    for benchmark in document["benchmarks"]:
        lines += ["", f"## {benchmark['name']}", "", *(f"- {_cell(line)}" for line in flips(benchmark)), ""]
        lines += _table(("problem", *(run["name"] for run in document["runs"])), problems(benchmark))
    return visible("\n".join(lines) + "\n")


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(_cell, cells))} |"

    return [line(head), f"|{'---|' * len(head)}", *map(line, lines)]


def _cell(text: object) -> str:
    return " ".join(str(text).replace("|", "\\|").split())


def page(document: Document) -> str:
    """Return an evaluation as a page; with questions and answers where the document has ``items``."""
    from ropd_cli.report.pages import render

    firsts = [(benchmark["name"], next(figures_of(benchmark))[1]) for benchmark in document["benchmarks"]]
    return render(
        "eval.html",
        title=f"Evaluation of {document.get('model')}",
        document=document,
        shown=[(name, figure) for name, figure in firsts if figure],
        head=HEAD,
        rows=list(rows(document)),
        facts=facts(document),
        note=NOTE,
    )


def compared_page(document: Document) -> str:
    """Return a comparison as a page, problem by problem."""
    from ropd_cli.report.pages import render

    return render(
        "evals.html",
        title="Evaluations compared",
        document=document,
        head=COMPARED,
        rows=list(compared_rows(document)),
        columns=("problem", *(run["name"] for run in document["runs"])),
        benchmarks=[(each["name"], list(flips(each)), list(problems(each))) for each in document["benchmarks"]],
        note=NOTE,
    )

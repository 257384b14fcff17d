"""An evaluation, or several side by side, for a terminal and as Markdown; from the documents alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

HEAD = ("benchmark", "metric", "score", "95%", "samples", "cut off", "no result", "tokens", "cost")
SHOWN_FLIPS = 12


def rows(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row a figure, the benchmark's name in its first; as ``HEAD``."""
    for benchmark in document["benchmarks"]:
        figures = benchmark["figures"]
        n, name = benchmark["n"], benchmark["name"]
        about = (
            f"{figures['problems']} x {n}" + (f", {figures['missing']} missing" if figures["missing"] else ""),
            share(figures["truncated_share"]),
            share(figures["no_result_share"]),
            "–" if figures["mean_tokens"] is None else f"{figures['mean_tokens']:,.0f}",
            dollars(benchmark["cost_usd"]),
        )
        for title, figure, scale in figures_of(benchmark):
            yield (name, title, value(figure, scale), interval(figure, scale), *about)
            name, about = "", ("",) * len(about)


def figures_of(benchmark: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any] | None, float]]:
    """(title, figure, factor to show it by) of all figures of a benchmark, the first of which stands for it."""
    figures, n = benchmark["figures"], benchmark["n"]
    for number, metric in enumerate(benchmark["metrics_of"]):
        title = metric["title"]
        if metric["binary"] and not number and n > 1:
            title = f"pass@1, mean of {n}: {title}"
        yield title, figures["metrics"].get(metric["name"]), 100.0
        if number:
            continue
        for k, figure in figures["pass_at"].items():
            if k != "1":
                yield f"pass@{k}", figure, 100.0
        if figures["majority"]:
            yield f"majority@{n}", figures["majority"], 100.0


def value(figure: Mapping[str, Any] | None, scale: float = 100.0) -> str:
    """A figure as it is shown, in per cent."""
    return "–" if figure is None else f"{scale * figure['value']:.1f}"


def interval(figure: Mapping[str, Any] | None, scale: float = 100.0) -> str:
    """Its interval."""
    if figure is None or figure["low"] is None or figure["high"] is None:
        return "–"
    return f"{scale * figure['low']:.1f} to {scale * figure['high']:.1f}"


def share(part: float | None) -> str:
    """A share in per cent."""
    return "–" if part is None else f"{part:.1%}"


def dollars(costs: Mapping[str, float | None]) -> str:
    """What a benchmark has cost; "–" where nobody knows."""
    known = [cost for cost in costs.values() if cost is not None]
    return f"${sum(known):.2f}" if known else "–"


def facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was measured and how, as (name, value)."""
    found = [("model", str(document.get("model")))]
    if document.get("endpoint"):
        found.append(("endpoint", str(document["endpoint"])))
    how = document.get("sampling") or {}
    found.append(("sampling", ", ".join(f"{name} {setting}" for name, setting in how.items()) or "the endpoint's own"))
    if document.get("thinking") is not None:
        found.append(("thinking", "on" if document["thinking"] else "off"))
    if document.get("system_prompt"):
        found.append(("system prompt", str(document["system_prompt"])))
    if document.get("judge"):
        found.append(("judge", str(document["judge"])))
    if document.get("limit"):
        found.append(("limit", f"the first {document['limit']} problems of each"))
    if document.get("tokens_per_s"):
        found.append(("speed", f"{document['tokens_per_s']:,.0f} tokens/s"))
    if document.get("cost_usd") is not None:
        found.append(("cost", f"${document['cost_usd']:.2f}"))
    return [*found, ("ropd", f"{document['ropd']}, {document['created']}")]


NOTE = "95%: intervals over problems (docs/eval.md says how); a missing grade is left out and counted."


def terminal(document: Mapping[str, Any]) -> Any:
    """For a terminal: a block a benchmark."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = []
    for benchmark in document["benchmarks"]:
        parts.append(Text.assemble((benchmark["name"], "bold"), "  ", (_about(benchmark), "dim")))
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, style="dim")
        for number, (title, figure, scale) in enumerate(figures_of(benchmark)):
            style = "bold" if not number else ""
            table.add_row(Text(title, style), Text(value(figure, scale), style), _plain(interval(figure, scale)))
        parts += [Padding(table, (0, 0, 1, 2))]
    return Group(*parts, *(_warned(warning) for warning in document["warnings"]))


def _about(benchmark: Mapping[str, Any]) -> str:
    """Size, faults, length and cost of a benchmark in a line."""
    figures = benchmark["figures"]
    said = [f"{figures['problems']} problems x {benchmark['n']}"]
    if figures["missing"]:
        said.append(f"{figures['missing']} samples without a grade")
    if figures["truncated"]:
        said.append(f"{share(figures['truncated_share'])} cut off")
    if figures["no_result"]:
        said.append(f"{share(figures['no_result_share'])} without a result")
    if figures["mean_tokens"] is not None:
        said.append(f"{figures['mean_tokens']:,.0f} tokens")
    return ", ".join([*said, *([cost] if (cost := dollars(benchmark["cost_usd"])) != "–" else [])])


def markdown(document: Mapping[str, Any]) -> str:
    """As a Markdown page."""
    lines = [f"# Evaluation of {_cell(str(document.get('model')))}", ""]
    lines += [f"> {_cell(warning)}\n" for warning in document["warnings"]]
    lines += _table(HEAD, rows(document))
    lines += ["", NOTE, ""]
    lines += [f"- {name}: {_cell(text)}" for name, text in facts(document)]
    lines += [f"- {each['name']}: {_cell(each['source'])}" for each in document["benchmarks"]]
    return "\n".join(lines) + "\n"


def compared_rows(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row a benchmark, run and metric."""
    for benchmark in document["benchmarks"]:
        name = benchmark["name"]
        for place, difference in enumerate(benchmark["differences"], start=1):
            first, other = benchmark["figures"][0], benchmark["figures"][place]
            for metric, found in difference["metrics"].items():
                is_first = metric == benchmark["metric"]
                yield (
                    name,
                    found["title"],
                    value(first) if is_first else "",
                    f"{value(other)} ({difference['to']})" if is_first else "",
                    f"{100 * found['difference']:+.1f}",
                    f"{100 * found['low']:+.1f} to {100 * found['high']:+.1f}",
                    p_value(found["p_value"]),
                    f"+{len(found['gained'])} −{len(found['lost'])}" if "gained" in found else "",
                    str(found["problems"]) + (f" (+{found['only_in_one']} in one)" if found["only_in_one"] else ""),
                )
                name = ""


COMPARED = ("benchmark", "metric", "first", "other", "change", "95%", "p", "solved", "problems")


def compared_terminal(document: Mapping[str, Any]) -> Any:
    """A comparison for a terminal."""
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, name in enumerate(COMPARED):
        table.add_column(name, justify="left" if number < 2 else "right", overflow="fold")
    for row in compared_rows(document):
        table.add_row(*map(_plain, row))
    first = document["runs"][0]
    lines = [_plain(f"first: {first['name']} ({first['model']})"), table]
    for benchmark in document["benchmarks"]:
        lines += [_plain(line) for line in flips(benchmark)]
    return Group(*lines)


def flips(benchmark: Mapping[str, Any]) -> Iterator[str]:
    """What is solved by one run and not by another, in lines."""
    for difference in benchmark["differences"]:
        found = difference["metrics"].get(benchmark["metric"], {})
        for what in ("gained", "lost"):
            if ids := found.get(what):
                more = f" and {len(ids) - SHOWN_FLIPS} more" if len(ids) > SHOWN_FLIPS else ""
                yield f"{benchmark['name']}, {difference['to']} {what}: {', '.join(ids[:SHOWN_FLIPS])}{more}"


def compared_markdown(document: Mapping[str, Any]) -> str:
    """A comparison as a Markdown page, the per-problem tables with it."""
    first = document["runs"][0]
    lines = ["# Evaluations compared", "", f"first: {_cell(first['name'])} ({_cell(str(first['model']))})", ""]
    lines += _table(COMPARED, compared_rows(document))
    for benchmark in document["benchmarks"]:
        lines += ["", f"## {benchmark['name']}", "", *(f"- {_cell(line)}" for line in flips(benchmark)), ""]
        head = ("problem", *(run["name"] for run in document["runs"]))
        lines += _table(head, ((each["id"], *map(share, each["values"])) for each in benchmark["problems"]))
    return "\n".join(lines) + "\n"


def p_value(p: float) -> str:
    """A p-value."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _table(head: Sequence[str], lines: Any) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(_cell, cells))} |"

    return [line(head), f"|{'---|' * len(head)}", *(line(cells) for cells in lines)]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _plain(text: str) -> Any:
    """A text without markup."""
    from rich.text import Text

    return Text(text)


def _warned(text: str) -> Any:
    from rich.text import Text

    return Text(f"! {text}", style="yellow")

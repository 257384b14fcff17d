"""Two judgings beside each other, in a terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from ropd_cli.report.groups_text import clean
from ropd_cli.report.run_page import document as page_of

Row = tuple[str, str, str]
"""(what, figure, what it means)."""


@dataclass(frozen=True)
class AgreementText:
    """The figures of ``agreement.figures``, readable from 80 columns on."""

    found: Mapping[str, Any]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
        table.add_column(style="bold", max_width=28)
        table.add_column(no_wrap=True)
        table.add_column(style="dim")
        for name, figure, meaning in rows(self.found):
            table.add_row(name, figure, meaning)
        yield Text(heading(self.found))
        yield table
        for title, columns, body in tables(self.found):
            yield Text(title, style="bold")
            listed = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            for k, column in enumerate(columns):
                listed.add_column(column, justify="left" if k == 0 else "right", ratio=1 if k == 0 else None)
            for cells in body:
                listed.add_row(*map(Text, cells))
            yield listed


def heading(found: Mapping[str, Any]) -> str:
    """Who judged."""

    def judge(side: Mapping[str, Any]) -> str:
        models = ", ".join(clean(model) or "?" for model in side["models"])
        return f"{models} (template {', '.join(side['template_hashes'])})"

    repeats = f", {found['flips']['repeats']} times" if found["flips"] else ""
    return f"{found['groups']:,} groups. Saved: {judge(found['saved'])}. New: {judge(found['new'])}{repeats}."


def rows(found: Mapping[str, Any]) -> list[Row]:
    """The figures of all groups together."""
    lines: list[Row] = []
    judgements, scores, advantages = found["judgements"], found["scores"], found["advantages"]
    if judgements is None:
        lines.append(("judgements", "–", "the rubrics are others, so criteria can't be compared one by one"))
    elif judgements["n"]:
        lines.append(("judgements that agree", _share(judgements["agreement"]), f"of {judgements['n']:,}"))
        lines.append(("Cohen's kappa", _number(judgements["kappa"]), "1: always, 0: as by chance"))
        gone = judgements["missing"]
        if any(gone.values()):
            lines.append(("left out", f"{sum(gone.values()):,}", f"missing: {gone['saved']} saved, {gone['new']} new"))
    if scores["n"]:
        means = f"{scores['mean_saved']:.3f} → {scores['mean_new']:.3f}"
        lines.append(("mean score of a rollout", means, f"difference {_number(scores['difference'], '+')}"))
        lines.append(("correlation of scores", _plain(scores["pearson"]), f"of ranks {_plain(scores['spearman'])}"))
        within = scores["within_groups"]
        lines.append(
            (
                "order within a group",
                _plain(within["kendall"]),
                f"mean Kendall's tau-b of {within['groups']:,} groups; correlation {_plain(within['pearson'])}",
            )
        )
    if advantages["groups"]:
        lines.append(
            (
                "advantages of another sign",
                _share(advantages["sign_changes"]),
                f"of {advantages['n']:,} rollouts; the update would push them elsewhere",
            )
        )
        died = f"{advantages['died']:,} lose their spread, {advantages['revived']:,} gain one"
        lines.append(("groups without spread", died, f"of {advantages['groups']:,}"))
    teacher = found["teacher"]
    if teacher["groups"]:
        for name in ("saved", "new"):
            side = teacher[name]
            lines.append(
                (
                    f"teacher above rollouts, {name}",
                    _share(side["above"]),
                    f"of the groups; wins {_share(side['wins'])} of the pairs",
                )
            )
    flips = found["flips"]
    if flips and flips["rate"]:
        lines.append(("flip rate", _share(flips["rate"]), f"of {flips['n']:,} judgements are others when asked again"))
        lines.append(
            ("… and advantages", _share(flips["sign_changes"]), "have another sign by that alone")
            if flips["sign_changes"]
            else ("… and advantages", "–", "")
        )
    return lines


def tables(found: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """(title, columns, rows) of what is told by category and by criterion."""
    result = []
    judgements, flips = found["judgements"], found["flips"]
    if judgements and judgements["n"]:
        both = [*judgements["categories"].items(), *judgements["sources"].items()]
        body = [(clean(name), f"{t['n']:,}", _percent(t["agreement"]), _plain(t["kappa"])) for name, t in both]
        result.append(("By category and source", ("", "judgements", "agree", "kappa"), body))
        worst = judgements["criteria"]
        if worst:
            body = [(_criterion(t), f"{t['n']:,}", _percent(t["agreement"]), _plain(t["kappa"])) for t in worst]
            result.append(("Criteria they disagree on most", ("", "judgements", "agree", "kappa"), body))
    if flips and flips["rate"]:
        body = [(clean(name), f"{t['n']:,}", _percent(t["rate"])) for name, t in flips["categories"].items()]
        result.append(("Flips by category", ("", "judgements", "flip"), body))
        if flips["criteria"]:
            body = [(_criterion(t), f"{t['n']:,}", _percent(t["rate"])) for t in flips["criteria"]]
            result.append(("Criteria that flip most", ("", "judgements", "flip"), body))
    return result


def page(found: Mapping[str, Any], title: str) -> str:
    """The figures as one self-contained page."""
    body = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(figure)}</td><td class='dim'>{escape(meaning)}</td></tr>"
        for name, figure, meaning in rows(found)
    )
    first = f'<p>{escape(heading(found))}</p><div class="wide"><table>{body}</table></div>'
    sections = [("agreement", "Agreement", first)]
    sections += [(f"t{k}", name, _html_table(columns, lines)) for k, (name, columns, lines) in enumerate(tables(found))]
    return page_of(title, sections, script=False)


def _html_table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th class="{"n" if k else ""}">{escape(column)}</th>' for k, column in enumerate(columns))
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{"n" if k else "words"}">{escape(cell)}</td>' for k, cell in enumerate(line))
        + "</tr>"
        for line in lines
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _criterion(row: Mapping[str, Any]) -> str:
    return f"{clean(row['criterion'])} (step {row['step']}, {clean(row['uid'])})"


def _share(interval: Mapping[str, float | None] | None) -> str:
    if interval is None or interval["value"] is None:
        return "–"
    low, high = interval["low"], interval["high"]
    around = f" ({low:.1%} to {high:.1%})" if low is not None and high is not None else ""
    return f"{interval['value']:.1%}{around}"


def _number(interval: Mapping[str, float | None] | None, sign: str = "") -> str:
    if interval is None or interval["value"] is None:
        return "–"
    low, high = interval["low"], interval["high"]
    around = f" ({low:{sign}.3f} to {high:{sign}.3f})" if low is not None and high is not None else ""
    return f"{interval['value']:{sign}.3f}{around}"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"

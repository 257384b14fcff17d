"""An evaluation, or several side by side, as one self-contained HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ropd_cli.report.eval_text import (
    COMPARED,
    HEAD,
    NOTE,
    compared_rows,
    facts,
    figures_of,
    flips,
    rows,
    share,
    value,
)

_WORDS = 2
"""So many columns of the tables hold words; the others numbers."""
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; --bad: #b3261e; --good: #19704a; --mark: #1f5fa8; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7bd8a8; --mark: #8ec5ff; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .8rem 0; } .wide { overflow-x: auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.first td { border-top: 2px solid var(--line); } td.words + td.words { min-width: 9rem; }
.warning { border-left: 4px solid var(--bad); padding: .4rem .8rem; background: var(--soft); margin: .5rem 0; }
.dim { opacity: .7; } .better { color: var(--good); } .worse { color: var(--bad); }
svg { width: 100%; max-width: 46rem; height: auto; } svg text { font: 13px system-ui, sans-serif; fill: currentColor; }
.axis { stroke: var(--line); } .mark { stroke: var(--mark); stroke-width: 2; fill: var(--mark); }
.curve { stroke: var(--mark); stroke-width: 2; fill: none; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); font-size: 13px; padding: .6rem; }
@media (max-width: 40rem) { th, td { padding: .2rem .3rem; }
  td.words + td.words { min-width: 7rem; } }
details { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .8rem; margin: .6rem 0; }
summary { cursor: pointer; }
"""


def page(document: Mapping[str, Any]) -> str:
    """The page of one evaluation; with questions and answers where the document has ``items``."""
    curves = "".join(_curve(benchmark) for benchmark in document["benchmarks"])
    sources = "".join(
        f"<tr><td>{_text(each['name'])}</td><td>{_text(each['source'])}</td></tr>" for each in document["benchmarks"]
    )
    items = "".join(_items(benchmark) for benchmark in document["benchmarks"] if benchmark.get("items"))
    return _page(
        f"Evaluation of {document.get('model')}",
        f"""{_warnings(document)}
{_plot(document)}
{_table(HEAD, rows(document))}
<p class="dim">{_text(NOTE)}</p>
{f"<h2>More samples, more solved</h2>{curves}" if curves else ""}
<h2>How it was measured</h2>
<table>{"".join(f"<tr><td>{_text(name)}</td><td>{_text(said)}</td></tr>" for name, said in facts(document))}
{sources}</table>
{items}""",
    )


def compared_page(document: Mapping[str, Any]) -> str:
    """The page of a comparison, problem by problem."""
    runs = "".join(
        f"<tr><td>{_text(run['name'])}</td><td>{_text(str(run['model']))}</td><td>{_text(run['path'])}</td></tr>"
        for run in document["runs"]
    )
    parts = []
    for benchmark in document["benchmarks"]:
        head = ("problem", "", *(run["name"] for run in document["runs"]))
        lines = ((each["id"], "", *map(share, each["values"])) for each in benchmark["problems"])
        flipped = "".join(f"<p>{_text(line)}</p>" for line in flips(benchmark))
        count = len(benchmark["problems"])
        parts.append(
            f"<h2>{_text(benchmark['name'])}</h2>{flipped}"
            f"<details><summary>{count} problems, those that differ most first</summary>{_table(head, lines)}</details>"
        )
    return _page(
        "Evaluations compared",
        f"<table>{runs}</table>{_table(COMPARED, compared_rows(document))}<p class='dim'>{_text(NOTE)}</p>"
        + "".join(parts),
    )


def _page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title><style>{_STYLE}</style></head><body>
<h1>{_text(title)}</h1>
{body}
</body></html>
"""


def _table(head: Sequence[str], lines: Any) -> str:
    def cell(tag: str, number: int, text: str) -> str:
        css = "words" if number < _WORDS else "n"
        return f'<{tag} class="{css}">{_text(text)}</{tag}>'

    top = "".join(cell("th", number, name) for number, name in enumerate(head))
    body = "".join(
        f'<tr class="{"first" if line[0] else ""}">{"".join(cell("td", k, text) for k, text in enumerate(line))}</tr>'
        for line in lines
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _warnings(document: Mapping[str, Any]) -> str:
    return "".join(f'<p class="warning">{_text(warning)}</p>' for warning in document["warnings"])


def _plot(document: Mapping[str, Any]) -> str:
    """The first figure of each benchmark with its interval, on a scale of 0 to 100."""
    shown = [(each["name"], next(figures_of(each))) for each in document["benchmarks"]]
    shown = [(name, found) for name, found in shown if found[1] is not None]
    if not shown:
        return ""
    left, width, line = 150, 480, 30
    height = line * len(shown) + 30

    def x(per_cent: float) -> float:
        return left + width * min(max(per_cent, 0.0), 100.0) / 100

    parts = []
    for mark in (0, 25, 50, 75, 100):
        parts.append(f'<line class="axis" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="6" y2="{height - 22}"/>')
        parts.append(f'<text x="{x(mark):.1f}" y="{height - 6}" text-anchor="middle">{mark}</text>')
    for number, (name, (_, figure, scale)) in enumerate(shown):
        assert figure is not None
        y = 20 + line * number
        low, high = (figure["value"] if figure[end] is None else figure[end] for end in ("low", "high"))
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{_text(name)}</text>')
        parts.append(
            f'<line class="mark" x1="{x(scale * low):.1f}" x2="{x(scale * high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="mark" r="4" cx="{x(scale * figure["value"]):.1f}" cy="{y}"/>'
            f'<text x="{left + width + 14}" y="{y + 4}">{value(figure, scale)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {left + width + 70} {height}" role="img" aria-label="scores with 95% intervals">'
        f"{''.join(parts)}</svg>"
    )


def _curve(benchmark: Mapping[str, Any]) -> str:
    """pass@k over k, on a scale of its own."""
    figures = [(int(k), figure) for k, figure in benchmark["figures"]["pass_at"].items()]
    if len(figures) < 3:
        return ""
    left, width, height = 150, 480, 130
    top = max(0.1, max(figure["value"] for _, figure in figures))
    at = [
        (left + width * number / (len(figures) - 1), height - 24 - (height - 44) * figure["value"] / top)
        for number, (_, figure) in enumerate(figures)
    ]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    parts = [
        f'<line class="axis" x1="{left}" x2="{left + width}" y1="{height - 24}" y2="{height - 24}"/>',
        f'<polyline class="curve" points="{points}"/>',
        f'<text x="{left - 10}" y="{height / 2:.0f}" text-anchor="end">{_text(benchmark["name"])}</text>',
    ]
    for (x, y), (k, figure) in zip(at, figures, strict=True):
        parts.append(f'<circle class="mark" r="3" cx="{x:.1f}" cy="{y:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{value(figure)}</text>')
        parts.append(f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">pass@{k}</text>')
    return f'<svg viewBox="0 0 {left + width + 70} {height}" role="img" aria-label="pass@k">{"".join(parts)}</svg>'


def _items(benchmark: Mapping[str, Any]) -> str:
    parts = [f"<h2>{_text(benchmark['name'])}: questions and answers</h2>"]
    for item in benchmark["items"]:
        answers = "".join(
            f"<p>sample {number}: {_text(_scores(sample))}</p><pre>{_text(sample['text'])}</pre>"
            for number, sample in enumerate(item["samples"])
        )
        gold = f"<p>answer: {_text(item['answer'])}</p>" if item["answer"] is not None else ""
        parts.append(
            f"<details><summary>{_text(item['id'])}</summary><pre>{_text(item['question'])}</pre>{gold}{answers}</details>"
        )
    return "".join(parts)


def _scores(sample: Mapping[str, Any]) -> str:
    scores = ", ".join(
        f"{name} {'missing' if score is None else f'{score:g}'}" for name, score in sample["scores"].items()
    )
    read = f", read as {sample['extracted']}" if sample["extracted"] is not None else ""
    return f"{scores or 'not graded'}{read}, ended by {sample['finish_reason']}"


def _text(text: str) -> str:
    return escape(str(text))


__all__ = ["compared_page", "page"]

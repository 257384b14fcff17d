"""Judged groups as one self-contained HTML page: no script, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ropd_cli.analysis.judged_groups import GroupView, summary
from ropd_cli.answers.thinking import split_thinking
from ropd_cli.lint import RULES, Finding
from ropd_cli.records.schemas import AnswerVerdict
from ropd_cli.report.groups_text import MARKS, clean, label, mark, number, summary_line

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; --bad: #b3261e; --good: #19704a; --teacher: #1f5fa8; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7bd8a8; --teacher: #8ec5ff; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 0; display: inline; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .8rem 0; } .wide { overflow-x: auto; }
th, td { padding: .2rem .55rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.uid { min-width: 8rem; max-width: 16rem; overflow-wrap: anywhere; } td.words { min-width: 16rem; }
.teacher { color: var(--teacher); } .met { color: var(--good); } .failed { color: var(--bad); } .dim { opacity: .65; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); font-size: 13px; }
pre { padding: .6rem; margin: .2rem 0 .8rem; }
details { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .8rem; margin: .6rem 0; }
summary { cursor: pointer; } .target { scroll-margin-top: 3rem; }
"""


def page(views: Sequence[GroupView], title: str) -> str:
    """The whole page: a table of the groups, then each group behind a fold."""
    groups = "\n".join(group_section(n, view, is_open=len(views) == 1) for n, view in enumerate(views))
    rows = "\n".join(_row(n, view) for n, view in enumerate(views))
    head = "".join(f'<th class="{css}">{name}</th>' for name, css in _COLUMNS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title><style>{_STYLE}</style></head><body>
<h1>{_text(title)}</h1>
<p>{_text(summary_line(summary(views)))}</p>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>
{rows}
</tbody></table></div>
{groups}
</body></html>
"""


_COLUMNS = (
    ("step", "n"),
    ("uid", ""),
    ("rollouts", "n"),
    ("criteria", "n"),
    ("mean", "n"),
    ("spread", "n"),
    ("teacher", "n"),
    ("missing", "n"),
    ("notes", "words"),
)


def _row(n: int, view: GroupView) -> str:
    stats = view.stats
    values: list[Any] = ["" if view.step is None else view.step, None, stats.n, len(view.criterion_ids)]
    values += [
        number(stats.mean),
        number(stats.spread),
        number(stats.teacher_mean),
        stats.missing or "",
        "; ".join([*view.faults, *dict.fromkeys(finding.rule for finding in view.findings)]),
    ]
    cells = [f'<td class="{css}">{_text(str(value))}</td>' for value, (_, css) in zip(values, _COLUMNS, strict=True)]
    cells[1] = f'<td class="uid"><a href="#g{n}">{_text(view.uid)}</a></td>'
    return f"<tr>{''.join(cells)}</tr>"


def group_section(n: int, view: GroupView, *, is_open: bool = False, longest: int | None = None) -> str:
    """One group in full behind a fold; ``gN`` is its anchor. Texts of more than ``longest`` characters lose their
    middle."""
    title = view.uid if view.step is None else f"step {view.step}, {view.uid}"
    stats = view.stats
    means = f"mean {number(stats.mean)}, teacher {number(stats.teacher_mean)}"
    parts = [f"<summary><h2>{_text(title)}</h2> <span class=dim>{means}</span></summary>"]
    parts.append(f'<div class="target" id="g{n}"></div>')  # inside the fold, so that following a link opens it
    if view.question is not None:
        parts.append(f"<pre>{_text(_cut(view.question, longest))}</pre>")
    parts += [f'<p class="failed">{_text(fault)}</p>' for fault in view.faults]
    parts += findings_lines(view.findings)
    for part in view.by_rubric:
        if part.of_rollout is not None:
            parts.append(f"<p>the rubric of rollout {part.of_rollout}</p>")
        if part.criterion_ids:
            parts.append(_matrix(part))
    parts += _answers(view, longest)
    return f"<details{' open' if is_open else ''}>\n" + "\n".join(parts) + "\n</details>"


def _matrix(view: GroupView) -> str:
    """Criteria with their weights, and a column an answer."""
    answers = view.judged
    head = "<th>id</th><th class=n>points</th><th>criterion</th>"
    head += "".join(f'<th class="n {a.source}">{label(a)}</th>' for a in answers)
    criteria = view.criteria.rubrics if view.criteria else ()
    rows = []
    for k, name in enumerate(view.criterion_ids):
        c = criteria[k] if k < len(criteria) else None
        words = f"{_text(c.criterion)} <span class=dim>{_text(c.category)}</span>" if c else ""
        cells = f"<td>{_text(name)}</td><td class=n>{c.points if c else ''}</td><td class=words>{words}</td>"
        rows.append(f"<tr>{cells}{''.join(_mark(a, k) for a in answers)}</tr>")
    scores = "".join(f"<th class=n>{number(a.score)}</th>" for a in answers)
    rows.append(f"<tr><th>score</th><td></td><td></td>{scores}</tr>" if answers else "")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _mark(answer: AnswerVerdict, k: int) -> str:
    sign = mark(answer, k)
    css = {MARKS[True]: "met", MARKS[False]: "failed"}.get(sign, "dim")
    return f'<td class="n {css}">{sign}</td>'


def findings_lines(findings: Sequence[Finding]) -> list[str]:
    """What the linter says, a line a rule."""
    lines = []
    for rule in dict.fromkeys(finding.rule for finding in findings):
        of_rule = [finding for finding in findings if finding.rule == rule]
        ids = ", ".join("+".join(finding.criteria) for finding in of_rule if finding.criteria)
        messages = "; ".join(dict.fromkeys(finding.message for finding in of_rule))
        said = f"{ids}: {messages}" if ids and len(of_rule) == 1 else ids or messages
        lines.append(
            f"<p><strong>{_text(rule)}</strong> {_text(said)} <span class=dim>{_text(RULES[rule].title)}</span></p>"
        )
    return lines


def _answers(view: GroupView, longest: int | None) -> list[str]:
    texts = [("teacher", i, t, None) for i, t in enumerate(view.teacher_answers)]
    texts += [("student", i, a.text, a.finish_reason) for i, a in enumerate(view.rollouts)]
    parts = []
    for source, index, text, ended in texts:
        said = f"{source} {index}, score {number(view.score_of(source, index))}"
        if ended and ended != "stop":
            said += f", ended by {ended}"
        thinking, answer = split_thinking(text)
        fold = (
            f"<details><summary>thinking</summary><pre>{_text(_cut(thinking, longest))}</pre></details>"
            if thinking
            else ""
        )
        shown = f"<pre>{_text(_cut(answer, longest))}</pre>" if answer is not None else "<p class=dim>no answer</p>"
        parts.append(f'<p class="{source}">{_text(said)}</p>{fold}{shown}')
    return parts


def _cut(text: str, longest: int | None) -> str:
    if longest is None or len(text) <= longest:
        return text
    left_out = len(text) - longest
    return f"{text[: longest // 2]}\n[… {left_out:,} characters left out …]\n{text[-(longest - longest // 2) :]}"


def _text(text: str) -> str:
    return escape(clean(text))

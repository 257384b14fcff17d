"""Runs side by side: their figures, their course in common charts, their hardest criteria, what differs in their
configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ropd_cli.analysis.run_data import RunData
from ropd_cli.report.groups_text import clean
from ropd_cli.report.run_charts import course_charts
from ropd_cli.report.run_page import document, without_secrets
from ropd_cli.report.run_words import course, status, validated


def compared_page(runs: Sequence[RunData]) -> str:
    """The page of two runs or more."""
    sections = [
        ("figures", "Figures", _table(runs)),
        ("course", "Course", f'<div class="charts">{"".join(course_charts(runs))}</div>'),
        ("said", "What happened", "".join(_said(run) for run in runs)),
        ("hardest", "Hardest criteria", "".join(_hardest(run) for run in runs)),
        ("differences", "What differs in the configurations", _differences(runs)),
    ]
    return document(" · ".join(run.name for run in runs), sections, script=True)


def figures(run: RunData) -> dict[str, Any]:
    """The figures of a run, by name; None where it has none."""
    judged = run.judged
    trend = run.trend
    groups = max(1, len(run.rows))
    return {
        "steps": len(run.steps),
        "groups": len(run.rows),
        "failed groups": len(run.failed),
        "groups without spread": sum(row.dead for row in judged) / len(judged) if judged else None,
        "teacher below student": sum(row.teacher_below for row in judged) / len(judged) if judged else None,
        "reward, first third": trend[0] if trend else None,
        "reward, last third": trend[1] if trend else None,
        "change": trend[2].mean if trend else None,
        "change, low": trend[2].low if trend else None,
        "change, high": trend[2].high if trend else None,
        "linter findings a group": sum(counts.total() for counts in run.lint.values()) / groups,
        "seconds": run.total("timing_s/step"),
        "judge calls": run.total("judge/requests_sent"),
        "judging, dollars": _cost(run),
        **{f"best {name}": value for name, value in _best(run).items()},
    }


def _best(run: RunData) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in run.validations:
        for name, each in row["benchmarks"].items():
            figure = next((figure for figure in each["metrics"].values() if figure), None)
            if figure:
                found[name] = max(found.get(name, 0.0), figure["value"])
    return found


_SHARES = ("groups without spread", "teacher below student")


def _table(runs: Sequence[RunData]) -> str:
    columns = [figures(run) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = []
    for name in names:
        cells = "".join(f'<td class="n">{_figure(name, column.get(name))}</td>' for column in columns)
        rows.append(f"<tr><td>{_text(name)}</td>{cells}</tr>")
    head = "".join(f'<th class="n">{_text(run.name)}</th>' for run in runs)
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name in _SHARES or name.startswith("best "):
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def _said(run: RunData) -> str:
    lines = [(status(run), ""), *course(run), *validated(run)]
    items = "".join(f'<li class="{css}">{_text(words)}</li>' for words, css in lines)
    return f'<h3>{_text(run.name)}</h3><ul class="said">{items}</ul>'


def _hardest(run: RunData) -> str:
    rows = "".join(
        f'<tr><td class="words">{_text(row.text)}</td><td class="n">{row.points:.3g}</td>'
        f'<td class="n">{row.met.student_rate or 0:.0%}</td></tr>'
        for row in run.hardest[:6]
    )
    head = '<tr><th>criterion</th><th class="n">points</th><th class="n">met by the rollouts</th></tr>'
    return f'<h3>{_text(run.name)}</h3><div class="wide"><table>{head}{rows}</table></div>' if rows else ""


def _differences(runs: Sequence[RunData]) -> str:
    flat = [dict(_flat(without_secrets(run.config))) for run in runs]
    keys = [
        key for key in dict.fromkeys(key for each in flat for key in each) if len({each.get(key) for each in flat}) > 1
    ]
    if not keys:
        return "<p>Nothing.</p>"
    head = "".join(f"<th>{_text(run.name)}</th>" for run in runs)
    rows = ""
    for key in keys:
        cells = "".join(f"<td>{_text(each.get(key, '–'))}</td>" for each in flat)
        rows += f"<tr><td>{_text(key)}</td>{cells}</tr>"
    return f'<div class="wide"><table><tr><th>key</th>{head}</tr>{rows}</table></div>'


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, each in value.items() for pair in _flat(each, f"{path}.{key}" if path else str(key))]
    return [(path, str(value))]


def _text(text: str) -> str:
    return escape(clean(text))


def _cost(run: RunData) -> float | None:
    """Dollars of both the judges and the monitor's; None without prices."""
    cost = run.total("judge/cost_usd")
    return None if cost is None else cost + (run.total("monitor/cost_usd") or 0.0)

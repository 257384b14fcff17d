"""A training run as one self-contained HTML page: what happened, what a rubric looks like, what is hard, what failed.

Charts and the groups in full are plain HTML and SVG. A script (in the page) adds the list of all groups, of which it
draws a hundred at a time, and what is under the pointer of a chart. Nothing is loaded from elsewhere: a content
security policy in the page forbids it. Every text of a model is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import orjson
import yaml

from ropd_cli.analysis.run_data import CriterionRow, GroupRow, RunData
from ropd_cli.lint import RULES
from ropd_cli.report.groups_html import group_section
from ropd_cli.report.groups_text import clean
from ropd_cli.report.run_charts import course_charts, weight
from ropd_cli.report.run_faults import failures
from ropd_cli.report.run_intro import at, happened, judge_of, placed

LONGEST = 6_000
"""Characters of an answer that the page shows."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_KINDS = {
    "telling": ("Telling groups", "Late in the run, with the largest spread of rewards: what the student learns from."),
    "best": ("Best groups", "The highest mean rewards."),
    "worst": ("Worst groups", "The lowest mean rewards."),
    "suspect": ("Suspect rubrics", "The teacher scored below the rollouts, or a criterion refers to a reference."),
    "dead": ("Groups without spread", "All rewards are equal: nothing is learned from them."),
    "failed": ("Groups that failed", "They could not be judged and stay out of the update; they do not count as 0."),
}


def page(data: RunData, *, title: str | None = None, lead: str = "", places: str = "") -> str:
    """The page of one run. ``lead`` and ``places`` are HTML of the caller's own: before what is said of the run, and
    before its configuration."""
    sections = [
        ("happened", "What happened", lead + happened(data)),
        ("course", "Course", _course(data)),
        ("rubrics", "Rubrics", _rubrics(data)),
        ("lint", "What the linter finds", _lint(data)),
        ("groups", "Groups", _groups(data)),
        ("failures", "What failed", failures(data)),
        ("setup", "Configuration and versions", places + _setup(data)),
    ]
    return document(title or f"Run {data.name}", sections, under=placed(data), script=True)


def document(title: str, sections: Sequence[tuple[str, str, str]], *, under: str = "", script: bool) -> str:
    """A page of sections: (anchor, heading, HTML); empty ones are left out. ``under`` stands below the title."""
    sections = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in sections)
    body = "".join(
        f'<section id="{anchor}"><h2>{escape(heading)}</h2>{html}</section>' for anchor, heading, html in sections
    )
    tail = f"<script>{asset('run.js')}</script>" if script else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{_text(title)}</title><style>{asset("run.css")}</style></head><body>
<nav><div>{links}</div></nav><main><h1>{_text(title)}</h1>{under}
{body}
</main>{tail}</body></html>
"""


def asset(name: str) -> str:
    """A file that goes into pages."""
    return (files("ropd_cli.report") / "assets" / name).read_text(encoding="utf-8")


def _course(data: RunData) -> str:
    words = "By training step. The number beside a name is that of the last step; pointing at a chart shows any other."
    return f'<p>{words}</p><div class="charts">{"".join(course_charts([data]))}</div>'


# --- rubrics ---------------------------------------------------------------------------------------------------------


def _rubrics(data: RunData) -> str:
    parts = []
    telling = data.chosen.get("telling") or data.chosen.get("best")
    if telling:
        first = telling[0]
        parts.append(
            "<p>For each group of rollouts the rubricator writes one list of weighted true/false criteria. The "
            "verifier judges every answer by it: t0, t1 … are the teacher's answers, s0, s1 … the student's; ✓ met, "
            "✗ not met. The score is the weight that was met, and the student's scores are its rewards. This is a "
            "group of the last third of the run whose rewards differ most:</p>"
        )
        parts.append(group_section(first, data.full[first], is_open=True, longest=LONGEST))
    parts.append(_category_table(data))
    parts.append(_hardest_table(data.hardest))
    return "".join(parts)


def _category_table(data: RunData) -> str:
    if not data.categories:
        return ""
    total = sum(weight(item) for item in data.categories.items())
    rows = []
    for name, by_step in sorted(data.categories.items(), key=weight, reverse=True):
        student = _rate((met.student, met.student_of) for met in by_step.values())
        teacher = _rate((met.teacher, met.teacher_of) for met in by_step.values())
        rows.append(
            f'<tr><td>{_text(name)}</td><td class="n">{sum(met.count for met in by_step.values()):,}</td>'
            f'<td class="n">{weight((name, by_step)) / total:.0%}</td>{_meter(student)}{_meter(teacher, "t")}</tr>'
        )
    return (
        '<h3>Categories</h3><p>Over the whole run.</p><div class="wide"><table>'
        '<tr><th>category</th><th class="n">criteria</th>'
        '<th class="n">of all points</th>'
        "<th>met by the rollouts</th><th>met by the teacher's answers</th></tr>" + "".join(rows) + "</table></div>"
    )


def _rate(pairs: Any) -> float | None:
    pairs = list(pairs)
    of = sum(whole for _, whole in pairs)
    return sum(met for met, _ in pairs) / of if of else None


def _meter(share: float | None, css: str = "") -> str:
    if share is None:
        return '<td class="dim">–</td>'
    return f'<td><span class="meter {css}"><i style="width:{share:.0%}"></i></span> {share:.0%}</td>'


def _hardest_table(hardest: Sequence[CriterionRow]) -> str:
    if not hardest:
        return ""
    rows = "".join(
        f'<tr><td class="words"><a href="#g{row.row}">{_text(row.text)}</a> '
        f'<span class="dim">{_text(row.category)}</span></td>'
        f'<td class="n">{row.points:.3g}</td><td class="n">{row.met.count:,}</td>{_meter(row.met.student_rate)}'
        f"{_meter(row.met.teacher_rate, 't')}</tr>"
        for row in hardest
    )
    return (
        "<h3>Hardest criteria</h3><p>Over the whole run: what costs the rollouts most, of what the teacher's answers "
        "meet. Criteria that differ in their numbers alone are counted together; the link leads to a group that has "
        "it.</p>"
        '<div class="wide"><table><tr>'
        '<th>criterion</th><th class="n">points</th><th class="n">times</th><th>met by the rollouts</th>'
        f"<th>by the teacher's answers</th></tr>{rows}</table></div>"
    )


def _lint(data: RunData) -> str:
    if not data.lint:
        return "<p>Nothing.</p>"
    rows = []
    for rule, counts in sorted(data.lint.items(), key=lambda item: item[1].total(), reverse=True):
        groups = sum(rule in row.rules for row in data.rows)
        examples = [n for n in data.full if rule in data.rows[n].rules][:3]
        links = " ".join(f'<a href="#g{n}">{_text(data.rows[n].uid)}</a>' for n in examples)
        known = RULES[rule]
        rows.append(
            f'<tr><td>{_text(rule)}</td><td class="words">{_text(known.title)}. {_text(known.why)}</td>'
            f'<td class="n">{counts.total():,}</td><td class="n">{groups / len(data.rows):.0%}</td>'
            f"<td>{links}</td></tr>"
        )
    return (
        '<div class="wide"><table><tr><th>rule</th><th>what it means</th><th class="n">findings</th>'
        f'<th class="n">of the groups</th><th>examples</th></tr>{"".join(rows)}</table></div>'
    )


# --- groups ----------------------------------------------------------------------------------------------------------

_COLUMNS = ("step", "uid", "question", "mean", "spread", "teacher", "missing", "dead", "below", "findings", "error")

_FILTERS = {
    "all": "all",
    "dead": "without spread",
    "below": "teacher below student",
    "lint": "with findings",
    "missing": "rewards missing",
    "failed": "failed",
    "full": "in full below",
}
"""Of the list: as ``run.js`` knows them, and as they are shown."""


def _groups(data: RunData) -> str:
    rows = [_listed(row) for row in data.rows]
    document = {"columns": _COLUMNS, "rows": rows, "full": sorted(data.full)}
    # "<" can't stand in a script element's text as it is: "</script>" would end it
    embedded = orjson.dumps(document).decode().replace("<", "\\u003c")
    folds = []
    drawn: set[int] = set()
    first = (data.chosen.get("telling") or data.chosen.get("best") or [None])[0]
    if first is not None:
        drawn.add(first)
    for kind, (title, why) in _KINDS.items():
        numbers = [n for n in data.chosen.get(kind, []) if n not in drawn]
        if numbers:
            drawn |= set(numbers)
            groups = "".join(group_section(n, data.full[n], longest=LONGEST) for n in numbers)
            folds.append(f"<h3>{title}</h3><p>{why}</p>{groups}")
    rest = [n for n in sorted(data.full) if n not in drawn]
    if rest:
        groups = "".join(group_section(n, data.full[n], longest=LONGEST) for n in rest)
        folds.append(f"<h3>Groups with the hardest criteria</h3>{groups}")
    sort = "".join(
        f'<th class="{css}"><button data-by="{name}">{label}</button></th>'
        for name, label, css in (
            ("step", "step", "n"),
            ("uid", "uid", ""),
            ("question", "question", "words"),
            ("mean", "mean", "n"),
            ("spread", "spread", "n"),
            ("teacher", "teacher", "n"),
        )
    )
    kinds = "".join(f'<option value="{kind}">{label}</option>' for kind, label in _FILTERS.items())
    return f"""<p>All groups of the run. Those with a link stand below in full; any other is shown by
<code>ropd inspect-rubrics {_text(str(data.path))} --uid UID</code>.</p>
<div class="tools">
<input id="group-search" type="search" placeholder="search uid, question, finding" aria-label="search">
<select id="group-kind" aria-label="which groups">{kinds}</select>
<span id="group-count" class="dim"></span></div>
<div class="wide"><table id="group-list"><thead><tr>{sort}<th>notes</th></tr></thead><tbody></tbody></table></div>
<button id="group-more" hidden>show more</button>
<noscript><p>The list needs JavaScript; the groups below do not.</p></noscript>
<script type="application/json" id="groups-data">{embedded}</script>
{"".join(folds)}"""


def _listed(row: GroupRow) -> list[Any]:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 6)  # shown to two places

    return [
        row.step,
        clean(row.uid),
        clean(row.question),
        rounded(row.mean),
        rounded(row.spread),
        rounded(row.teacher),
        row.missing if row.mean is not None else 0,
        row.dead,
        row.teacher_below,
        ", ".join(row.rules),
        None if row.error is None else clean(row.error)[:200],
    ]


# --- set-up ----------------------------------------------------------------------------------------------------------


def _setup(data: RunData) -> str:
    facts = _facts(data)
    rows = "".join(f"<tr><td>{_text(name)}</td><td>{_text(words)}</td></tr>" for name, words in facts)
    versions = "".join(f"<tr><td>{_text(k)}</td><td>{_text(str(v))}</td></tr>" for k, v in data.versions.items())
    whole = yaml.safe_dump(without_secrets(data.config), sort_keys=False, allow_unicode=True)
    return (
        f'<div class="wide"><table>{rows}</table></div><details><summary>the whole configuration</summary>'
        f"<pre>{_text(whole)}</pre></details><details><summary>versions</summary><table>{versions}</table></details>"
    )


def _facts(data: RunData) -> list[tuple[str, str]]:
    """The settings that a reader asks for first."""
    config = data.config
    facts = [
        ("student", at(config, "student.model_path")),
        ("teacher answers by", ", ".join(data.teachers) or at(config, "teacher.model")),
        ("rubricator", judge_of(config, "rubricator")),
        ("verifier", judge_of(config, "verifier")),
        ("prompts a step x rollouts", f"{at(config, 'train.prompts_per_step')} x {at(config, 'rollout.n')}"),
        ("teacher answers a prompt", at(config, "judge.m")),
        ("how requests are laid out", f"judge.form {at(config, 'judge.form')}"),
        ("learning rate", at(config, "train.lr")),
        ("response tokens, at most", at(config, "data.max_response_tokens")),
        ("seed", at(config, "seed")),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def without_secrets(config: Any, key: str = "") -> Any:
    """A configuration without what may be a secret: headers and request fields that are written out in it."""
    if key == "headers" and isinstance(config, Mapping):
        return {name: value if str(value).startswith("${") else "…" for name, value in config.items()}
    if isinstance(config, Mapping):
        return {name: without_secrets(value, str(name)) for name, value in config.items()}
    return config


def _text(text: str) -> str:
    return escape(clean(text))

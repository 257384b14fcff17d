"""A training run as one page: what happened, what a rubric looks like, what is hard, what failed.

Charts and the groups in full are plain HTML and SVG. A script in the page adds the list of all groups, of which it
draws a hundred at a time, and what is under the pointer of a chart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from ropd_cli.analysis.judged_groups import GroupRow
from ropd_cli.analysis.run_data import RunData
from ropd_cli.config.masking import masked, shown_url
from ropd_cli.lint import RULES
from ropd_cli.llm.urls import BUILTIN
from ropd_cli.report.pages import render
from ropd_cli.report.run_charts import course_charts
from ropd_cli.report.run_words import is_unrewarded, lost, outcome, setting, watched, worth_a_look
from ropd_cli.util.visible_text import visible

LONGEST = 6_000
"""Characters of an answer that the page shows."""
_LINTED = 0.5
"""Share of the groups in which a rule of the linter found something, from which on it is worth a look."""
_KINDS = {
    "telling": ("Telling groups", "Late in the run, with the largest spread of rewards: what the student learns from."),
    "best": ("Best groups", "The highest mean rewards."),
    "worst": ("Worst groups", "The lowest mean rewards."),
    "suspect": ("Suspect rubrics", "The teacher scored below the rollouts, or a criterion refers to a reference."),
    "zero_variance": ("Groups without spread", "All rewards of such a group are equal: nothing is learned from it."),
    "failed": ("Groups that failed", "They could not be judged and stay out of the update; they do not count as 0."),
}
_LISTED = (
    "step",
    "uid",
    "question",
    "mean",
    "spread",
    "teacher",
    "missing",
    "zero_variance",
    "below",
    "findings",
    "error",
)
"""Columns of the list of groups, as ``run.js`` knows them."""


def page(run: RunData, *, template: str = "run.html", title: str | None = None, **values: Any) -> str:
    """Return the page of one run; ``values`` are those of a template that extends ``run.html``."""
    if run.is_supervised:
        return _supervised_page(run)
    config = run.config
    lint = list(_lint(run))
    telling = next(iter(run.chosen.get("telling") or run.chosen.get("best") or []), None)
    return render(
        template,
        title=title or f"Run {run.name}",
        run=run,
        placed=_placed(run),
        student=_student(run),
        rubricator=_judge(config, "rubricator"),
        verifier=_judge(config, "verifier"),
        method=setting(config, "method") or "ropd",
        by_std=setting(config, "train.norm_adv_by_std") is not False,
        is_unrewarded=is_unrewarded(config),
        sentences=[*outcome(run), *watched(run)],
        cards=_cards(run),
        charts=course_charts([run]),
        telling=telling,
        longest=LONGEST,
        categories=run.category_totals(),
        lint=lint,
        listed={"columns": _LISTED, "rows": list(map(_listed, run.rows)), "full": sorted(run.full)},
        folds=_folds(run, telling),
        failed=_failed(run),
        lost=lost(run),
        worth_a_look=worth_a_look(run),
        linted=[row for row in lint if row[2] >= _LINTED],
        embedded_rubricator=run.has_rubrics and str(setting(config, "rubricator.base_url") or "").startswith(BUILTIN),
        facts=_facts(run),
        configuration=_configuration(run),
        **values,
    )


def _supervised_page(run: RunData) -> str:
    """Return the page of a run on the teacher's answers."""
    kept = ("student", "teacher answers by", "learning rate", "response tokens, at most", "seed")
    return render(
        "supervised.html",
        title=f"Run {run.name}",
        run=run,
        placed=_placed(run),
        student=_student(run),
        sentences=outcome(run),
        cards=[(f"{run.total('answers/trained') or 0:,.0f}", "teacher answers"), *_time_card(run)],
        charts=course_charts([run]),
        lost=lost(run),
        facts=[("method", "sft"), *(fact for fact in _facts(run) if fact[0] in kept)],
        configuration=_configuration(run),
    )


def _placed(run: RunData) -> list[str]:
    """Return which run this is, when it ended, and what made it."""
    parts = [run.name]
    if run.written is not None:
        parts.append(datetime.fromtimestamp(run.written, UTC).strftime("%Y-%m-%d %H:%M UTC"))
    device = str(run.config.get("device") or "")
    if device in ("cpu", "gpu") and (run.path / "verl.yaml").is_file():  # a reward server's run has neither
        parts.append(f"on {device.upper()}")
    return [*parts, *(f"{name} {run.versions[name]}" for name in ("ropd-cli", "verl", "torch") if name in run.versions)]


def _student(run: RunData) -> str:
    config = run.config
    return _last_name(setting(config, "student.from_run") or setting(config, "student.model_path") or "the student")


def _configuration(run: RunData) -> str:
    return yaml.safe_dump(masked(run.config), sort_keys=False, allow_unicode=True)


def _time_card(run: RunData) -> Iterator[tuple[str, str]]:
    if seconds := run.total("timing_s/step"):
        hours = f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
        yield hours if seconds >= 90 else f"{seconds:.0f} s", "in training steps"


def _last_name(path: object) -> str:
    """Return the last part of a path or hub name."""
    return str(path).rstrip("/").split("/")[-1]


def _judge(config: Mapping[str, Any], section: str) -> str:
    """Return who answers for a section of the configuration, as a reader would call it."""
    model, url = setting(config, f"{section}.model"), str(setting(config, f"{section}.base_url") or "")
    if url.startswith(BUILTIN):
        return f"{shown_url(url)} (a built-in program with fixed rules, no LLM)"
    return f"the LLM {model}" if model else "an LLM"


def _cards(run: RunData) -> list[tuple[str, str]]:
    """Return (figure, what it is)."""
    judged = run.judged
    flat = sum(row.zero_variance for row in judged)
    cards = [
        (f"{len(run.steps)}", "steps"),
        (f"{len(judged):,}", f"groups judged, {len(run.failed):,} failed"),
    ]
    if not is_unrewarded(run.config):
        cards.append((f"{flat / len(judged):.0%}" if judged else "–", "of them without spread"))
    if run.trend and not is_unrewarded(run.config):
        cards.append((f"{run.trend[0]:.2f} → {run.trend[1]:.2f}", "mean reward, first to last third"))
    if run.has_rubrics and not run.by_rules:
        findings = sum(counts.total() for counts in run.lint.values())
        cards.append((f"{findings / max(1, len(run.rows)):.1f}", "linter findings per group"))
    cards += _time_card(run)
    calls = run.total("judge/requests_sent")
    if calls is not None:
        cards.append((f"{calls:,.0f}", f"judge calls, {run.total('judge/cache_hits') or 0:,.0f} from the cache"))
    in_steps = run.judging_usd
    if in_steps is not None:
        cost = max(in_steps, run.spent_usd or 0.0)
        beside = cost - in_steps
        what = f", ${beside:,.2f} of it beside the finished steps" if beside >= 0.005 else ""
        cards.append((f"${cost:,.2f}", f"for judging{what}"))
    return cards


def _lint(run: RunData) -> Iterator[tuple[Any, int, float, list[GroupRow]]]:
    """Yield (rule, findings, share of the groups, groups that are shown in full), the most frequent first."""
    for name, counts in sorted(run.lint.items(), key=lambda item: item[1].total(), reverse=True):
        groups = sum(name in row.rules for row in run.rows)
        examples = [run.rows[n] for n in run.full if name in run.rows[n].rules][:3]
        yield RULES[name], counts.total(), groups / len(run.rows), examples


def _listed(row: GroupRow) -> list[Any]:
    """Return a line of the list of all groups."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 6)  # shown to two places

    error = None if row.error is None else visible(row.error)[:200]
    means = (rounded(row.mean), rounded(row.spread), rounded(row.teacher))
    missing = row.missing if row.mean is not None else 0
    names = (visible(row.uid), visible(row.question))
    return [row.step, *names, *means, missing, row.zero_variance, row.below, ", ".join(row.rules), error]


def _folds(run: RunData, telling: int | None) -> list[tuple[str, str, list[int]]]:
    """Return (heading, why, groups) of those in full; each stands once, ``telling`` in the section on rubrics."""
    drawn, folds = {telling}, []
    for kind, (heading, why) in _KINDS.items():
        folds.append((heading, why, [n for n in run.chosen.get(kind, []) if n not in drawn]))
        drawn |= set(folds[-1][2])
    folds.append(("Groups with the hardest criteria", "", [n for n in sorted(run.full) if n not in drawn]))
    return [fold for fold in folds if fold[2]]


def _failed(run: RunData) -> list[tuple[str, list[GroupRow]]]:
    """Return the failed groups by kind of error, the most frequent first."""
    kinds: dict[str, list[GroupRow]] = defaultdict(list)
    for row in run.failed:
        kinds[(row.error or "").split(":")[0]].append(row)
    return sorted(kinds.items(), key=lambda item: -len(item[1]))


def _facts(run: RunData) -> list[tuple[str, str]]:
    """Return the settings that a reader asks for first."""
    config = run.config
    judge = _judge(config, "verifier") if run.has_rubrics or run.scale else None
    facts = [
        ("method", setting(config, "method")),
        ("student", setting(config, "student.model_path")),
        ("started from the run", setting(config, "student.from_run")),
        ("teacher answers by", ", ".join(run.teachers) or setting(config, "teacher.model")),
        ("rubricator", _judge(config, "rubricator") if run.has_rubrics else None),
        ("verifier" if run.has_rubrics else "judge", judge),
        (
            "prompts per step x rollouts",
            f"{setting(config, 'train.prompts_per_step')} x {setting(config, 'rollout.n')}",
        ),
        ("teacher answers per prompt", setting(config, "judge.m") if run.has_rubrics else None),
        ("how requests are laid out", f"judge.form {setting(config, 'judge.form')}" if run.has_rubrics else None),
        ("learning rate", setting(config, "train.lr")),
        ("response tokens, at most", setting(config, "data.max_response_tokens")),
        ("seed", setting(config, "seed")),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]

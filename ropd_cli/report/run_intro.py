"""What a reader of a run's page is told first: what was trained, who judged, what came of it, in words and figures."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from ropd_cli.analysis.run_data import RunData
from ropd_cli.llm.urls import BUILTIN
from ropd_cli.report.groups_text import clean
from ropd_cli.report.run_words import course, status, validated, watched


def happened(data: RunData) -> str:
    """Who did what, what came of it in sentences, and figures."""
    lines = [(status(data), ""), *course(data), *validated(data), *watched(data)]
    items = "".join(f'<li class="{css}">{_text(words)}</li>' for words, css in lines)
    return f'{_method(data)}<ul class="said">{items}</ul><div class="cards">{"".join(map(_card, _cards(data)))}</div>'


def placed(data: RunData) -> str:
    """One line on which run this is, when it ended, and by what it was made."""
    parts = [data.name]
    if data.written is not None:
        parts.append(datetime.fromtimestamp(data.written, UTC).strftime("%Y-%m-%d %H:%M UTC"))
    device = str(data.config.get("device") or "")
    parts += [f"on {device.upper()}"] if device in ("cpu", "gpu") else []
    parts += [f"{name} {data.versions[name]}" for name in ("ropd-cli", "verl", "torch") if name in data.versions]
    return f'<p class="dim">{_text(" · ".join(parts))}</p>'


def _method(data: RunData) -> str:
    config = data.config
    student = str(at(config, "student.model_path") or "the student").rstrip("/").split("/")[-1]
    rubricator, verifier = judge_of(config, "rubricator"), judge_of(config, "verifier")
    teacher = f" ({_text(', '.join(data.teachers))})" if data.teachers else ""
    divided = ", divided by their standard deviation" if at(config, "train.norm_adv_by_std") is not False else ""
    return (
        f"<p>For each prompt of a step the student ({_text(student)}) writes several answers, its <i>rollouts</i>. "
        f"The <i>rubricator</i>, {_text(rubricator)}, compares them with the teacher's answers{teacher} and writes a "
        "rubric: criteria that are met or not, each with its points. The <i>verifier</i>, "
        f"{_text(verifier)}, judges every answer by it. The share of the points that a rollout gets is its "
        "<i>reward</i>, from 0 to 1; a wrong answer gets the points of what is right about it. Prompt, rollouts and "
        "rubric are a <i>group</i>. The student is trained by GRPO: towards the rollouts whose reward is above the "
        f"mean of their group, away from the others{divided}. A "
        "group without <i>spread</i>, whose rewards are all equal, teaches nothing.</p>"
    )


def judge_of(config: Mapping[str, Any], section: str) -> str:
    """Who answers for a section of the configuration, as a reader would call it."""
    model, url = at(config, f"{section}.model"), str(at(config, f"{section}.base_url") or "")
    if url.startswith(BUILTIN):
        return f"{url} (an embedded program with fixed rules, no LLM)"
    return f"the LLM {model}" if model else "an LLM"


def at(config: Any, path: str) -> Any:
    """The value under a dotted path; None where there is none."""
    for key in path.split("."):
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def _cards(data: RunData) -> list[tuple[str, str]]:
    """(figure, what it is)."""
    judged, failed = data.judged, data.failed
    dead = sum(row.dead for row in judged)
    cards = [
        (f"{len(data.steps)}", "steps"),
        (f"{len(judged):,}", f"groups judged, {len(failed):,} failed"),
        (f"{dead / len(judged):.0%}" if judged else "–", "of them without spread"),
    ]
    trend = data.trend
    if trend:
        cards.append((f"{trend[0]:.2f} → {trend[1]:.2f}", "mean reward, first to last third"))
    findings = sum(counts.total() for counts in data.lint.values())
    cards.append((f"{findings / max(1, len(data.rows)):.1f}", "linter findings a group"))
    seconds = data.total("timing_s/step")
    if seconds:
        cards.append((f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min", "in training steps"))
    calls = data.total("judge/requests_sent")
    if calls is not None:
        cards.append((f"{calls:,.0f}", f"judge calls, {data.total('judge/cache_hits') or 0:,.0f} from the cache"))
    in_steps = data.total("judge/cost_usd")
    if in_steps is not None:
        in_steps += data.total("monitor/cost_usd") or 0.0
        cost = max(in_steps, data.spent_usd or 0.0)
        beside = cost - in_steps
        what = f", ${beside:,.2f} of it in validations and in steps that were made again" if beside >= 0.005 else ""
        cards.append((f"${cost:,.2f}", f"for judging{what}"))
    return cards


def _card(card: tuple[str, str]) -> str:
    return f'<div class="card"><b>{_text(card[0])}</b><span>{_text(card[1])}</span></div>'


def _text(text: str) -> str:
    return escape(clean(text))

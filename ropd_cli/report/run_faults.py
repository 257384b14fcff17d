"""What failed in a run, and what did not fail but is worth a look."""

from __future__ import annotations

from collections import Counter
from html import escape

from ropd_cli.analysis.run_data import RunData
from ropd_cli.lint import RULES
from ropd_cli.report.groups_text import clean
from ropd_cli.report.run_intro import at

_CUT_OFF = 0.2
"""Share of a step's rollouts that were cut off, from which on it is worth a look."""
_DEAD = 0.1
"""The same of the groups of the last third that are without spread."""
_LINTED = 0.5
"""The same of the groups in which a rule of the linter found something."""


def failures(data: RunData) -> str:
    """The section's HTML."""
    failed = _failed(data) or "<p>Nothing failed: every group was judged, and every rollout has a reward.</p>"
    worth = "".join(f"<li>{item}</li>" for item in _worth_a_look(data))
    return failed + (f'<h3>Worth a look</h3><ul class="said">{worth}</ul>' if worth else "")


def _failed(data: RunData) -> str:
    parts = []
    if data.stopped and not data.result:
        parts.append(f'<p class="bad">{_text(str(data.stopped.get("message")))}</p>')
        parts.append(f'<p class="dim">{_text(str(data.stopped.get("hint") or ""))}</p>')
    kinds: Counter[str] = Counter((row.error or "").split(":")[0] for row in data.failed)
    for kind, count in kinds.most_common():
        example = next(row for row in data.failed if (row.error or "").startswith(kind))
        parts.append(
            f"<p><b>{_text(kind)}</b>: {count:,} groups, for example {_text(example.uid)} of step {example.step}: "
            f"{_text(example.error or '')}</p>"
        )
    half = sum(row.missing for row in data.judged)
    if half:
        parts.append(
            f"<p>{half:,} rollouts of judged groups have no reward: their judgement is missing, or they gave no "
            "answer.</p>"
        )
    silent = data.total("groups/no_answer_rollouts")
    if silent:
        parts.append(f"<p>{silent:,.0f} rollouts were empty or cut off while thinking.</p>")
    if data.skipped:
        parts.append(f"<p>{data.skipped:,} prompts were left out for want of teacher answers (skipped.jsonl).</p>")
    return "".join(parts)


def _worth_a_look(data: RunData) -> list[str]:
    found = []
    cut = data.series("response_length/clip_ratio")
    step, share = max(cut, key=lambda point: point[1], default=(0, 0.0))
    if share >= _CUT_OFF:
        limit = at(data.config, "data.max_response_tokens")
        mean = sum(value for _, value in cut) / len(cut)
        found.append(
            f"Up to {share:.0%} of a step's rollouts (step {step}; {mean:.0%} on average) reached the limit of "
            f"{_text(str(limit))} tokens (data.max_response_tokens) and were cut off."
        )
    first, last = data.ends
    if last:
        before, after = (sum(row.dead for row in rows) / len(rows) for rows in (first, last))
        if after >= _DEAD:
            found.append(
                f"Groups without spread, from which nothing is learned: {before:.0%} in the first third of the steps, "
                f"{after:.0%} in the last. That is so where prompts have become too easy, or are too hard."
            )
    for rule in RULES.values():
        share = sum(rule.name in row.rules for row in data.rows) / max(1, len(data.rows))
        if share >= _LINTED:
            found.append(
                f'<a href="#lint">{_text(rule.name)}</a>, a finding of the linter in {share:.0%} of the groups: '
                f"{_text(rule.title)}. {_text(rule.why)}"
            )
    if found and str(at(data.config, "rubricator.base_url") or "").startswith("builtin://"):
        found.append("The embedded rubricator writes the same fixed criteria for every prompt, the result among them.")
    return found


def _text(text: str) -> str:
    return escape(clean(text))

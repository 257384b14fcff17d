"""A quickstart's outcome as one self-contained HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ropd_cli.exact import is_exact
from ropd_cli.recipes.outcome import Outcome, Sample

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 240, 44, 28
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; --bad: #b3261e; --good: #19704a;
  --student: #b4690e; --teacher: #1f5fa8; }
@media (prefers-color-scheme: dark) {
  :root { --bad: #ff8a80; --good: #7bd8a8; --student: #ffb86b; --teacher: #8ec5ff; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { overflow-wrap: anywhere; } .right { color: var(--good); } .wrong { color: var(--bad); } .dim { opacity: .7; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.axis { stroke: var(--line); }
.student { stroke: var(--student); fill: none; } .teacher { stroke: var(--teacher); fill: none; }
.student.dot { fill: var(--student); } text.student { fill: var(--student); stroke: none; }
text.teacher { fill: var(--teacher); stroke: none; }
.track { background: var(--soft); height: .8rem; } .bar { background: var(--student); height: .8rem; }
"""


def page(outcome: Outcome) -> str:
    """The whole page."""
    low, high = outcome.difference.low, outcome.difference.high
    verdict = "" if outcome.learned else "<p>The interval holds 0: this run does not show that the student learned.</p>"
    samples = "\n".join(_sample(sample) for sample in outcome.samples)
    seconds = ", ".join(f"{escape(name)} {value:.0f} s" for name, value in outcome.seconds.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>ropd quickstart</title><style>{_STYLE}</style></head><body>
<h1>What the student learned</h1>
<table><tr><th>exact match on {outcome.held_out} held-out prompts</th><th></th><th style="width:45%"></th></tr>
{_accuracy("before training", outcome.accuracy_before)}
{_accuracy("after training", outcome.accuracy_after)}
<tr><td>change</td><td class="n">{outcome.difference.mean:+.1%}</td>
<td>95% interval {low:+.1%} to {high:+.1%} <span class="dim">(paired bootstrap)</span></td></tr></table>
{verdict}
<h2>Mean reward by step</h2>
{curve(outcome.reward_curve, outcome.teacher_curve)}
<h2>Three held-out prompts</h2>
<table><tr><th>prompt</th><th>before</th><th>after</th></tr>
{samples}
</table>
<h2>Where things are</h2>
<table><tr><td>checkpoint</td><td><code>{escape(outcome.checkpoint)}</code></td></tr>
<tr><td>groups, rubrics, verdicts</td><td><code>ropd inspect-rubrics {escape(outcome.run_dir)}</code></td></tr>
<tr><td>seed</td><td>{outcome.seed}</td></tr>
<tr><td>time</td><td>{sum(outcome.seconds.values()) / 60:.1f} min <span class="dim">({seconds})</span></td></tr></table>
</body></html>
"""


def curve(student_S: Sequence[float], teacher_S: Sequence[float]) -> str:
    """A line chart of the rewards, shape (S,) each, on a scale from 0 to 1."""
    steps = max(len(student_S), len(teacher_S), 2)
    width, height = _WIDTH - _LEFT - 70, _HEIGHT - _BOTTOM - 10

    def at(step: int, value: float) -> tuple[float, float]:
        return _LEFT + width * step / (steps - 1), 10 + height * (1 - min(max(value, 0.0), 1.0))

    parts = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(0, value)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x + width:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for step in sorted({0, (steps - 1) // 2, steps - 1}):
        parts.append(f'<text x="{at(step, 0)[0]:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{step + 1}</text>')
    for name, values in (("teacher", teacher_S), ("student", student_S)):
        if not values:
            continue
        points = [at(step, value) for step, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="{name}" stroke-width="2" points="{path}"/>')
        parts += [
            f'<circle class="{name} dot" r="3" cx="{x:.1f}" cy="{y:.1f}"/>' for x, y in points if name == "student"
        ]
        parts.append(f'<text class="{name}" x="{points[-1][0] + 8:.1f}" y="{points[-1][1] + 4:.1f}">{name}</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="mean reward by step">{"".join(parts)}</svg>'


def _accuracy(name: str, value: float) -> str:
    bar = f'<div class="track"><div class="bar" style="width:{value:.1%}"></div></div>'
    return f'<tr><td>{name}</td><td class="n">{value:.1%}</td><td>{bar}</td></tr>'


def _sample(sample: Sample) -> str:
    def cell(text: str) -> str:
        kind = "right" if is_exact(text, sample.answer) else "wrong"
        return f'<td><code>{escape(text)}</code> <span class="{kind}">{kind}</span></td>'

    return f"<tr><td><code>{escape(sample.question)}</code></td>{cell(sample.before)}{cell(sample.after)}</tr>"

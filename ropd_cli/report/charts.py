"""Line charts as SVG that stands in the page itself; a script of the page adds what is under the pointer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import orjson

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 520, 230, 58, 12, 12, 26
_DOTS = 40
"""Up to so many points of a line are drawn as dots too."""


@dataclass(frozen=True)
class Line:
    """One line: (step, value) pairs in the order of the steps. ``colour`` numbers the page's colours, from 0.
    ``bars`` holds (step, low, high) of points with an interval."""

    name: str
    points: Sequence[tuple[int, float]]
    colour: int = 0
    dashed: bool = False
    bars: Sequence[tuple[int, float, float]] = field(default=())


def chart(
    title: str, lines: Sequence[Line], *, unit: str = "", low: float | None = None, high: float | None = None
) -> str:
    """A chart with its legend; an empty text where no line has a point. ``unit``: "%" shows shares as per cent,
    anything else stands after the numbers. ``low`` and ``high`` are ends of the scale that are always shown."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    steps = sorted({step for line in lines for step, _ in line.points})
    values = [value for line in lines for _, value in line.points]
    values += [end for line in lines for _, *ends in line.bars for end in ends]
    bottom, top, ticks = _scale(values, low, high)
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step - first) / (last - first)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (top - value) / (top - bottom)

    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{escape(said(tick, unit))}</text>'
        for tick in ticks
    ]
    marks = sorted({first, (first + last) // 2, last})
    parts += [f'<text x="{x(step):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{step}</text>' for step in marks]
    for line in lines:
        parts += _drawn(line, x, y)
    data = {
        "x": [x(step) for step in steps],
        "steps": steps,
        "lines": [
            {"name": line.name, "colour": line.colour, "said": _said_by_step(line, steps, unit)} for line in lines
        ],
    }
    legend = "".join(
        f'<span class="key"><i class="c{line.colour}{" dashed" if line.dashed else ""}"></i>{escape(line.name)} '
        f"<b>{escape(said(line.points[-1][1], unit))}</b></span>"
        for line in lines
    )
    described = "; ".join(
        f"{line.name}: {said(line.points[0][1], unit)} at step {line.points[0][0]}, "
        f"{said(line.points[-1][1], unit)} at step {line.points[-1][0]}"
        for line in lines
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}. {escape(described)}" '
        f'data-chart="{escape(orjson.dumps(data).decode())}">{"".join(parts)}'
        f'<line class="pointer" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/></svg>'
        f'<div class="legend">{legend}</div><div class="under" aria-hidden="true"></div></figure>'
    )


def said(value: float, unit: str = "") -> str:
    """A number as a chart says it."""
    if unit == "%":
        return f"{100 * value:.0f}%" if abs(value) >= 0.1 or value == 0 else f"{100 * value:.1f}%"
    size = abs(value)
    if unit == "$":
        return f"${value:,.2f}"
    if size >= 10_000:
        for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if size >= limit:
                return f"{value / limit:.3g}{letter}{' ' + unit if unit else ''}"
    digits = (
        f"{value:,.0f}" if size >= 100 or value == int(value) else f"{value:.2f}" if size >= 0.1 else f"{value:.3g}"
    )
    return f"{digits} {unit}".strip()


def _drawn(line: Line, x: object, y: object) -> list[str]:
    at = [(x(step), y(value)) for step, value in line.points]  # type: ignore[operator]
    css = f"c{line.colour}"
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in at)
    dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
    parts = [
        f'<line class="bar {css}" x1="{x(step):.1f}" x2="{x(step):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>'  # type: ignore[operator]
        for step, low, high in line.bars
    ]
    parts.append(f'<polyline class="line {css}"{dashes} points="{path}"/>')
    if len(at) <= _DOTS:
        parts += [f'<circle class="dot {css}" r="2.6" cx="{px:.1f}" cy="{py:.1f}"/>' for px, py in at]
    return parts


def _said_by_step(line: Line, steps: Sequence[int], unit: str) -> list[str | None]:
    by_step = dict(line.points)
    bars = {step: (low, high) for step, low, high in line.bars}
    found: list[str | None] = []
    for step in steps:
        value = by_step.get(step)
        words = said(value, unit) if value is not None else None
        if words and step in bars:
            words += f" ({said(bars[step][0], unit)} to {said(bars[step][1], unit)})"
        found.append(words)
    return found


def _scale(values: Sequence[float], low: float | None, high: float | None) -> tuple[float, float, list[float]]:
    """(bottom, top, ticks) of an axis with round ticks."""
    bottom = min(values) if low is None else min(low, min(values))
    top = max(values) if high is None else max(high, max(values))
    if top == bottom == 0:
        top = 0.1  # nothing but zeros: they lie on the axis
    elif top - bottom < 1e-12:
        bottom, top = bottom - abs(bottom) * 0.1 - 1e-6, top + abs(top) * 0.1 + 1e-6
    raw = (top - bottom) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(bottom / step + 1e-9), math.ceil(top / step - 1e-9)
    return first * step, last * step, [tick * step for tick in range(first, last + 1)]

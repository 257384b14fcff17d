"""Line charts: where each line, tick and label lies. ``macros.html`` draws them as SVG that stands in the page itself;
the page's script shows the values under the pointer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ropd_cli.util.visible_text import visible

Point = tuple[float, float]
COLOURS = 8
"""Of the page, ``.c0`` to ``.c7``."""
_UNITS = {"%": "share", "s": "seconds", "$": "US dollars"}


@dataclass(frozen=True)
class Line:
    """One line: (step, value) pairs in the order of the steps. ``colour`` numbers the page's colours, from 0.
    ``bars`` holds (step, low, high) of points with an interval."""

    name: str
    points: Sequence[tuple[int, float]]
    colour: int = 0
    dashed: bool = False
    bars: Sequence[tuple[int, float, float]] = field(default=())


@dataclass(frozen=True)
class DrawnLine:
    """A line in the chart's own coordinates; ``last`` is its last value in words."""

    name: str
    css: str
    dashed: bool
    points: list[Point]
    bars: list[tuple[float, float, float]]
    last: str


@dataclass(frozen=True)
class Chart:
    """A chart to draw: ticks are (y, label), marks are (x, label); ``axis`` and ``across`` name the upright one
    and the other. ``described`` is for readers who don't see it, ``pointed`` what the script shows of each step."""

    title: str
    axis: str
    across: str
    lines: list[DrawnLine]
    ticks: list[tuple[float, str]]
    marks: list[tuple[float, str]]
    described: str
    pointed: dict[str, Any]
    width: int = 400
    height: int = 236
    left: int = 58
    right: int = 384
    top: int = 32
    bottom: int = 190


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    axis: str = "",
    across: str = "training step",
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
) -> Chart | None:
    """Return the chart of the lines; None where no line has a point. ``unit``: "%" shows shares as per cent, "$" stands
    before the numbers, anything else after them. ``axis`` names the scale, where the unit does not,
    ``across`` what the lines run over. ``low`` and ``high`` are ends of the scale that are always shown."""
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    steps = sorted({step for line in lines for step, _ in line.points})
    values = [value for line in lines for _, value in line.points]
    values += [end for line in lines for _, *ends in line.bars for end in ends]
    bottom, top, between, ticks = _scale(values, low, high)
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def x(step: float) -> float:
        return round(Chart.left + (Chart.right - Chart.left) * (step - first) / (last - first), 1)

    def y(value: float) -> float:
        return round(Chart.top + (Chart.bottom - Chart.top) * (top - value) / (top - bottom), 1)

    def words(point: tuple[int, float]) -> str:
        return f"{in_unit(point[1], unit)} at {across} {point[0]:,}"

    return Chart(
        title=title,
        axis=axis or _UNITS.get(unit, unit),
        across=across,
        lines=[
            DrawnLine(
                name=line.name,
                css=f"c{line.colour}",
                dashed=line.dashed,
                points=[(x(step), y(value)) for step, value in line.points],
                bars=[(x(step), y(low), y(high)) for step, low, high in line.bars],
                last=in_unit(line.points[-1][1], unit),
            )
            for line in lines
        ],
        ticks=[(y(tick), _tick(tick, between, unit)) for tick in ticks],
        marks=[(x(step), in_unit(step)) for step in sorted({first, (first + last) // 2, last})],
        described="; ".join(f"{line.name}: {words(line.points[0])}, {words(line.points[-1])}" for line in lines),
        pointed={
            "across": across,
            "x": [x(step) for step in steps],
            "steps": steps,
            "lines": [{"name": visible(line.name), "values": _values(line, steps, unit)} for line in lines],
        },
    )


def in_unit(value: float, unit: str = "") -> str:
    """Return a number as a chart shows it."""
    if unit == "%":
        return f"{100 * value:.1f}".removesuffix(".0") + "%"
    size = abs(value)
    if unit == "$":
        return f"${value:,.2f}"
    if size >= 10_000:
        limit, letter = next(pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if size >= pair[0])
        digits = f"{value / limit:.3g}{letter}"
    elif size >= 100 or value == int(value):
        digits = f"{value:,.0f}"
    else:
        digits = f"{value:.2f}" if size >= 0.1 else f"{value:.3f}" if size >= 0.001 else f"{value:.1g}"
    return f"{digits} {unit}".strip()


def _tick(value: float, step: float, unit: str) -> str:
    """Return a number of the scale, as exact as the step between two of them; ``s`` stands in the scale's name."""
    if unit == "%":
        value, step = 100 * value, 100 * step
    if abs(value) >= 10_000:
        return in_unit(value, "" if unit == "s" else unit)
    places = next((n for n in range(9) if math.isclose(step * 10**n, round(step * 10**n))), 9) if value else 0
    digits = f"{value:,.{places}f}"
    return f"${digits}" if unit == "$" else digits + "%" * (unit == "%")


def _values(line: Line, steps: Sequence[int], unit: str) -> list[str | None]:
    """Return the line's value at each step in words, with its interval where it has one."""
    shown = {step: in_unit(value, unit) for step, value in line.points}
    for step, low, high in line.bars:
        shown[step] += f" ({in_unit(low, unit)} to {in_unit(high, unit)})"
    return [shown.get(step) for step in steps]


def _scale(values: Sequence[float], low: float | None, high: float | None) -> tuple[float, float, float, list[float]]:
    """Return (bottom, top, step, ticks) of an axis with round ticks."""
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
    return first * step, last * step, step, [tick * step for tick in range(first, last + 1)]

"""A curve in text: what a terminal shows of a metric over steps."""

from __future__ import annotations

from collections.abc import Sequence

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def text_curve(values_S: Sequence[float], *, width: int = 64, height: int = 6) -> list[str]:
    """Rows, top first, of a column chart of ``values_S`` (shape (S,)) with the scale at the left.

    The scale runs from 0, or from the smallest value where one is negative, to the largest. Each
    column is one value; where there are more than ``width``, a column is the mean of several.
    """
    if not values_S:
        return []
    columns = _squeeze(list(values_S), width)
    low, high = min(0.0, *columns), max(*columns, 1e-9)
    eighths = [round((value - low) / (high - low) * height * 8) for value in columns]
    rows = []
    for row in reversed(range(height)):
        cells = "".join(_EIGHTHS[min(max(filled - row * 8, 0), 8)] for filled in eighths)
        label = f"{high:6.2f}" if row == height - 1 else f"{low:6.2f}" if row == 0 else " " * 6
        rows.append(f"{label} │{cells}")
    last = f"step {len(values_S)}"
    rows.append(" " * 7 + "└" + "─" * len(columns))
    rows.append(" " * 8 + "1" + last.rjust(max(len(columns) - 1, len(last) + 1)))
    return rows


def _squeeze(values: list[float], width: int) -> list[float]:
    if len(values) <= width:
        return values
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]

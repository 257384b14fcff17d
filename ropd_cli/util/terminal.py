"""Rich's console and text, made safe for texts that somebody else wrote: see ``visible_text``.

No other module imports these two from rich; tests/unit/test_layers.py holds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import rich.console
import rich.text
from rich.cells import cell_len, set_cell_size
from rich.console import ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style

from ropd_cli.util.visible_text import visible

UNWRAPPED = 10_000
"""Cells of a line where nothing is wrapped."""


class Console(rich.console.Console):
    """A console that takes no text for markup, emoji codes or control characters, and wraps nothing for a file or a
    pipe, where lines are searched, unless COLUMNS is set."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, markup=False, emoji=False, highlight=False)
        if not self.is_terminal and "width" not in settings and not os.environ.get("COLUMNS"):
            self.width = UNWRAPPED

    def print(self, *objects: Any, **how: Any) -> None:
        """Print; where nothing is wrapped, without the blanks that fill a table's rows."""
        if self.width != UNWRAPPED:
            return super().print(*objects, **how)
        with self.capture() as shown:
            super().print(*objects, **how)
        self.file.write("\n".join(line.rstrip(" ") for line in shown.get().split("\n")))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield segments: what rich makes for the terminal as it is, texts as ``visible`` ones."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def render_str(self, text: str, **how: Any) -> rich.text.Text:
        """Return a string's Text, cleaned before its width is measured."""
        return super().render_str(visible(text), **how)


class Text(rich.text.Text):
    """A text, cleaned where it is made, so that its width is that of what is shown. Textual shows nothing else."""

    def __init__(self, text: str = "", style: str | Style = "", **more: Any) -> None:
        super().__init__(_on_screen(text), style, **more)

    def append(self, text: rich.text.Text | str, style: str | Style | None = None) -> Text:
        super().append(_on_screen(text) if isinstance(text, str) else text, style)
        return self


class FittedTable:
    """Rows of text below a head, at any width of the terminal.

    The first column is wrapped between words. Columns for which there is no room stand below their row, each with its
    name. The columns after the first are figures.
    """

    _GAP = "  "
    _FIRST = 30
    """Cells that the first column keeps, if it wants them, before other columns leave their row."""

    def __init__(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        self._head = head
        self._rows = [[_on_screen(cell) for cell in row] for row in rows]

    def __rich_console__(self, console: rich.console.Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        columns = list(zip(self._head, *self._rows, strict=True))
        first, *others = (max(map(cell_len, column)) for column in columns)
        shown = len(others)
        while shown and min(first, self._FIRST) + sum(others[:shown]) + len(self._GAP) * shown > options.max_width:
            shown -= 1
        others = others[:shown]
        first = max(1, min(first, options.max_width - sum(others) - len(self._GAP) * shown))
        yield self._line(self._head[0], self._head[1:], first, others, "dim")
        for name, *cells in self._rows:
            short = " ".join(shortened(word, first) for word in name.split())
            top, *more = Text(short).wrap(console, first) or [Text()]
            yield self._line(top.plain.rstrip(), cells, first, others)
            yield from (Text(line.plain) for line in more)
            folded = [
                f"{head} {cell}" for head, cell in zip(self._head[1 + shown :], cells[shown:], strict=True) if cell
            ]
            if folded:
                yield Padding(Text(", ".join(folded), "dim"), (0, 0, 0, 2), expand=False)

    def _line(self, name: str, cells: Sequence[str], first: int, others: Sequence[int], style: str = "") -> Text:
        padded = [" " * (width - cell_len(cell)) + cell for cell, width in zip(cells, others, strict=False)]
        return Text(self._GAP.join([set_cell_size(name, first), *padded]).rstrip(), style)


def shortened(text: str, width: int) -> str:
    """Return a text of at most ``width`` cells, the middle of a longer one left out: names differ at their ends."""
    if cell_len(text) <= width:
        return text
    head = max(width - 1, 0) // 2
    tail = max(width - 1, 0) - head
    return set_cell_size(text, head).rstrip() + "…" + set_cell_size(text[::-1], tail)[::-1].lstrip()


def _on_screen(text: str) -> str:
    return visible(text).replace("\t", "    ")  # a table would take a tab for no cell wide

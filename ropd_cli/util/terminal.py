"""Rich's console and text, made safe for texts that somebody else wrote: see ``visible_text``.

No other module imports these two from rich; tests/unit/test_layers.py holds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
import rich.text
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style

from ropd_cli.util.visible_text import visible


class Console(rich.console.Console):
    """A console that takes no text for markup, emoji codes or control characters."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, markup=False, emoji=False, highlight=False)

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


def _on_screen(text: str) -> str:
    return visible(text).replace("\t", "    ")  # a table would take a tab for no cell wide

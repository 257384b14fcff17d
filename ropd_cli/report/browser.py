"""Judged groups full-screen: a list of any length, of which only what is on the screen is drawn, and one group in full.

Texts of models are shown as plain characters: never as markup, never as control sequences.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.screen import ModalScreen, Screen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from ropd_cli.analysis.catalogue import Catalogue, Row
from ropd_cli.analysis.judged_groups import GroupView
from ropd_cli.analysis.query import SORTS, Query
from ropd_cli.report.groups_text import GroupInFull, clean, notes, number, spread_bar

_NARROW = 76
"""Below this width the list leaves out what is also in a group."""
_KEPT_ROWS = 2_000
_HELP = """\
↑ ↓ or k j         one up, one down
PgUp PgDn g G      a page, first, last
Enter              open the group
/                  search (uid, question, rubric, findings); Enter keeps it, Esc takes it back
n N                next, previous group that has the search
f                  filter: teacher below student, missing, no spread, failed, a rule of the linter
s r                sort by …, the other way round
c                  clear search and filters
Esc or q           back; from the list: quit

In a group
↑ ↓ PgUp PgDn g G  scroll
l h or Tab         next, previous answer
] [                next, previous group of the list
"""


def _columns(width: int, has_steps: bool) -> list[tuple[str, int, bool]]:
    """(name, width, to the right) of the list's columns; the last takes what is left."""
    columns = [("step", 5, True)] if has_steps else []
    columns += [("uid", 16, False)]
    if width >= _NARROW:
        columns += [("n", 3, True), ("K", 3, True)]
    columns += [("mean", 5, True), ("spread", 6, True), ("", 5, False)]
    if width >= _NARROW:
        columns += [("teacher", 7, True)]
    used = sum(each + 1 for _, each, _ in columns)
    return [*columns, ("question · notes", max(8, width - used), False)]


class GroupRows(ScrollView, can_focus=True):
    """The list. ``numbers`` are the catalogue's, in the order shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "page up", show=False),
        Binding("pagedown,ctrl+f,space", "page(1)", "page down", show=False),
        Binding("home,g", "go(0)", "first", show=False),
        Binding("end,G", "go(-1)", "last", show=False),
        Binding("enter", "open", "open"),
    ]

    class Opened(Message):
        """A group was chosen."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(id="rows")
        self._catalogue = catalogue
        self._has_steps = catalogue.has_steps
        self._rows: dict[int, Row] = {}
        self.numbers: list[int] = []
        self.cursor = 0

    def show(self, numbers: Sequence[int], *, keep: int | None = None) -> None:
        """Show these groups, the cursor on the group ``keep`` where it is among them."""
        self.numbers = list(numbers)
        at = self.numbers.index(keep) if keep is not None and keep in self.numbers else 0
        self._measure()
        self._place(at)

    @property
    def current(self) -> int | None:
        """The number of the group under the cursor."""
        return self.numbers[self.cursor] if self.numbers else None

    def action_move(self, by: int) -> None:
        self._place(self.cursor + by)

    def action_page(self, by: int) -> None:
        self._place(self.cursor + by * max(1, self.size.height - 2))

    def action_go(self, to: int) -> None:
        self._place(to if to >= 0 else len(self.numbers) - 1)

    def action_open(self) -> None:
        if self.numbers:
            self.post_message(self.Opened())

    def on_resize(self) -> None:
        self._measure()

    def _measure(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.numbers) + 1)

    def on_click(self, event: events.Click) -> None:
        line = event.y + self.scroll_offset.y - 1
        if event.y > 0 and 0 <= line < len(self.numbers):
            if line == self.cursor:
                self.action_open()
            else:
                self._place(line)

    def _place(self, at: int) -> None:
        self.cursor = max(0, min(at, len(self.numbers) - 1))
        self.scroll_to_region(
            Region(0, max(0, self.cursor), 1, 2), animate=False, force=True, origin_visible=True, immediate=True
        )
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line: the first is the head, whatever is scrolled to."""
        width = self.scrollable_content_region.width
        columns = _columns(width, self._has_steps)
        if y == 0:
            return _strip([Text(name) for name, _, _ in columns], columns, width, Style(bold=True, reverse=True))
        at = y - 1 + self.scroll_offset.y
        if at >= len(self.numbers):
            return Strip.blank(width)
        row = self._row(at)
        style = Style(reverse=True) if at == self.cursor else Style()
        return _strip(self._cells(row, columns), columns, width, style)

    def _row(self, at: int) -> Row:
        """A row; its neighbours are read with it."""
        n = self.numbers[at]
        if n not in self._rows:
            if len(self._rows) > _KEPT_ROWS:
                self._rows.clear()
            near = self.numbers[max(0, at - 60) : at + 120]
            self._rows |= {row.n: row for row in self._catalogue.rows(near)}
        return self._rows[n]

    def _cells(self, row: Row, columns: Sequence[tuple[str, int, bool]]) -> list[Text]:
        said = Text(clean(row.question))
        told = notes(row)
        if told:
            said.append(" · ").append_text(told)
        known = {
            "step": Text("" if row.step is None else str(row.step)),
            "uid": Text(clean(row.uid)),
            "n": Text(str(row.rollouts)),
            "K": Text(str(row.criteria)),
            "mean": Text(number(row.mean)),
            "spread": Text(number(row.spread)),
            "": Text(spread_bar(row.spread), style="cyan"),
            "teacher": Text(number(row.teacher), style="red" if row.below else ""),
        }
        return [known.get(name, said) for name, _, _ in columns]


def _strip(cells: Sequence[Text], columns: Sequence[tuple[str, int, bool]], width: int, style: Style) -> Strip:
    line = Text(no_wrap=True, end="")
    for cell, (_, wide, right) in zip(cells, columns, strict=True):
        cell = Text.assemble(cell)
        cell.plain = cell.plain.replace("\n", " ")
        cell.truncate(wide, overflow="ellipsis")
        if right:
            line.append(" " * max(0, wide - cell.cell_len))
        line.append_text(cell)
        if not right:
            line.append(" " * max(0, wide - cell.cell_len))
        line.append(" ")
    if style:  # the head and the line of the cursor have one look
        return Strip([Segment(line.plain, style)]).adjust_cell_length(width, style)
    segments = list(line.render(_CONSOLE))
    return Strip(segments).adjust_cell_length(width, style)


_CONSOLE = Console(width=500, color_system="truecolor", force_terminal=True)
"""Only turns styled text into segments."""


_BEGINS = re.compile(r"(?:teacher|student) \d+\b.*··|·+ ?(?:teacher|student) \d+\b")
"""The rule above an answer."""


class GroupText(ScrollView, can_focus=True):
    """One group in full, rendered once for the width it has; ``marks`` are the lines at which answers begin."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "by(-1)", show=False),
        Binding("down,j", "by(1)", show=False),
        Binding("pageup,ctrl+b", "by(-20)", show=False),
        Binding("pagedown,ctrl+f,space", "by(20)", show=False),
        Binding("home,g", "to(0)", show=False),
        Binding("end,G", "to(-1)", show=False),
        Binding("l,right,tab", "answer(1)", "next answer"),
        Binding("h,left,shift+tab", "answer(-1)", "previous answer"),
    ]

    def __init__(self) -> None:
        super().__init__(id="text")
        self._view: GroupView | None = None
        self._lines: list[Strip] = []
        self.marks: list[int] = []

    def show(self, view: GroupView) -> None:
        """Show a group from its beginning."""
        self._view = view
        self._lay_out()
        self.scroll_to(y=0, animate=False, immediate=True)

    def on_resize(self) -> None:
        self._lay_out()

    def action_by(self, lines: int) -> None:
        self.scroll_to(y=self.scroll_offset.y + lines, animate=False, immediate=True)

    def action_to(self, line: int) -> None:
        self.scroll_to(y=line if line >= 0 else len(self._lines), animate=False, immediate=True)

    def action_answer(self, by: int) -> None:
        """To the next answer, or the one before."""
        here = self.scroll_offset.y
        later = [mark for mark in self.marks if mark > here] if by > 0 else [m for m in self.marks if m < here][::-1]
        if later:
            self.scroll_to(y=later[0], animate=False, immediate=True)

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width
        if self._view is None or not width:
            return
        console = Console(width=width, color_system="truecolor", force_terminal=True, highlight=False)
        lines = console.render_lines(GroupInFull(self._view), pad=False)
        self._lines = [Strip(line) for line in lines]
        self.marks = [at for at, strip in enumerate(self._lines) if _BEGINS.match(strip.text)]
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        at = y + self.scroll_offset.y
        if at >= len(self._lines):
            return Strip.blank(self.size.width)
        return self._lines[at].adjust_cell_length(self.size.width)


class Help(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "dismiss", "close")]
    CSS = """
    Help { align: center middle; }
    #help { width: auto; max-width: 100%; height: auto; border: round $accent; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        yield Static(Text(_HELP), id="help")


class Choice(ModalScreen[str | None]):
    """One of several; the value of the chosen one, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "back"),
        Binding("j", "move('cursor_down')", show=False),
        Binding("k", "move('cursor_up')", show=False),
    ]
    CSS = """
    Choice { align: center middle; }
    OptionList { width: 60; max-width: 100%; height: auto; max-height: 80%; border: round $accent; }
    """

    def __init__(self, title: str, options: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title, self._options = title, options

    def compose(self) -> ComposeResult:
        options = OptionList(*(Option(Text(words), id=value) for value, words in self._options))
        options.border_title = self._title
        yield options

    def action_move(self, how: str) -> None:
        getattr(self.query_one(OptionList), f"action_{how}")()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)


class GroupScreen(Screen[int | None]):
    """One group; the number of the group that was looked at last is what it ends with."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "back"),
        Binding("right_square_bracket", "step(1)", "next group", key_display="]"),
        Binding("left_square_bracket", "step(-1)", "previous group", key_display="["),
        Binding("question_mark", "help", "keys", key_display="?"),
    ]

    def __init__(self, catalogue: Catalogue, numbers: Sequence[int], at: int) -> None:
        super().__init__()
        self._catalogue, self._numbers, self._at = catalogue, numbers, at

    def compose(self) -> ComposeResult:
        yield Static(id="where")
        yield GroupText()
        yield Footer()

    def on_mount(self) -> None:
        self._show()
        self.query_one(GroupText).focus()

    def action_step(self, by: int) -> None:
        self._at = max(0, min(self._at + by, len(self._numbers) - 1))
        self._show()

    def action_back(self) -> None:
        self.dismiss(self._numbers[self._at])

    def action_help(self) -> None:
        self.app.push_screen(Help())

    def _show(self) -> None:
        view = self._catalogue.group(self._numbers[self._at])
        self.query_one("#where", Static).update(Text(f"group {self._at + 1:,} of {len(self._numbers):,}"))
        self.query_one(GroupText).show(view)


_OF_THE_LIST = frozenset({"search", "match", "filter", "sort", "turn", "clear", "leave", "help"})


class Browser(App[None]):
    """The list of groups, and what is opened from it."""

    TITLE = "ropd"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    GroupRows, GroupText { overflow-x: hidden; scrollbar-size-vertical: 1; background: $background; }
    #where { height: 1; background: $panel; color: $text; padding: 0 1; }
    #search { display: none; height: 1; border: none; padding: 0 1; }
    #search.on { display: block; }
    #search:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "search", key_display="/"),
        Binding("n", "match(1)", "next", show=False),
        Binding("N", "match(-1)", "previous", show=False),
        Binding("f", "filter", "filter"),
        Binding("s", "sort", "sort"),
        Binding("r", "turn", "reverse", show=False),
        Binding("c", "clear", "clear", show=False),
        Binding("question_mark", "help", "keys", key_display="?"),
        Binding("q", "leave", "quit"),
        Binding("escape", "leave", show=False),
    ]
    _FLAGS: ClassVar[dict[str, str]] = {
        "below": "teacher below student",
        "missing": "rewards missing",
        "dead": "no spread",
        "failed": "failed",
    }

    def __init__(self, catalogue: Catalogue, query: Query, title: str) -> None:
        super().__init__()
        self._catalogue, self._asked, self._name = catalogue, query, title
        self._found: str = query.search or ""

    def compose(self) -> ComposeResult:
        yield Static(id="where")
        yield GroupRows(self._catalogue)
        yield Input(id="search", placeholder="search")
        yield Footer()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is about the list is not offered over a group."""
        return len(self.screen_stack) == 1 or action not in _OF_THE_LIST

    def on_mount(self) -> None:
        self._update()
        self.query_one(GroupRows).focus()

    @property
    def rows(self) -> GroupRows:
        return self.screen_stack[0].query_one(GroupRows)

    def on_group_rows_opened(self) -> None:
        rows = self.rows

        def came_back(n: int | None) -> None:
            if n is not None:
                rows.show(rows.numbers, keep=n)

        self.push_screen(GroupScreen(self._catalogue, rows.numbers, rows.cursor), came_back)

    def action_search(self) -> None:
        box = self.query_one("#search", Input)
        box.add_class("on")
        box.value = self._asked.search or ""
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.has_class("on"):
            self._ask(replace(self._asked, search=event.value or None))

    def on_input_submitted(self) -> None:
        self._close_search()

    def action_match(self, by: int) -> None:
        """With a search every group of the list has it, so the next one is the next line."""
        self.rows.action_move(by)

    def action_filter(self) -> None:
        asked = self._asked
        options = [(name, f"{'●' if getattr(asked, name) else '○'} {words}") for name, words in self._FLAGS.items()]
        options += [
            (f"lint:{rule}", f"{'●' if asked.lint == rule else '○'} lint: {rule} ({count:,} groups)")
            for rule, count in self._catalogue.rules().items()
        ]

        def chosen(value: str | None) -> None:
            if value is None:
                return
            kind, _, rule = value.partition(":")
            if kind == "lint":
                self._ask(replace(self._asked, lint=None if self._asked.lint == rule else rule))
            else:
                self._ask(replace(self._asked, **{kind: not getattr(self._asked, kind)}))

        self.push_screen(Choice("filter", options), chosen)

    def action_sort(self) -> None:
        options = [(name, f"{'●' if self._asked.sort == name else '○'} {name}") for name in SORTS]

        def chosen(value: str | None) -> None:
            if value is not None:
                self._ask(replace(self._asked, sort=value))

        self.push_screen(Choice("sort by", options), chosen)

    def action_turn(self) -> None:
        self._ask(replace(self._asked, reverse=not self._asked.reverse))

    def action_clear(self) -> None:
        self._ask(Query(sort=self._asked.sort, reverse=self._asked.reverse))

    def action_help(self) -> None:
        self.push_screen(Help())

    def action_leave(self) -> None:
        """Out of the search, else out of the program."""
        box = self.query_one("#search", Input)
        if box.has_class("on"):
            self._ask(replace(self._asked, search=None))
            self._close_search()
        else:
            self.exit()

    def _close_search(self) -> None:
        self.query_one("#search", Input).remove_class("on")
        self.rows.focus()

    def _ask(self, query: Query) -> None:
        self._asked = query
        self._update()

    def _update(self) -> None:
        rows = self.rows
        rows.show(self._catalogue.numbers(self._asked), keep=rows.current)
        asked = self._asked
        order = f"by {asked.sort}{', reversed' if asked.reverse else ''}"
        words = f"{clean(self._name)}: {len(rows.numbers):,} of {len(self._catalogue):,} groups, {order}"
        if asked.words:
            words += f", {clean(asked.words)}"
        self.screen_stack[0].query_one("#where", Static).update(Text(words))

"""Judged groups full-screen: a list of any length, and one group in full.

Texts of models are shown as plain characters: never as markup, never as control sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import App, ComposeResult, RenderResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.css.styles import RulesMap
from textual.screen import ModalScreen, Screen
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widget import Widget
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from ropd_cli.analysis.catalogue import Catalogue
from ropd_cli.analysis.judged_groups import GroupRow
from ropd_cli.analysis.query import SORTS, Query
from ropd_cli.report.groups_text import in_full, question_and_notes, spread_bar
from ropd_cli.report.words import number
from ropd_cli.util.counted import counted
from ropd_cli.util.terminal import Text

_NARROW = 76
"""Below this width the list leaves out what is also in a group."""
_NEAR = 60
"""So many rows before and after the one that is drawn are read with it."""
_KEPT_ROWS = 2_000
_HELP = """\
↑ ↓ or k j         one up, one down
PgUp PgDn g G      a page, first, last
Enter              open the group
/                  search uid, question, rubric, findings
                   (Enter keeps it, Esc takes it back)
n N                next, previous group that has the search
f                  filter: teacher below student, missing,
                   without spread, failed, a rule of the linter
s r                sort by …, the other way round
c                  clear search and filters
Esc or q           back; from the list: quit

In a group
↑ ↓ PgUp PgDn g G  scroll
l h or Tab         next, previous answer
] [                next, previous group of the list
"""


def _columns(width: int, has_steps: bool) -> list[tuple[str, int, bool]]:
    """Return the list's columns: name, cells, whether of numbers. The last takes what is left."""
    wide = width >= _NARROW
    columns = [("step", 5, True)] if has_steps else []
    columns += [("uid", max(16, width // 6), False)]
    columns += [("n", 3, True), ("K", 3, True)] if wide else []
    columns += [("mean", 5, True), ("spread", 6, True), ("", 5, False)]
    columns += [("teacher", 7, True)] if wide else []
    return [*columns, ("question · notes", max(8, width - sum(size + 1 for _, size, _ in columns)), False)]


def _line(cells: Mapping[str, Text], width: int, has_steps: bool) -> Text:
    """Return one line of the list."""
    line = Text(no_wrap=True, end="")
    for name, size, is_number in _columns(width, has_steps):
        cell = cells[name].copy()
        cell.plain = cell.plain.replace("\n", " ")
        cell.truncate(size, overflow="ellipsis")
        cell.align("right" if is_number else "left", size)
        line.append_text(cell).append(" ")
    return line


class ListHead(Widget):
    """The names of the list's columns."""

    def __init__(self, has_steps: bool) -> None:
        super().__init__()
        self._has_steps = has_steps

    def render(self) -> RenderResult:
        names = ("step", "uid", "n", "K", "mean", "spread", "", "teacher", "question · notes")
        return _line({name: Text(name) for name in names}, self.size.width, self._has_steps)


class GroupLine(Visual):
    """A group in the list. Its row is read when it is drawn, so that opening a long list reads only a screen of it."""

    def __init__(self, rows: GroupRows, at: int) -> None:
        self._rows, self._at = rows, at

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        row = self._rows.row(self._at)
        cells = {
            "step": Text("" if row.step is None else str(row.step)),
            "uid": Text(row.uid),
            "n": Text(str(row.rollouts)),
            "K": Text(str(row.criteria or "")),
            "mean": Text(number(row.mean)),
            "spread": Text(number(row.spread)),
            "": Text(spread_bar(row.spread), style="cyan"),
            "teacher": Text(number(row.teacher), style="red" if row.below else ""),
            "question · notes": question_and_notes(row, _columns(width, self._rows.has_steps)[-1][1]),
        }
        content = Content.from_rich_text(_line(cells, width, self._rows.has_steps))
        return content.render_strips(width, 1, style, options)

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        return container_width

    def get_height(self, rules: RulesMap, width: int) -> int:
        return 1


class GroupRows(OptionList):
    """The list. ``numbers`` are the catalogue's, in the order shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # with a search every group of the list has it, so the next match is the next line
        Binding("k,N", "cursor_up", show=False),
        Binding("j,n", "cursor_down", show=False),
        Binding("ctrl+b", "page_up", show=False),
        Binding("ctrl+f,space", "page_down", show=False),
        Binding("g", "first", show=False),
        Binding("G", "last", show=False),
        Binding("enter", "select", "open"),
    ]

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(id="rows", compact=True)
        self._catalogue = catalogue
        self._read: dict[int, GroupRow] = {}
        self.has_steps = catalogue.has_steps
        self.numbers: list[int] = []

    def show(self, numbers: Sequence[int], *, keep: int | None = None) -> None:
        """Show these groups, the cursor on the group ``keep`` where it is among them."""
        self.numbers = list(numbers)
        self.set_options(Option(GroupLine(self, at)) for at in range(len(numbers)))
        if numbers:
            self.highlighted = self.numbers.index(keep) if keep in self.numbers else 0

    @property
    def current(self) -> int | None:
        """The number of the group under the cursor."""
        return None if self.highlighted is None else self.numbers[self.highlighted]

    def row(self, at: int) -> GroupRow:
        """Return the row of a line; its neighbours are read with it."""
        n = self.numbers[at]
        if n not in self._read:
            if len(self._read) > _KEPT_ROWS:
                self._read.clear()
            near = self.numbers[max(0, at - _NEAR) : at + _NEAR]
            self._read |= {row.n: row for row in self._catalogue.rows(near)}
        return self._read[n]


class GroupText(VerticalScroll):
    """One group in full: what was judged, then an answer after the other."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", show=False),
        Binding("j", "scroll_down", show=False),
        Binding("ctrl+b", "page_up", show=False),
        Binding("ctrl+f,space", "page_down", show=False),
        Binding("g", "scroll_home", show=False),
        Binding("G", "scroll_end", show=False),
        Binding("l,right,tab", "answer(1)", "next, previous answer", key_display="l h"),
        Binding("h,left,shift+tab", "answer(-1)", show=False),
    ]

    def action_answer(self, by: int) -> None:
        """Scroll to the next answer, or the one before."""
        here = self.scroll_offset.y
        tops = [child.virtual_region.y for child in self.children[1:]]
        further = [top for top in tops if top > here] if by > 0 else [top for top in reversed(tops) if top < here]
        if further:
            self.scroll_to(y=further[0])


class Help(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "dismiss", "close")]
    CSS = """
    Help { align: center middle; }
    #help { width: auto; max-width: 100%; height: auto; border: round $accent; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        yield Static(Text(_HELP), id="help")


class Choice(ModalScreen[Query | None]):
    """One of several (words, whether it is on, the query when it is chosen); ends with that query, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "back"),
        Binding("j", "app.simulate_key('down')", show=False),
        Binding("k", "app.simulate_key('up')", show=False),
    ]
    CSS = """
    Choice { align: center middle; }
    OptionList { width: 60; max-width: 100%; height: auto; max-height: 80%; border: round $accent; }
    """

    def __init__(self, title: str, options: Sequence[tuple[str, bool, Query]]) -> None:
        super().__init__()
        self._title, self._options = title, options

    def compose(self) -> ComposeResult:
        options = OptionList(*(Text(f"{'●' if is_on else '○'} {words}") for words, is_on, _ in self._options))
        options.border_title = self._title
        yield options

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._options[event.option_index][2])


class GroupScreen(Screen[int]):
    """One group; the number of the group that was looked at last is what it ends with."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "back"),
        Binding("right_square_bracket", "step(1)", "next, previous group", key_display="] ["),
        Binding("left_square_bracket", "step(-1)", show=False),
        Binding("question_mark", "help", "keys", key_display="?"),
    ]

    def __init__(self, catalogue: Catalogue, numbers: Sequence[int], at: int) -> None:
        super().__init__()
        self._catalogue, self._numbers, self._at = catalogue, numbers, at

    def compose(self) -> ComposeResult:
        yield Static(Text(f"group {self._at + 1:,} of {len(self._numbers):,}"), id="where")
        view = self._catalogue.group(self._numbers[self._at])
        yield GroupText(*(Static(part) for part in in_full(view)), id="text")
        yield Footer()

    async def action_step(self, by: int) -> None:
        self._at = max(0, min(self._at + by, len(self._numbers) - 1))
        await self.recompose()
        self.query_one(GroupText).focus()

    def action_back(self) -> None:
        self.dismiss(self._numbers[self._at])

    def action_help(self) -> None:
        self.app.push_screen(Help())


_LIST_ACTIONS = frozenset({"search", "filter", "sort", "turn", "clear", "leave", "help"})


class Browser(App[None]):
    """The list of groups, and what is opened from it."""

    TITLE = "ropd"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    GroupRows { height: 1fr; scrollbar-size-vertical: 1; background: $background; }
    GroupText { scrollbar-size-vertical: 1; }
    GroupText Static { width: 100%; }
    ListHead { height: 1; background: $panel; text-style: bold; }
    #where { height: 1; background: $panel; color: $text; padding: 0 1; }
    #search { display: none; height: 1; border: none; padding: 0 1; }
    #search.on { display: block; }
    #search:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "search", key_display="/"),
        Binding("f", "filter", "filter"),
        Binding("s", "sort", "sort"),
        Binding("r", "turn", "reverse", show=False),
        Binding("c", "clear", "clear", show=False),
        Binding("question_mark", "help", "keys", key_display="?"),
        Binding("q", "leave", "quit"),
        Binding("escape", "leave", show=False),
    ]

    def __init__(self, catalogue: Catalogue, query: Query, title: str) -> None:
        super().__init__()
        self.animation_level = "none"
        self._catalogue, self._query, self._name = catalogue, query, title

    def compose(self) -> ComposeResult:
        yield Static(id="where")
        yield ListHead(self._catalogue.has_steps)
        yield GroupRows(self._catalogue)
        yield Input(id="search", placeholder="search")
        yield Footer()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what concerns the list over the list alone."""
        return len(self.screen_stack) == 1 or action not in _LIST_ACTIONS

    def on_mount(self) -> None:
        self._update()

    @property
    def rows(self) -> GroupRows:
        return self.screen_stack[0].query_one(GroupRows)

    @on(OptionList.OptionSelected, "#rows")
    def open_group(self, event: OptionList.OptionSelected) -> None:
        rows = self.rows

        def move_cursor(n: int | None) -> None:
            if n is not None:
                rows.highlighted = rows.numbers.index(n)

        self.push_screen(GroupScreen(self._catalogue, rows.numbers, event.option_index), move_cursor)

    def action_search(self) -> None:
        box = self.query_one("#search", Input)
        box.add_class("on")
        box.value = self._query.search or ""
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.has_class("on"):
            self._ask(replace(self._query, search=event.value or None))

    def on_input_submitted(self) -> None:
        self._close_search()

    def action_filter(self) -> None:
        query = self._query
        options = [
            ("teacher below student", query.below, replace(query, below=not query.below)),
            ("rewards missing", query.missing, replace(query, missing=not query.missing)),
            ("without spread", query.zero_variance, replace(query, zero_variance=not query.zero_variance)),
            ("failed", query.failed, replace(query, failed=not query.failed)),
        ]
        for rule, count in self._catalogue.rules().items():
            is_on = query.lint == rule
            words = f"lint: {rule} ({counted(count, 'group')})"
            options.append((words, is_on, replace(query, lint=None if is_on else rule)))
        self.push_screen(Choice("filter", options), self._ask)

    def action_sort(self) -> None:
        options = [(name, self._query.sort == name, replace(self._query, sort=name)) for name in SORTS]
        self.push_screen(Choice("sort by", options), self._ask)

    def action_turn(self) -> None:
        self._ask(replace(self._query, reverse=not self._query.reverse))

    def action_clear(self) -> None:
        self._ask(Query(sort=self._query.sort, reverse=self._query.reverse))

    def action_help(self) -> None:
        self.push_screen(Help())

    def action_leave(self) -> None:
        """Leave the search, else the program."""
        box = self.query_one("#search", Input)
        if box.has_class("on"):
            self._ask(replace(self._query, search=None))
            self._close_search()
        else:
            self.exit()

    def _close_search(self) -> None:
        self.query_one("#search", Input).remove_class("on")
        self.rows.focus()

    def _ask(self, query: Query | None) -> None:
        if query is not None:
            self._query = query
            self._update()

    def _update(self) -> None:
        rows, query = self.rows, self._query
        rows.show(self._catalogue.numbers(query), keep=rows.current)
        order = f"by {query.sort}{', reversed' if query.reverse else ''}"
        words = f"{self._name}: {len(rows.numbers):,} of {counted(len(self._catalogue), 'group')}, {order}"
        if query.words:
            words += f", {query.words}"
        self.screen_stack[0].query_one("#where", Static).update(Text(words))

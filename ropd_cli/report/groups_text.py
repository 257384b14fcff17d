"""Judged groups in a terminal: a list of groups, and one group in full, both readable from 80 columns on.

Every text of a model is printed as plain characters: no markup, no control sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table

from ropd_cli.analysis.judged_groups import GroupRow, GroupView, ShownAnswer
from ropd_cli.lint import RULES
from ropd_cli.lint.records import BY_RULES
from ropd_cli.report.words import label, mark, number, raw_score, short_number, summary_line
from ropd_cli.util.counted import counted
from ropd_cli.util.terminal import UNWRAPPED, Text
from ropd_cli.util.visible_text import visible


@dataclass(frozen=True)
class GroupList:
    """Groups, one a line, and the sums of all that were asked for; ``more``: a line about those that are not shown."""

    rows: Sequence[GroupRow]
    sums: Mapping[str, Any]
    more: str = ""

    def __rich_console__(self, _console: object, options: ConsoleOptions) -> Iterator[RenderableType]:
        columns = {
            "step": [Text("" if row.step is None else str(row.step)) for row in self.rows],
            "uid": [Text(row.uid) for row in self.rows],
            "n": [Text(str(row.rollouts or "")) for row in self.rows],
            "K": [Text(str(row.criteria or "")) for row in self.rows],
            "mean": [Text(number(row.mean)) for row in self.rows],
            "spread": [Text(number(row.spread)) for row in self.rows],
            "": [Text(spread_bar(row.spread), style="cyan") for row in self.rows],
            "teacher": [Text(number(row.teacher)) for row in self.rows],
        }
        told = {name: cells for name, cells in columns.items() if any(c.plain.strip() not in ("", "–") for c in cells)}
        table, left = _table(), min(options.max_width, _QUESTION_CELLS + _BESIDE_UID)
        for name, cells in told.items():
            widest = max(map(cell_len, (name, *(cell.plain for cell in cells))))
            if name == "uid":
                widest = min(widest, max(20, options.max_width - _BESIDE_UID))
                table.add_column(name, width=widest, overflow="fold")
            else:
                table.add_column(name, justify="left" if name == "" else "right", no_wrap=True)
            left -= widest + _GAP
        last = [question_and_notes(row, left - _GAP) for row in self.rows]
        if any(cell.plain for cell in last):
            table.add_column("question · notes", ratio=1)
            told["question · notes"] = last
        for line in zip(*told.values(), strict=True):
            table.add_row(*line)
        yield table
        if self.more:
            yield Text(self.more, style="dim")
        yield Text(summary_line(self.sums))


_QUESTION_CELLS, _LEAST_QUESTION_CELLS = 60, 16
"""Of a question in a list: enough where there is room, and what is kept beside long notes."""
_GAP = 2
"""Cells between two columns, and at the edges together."""
_BESIDE_UID = 90
"""Cells that a list keeps for its other columns before a uid gets more than 20."""
BAR_CELLS = 5
WIDEST_SPREAD = 0.5
"""Standard deviation of rewards in [0, 1], at most."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def spread_bar(spread: float | None, cells: int = BAR_CELLS) -> str:
    """Return a spread as a bar of so many cells, full at the largest that rewards in [0, 1] can have."""
    if spread is None:
        return " " * cells
    eighths = round(min(1.0, spread / WIDEST_SPREAD) * cells * 8)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[part] if part else "")).ljust(cells)


def notes(row: GroupRow) -> Text:
    """Return what is wrong with a group, in a line: faults, and the linter's rules."""
    faults = [f"failed: {row.error.split(':')[0]}"] if row.error else list(row.faults)
    text = Text("; ".join(faults), style="yellow")
    # what stands there already is not said again
    if rules := [rule for rule in row.rules if not (row.below and rule == "teacher-below-student")]:
        text.append(f"{'; ' if faults else ''}lint: {', '.join(rules)}", style="dim")
    return text


def question_and_notes(row: GroupRow, width: int) -> Text:
    """Return a group's question and what is wrong with it, in a line of ``width`` cells; in two or more where a few
    words of the question do not fit beside the rest."""
    text, wrong = Text(row.question), notes(row)
    room = width - (cell_len(f" · {wrong.plain}") if wrong else 0)
    text.truncate(room if room >= _LEAST_QUESTION_CELLS else max(8, width - 2), overflow="ellipsis")
    if wrong:
        text.append(" · " if row.question else "").append_text(wrong)
    return text


@dataclass(frozen=True)
class JudgedGroup:
    """One group without its answers: question, criteria and verdicts, scores, and what is wrong with it."""

    view: GroupView

    def __rich_console__(self, _console: object, options: ConsoleOptions) -> Iterator[RenderableType]:
        view = self.view
        yield _rule(view.title, "─", options)
        if view.question is not None:
            yield Padding(Text(view.question), (0, 0, 1, 2), expand=False)
        for part in view.by_rubric:
            if part.of_rollout is not None:
                yield Text(f"the rubric of rollout {part.of_rollout}", style="bold")
            if part.criteria:
                yield _criteria(part, expand=options.max_width < UNWRAPPED)
            if (part.criterion_ids and part.judged) or part.is_scored:
                yield from _matrix(part, options.max_width)
        if view.origin:
            yield Text(view.origin, style="dim")
        stats = view.stats
        if view.rewards:
            means = f"mean {number(stats.mean)}, spread {number(stats.spread)}"
            teacher = "" if view.is_scored else f", teacher {number(stats.teacher_mean)}"
            yield Text(f"rewards of {counted(stats.n, 'rollout')}: {means}{teacher}")
        if view.verdicts and view.verdicts.shaped:
            yield Text("shaped: what GRPO is given in the place of the reward", style="dim")
        for fault in view.faults:
            yield Text(f"! {fault}", style="yellow")
        if view.rubric is not None and view.rubric.model == BY_RULES:
            yield Text("not linted: the built-in provider wrote this rubric by rules", style="dim")
        for finding in view.findings:
            about = f"{', '.join(finding.criteria)}: " if finding.criteria else ""
            words = f"{about}{RULES[finding.rule].title} ({finding.message})"
            yield Text(f"• {finding.rule} ", style="magenta").append(words, style="default")


@dataclass(frozen=True)
class AnswerText:
    """One answer of a group, without its thinking."""

    shown: ShownAnswer

    def __rich_console__(self, _console: object, options: ConsoleOptions) -> Iterator[RenderableType]:
        thinking, answer = self.shown.thinking, self.shown.answer
        more = f", {len(thinking):,} characters of thinking" if thinking else ""
        yield _rule(self.shown.heading + more, "·", options)
        yield Padding(Text("no answer", style="dim") if answer is None else Text(answer), (0, 0, 1, 2), expand=False)


def in_full(view: GroupView) -> list[JudgedGroup | AnswerText]:
    """Return one group with all its answers."""
    return [JudgedGroup(view), *map(AnswerText, view.texts)]


def _rule(title: str, characters: str, options: ConsoleOptions) -> RenderableType:
    rule = Rule(Text(title), align="left", characters=characters)
    return rule if options.max_width < UNWRAPPED else Constrain(rule, 80)


def _criteria(view: GroupView, *, expand: bool) -> Table:
    table = _table(expand=expand)
    table.add_column("", no_wrap=True, max_width=8)
    table.add_column("pts", justify="right", no_wrap=True)
    weights_K = view.weights_K
    if weights_K:
        table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("criterion", ratio=1)
    for name in ("teacher", "student") if view.judged else ():
        table.add_column(name, justify="right", no_wrap=True)
    for k, criterion in enumerate(view.criteria.rubrics if view.criteria else ()):
        met = [view.met(source, k) for source in ("teacher", "student")] if view.judged else []
        text = Text(criterion.criterion).append(f"  [{criterion.category}]", style="dim")
        shares = [Text(f"{yes}/{of}" if of else "") for yes, of in met]
        weight = [Text(number(weights_K[k]))] if weights_K else []
        table.add_row(Text(criterion.criterion_id), Text(str(criterion.points)), *weight, text, *shares)
    return table


def _matrix(view: GroupView, width: int) -> Iterator[Table]:
    """Yield criteria by answers, or scores on the judge's scale, in as many tables as the width makes necessary."""
    answers = view.judged
    ids = [visible(name)[:8] for name in view.criterion_ids]
    rows = [(name, [mark(answer, k) for answer in answers]) for k, name in enumerate(ids)]
    if view.scale:
        rows.append((f"of {view.scale}", [raw_score(answer) for answer in answers]))
    rows.append(("score", [short_number(answer.score) for answer in answers]))
    if view.verdicts and view.verdicts.shaped:
        rows.append(("shaped", [short_number(view.shaped(answer)) for answer in answers]))
    widest = max(3, *(len(cell) for _, cells in rows for cell in cells))
    room = max(1, (width - max(len(name) for name, _ in rows) - 2) // (widest + 2))  # 2 lie between columns
    for start in range(0, len(answers), room):
        part = slice(start, start + room)
        table = _table()
        table.add_column("", no_wrap=True)
        for answer in answers[part]:
            table.add_column(
                label(answer),
                justify="right",
                min_width=widest,
                no_wrap=True,
                style="cyan" if answer.source == "teacher" else "",
            )
        for name, cells in rows:
            table.add_row(Text(name), *map(Text, cells[part]), style="bold" if name == "score" else "")
        yield table


def _table(*, expand: bool = False) -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", expand=expand)

"""The figures of an index and its damage, in words and bars for a terminal."""

from __future__ import annotations

from typing import Any

from ropd_cli.index.contents import Lengths, Survey

BAR = 30


def survey_table(name: str, found: Survey) -> Any:
    """What ``ropd index show`` prints: a rich renderable."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = f"{name}: {found.answers:,} answers to {found.prompts:,} prompts, {found.bytes / 1e6:,.1f} MB"
    lines = [Text(head, style="bold")]
    if found.truncated:
        lines.append(
            Text(f"{found.truncated:,} more were cut off ({found.truncated_share:.1%} of all): marked, not handed out")
        )
    if found.without_prompt:
        lines.append(Text(f"{found.without_prompt:,} prompts without their text (imported rows): found by hash"))
    counts = Table(title="Prompts by distinct answers", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("answers", "prompts", ""):
        counts.add_column(column, justify="left" if not column else "right")
    most = max(found.distinct.values(), default=1)
    for number, count in found.distinct.items():
        counts.add_row(str(number), f"{count:,}", "█" * max(1, round(BAR * count / most)))
    lengths = Table(title="Length of an answer", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("", "least", "median", "95%", "most"):
        lengths.add_column(column, justify="left" if not column else "right")
    for unit, each in (("characters", found.chars), ("tokens", found.tokens)):
        if each is not None:
            lengths.add_row(unit, *_numbers(each))
    models = Table(title="Models", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("", "answers", "cut off", "tokens", "mean characters", "temperature"):
        models.add_column(column, justify="left" if not column else "right")
    for model, each in found.models.items():
        heats = ", ".join("not set" if heat is None else f"{heat:g}" for heat in each.temperatures)
        figures = (f"{each.answers:,}", f"{each.truncated:,}", f"{each.tokens:,}", f"{each.mean_chars:,.0f}")
        models.add_row(model or "(no model name)", *figures, heats)
    return Group(*lines, *(Group("", part) for part in (counts, lengths, models) if part.row_count))


def _numbers(each: Lengths) -> list[str]:
    return [f"{value:,}" for value in (each.least, each.median, each.p95, each.most)]

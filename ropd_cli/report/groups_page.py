"""Judged groups as one page without a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ropd_cli.analysis.judged_groups import GroupRow, GroupView
from ropd_cli.report.pages import render
from ropd_cli.report.words import by_rubrics, summary_line


def page(rows: Sequence[GroupRow], views: Sequence[GroupView], sums: Mapping[str, Any], title: str) -> str:
    """Return a page with a table of the groups, then each group behind a fold; ``sums`` are of all asked for."""
    return render(
        "groups.html", title=title, rows=rows, views=views, summary=summary_line(sums), has_rubrics=by_rubrics(rows)
    )

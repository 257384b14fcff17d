"""How texts of models and figures are written, alike in a terminal and on a page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ropd_cli.analysis.judged_groups import GroupRow
from ropd_cli.records.schemas import AnswerVerdict
from ropd_cli.util.counted import counted

MARKS = {True: "✓", False: "✗", None: "?"}


def number(value: float | None, form: str = ".2f") -> str:
    """Return a figure in a format; a dash for what is missing."""
    return "–" if value is None else format(value, form)


def short_number(value: float | None) -> str:
    """Return a figure in as few cells as two decimals need: .43, 1; a dash for what is missing."""
    return re.sub(r"^(-?)0\.", r"\1.", number(value).removesuffix(".00"))


def label(answer: AnswerVerdict) -> str:
    """Return the column title of an answer: t0 is the teacher's first answer, s0 the first rollout."""
    return f"{answer.source[0]}{answer.index}"


def mark(answer: AnswerVerdict, k: int) -> str:
    """Return ✓ for met, ✗ for not met, ? for missing, · for not shown to the judge."""
    return MARKS[answer.judgement[k]] if k < len(answer.judgement) else "·"


def raw_score(answer: AnswerVerdict) -> str:
    """Return an answer's score on the judge's scale; a dash for one that is missing, · for not shown to the judge."""
    return number(answer.on_scale, "g") if answer.was_shown else "·"


def by_rubrics(rows: Sequence[GroupRow]) -> bool:
    """Return whether a list of groups has columns for criteria and teacher: not where none was judged by a rubric."""
    return any(row.criteria or row.error for row in rows)


def summary_line(sums: Mapping[str, Any]) -> str:
    """Return the sums of a list of groups (``Catalogue.summary``) in words."""
    parts = [counted(sums["groups"], "group")]
    if sums["mean"] is not None:
        means = (("mean", "mean"), ("spread", "spread"), ("teacher", "teacher_mean"))
        known = (f"{name} {number(sums[key])}" for name, key in means if sums[key] is not None)
        parts.append(", ".join(known))
    counts = {
        "zero_variance": "without spread",
        "teacher_below_student": "with the teacher below the students",
        "failed": "failed",
        "missing_rewards": "rewards missing",
    }
    return "; ".join([*parts, *(f"{sums[key]} {words}" for key, words in counts.items() if sums[key])])

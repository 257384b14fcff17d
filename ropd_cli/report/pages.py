"""Pages from the templates beside this module: each one file that loads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ropd_cli.lint import RULES, Finding
from ropd_cli.report.side_by_side import shortened, sides
from ropd_cli.report.words import label, mark, number, raw_score
from ropd_cli.util.visible_text import visible

_HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Return the page of a template. Every text among ``values`` is escaped, its control characters written out."""
    return visible(_environment().get_template(template).render(values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = _asset
    environment.filters |= {"by_rule": _by_rule, "cut": shortened, "label": label, "mark": mark, "number": number}
    environment.filters |= {"raw_score": raw_score, "sides": sides}
    return environment


def _asset(name: str) -> Markup:
    """Return a style sheet or script of ours as it is, to stand in the page itself."""
    return Markup((_HERE / "assets" / name).read_text(encoding="utf-8"))


def _by_rule(findings: Sequence[Finding]) -> Iterator[tuple[str, str, str]]:
    """Yield (rule, criteria and messages, the rule's title), one for each rule of the linter that found something."""
    for rule in dict.fromkeys(finding.rule for finding in findings):
        of_rule = [finding for finding in findings if finding.rule == rule]
        ids = ", ".join("+".join(finding.criteria) for finding in of_rule if finding.criteria)
        messages = "; ".join(dict.fromkeys(finding.message for finding in of_rule))
        words = f"{ids}: {messages}" if ids and len(of_rule) == 1 else ids or messages
        yield rule, words, RULES[rule].title

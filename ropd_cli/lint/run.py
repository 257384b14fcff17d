"""All rules on one rubric."""

from __future__ import annotations

from ropd_cli.lint.records import Finding, Linted


def lint(linted: Linted) -> list[Finding]:
    """What the rules find, in the order of ``RULES``."""
    return []

"""What is wrong with a rubric, or keeps it from teaching anything: one rule a name, each finding readable by itself."""

from ropd_cli.lint.of_group import lint_group, linted
from ropd_cli.lint.records import RULES, Finding, Linted, Rule
from ropd_cli.lint.run import lint

__all__ = ["RULES", "Finding", "Linted", "Rule", "lint", "lint_group", "linted"]

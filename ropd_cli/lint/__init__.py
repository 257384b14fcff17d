"""What is wrong with a rubric, or keeps it from teaching anything: one rule a name, each finding readable by itself.

``lint`` is what is certain. What takes a reader (two claims in one criterion, praise, an answer in other words) is for
the lint judge in ``ropd_cli.lint.model_judge``, which is asked only where a user wants it.
"""

from ropd_cli.lint.records import Finding, Linted, Rule, linted
from ropd_cli.lint.rules import CERTAIN, JUDGE_KINDS, RULES, lint, lint_group

__all__ = ["CERTAIN", "JUDGE_KINDS", "RULES", "Finding", "Linted", "Rule", "lint", "lint_group", "linted"]

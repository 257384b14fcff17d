"""Repair a rubric by which all rollouts of a group got the same score (``judge.repair``).

Nothing is learnt from such a group, so the rubricator writes its rubric again, knowing what is wrong with it, and the
group is judged by the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ropd_cli.lint import RULES, Finding, lint_group
from ropd_cli.llm.client import endpoint_request
from ropd_cli.method.block import Block
from ropd_cli.method.scoring import group_stats
from ropd_cli.records.schemas import Group, Rubric, RubricRecord, VerdictRecord
from ropd_cli.stages.rubricator import FORM, Rubricator, read_rubric
from ropd_cli.stages.runner import RECORD_ERRORS
from ropd_cli.stages.verifier import Verifier
from ropd_cli.util.concurrency import STOPS


@dataclass(frozen=True)
class Repair:
    """The rubric and the verdicts that count in the end, and what came of the attempt: the new rubric tells the
    rollouts apart ("helped"), does not ("as equal"), breaks a rule that the old one keeps ("rejected"), or could not be
    had ("failed"); None where no other rubric could help, and none was asked for."""

    rubric: RubricRecord
    verdicts: VerdictRecord
    outcome: Literal["helped", "as equal", "rejected", "failed"] | None = None


async def repair(
    group: Group,
    rubric: RubricRecord,
    verdicts: VerdictRecord,
    rubricator: Rubricator,
    verifier: Verifier,
    block: Block,
) -> Repair:
    """Write a group's rubric again where its rewards are all equal. Raises nothing that one group may fail of: the
    group is judged already, if to no use."""
    if not group_stats(verdicts.rewards).zero_variance:
        return Repair(rubric, verdicts)
    try:
        again = await _rewritten(group, rubric, verdicts, rubricator, block)
        if again is None:
            return Repair(rubric, verdicts)
        other = await verifier.verdicts(group, again, block=block, partial=True)
    except (*STOPS, *RECORD_ERRORS):
        return Repair(rubric, verdicts, "failed")
    if not group_stats(other.rewards).spread:
        return Repair(rubric, verdicts, "as equal")
    # it tells the rollouts apart, but maybe by what the teacher's answers lack
    if _errors(group, again, other) - _errors(group, rubric, verdicts):
        return Repair(rubric, verdicts, "rejected")
    return Repair(again, other, "helped")


async def _rewritten(
    group: Group, record: RubricRecord, verdicts: VerdictRecord, rubricator: Rubricator, block: Block
) -> RubricRecord | None:
    """The rubric that the rubricator writes when it is shown its own, how often each criterion was met and what the
    linter found; None where the rollouts are the same text or have no answer, and for a rubric of each rollout."""
    texts = {answer.text for answer in block.answers if answer.source == "student"}
    if record.rubric is None or len(texts) < 2:
        return None
    [first] = rubricator.requests(group, block)
    findings = lint_group(group, record, verdicts) or []
    score = next((score for score in verdicts.student_scores if score is not None), 0.0)
    faults = _faults(record.rubric, verdicts, findings)
    messages = rubricator.templates.repair_messages(
        first.layout.block, first.request.messages, record.rubric, faults, score
    )
    request = endpoint_request(rubricator.endpoint, messages, FORM, affinity=block.tag)
    reply, (rubric, mended) = await rubricator.client.ask(request, read_rubric)
    return record.model_copy(
        update={
            "rubric": rubric,
            "rubric_hash": rubric.hash,
            "template_hash": rubricator.templates.repair_hash,
            "usage": reply.usage,
            "mended": mended,
            "repaired": tuple(dict.fromkeys(finding.rule for finding in findings)),
        }
    )


def _errors(group: Group, record: RubricRecord, verdicts: VerdictRecord) -> set[str]:
    """The rules of severity "error" that a group's rubric breaks, judged as it was."""
    findings = lint_group(group, record, verdicts) or []
    return {finding.rule for finding in findings if RULES[finding.rule].severity == "error"}


def _faults(rubric: Rubric, verdicts: VerdictRecord, findings: Sequence[Finding]) -> str:
    """A line for each criterion with how often it was met, then a line for each finding."""
    rows = [a.judgement for a in verdicts.answers if a.source == "student" and a.judgement]
    lines = []
    for k, criterion in enumerate(rubric.rubrics):
        marks = [row[k] for row in rows if row[k] is not None]
        lines.append(f"- {criterion.criterion_id}: met by {sum(map(bool, marks))} of {len(marks)}")
    constant = ("met-by-all", "met-by-none")  # the lines above say that
    for finding in findings:
        if finding.rule not in constant:
            about = f"{', '.join(finding.criteria)}: " if finding.criteria else ""
            lines.append(f"- {about}{RULES[finding.rule].title} ({finding.message})")
    return "\n".join(lines)

"""The built-in rubricator, verifier and scorer: rules that read the block as any other judge would have to."""

from __future__ import annotations

import re
from typing import Any

import orjson

from ropd_cli.builtin.criteria_checks import ALONE, BOXED, CHECKS, RIGHT, Check, form_asked
from ropd_cli.builtin.noise import Noise
from ropd_cli.builtin.solvers import Solution, Unsolvable, solve
from ropd_cli.method.block import read_block
from ropd_cli.method.replies import MAX_CRITERIA, MIN_CRITERIA, RUBRIC_VERSION, SCORES_VERSION, VERDICTS_VERSION

_TAG = re.compile(r"<question-([0-9a-f]{16})>")
SEPARATES_WELL = 0.5
EXACT = Noise()


class NotJudgeable(ValueError):
    """A request that these rules can't serve; the message says why."""


def role_of(text: str) -> str | None:
    """Return what a message asks for: "rubricator", "verifier", "scorer", or None for none of them (then it is for the
    teacher)."""
    opening = _TAG.search(text)
    if opening is None:
        return None
    if _between(text, "rubric", opening[1]) is not None:  # the references may be told to a verifier too
        return "verifier"
    if _between(text, "scale", opening[1]) is not None:
        return "scorer"
    return "rubricator" if _between(text, "references", opening[1]) is not None else None


def write_rubric(text: str) -> dict[str, Any]:
    """Return the rubric for the group in a rubricator's message, in the wire format.

    Candidates are the checks that every reference meets. Each is weighted by how well it separates: the part
    of the other answers that fail it. Raises NotJudgeable.
    """
    question_text, answers, tag = _read(text)
    numbers = {int(n) for n in re.findall(r"\d+", _between(text, "references", tag) or "")}
    references = [answer for n, answer in enumerate(answers, start=1) if n in numbers]
    others = [answer for n, answer in enumerate(answers, start=1) if n not in numbers]
    question = _solve(question_text)
    form = form_asked(question_text)
    weighted = []
    for check in CHECKS:
        if not fits(check, form):
            continue
        kept = all(check.holds(answer, question.result, question) for answer in references)
        if not kept and check is not RIGHT:  # what a reference does without is no mark of a good answer
            continue
        failing = sum(not check.holds(answer, question.result, question) for answer in others) / max(1, len(others))
        weighted.append((check, failing))
    weighted = _enough(weighted, question, others)
    criteria: list[dict[str, Any]] = [
        {
            "criterion_id": f"c{number}",
            "category": check.category,
            "criterion": check.criterion(question),
            "points": weight(check, failing),
        }
        for number, (check, failing) in enumerate(weighted, start=1)
    ]
    total = sum(criterion["points"] for criterion in criteria)
    return {"schema_version": RUBRIC_VERSION, "rubrics": criteria, "maximum_score": total}


def fits(check: Check, form: Check | None) -> bool:
    """Return whether a check has a meaning for a question that asks for its result in ``form``."""
    return check is form or check not in (BOXED, ALONE)


def weight(check: Check, failing: float) -> int:
    """Points of a check that the part ``failing`` of the student's answers fails.

    The right result keeps its weight. Of the others one that separates little counts a point less, one that
    nobody fails a single point.
    """
    if check is RIGHT:
        return check.points
    if failing == 0:
        return 1
    return check.points if failing >= SEPARATES_WELL else max(1, check.points - 1)


def write_verdicts(text: str, noise: Noise = EXACT) -> dict[str, Any]:
    """Return the verdicts on the answers in a verifier's message, in the wire format: on all, or on those that it is
    asked for. Whether the message tells a reference from a rollout makes no difference here. Raises NotJudgeable.
    """
    question_text, answers, tag = _read(text)
    question = _solve(question_text)
    try:
        criteria = orjson.loads(_between(text, "rubric", tag) or "")["rubrics"]
        rules = [(_check_of(c["criterion"], question), c["points"]) for c in criteria]
    except (orjson.JSONDecodeError, KeyError, TypeError) as fault:
        raise NotJudgeable(f"the rubric in the message can't be read ({fault})") from fault
    rows = []
    for number, answer in _judged(text, answers, tag):
        judgement = [
            noise.verdict(check.holds(answer, result, question), answer, check.name) for (check, result), _ in rules
        ]
        score = sum(points for (_, points), met in zip(rules, judgement, strict=True) if met)
        rows.append({"answer_index": number, "judgement": judgement, "final_score": score})
    return {"schema_version": VERDICTS_VERSION, "answers": rows}


def write_scores(text: str, noise: Noise = EXACT) -> dict[str, Any]:
    """Return the scores of the answers that a scorer's message asks for, in the wire format: ``share_of_checks`` on the
    message's scale. Raises NotJudgeable.
    """
    question, answers, tag = _read(text)
    scale = re.fullmatch(r"0-(\d{1,9})", _between(text, "scale", tag) or "")
    if scale is None:
        raise NotJudgeable("the scale in the message can't be read, it is none from 0 to a whole number")
    rows = [
        {"answer_index": number, "score": round(int(scale[1]) * share_of_checks(question, answer, noise))}
        for number, answer in _judged(text, answers, tag)
    ]
    return {"schema_version": SCORES_VERSION, "answers": rows}


def share_of_checks(question_text: str, answer: str, noise: Noise = EXACT) -> float:
    """Return the share of the weight of the checks that fit a question which an answer meets. Raises NotJudgeable."""
    question, form = _solve(question_text), form_asked(question_text)
    checks = [check for check in CHECKS if fits(check, form)]
    met = sum(
        check.points
        for check in checks
        if noise.verdict(check.holds(answer, question.result, question), answer, check.name)
    )
    return met / sum(check.points for check in checks)


def _judged(text: str, answers: list[str], tag: str) -> list[tuple[int, str]]:
    """Return (number, answer) of the answers that a message asks about: all, unless it names some."""
    only = [int(number) for number in re.findall(r"\d+", _between(text, "judged", tag) or "")]
    return [(number, answers[number - 1]) for number in only or range(1, len(answers) + 1)]


def _enough(weighted: list[tuple[Check, float]], question: Solution, others: list[str]) -> list[tuple[Check, float]]:
    """Return at least MIN_CRITERIA, filled up with checks that the references do without, and at most MAX_CRITERIA."""
    present = {check for check, _ in weighted}
    for check in CHECKS:
        if len(weighted) >= MIN_CRITERIA:
            break
        if check not in present and fits(check, None):
            failing = sum(not check.holds(answer, question.result, question) for answer in others)
            weighted.append((check, failing / max(1, len(others))))
    order = list(CHECKS)
    return sorted(weighted, key=lambda one: order.index(one[0]))[:MAX_CRITERIA]


def _check_of(criterion: str, question: Solution) -> tuple[Check, str]:
    for check in CHECKS:
        result = check.read(criterion, question)
        if result is not None:
            return check, result
    raise NotJudgeable(
        f"a criterion that the built-in verifier has no rule for: {criterion[:120]!r}; it can apply the rubrics of the "
        "built-in rubricator only"
    )


def _read(text: str) -> tuple[str, list[str], str]:
    try:
        question, answers = read_block(text)
    except ValueError as fault:
        raise NotJudgeable(f"there is no group in the message ({fault})") from fault
    opening = _TAG.search(text)
    assert opening is not None  # read_block has found it
    return question, answers, opening[1]


def _solve(question_text: str) -> Solution:
    try:
        return solve(question_text)
    except Unsolvable as fault:
        raise NotJudgeable(f"the built-in judge can't work this task out: {fault}") from fault


def _between(text: str, name: str, tag: str) -> str | None:
    """Return what stands in the last ``<name-TAG>…</name-TAG>`` of a message; no answer can write one."""
    opening, closing = f"<{name}-{tag}>", f"</{name}-{tag}>"
    start = text.rfind(opening)
    end = text.find(closing, start)
    return text[start + len(opening) : end] if start >= 0 and end >= 0 else None

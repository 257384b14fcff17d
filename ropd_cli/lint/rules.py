"""The rules that are certain: they read verdicts and weights, or look for what can be taken in one way only."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from ropd_cli.answers.exact_match import normalise
from ropd_cli.lint.language import language
from ropd_cli.lint.records import Finding, Linted, Rule, linted
from ropd_cli.method.block import render_question
from ropd_cli.method.scoring import group_stats, score
from ropd_cli.records.schemas import Group, RubricRecord, VerdictRecord
from ropd_cli.util.counted import counted

log = logging.getLogger(__name__)

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("met-by-all", "criterion that all rollouts meet", "It pays every rollout the same and separates none."),
        Rule("met-by-none", "criterion that no rollout meets", "It separates no two rollouts."),
        Rule("near-duplicate", "criteria that ask the same", "One thing is paid twice."),
        Rule("compound", "several claims in one criterion", "A rollout that does one of two gets nothing for it."),
        Rule(
            "mentions-reference",
            "refers to a reference or a teacher",
            "The verifier does not know which answer that is, and the student is taught to imitate.",
            "error",
        ),
        Rule(
            "gives-answer-away",
            "states the final answer",
            "The verifier matches a string that may be wrong, in place of judging the work.",
        ),
        Rule("vague", "a word of praise without an object", "Two judges read it in two ways."),
        Rule("flat-weights", "all criteria weigh the same", "What is decisive counts no more than what is routine."),
        Rule("dominated", "one criterion outweighs all others", "The reward is that one verdict."),
        Rule("format-heavy", "format is worth more than 1", "The student learns the looks first."),
        Rule(
            "teacher-below-student",
            "the teacher's answers score below the rollouts",
            "The rubric rewards something that the better answers lack, or the student has caught up.",
            "error",
        ),
        Rule("language", "written in another language than the prompt", "Judges obey it less well."),
    )
}
"""By name, in the order in which findings are listed."""
JUDGE_KINDS = ("near-duplicate", "compound", "mentions-reference", "gives-answer-away", "vague", "format-heavy")
"""The rules that the lint judge looks for; "compound" and "vague" nobody else finds."""
FORMAT_WORTH = 1
"""So many points a matter of surface format is worth, where the task does not demand it."""


def in_order(findings: list[Finding]) -> list[Finding]:
    """Findings in the order of the rules, without those that say the same of the same criteria again."""
    first: dict[tuple[str, frozenset[str]], Finding] = {}
    for finding in findings:
        first.setdefault((finding.rule, frozenset(finding.criteria)), finding)
    return sorted(first.values(), key=lambda finding: list(RULES).index(finding.rule))


FEWEST = 2
"""Judged rollouts from which on "all" and "none" say something."""
FEWEST_ALIKE = 5
"""Rollouts judged by two criteria from which on it says something that the verdicts are the same …"""
FEWEST_OF_A_MARK = 2
"""… if so many of them meet both criteria, and so many neither: one answer that was cut off fails everything."""
_REFERENCE = re.compile(
    r"\b(?:reference|teacher(?:['’]?s)?|gold(?:en)?(?:[ -]standard)?|ground[- ]truth|expert(?:['’]s)?|model|sample)\s+"
    r"(?:answer|solution|response)s?\b|\banswer key\b|\b(?:Musterlösung|solución de referencia|réponse de référence)"
    r"|参考答案|标准答案|教师的?(?:答案|回答)|模範解答",
    re.IGNORECASE,
)
_FORMAT = re.compile(
    r"\b(?:boxed|bullet(?:ed)?|markdown|italics|emojis?|numbered lists?|sub-?headings?|section headings?|blank lines?"
    r"|fenced|(?:in|uses?) bold|horizontal rules?)\b|项目符号|加粗|小标题|箇条書き",
    re.IGNORECASE,
)


def constant(value: bool, rule: str, message: str, linted: Linted) -> Iterator[Finding]:
    """Find criteria by which every rollout that was judged has the same mark."""
    for k, criterion in enumerate(linted.rubric.rubrics):
        marks = [mark for row in linted.student_JK if k < len(row) and (mark := row[k]) is not None]
        if len(marks) >= FEWEST and all(mark is value for mark in marks):
            yield Finding(rule, message.format(len(marks)), (criterion.criterion_id,))


def near_duplicate(linted: Linted) -> Iterator[Finding]:
    """Find criteria of the same words, and those that every answer meets all or none of: they pay one thing twice."""
    same: dict[str, list[str]] = {}
    for criterion in linted.rubric.rubrics:
        same.setdefault(" ".join(criterion.criterion.lower().split()), []).append(criterion.criterion_id)
    repeated = [tuple(ids) for ids in same.values() if len(ids) > 1]
    for ids in repeated:
        yield Finding("near-duplicate", f"{' and '.join(ids)} are the same words", ids)
    width = len(linted.rubric.rubrics)
    rows = [row for row in (*linted.student_JK, *linted.teacher_JK) if len(row) == width]
    students = sum(len(row) == width for row in linted.student_JK)
    alike: dict[tuple[bool | None, ...], list[str]] = {}
    for k, criterion in enumerate(linted.rubric.rubrics):
        alike.setdefault(tuple(row[k] for row in rows), []).append(criterion.criterion_id)
    for marks, together in alike.items():
        ids = tuple(together)
        counts = marks[:students].count(True), marks[:students].count(False)
        certain = None not in marks and students >= FEWEST_ALIKE and min(counts) >= FEWEST_OF_A_MARK
        if len(ids) > 1 and ids not in repeated and certain:
            how, none = ("both", "neither") if len(ids) == 2 else ("all of", "none")
            yield Finding("near-duplicate", f"every answer meets {how} {' and '.join(ids)}, or {none}", ids)


def mentions_reference(linted: Linted) -> Iterator[Finding]:
    """Find criteria that name a reference answer, unless the question has the same words."""
    question = (linted.question or "").lower()
    for criterion in linted.rubric.rubrics:
        for words in _REFERENCE.findall(criterion.criterion):
            if words.lower() not in question:
                yield Finding("mentions-reference", f"“{words}”", (criterion.criterion_id,))
                break


def gives_answer_away(linted: Linted) -> Iterator[Finding]:
    """Find criteria in which the prompt's ``answer`` stands as it is, where it does not stand in the question.

    An answer of one character ("5", "C") and yes or no stand in too many sentences to say anything.
    """
    answer = _folded(normalise(linted.answer or ""))
    if len(answer) < 2 or answer in ("yes", "no", "true", "false"):
        return
    # part of a word, of a longer number or of a calculation is another thing
    place = re.compile(rf"(?<![\w.,^/*+=-]){re.escape(answer)}(?![\w^/*+=%'’-]|[.,]\d)")
    if not answer.isascii():
        place = re.compile(re.escape(answer))  # scripts without spaces between words
    if place.search(_folded(linted.question or "")):
        return
    for criterion in linted.rubric.rubrics:
        if place.search(_folded(criterion.criterion)):
            yield Finding("gives-answer-away", f"it states the final answer, {answer}", (criterion.criterion_id,))


def _folded(text: str) -> str:
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.replace("$", " ").split())


def flat_weights(linted: Linted) -> Iterator[Finding]:
    """Find that all criteria weigh the same."""
    weights = linted.rubric.weights_K
    if len(weights) > 2 and len(set(weights)) == 1:
        yield Finding("flat-weights", f"all {len(weights)} criteria have {counted(weights[0], 'point')}")


def dominated(linted: Linted) -> Iterator[Finding]:
    """Find a criterion that weighs as much as all others together, or more."""
    total = sum(linted.rubric.weights_K)
    for criterion in linted.rubric.rubrics:
        if len(linted.rubric.rubrics) > 1 and 2 * criterion.points >= total:
            yield Finding("dominated", f"{criterion.points} of {counted(total, 'point')}", (criterion.criterion_id,))


def format_heavy(linted: Linted) -> Iterator[Finding]:
    """Find criteria about surface format of more than 1 point, where the question speaks of no such format."""
    question = linted.question or ""
    if _FORMAT.search(question) or re.search(r"format|markdown|格式", question, re.IGNORECASE):
        return
    for criterion in linted.rubric.rubrics:
        if criterion.points > FORMAT_WORTH and (words := _FORMAT.search(criterion.criterion)):
            yield Finding("format-heavy", f"{criterion.points} points for “{words[0]}”", (criterion.criterion_id,))


def teacher_below_student(linted: Linted) -> Iterator[Finding]:
    """Find that the teacher's mean score lies below the rollouts'; by the judgements where no scores are given."""
    students = linted.student_scores or _scores(linted, linted.student_JK)
    teachers = linted.teacher_scores or _scores(linted, linted.teacher_JK)
    stats = group_stats(students, teachers)
    if stats.teacher_below_student:
        yield Finding("teacher-below-student", f"teacher {stats.teacher_mean:.2f}, rollouts {stats.mean:.2f}")


def _scores(linted: Linted, rows: Sequence[Sequence[bool | None]]) -> list[float | None]:
    weights = linted.rubric.weights_K
    return [score(row, weights) for row in rows if len(row) == len(weights)]


_CHECKS: dict[str, Callable[[Linted], Iterable[Finding]]] = {
    "met-by-all": partial(constant, True, "met-by-all", "all rollouts ({}) meet it"),
    "met-by-none": partial(constant, False, "met-by-none", "no rollout of {} meets it"),
    "near-duplicate": near_duplicate,
    "mentions-reference": mentions_reference,
    "gives-answer-away": gives_answer_away,
    "flat-weights": flat_weights,
    "dominated": dominated,
    "format-heavy": format_heavy,
    "teacher-below-student": teacher_below_student,
    "language": language,
}
CERTAIN = tuple(_CHECKS)
"""Names of the rules that need no judge, in the order of RULES."""


def lint(rubric: Linted, rules: Iterable[str] = CERTAIN) -> list[Finding]:
    """Return what the rules of these names find, in their order; of one rule in the order of the criteria. Nothing of a
    rubric by the built-in provider, for which they are not made."""
    return [] if rubric.by_rules else [finding for name in rules for finding in _CHECKS[name](rubric)]


def lint_group(group: Group, record: RubricRecord, verdicts: VerdictRecord | None) -> list[Finding] | None:
    """Return what the linter finds in the rubric of a group, or in those of its rollouts; None where it failed itself:
    a rule that stumbles over a rubric is logged, and is no reason to lose a group."""
    question = render_question([message.model_dump(mode="json") for message in group.prompt])
    try:
        return [finding for each in linted(record, verdicts, question, group.answer) for finding in lint(each)]
    except Exception as fault:
        log.warning("the linter failed on uid %s: %r", group.uid, fault)
        return None

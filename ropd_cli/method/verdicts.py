"""Turn the judgements on a group's answers into verdicts and scores (steps 4 and 5). A missing judgement stays None all
the way: it is never counted as failed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from ropd_cli.config import JudgeConfig
from ropd_cli.errors import JudgeError
from ropd_cli.method.block import Block, Source
from ropd_cli.method.replies import Judgements, RawScores
from ropd_cli.method.scoring import coverage, judged_for_all, score
from ropd_cli.records.schemas import AnswerVerdict, Group, Rubric

Rubrics = Mapping[int | None, Rubric]
"""By the rollout that a rubric is for; None: for all of them."""
Row = tuple[bool | None, ...]
Rows = Mapping[tuple[int | None, str, int], Row | None]
"""By (whose rubric, source, index) the judgements of an answer that was shown, shape (K,); None where the call about
it failed."""


def majority(votes: Sequence[Judgements], repeats: int) -> Judgements:
    """What more than half of ``repeats`` votes say, value by value; None where neither does.

    A vote that is not there counts for neither side. Each vote has the shape (answers, K), and so has the result.
    """
    if repeats == 1:
        return votes[0]
    return tuple([tuple([_decided(values, repeats) for values in _columns(rows)]) for rows in _columns(votes)])


def median_scores(votes: Sequence[RawScores], repeats: int) -> tuple[float | None, ...]:
    """The median of the scores that ``repeats`` calls gave each answer, shape (answers,); None for an answer that no
    more than half of them scored.

    The median is to scores what the majority is to verdicts (of zeros and ones they are the same): one reply that is
    far off, or was talked into its score, does not move it. Of an even number of scores it is the mean of the two in
    the middle. Each vote has the shape (answers,).
    """
    known = [[score for score in scores if score is not None] for scores in _columns(votes)]
    return tuple([float(median(scores)) if 2 * len(scores) > repeats else None for scores in known])


def agreement(questions: Sequence[Sequence[Judgements]]) -> float | None:
    """Share of (answer, criterion) on which all votes on a question agree, in [0, 1], over the questions with more than
    one vote; None where there is none."""
    return _agreed(
        values for votes in questions if len(votes) > 1 for rows in _columns(votes) for values in _columns(rows)
    )


def score_agreement(questions: Sequence[Sequence[RawScores]]) -> float | None:
    """As ``agreement``, the share of answers to which all votes give the same score."""
    return _agreed(scores for votes in questions if len(votes) > 1 for scores in _columns(votes))


def score_answers(
    group: Group, block: Block, rubrics: Rubrics, rows: Rows, settings: JudgeConfig
) -> tuple[tuple[AnswerVerdict, ...], float | None]:
    """The verdict on each rollout, then on each teacher answer, in their own order; and the coverage. ``block`` is
    the group's whole one.

    Scores are computed here, from the judgements alone, over the criteria that were judged for every rollout
    shown: the rollouts of a group are compared with each other, so all are measured by the same criteria. With a
    rubric for each rollout each is measured by its own, and a teacher answer has a verdict by each
    (``rubric_of``). Raises JudgeError where what was judged holds less than ``settings.min_coverage`` of the
    rubric's weight (of every rollout's rubric).
    """
    if not rows:
        nothing = [_not_shown("student", k, settings) for k in range(len(group.rollouts))]
        nothing += [_not_shown("teacher", k, settings) for k in range(len(group.teacher_answers))]
        return tuple(nothing), None
    if None in rubrics:
        return _by_shared_rubric(group, rubrics[None], rows, settings)
    answered = {block.answers[k - 1].index for k in block.rollouts}
    return _by_own_rubric(group, rubrics, rows, settings, answered)


def scored_answers(
    group: Group, raw: Mapping[int, float | None], top: int, settings: JudgeConfig
) -> tuple[AnswerVerdict, ...]:
    """The verdict on each rollout where a judge gives each one score and knows no rubric: ``score`` is the judge's over
    ``top``, in [0, 1], and ``raw_score`` the judge's own. ``raw`` has the rollouts that were shown, by index; None for
    one whose score is missing."""
    verdicts = []
    for index in range(len(group.rollouts)):
        if index not in raw:
            verdicts.append(_not_shown("student", index, settings))
            continue
        value = raw[index]
        score = None if value is None else value / top
        verdicts.append(AnswerVerdict(source="student", index=index, judgement=(), score=score, raw_score=value))
    return tuple(verdicts)


def _by_shared_rubric(
    group: Group, rubric: Rubric, rows: Rows, settings: JudgeConfig
) -> tuple[tuple[AnswerVerdict, ...], float | None]:
    """By the rubric that all rollouts share."""
    weights_K = rubric.weights_K
    # C of docs/method.md: scored each over its own criteria, the rollout whose hard one went unjudged would gain
    counted_K = judged_for_all([row for (_, source, _), row in rows.items() if source == "student" and row is not None])
    covered = coverage(counted_K, weights_K)
    if covered < settings.min_coverage:
        raise _too_little_judged(
            group, f"only {covered:.0%} of the rubric's weight was judged for all rollouts", settings
        )
    counted = None if all(counted_K) else counted_K

    def verdict(source: Source, index: int) -> AnswerVerdict:
        if (None, source, index) not in rows:
            return _not_shown(source, index, settings)
        row = rows[None, source, index]
        if row is None:
            return AnswerVerdict(source=source, index=index, judgement=(None,) * len(weights_K), score=None)
        return AnswerVerdict(source=source, index=index, judgement=row, score=score(row, weights_K, counted))

    students = tuple([verdict("student", index) for index in range(len(group.rollouts))])
    return students + tuple([verdict("teacher", index) for index in range(len(group.teacher_answers))]), covered


def _by_own_rubric(
    group: Group, rubrics: Rubrics, rows: Rows, settings: JudgeConfig, answered: Collection[int]
) -> tuple[tuple[AnswerVerdict, ...], float | None]:
    """Each rollout by its own rubric; one that has an answer and no rubric is missing. The coverage is the least of
    those that are enough."""
    verdicts: list[AnswerVerdict] = []
    coverages: list[float] = []
    for (of, source, index), row in sorted(rows.items(), key=lambda item: (item[0][1], item[0][2], item[0][0] or 0)):
        rubric = rubrics[of]
        judgement = row or (None,) * len(rubric.rubrics)
        counted_K = [value is not None for value in judgement]
        covered = coverage(counted_K, rubric.weights_K)
        enough = covered >= settings.min_coverage
        if enough and source == "student":
            coverages.append(covered)
        value = score(judgement, rubric.weights_K, counted_K) if enough else None
        verdicts.append(AnswerVerdict(source=source, index=index, judgement=judgement, score=value, rubric_of=of))
    if not coverages:
        raise _too_little_judged(group, "too little of every rollout's rubric was judged", settings)
    judged = {each.index: each for each in verdicts if each.source == "student"}
    students = [
        judged.get(k) or _not_shown("student", k, settings, failed=k in answered) for k in range(len(group.rollouts))
    ]
    return tuple(students + [each for each in verdicts if each.source == "teacher"]), min(coverages)


def _not_shown(source: Source, index: int, settings: JudgeConfig, *, failed: bool = False) -> AnswerVerdict:
    """Of an answer that no judge was shown: a rollout without an answer is the policy's failure."""
    is_zero = source == "student" and settings.on_no_answer == "zero" and not failed
    return AnswerVerdict(source=source, index=index, judgement=(), score=0.0 if is_zero else None)


def _too_little_judged(group: Group, what: str, settings: JudgeConfig) -> JudgeError:
    return JudgeError(
        f"uid {group.uid}: {what}, less than judge.min_coverage {settings.min_coverage:.0%}",
        "asked again it is the same reply, from the cache: ask another verifier, or lower judge.min_coverage",
    )


def _agreed(cells: Iterable[Sequence[object]]) -> float | None:
    same = [len(set(values)) == 1 for values in cells]
    return sum(same) / len(same) if same else None


def _columns(rows: Sequence[Sequence[Any]]) -> Iterable[tuple[Any, ...]]:
    return zip(*rows, strict=True)


def _decided(values: Sequence[bool | None], repeats: int) -> bool | None:
    for side in (True, False):
        if sum(value is side for value in values) * 2 > repeats:
            return side
    return None

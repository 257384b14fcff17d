"""How far two judgings of the same groups agree, and how often one judge changes its mind.

Judgements, scores and advantages of the same answers are compared; what one of the two has not judged is left out and
counted. The unit of every interval is the group, since answers of one group share a rubric and a reply.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ropd_cli.analysis.intervals import Interval, problem_mean, problem_ratio, unbounded_mean
from ropd_cli.analysis.judged_groups import without_numbers
from ropd_cli.method.scoring import advantages
from ropd_cli.records.schemas import AnswerVerdict, Criterion, RubricRecord, VerdictRecord

WORST = 10
FEWEST = 5
"""Judgements from which on a criterion is listed among the worst."""
_SAME = 1e-6
"""Scores and advantages that differ by less are the same."""


@dataclass(frozen=True)
class Pair:
    """One group under two judgings. ``first`` is the saved one; ``repeats`` are all of the new one, in order."""

    step: int
    uid: str
    first: VerdictRecord
    first_rubric: RubricRecord
    repeats: tuple[VerdictRecord, ...]
    second_rubric: RubricRecord

    @property
    def second(self) -> VerdictRecord:
        return self.repeats[0]

    @property
    def same_rubric(self) -> bool:
        """Whether criteria can be compared one by one."""
        return self.first_rubric.rubric_hash == self.second_rubric.rubric_hash


Cells = Counter[tuple[bool, bool]]
"""Pairs of judgements by value: both true, the first alone, the second alone, both false."""


def _agreed(cells: Cells) -> int:
    return cells[True, True] + cells[False, False]


def kappa(cells: Cells) -> float | None:
    """Return Cohen's kappa, (p_o - p_e) / (1 - p_e), of pairs of true/false judgements; None of none.

    Where both judges always say the same one value, p_e is 1 and kappa is not defined; it is given as 1, since they
    agree in everything.
    """
    n = cells.total()
    if not n:
        return None
    observed = (cells[True, True] + cells[False, False]) / n
    first = (cells[True, True] + cells[True, False]) / n
    second = (cells[True, True] + cells[False, True]) / n
    by_chance = first * second + (1 - first) * (1 - second)
    return 1.0 if by_chance >= 1.0 else (observed - by_chance) / (1 - by_chance)


def pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return the product-moment correlation; None where one side has no spread."""
    if len(x) < 2 or min(max(side) - min(side) for side in (x, y)) < _SAME:
        return None
    return statistics.correlation(x, y)


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return the rank correlation, ties with their mean rank; None where one side has no spread."""
    return _of_ranks("spearmanr", x, y)


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Kendall's tau-b; None where one side has no spread."""
    return _of_ranks("kendalltau", x, y)


def _of_ranks(name: str, x: Sequence[float], y: Sequence[float]) -> float | None:
    from scipy import stats

    first, second = ([round(value, 6) for value in side] for side in (x, y))  # what differs by less is a tie
    if min(len(set(first)), len(set(second))) < 2:
        return None
    return float(getattr(stats, name)(first, second).statistic)


def figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return everything that is compared (``Agreement``). Raises ValueError without pairs."""
    if not pairs:
        raise ValueError("no groups to compare")
    alike = [pair for pair in pairs if pair.same_rubric]
    return {
        "groups": len(pairs),
        "same_rubric": len(alike),
        "saved": _judge(pair.first for pair in pairs),
        "new": _judge(pair.second for pair in pairs),
        "judgements": _judgements(alike) if alike else None,
        "scores": _scores(pairs),
        "advantages": _advantages(pairs),
        "teacher": _teacher(pairs),
        "flips": _flips([pair for pair in pairs if len(pair.repeats) > 1]),
    }


def _judge(records: Iterable[VerdictRecord]) -> dict[str, Any]:
    records = list(records)
    return {
        "models": sorted({record.model for record in records}),
        "template_hashes": sorted({record.template_hash for record in records}),
    }


# --- judgements ------------------------------------------------------------------------------------------------------


@dataclass
class _Judgements:
    """Pairs of judgements, by group, source, category and criterion; ``missing`` of one side or the other."""

    groups: list[Cells] = field(default_factory=list)
    sources: dict[str, Cells] = field(default_factory=lambda: defaultdict(Counter))
    categories: dict[str, Cells] = field(default_factory=lambda: defaultdict(Counter))
    criteria: dict[str, Cells] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, pair: Pair, compared: Iterable[tuple[VerdictRecord, VerdictRecord]], rubric: RubricRecord) -> None:
        """Count what two records each say of a group."""
        cells: Cells = Counter()
        for one, other in compared:
            for source, criterion, a, b in _marks(one, other, rubric):
                self.missing[0] += a is None
                self.missing[1] += b is None
                if a is None or b is None:
                    continue
                key = without_numbers(criterion.criterion)
                about = {"criterion": criterion.criterion, "category": criterion.category}
                self.examples.setdefault(key, about | {"step": pair.step, "uid": pair.uid})
                for counts in (cells, self.sources[source], self.categories[criterion.category], self.criteria[key]):
                    counts[a, b] += 1
        if cells:
            self.groups.append(cells)

    @property
    def whole(self) -> Cells:
        return sum(self.groups, Counter())

    def worst(self) -> list[str]:
        """Return the keys of the criteria on which the two differ most."""
        often = {key: cells for key, cells in self.criteria.items() if cells.total() >= FEWEST}
        shares = sorted((_agreed(cells) / cells.total(), key) for key, cells in often.items())
        return [key for share, key in shares if share < 1][:WORST]


def _marks(
    one: VerdictRecord, other: VerdictRecord, rubric: RubricRecord
) -> Iterator[tuple[str, Criterion, bool | None, bool | None]]:
    """Yield (source, criterion, mark, other mark) of the answers that both were shown."""

    def by_answer(record: VerdictRecord) -> dict[tuple[str, int, int | None], AnswerVerdict]:
        return {(a.source, a.index, a.whose_rubric): a for a in record.answers if a.judgement}

    mine, theirs = by_answer(one), by_answer(other)
    for key in mine.keys() & theirs.keys():
        own = rubric.by_rollout.get(key[2])
        a, b = mine[key].judgement, theirs[key].judgement
        if own is not None and len(a) == len(b) == len(own.rubrics):
            yield from ((key[0], *row) for row in zip(own.rubrics, a, b, strict=True))


def _judgements(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return how far the saved and the new judgements agree."""
    counted = _Judgements()
    for pair in pairs:
        counted.add(pair, [(pair.first, pair.second)], pair.first_rubric)

    def agreement(cells: Cells) -> dict[str, Any]:
        return {"n": cells.total(), "agreement": _agreed(cells) / cells.total(), "kappa": kappa(cells)}

    whole = counted.whole
    saved, new = counted.missing
    document: dict[str, Any] = {"n": whole.total(), "missing": {"saved": saved, "new": new}}
    if whole:
        agreed = problem_ratio(list(map(_agreed, counted.groups)), [cells.total() for cells in counted.groups])
        document["agreement"] = _interval(agreed)
        document["kappa"] = _interval(_kappa_interval(whole, counted.groups))
    document["sources"] = {name: agreement(cells) for name, cells in sorted(counted.sources.items())}
    document["categories"] = {name: agreement(cells) for name, cells in sorted(counted.categories.items())}
    document["criteria"] = [counted.examples[key] | agreement(counted.criteria[key]) for key in counted.worst()]
    return document


def _kappa_interval(whole: Cells, groups: Sequence[Cells]) -> Interval | None:
    """Return kappa with Student's interval from leaving out one group at a time. Without limits where that says nothing
    of the spread: of one group, or where the judges agree in everything once a group is left out."""
    value = kappa(whole)
    if value is None:
        return None
    without = [Counter({cell: whole[cell] - group[cell] for cell in whole}) for group in groups]
    if len(groups) < 2 or any(_agreed(cells) == cells.total() for cells in without):
        return Interval(value, -math.inf, math.inf)
    # the jackknife's pseudo-values; their mean has the spread that kappa has
    n, left = len(groups), [kappa(cells) for cells in without]
    spread = unbounded_mean([n * value - (n - 1) * (value if k is None else k) for k in left])
    half = spread.high - spread.mean
    return Interval(value, max(-1.0, value - half), min(1.0, value + half))


# --- scores ----------------------------------------------------------------------------------------------------------


def _both(pair: Pair, *, unanswered: bool = False) -> tuple[list[float], list[float]]:
    """Return the scores of the rollouts that both judged, in their order; ``unanswered``: also of those that no judge
    was shown, which are trained on as 0 unless ``judge.on_no_answer`` drops them."""

    def scores(record: VerdictRecord) -> dict[int, float]:
        shown = [a for a in record.answers if a.source == "student" and (unanswered or a.judgement)]
        return {a.index: a.score for a in shown if a.score is not None}

    first, second = scores(pair.first), scores(pair.second)
    common = sorted(first.keys() & second.keys())
    return [first[k] for k in common], [second[k] for k in common]


def _scores(pairs: Sequence[Pair]) -> dict[str, Any]:
    groups = [(x, y) for x, y in map(_both, pairs) if x]
    x, y = [v for one, _ in groups for v in one], [v for _, other in groups for v in other]
    if not x:
        return {"n": 0}
    taus = [tau for one, other in groups if (tau := kendall(one, other)) is not None]
    within = [r for one, other in groups if (r := pearson(one, other)) is not None]
    means = [(math.fsum(a) / len(a), math.fsum(b) / len(b)) for a, b in groups]
    return {
        "n": len(x),
        "mean_saved": math.fsum(a for a, _ in means) / len(means),
        "mean_new": math.fsum(b for _, b in means) / len(means),
        "difference": _interval(unbounded_mean([b - a for a, b in means])),
        "pearson": pearson(x, y),
        "spearman": spearman(x, y),
        "within_groups": {
            "pearson": math.fsum(within) / len(within) if within else None,
            "kendall": math.fsum(taus) / len(taus) if taus else None,
            "groups": len(taus),
        },
    }


def _signs(pair: Pair) -> tuple[list[int], list[int]] | None:
    """Return the signs of r_i - mean(r) under the two, 0 as a sign of its own; None below two rollouts."""
    x, y = _both(pair, unanswered=True)
    if len(x) < 2:
        return None
    before, after = ([_sign(a or 0.0) for a in advantages(side, by_std=False)] for side in (x, y))
    return before, after


def _changes(before: Sequence[int], after: Sequence[int]) -> int:
    return sum(a != b for a, b in zip(before, after, strict=True))


def _advantages(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return how many rollouts would be pushed elsewhere, and how many groups begin or cease to teach."""
    signs = [both for both in map(_signs, pairs) if both]
    of = [len(before) for before, _ in signs]
    return {
        "n": sum(of),
        "groups": len(of),
        "sign_changes": _interval(problem_ratio([_changes(*both) for both in signs], of)) if of else None,
        "died": sum(any(before) and not any(after) for before, after in signs),
        "revived": sum(any(after) and not any(before) for before, after in signs),
    }


def _teacher(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the share of the groups in which the teacher's mean is above the rollouts', and of the pairs (teacher
    answer, rollout) that the teacher's answer wins, a tie as a half."""
    document: dict[str, Any] = {"groups": 0}
    sides: dict[str, list[tuple[float, float]]] = {"saved": [], "new": []}
    for pair in pairs:
        both = []
        for record in (pair.first, pair.second):
            scores = {
                source: [a.score for a in record.answers if a.source == source and a.judgement and a.score is not None]
                for source in ("teacher", "student")
            }
            teacher, student = scores["teacher"], scores["student"]
            if teacher and student:
                above = math.fsum(teacher) / len(teacher) > math.fsum(student) / len(student) + _SAME
                wins = [0.5 + 0.5 * _sign(t - s) for t in teacher for s in student]
                both.append((float(above), sum(wins) / len(wins)))
        if len(both) == 2:
            document["groups"] += 1
            sides["saved"].append(both[0])
            sides["new"].append(both[1])
    if document["groups"]:
        for name, rows in sides.items():
            document[name] = {
                "above": _interval(problem_mean([above for above, _ in rows])),
                "wins": _interval(problem_mean([wins for _, wins in rows])),
            }
    return document


# --- flips -----------------------------------------------------------------------------------------------------------


def _flips(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """Return how often a judgement is another one when the same question is asked again: repeats against the first."""
    if not pairs:
        return None
    counted, changes, of = _Judgements(), [], []
    for pair in pairs:
        rubric = pair.second_rubric
        counted.add(pair, [(pair.second, other) for other in pair.repeats[1:]], rubric)
        again = [Pair(pair.step, pair.uid, pair.second, rubric, (other,), rubric) for other in pair.repeats[1:]]
        signs = [both for both in map(_signs, again) if both]
        if signs:
            changes.append(sum(_changes(*both) for both in signs))
            of.append(sum(len(before) for before, _ in signs))

    def flipped(cells: Cells) -> int:
        return cells.total() - _agreed(cells)

    def rate(cells: Cells) -> dict[str, Any]:
        return {"n": cells.total(), "rate": flipped(cells) / cells.total()}

    totals = [cells.total() for cells in counted.groups]
    return {
        "repeats": max(len(pair.repeats) for pair in pairs),
        "groups": len(totals),
        "n": sum(totals),
        "rate": _interval(problem_ratio(list(map(flipped, counted.groups)), totals)) if totals else None,
        "sign_changes": _interval(problem_ratio(changes, of)) if of else None,
        "categories": {name: rate(cells) for name, cells in sorted(counted.categories.items())},
        "criteria": [counted.examples[key] | rate(counted.criteria[key]) for key in counted.worst()],
    }


def _interval(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    return {
        "value": interval.mean,
        "low": interval.low if math.isfinite(interval.low) else None,
        "high": interval.high if math.isfinite(interval.high) else None,
    }


def _sign(value: float) -> int:
    return 0 if abs(value) < _SAME else 1 if value > 0 else -1

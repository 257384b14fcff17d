"""How far two judgings of the same groups agree, and how often one judge changes its mind.

Judgements, scores and advantages of the same answers are compared; what one of the two has not judged is left out and
counted. The unit of every interval is the group, since answers of one group share a rubric and a reply.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ropd_cli.analysis.intervals import Interval, problem_mean, problem_ratio, unbounded_mean
from ropd_cli.method.scoring import advantages
from ropd_cli.records.schemas import AnswerVerdict, Criterion, RubricRecord, VerdictRecord

WORST = 10
FEWEST = 5
"""Judgements from which on a criterion is listed among the worst."""
_SAME = 1e-6
"""Scores and advantages that differ by less are the same."""
_NUMBERS = re.compile(r"-?\d+(?:[.,]\d+)*")


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


@dataclass
class Table:
    """Pairs of judgements by value: both true, the first alone, the second alone, both false."""

    cells: Counter[tuple[bool, bool]] = field(default_factory=Counter)

    def add(self, pairs: Iterable[tuple[bool, bool]]) -> None:
        self.cells.update(pairs)

    @property
    def n(self) -> int:
        return self.cells.total()

    @property
    def agreed(self) -> int:
        return self.cells[True, True] + self.cells[False, False]

    @property
    def agreement(self) -> float | None:
        return self.agreed / self.n if self.n else None

    @property
    def kappa(self) -> float | None:
        return kappa(self.cells)

    def to_json(self) -> dict[str, Any]:
        return {"n": self.n, "agreement": self.agreement, "kappa": self.kappa}


def kappa(cells: Counter[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa, (p_o - p_e) / (1 - p_e), of pairs of true/false judgements; None of none.

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
    """Product-moment correlation; None where one side has no spread."""
    n = len(x)
    if n < 2:
        return None
    mx, my = math.fsum(x) / n, math.fsum(y) / n
    dx, dy = [a - mx for a in x], [b - my for b in y]
    sx, sy = math.fsum(a * a for a in dx), math.fsum(b * b for b in dy)
    if sx < _SAME**2 or sy < _SAME**2:
        return None
    return math.fsum(a * b for a, b in zip(dx, dy, strict=True)) / math.sqrt(sx * sy)


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Rank correlation, ties with their mean rank; None where one side has no spread."""
    return pearson(_ranks(x), _ranks(y))


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Kendall's tau-b; None where one side has no spread."""
    concordant = discordant = tied_x = tied_y = 0
    for i in range(len(x)):
        for j in range(i):
            a, b = _sign(x[i] - x[j]), _sign(y[i] - y[j])
            if a * b > 0:
                concordant += 1
            elif a * b < 0:
                discordant += 1
            tied_x += not a
            tied_y += not b
    pairs = len(x) * (len(x) - 1) // 2
    below = (pairs - tied_x) * (pairs - tied_y)
    return (concordant - discordant) / math.sqrt(below) if below else None


def figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Everything that is compared, as JSON. Raises ValueError without pairs."""
    if not pairs:
        raise ValueError("no groups to compare")
    alike = [pair for pair in pairs if pair.same_rubric]
    found: dict[str, Any] = {
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
    return found


def _judge(records: Iterable[VerdictRecord]) -> dict[str, Any]:
    records = list(records)
    return {
        "models": sorted({record.model for record in records}),
        "template_hashes": sorted({record.template_hash for record in records}),
    }


# --- judgements ------------------------------------------------------------------------------------------------------


def _answers(record: VerdictRecord) -> dict[tuple[str, int, int | None], AnswerVerdict]:
    return {(a.source, a.index, a.whose_rubric): a for a in record.answers if a.judgement}


def _marks(
    one: VerdictRecord, other: VerdictRecord, rubric: RubricRecord
) -> Iterable[tuple[str, Criterion, bool | None, bool | None]]:
    """(source, criterion, mark, other mark) of the answers that both were shown."""
    mine, theirs, rubrics = _answers(one), _answers(other), rubric.by_rollout
    for key in mine.keys() & theirs.keys():
        own = rubrics.get(key[2])
        a, b = mine[key].judgement, theirs[key].judgement
        if own is not None and len(a) == len(b) == len(own.rubrics):
            yield from ((key[0], *row) for row in zip(own.rubrics, a, b, strict=True))


def _judgements(pairs: Sequence[Pair]) -> dict[str, Any]:
    by_group: list[Table] = []
    sources: dict[str, Table] = defaultdict(Table)
    categories: dict[str, Table] = defaultdict(Table)
    criteria: dict[str, Table] = defaultdict(Table)
    shown: dict[str, dict[str, Any]] = {}
    missing = Counter[str]()
    for pair in pairs:
        table = Table()
        for source, criterion, a, b in _marks(pair.first, pair.second, pair.first_rubric):
            missing["saved"] += a is None
            missing["new"] += b is None
            if a is None or b is None:
                continue
            key = _NUMBERS.sub("#", criterion.criterion)
            shown.setdefault(
                key,
                {"criterion": criterion.criterion, "category": criterion.category, "step": pair.step, "uid": pair.uid},
            )
            for each in (table, sources[source], categories[criterion.category], criteria[key]):
                each.add([(a, b)])
        by_group.append(table)
    whole = Table(sum((table.cells for table in by_group), Counter()))
    found: dict[str, Any] = {"n": whole.n, "missing": {name: missing[name] for name in ("saved", "new")}}
    if whole.n:
        agreed = problem_ratio([t.agreed for t in by_group if t.n], [t.n for t in by_group if t.n])
        found["agreement"] = _interval(agreed)
        found["kappa"] = _interval(_jackknife(whole.cells, [t.cells for t in by_group if t.n], kappa))
    found["sources"] = {name: table.to_json() for name, table in sorted(sources.items())}
    found["categories"] = {name: table.to_json() for name, table in sorted(categories.items())}
    worst = sorted((t.agreement or 0.0, key) for key, t in criteria.items() if t.n >= FEWEST and t.agreed < t.n)
    found["criteria"] = [shown[key] | criteria[key].to_json() for _, key in worst[:WORST]]
    return found


def _jackknife(
    whole: Counter[Any], parts: Sequence[Counter[Any]], of: Callable[[Counter[Any]], float | None]
) -> Interval | None:
    """Kappa of summed counts with Student's interval from leaving out one group at a time. Without limits where that
    says nothing of the spread: of one group, or where the judges agree in everything once a group is left out."""
    value = of(whole)
    if value is None:
        return None
    unknown = Interval(value, -math.inf, math.inf)
    if len(parts) < 2 or any(_agrees(Counter({cell: whole[cell] - part[cell] for cell in whole})) for part in parts):
        return unknown
    pseudo = []
    for part in parts:
        left = of(Counter({cell: whole[cell] - part[cell] for cell in whole}))
        pseudo.append(len(parts) * value - (len(parts) - 1) * (left if left is not None else value))
    spread = unbounded_mean(pseudo)
    half = spread.high - spread.mean
    return Interval(value, max(-1.0, value - half), min(1.0, value + half))


def _agrees(cells: Counter[Any]) -> bool:
    return not cells[True, False] and not cells[False, True]


# --- scores ----------------------------------------------------------------------------------------------------------


def _both(pair: Pair, *, unanswered: bool = False) -> tuple[list[float], list[float]]:
    """Scores of the rollouts that both judged, in the order of the rollouts; ``unanswered``: also of those that no
    judge was shown, which are trained on as 0 unless ``judge.on_no_answer`` drops them."""

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


def _advantages(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Signs of r_i - mean(r) under the two; 0 is a sign of its own."""
    changed, of, died, revived = [], [], 0, 0
    for pair in pairs:
        x, y = _both(pair, unanswered=True)
        if len(x) < 2:
            continue
        before, after = ([_sign(a or 0.0) for a in advantages(side, by_std=False)] for side in (x, y))
        changed.append(sum(a != b for a, b in zip(before, after, strict=True)))
        of.append(len(x))
        died += any(before) and not any(after)
        revived += any(after) and not any(before)
    return {
        "n": sum(of),
        "groups": len(of),
        "sign_changes": _interval(problem_ratio(changed, of)) if of else None,
        "died": died,
        "revived": revived,
    }


def _teacher(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Share of the groups in which the teacher's mean is above the rollouts', and of the pairs (teacher answer,
    rollout) that the teacher's answer wins, a tie as a half."""
    found: dict[str, Any] = {"groups": 0}
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
            found["groups"] += 1
            sides["saved"].append(both[0])
            sides["new"].append(both[1])
    if found["groups"]:
        for name, rows in sides.items():
            found[name] = {
                "above": _interval(problem_mean([above for above, _ in rows])),
                "wins": _interval(problem_mean([wins for _, wins in rows])),
            }
    return found


# --- flips -----------------------------------------------------------------------------------------------------------


def _flips(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """How often a judgement is another one when the same question is asked again: repeats against the first."""
    if not pairs:
        return None
    changed, of, signs, sign_of = [], [], [], []
    categories: dict[str, Counter[str]] = defaultdict(Counter)
    criteria: dict[str, Counter[str]] = defaultdict(Counter)
    shown: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        mine, total = 0, 0
        moved, rollouts = 0, 0
        for other in pair.repeats[1:]:
            for _, criterion, a, b in _marks(pair.second, other, pair.second_rubric):
                if a is None or b is None:
                    continue
                key = _NUMBERS.sub("#", criterion.criterion)
                shown.setdefault(
                    key,
                    {
                        "criterion": criterion.criterion,
                        "category": criterion.category,
                        "step": pair.step,
                        "uid": pair.uid,
                    },
                )
                for counts in (categories[criterion.category], criteria[key]):
                    counts["n"] += 1
                    counts["changed"] += a != b
                mine, total = mine + (a != b), total + 1
            again = Pair(pair.step, pair.uid, pair.second, pair.second_rubric, (other,), pair.second_rubric)
            x, y = _both(again, unanswered=True)
            if len(x) > 1:
                before, after = ([_sign(v or 0.0) for v in advantages(side, by_std=False)] for side in (x, y))
                moved += sum(a != b for a, b in zip(before, after, strict=True))
                rollouts += len(x)
        if total:
            changed.append(mine)
            of.append(total)
        if rollouts:
            signs.append(moved)
            sign_of.append(rollouts)

    def rate(counts: Counter[str]) -> dict[str, Any]:
        return {"n": counts["n"], "rate": counts["changed"] / counts["n"]}

    worst = sorted(((-c["changed"] / c["n"], key) for key, c in criteria.items() if c["n"] >= FEWEST and c["changed"]))
    return {
        "repeats": max(len(pair.repeats) for pair in pairs),
        "groups": len(of),
        "n": sum(of),
        "rate": _interval(problem_ratio(changed, of)) if of else None,
        "sign_changes": _interval(problem_ratio(signs, sign_of)) if sign_of else None,
        "categories": {name: rate(counts) for name, counts in sorted(categories.items())},
        "criteria": [shown[key] | rate(criteria[key]) for _, key in worst[:WORST]],
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


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end + 1 < len(order) and values[order[end + 1]] - values[order[at]] < _SAME:
            end += 1
        for k in range(at, end + 1):
            ranks[order[k]] = (at + end) / 2 + 1
        at = end + 1
    return ranks

"""A training run read from its files: its course, its groups, its criteria, and what went wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import yaml

from ropd_cli.analysis.group_files import step_files, step_of_file, views_of
from ropd_cli.analysis.intervals import Interval, difference_of_means
from ropd_cli.analysis.judged_groups import (
    GroupRow,
    GroupView,
    common_sentences,
    without_numbers,
)
from ropd_cli.errors import InputError, RopdError
from ropd_cli.index import TeacherIndex
from ropd_cli.lint.records import BY_RULES
from ropd_cli.records.files import read_journal
from ropd_cli.records.group_sources import STEPS
from ropd_cli.util.progress import NoProgress, Progress
from ropd_cli.util.yaml_text import load_yaml

IN_FULL = 8
"""Of each kind of group (best, worst, …), so many are shown in full."""
_HARDEST = 12


@dataclass
class Met:
    """How often criteria were met. ``weight`` is the sum of their points, ``count`` their number."""

    count: int = 0
    weight: int = 0
    student: int = 0
    student_of: int = 0
    teacher: int = 0
    teacher_of: int = 0

    def add(self, other: Met) -> None:
        """Count what another one has counted."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def student_rate(self) -> float | None:
        return self.student / self.student_of if self.student_of else None

    @property
    def teacher_rate(self) -> float | None:
        return self.teacher / self.teacher_of if self.teacher_of else None


@dataclass
class CriterionRow:
    """A criterion, or criteria that differ in their numbers alone (``texts``); ``row`` numbers a group that has it."""

    text: str
    category: str
    row: int
    texts: set[str] = field(default_factory=set)
    met: Met = field(default_factory=Met)

    @property
    def points(self) -> float:
        return self.met.weight / self.met.count

    @property
    def points_lost(self) -> float:
        """What it costs the rollouts: points lost by one of each group, over all groups that have the criterion."""
        return (1 - (self.met.student_rate or 0.0)) * self.met.weight if self.met.student_of else 0.0


@dataclass
class RunData:
    """One run, read."""

    path: Path
    config: dict[str, Any]
    versions: dict[str, Any]
    metrics: list[dict[str, Any]]
    validations: list[dict[str, Any]]
    best: dict[str, Any]
    result: dict[str, Any]
    stopped: dict[str, Any]
    skipped: int
    monitor: list[dict[str, Any]]
    teachers: tuple[str, ...] = ()
    """Models that the teacher's answers are of, where the index is still there."""
    spent_usd: float | None = None
    """What it has cost in all, with validations and with steps that were lost and made again; None where unknown."""
    written: float | None = None
    """When its last file of figures was written, in seconds since 1970."""
    rows: list[GroupRow] = field(default_factory=list)
    full: dict[int, GroupView] = field(default_factory=dict)
    """Groups in full, by their number in ``rows``."""
    chosen: dict[str, list[int]] = field(default_factory=dict)
    """Why they are in full: numbers of rows, by kind."""
    categories: dict[str, dict[int, Met]] = field(default_factory=dict)
    """By category and step."""
    hardest: list[CriterionRow] = field(default_factory=list)
    lint: dict[str, Counter[int]] = field(default_factory=dict)
    """Findings, by rule and step."""
    unfinished: list[int] = field(default_factory=list)
    """Steps of which there are groups, but no figures: the run ended within them. Their groups are not in ``rows``."""
    scale: int | None = None
    """The top of the judge's scale, where it gave one score per answer."""
    by_rules: bool = False
    """The built-in provider wrote the rubrics, and the linter is not made for these."""

    @property
    def name(self) -> str:
        """What it is called beside others: the directory, with its parent where it is just called "run"."""
        path = self.path.absolute()
        return f"{path.parent.name}/{path.name}" if path.name in ("run", "out") else path.name

    @property
    def is_supervised(self) -> bool:
        """Whether it is trained on the teacher's answers themselves (``method: sft``): no rollouts, no groups."""
        return self.config.get("method") == "sft"

    @property
    def has_rubrics(self) -> bool:
        """Whether rewards are by rubrics; so it is taken to be where nothing was judged."""
        return bool(self.categories) or not (self.scale or self.judged or self.is_supervised)

    @property
    def steps(self) -> list[int]:
        return sorted(set(map(step_of, self.rows)) | {int(row["step"]) for row in self.metrics})

    @property
    def planned_steps(self) -> int | None:
        steps = self.result.get("steps") or (self.config.get("train") or {}).get("steps")
        return int(steps) if isinstance(steps, int) else None

    def series(self, metric: str) -> list[tuple[int, float]]:
        """Return a metric by step, where it is there."""
        return [(int(row["step"]), float(row[metric])) for row in self.metrics if row.get(metric) is not None]

    def share_by_step(self, fits: Callable[[GroupRow], bool]) -> list[tuple[int, float]]:
        """Return the share of the groups of each step that ``fits`` is true of."""
        totals, fitting = Counter(map(step_of, self.rows)), Counter(step_of(row) for row in self.rows if fits(row))
        return [(step, fitting[step] / totals[step]) for step in sorted(totals)]

    def findings_by_step(self, rule: str) -> list[tuple[int, float]]:
        """Return the findings of a rule of the linter per group of each step."""
        totals = Counter(map(step_of, self.rows))
        return [(step, self.lint[rule][step] / totals[step]) for step in sorted(totals)]

    def category_totals(self) -> list[tuple[str, Met]]:
        """Return how often criteria of each category were met over the whole run, the weightiest first."""
        totals = []
        for name, by_step in self.categories.items():
            total = Met()
            for met in by_step.values():
                total.add(met)
            totals.append((name, total))
        return sorted(totals, key=lambda item: item[1].weight, reverse=True)

    @property
    def judged(self) -> list[GroupRow]:
        return [row for row in self.rows if row.mean is not None and row.error is None]

    @property
    def failed(self) -> list[GroupRow]:
        return [row for row in self.rows if row.error is not None]

    @property
    def ends(self) -> tuple[list[GroupRow], list[GroupRow]]:
        """The judged groups of the first and of the last third of the steps."""
        steps = sorted(set(map(step_of, self.judged)))
        third = len(steps) // 3
        if not third:
            return [], []
        first = [row for row in self.judged if step_of(row) <= steps[third - 1]]
        return first, [row for row in self.judged if step_of(row) >= steps[-third]]

    @property
    def trend(self) -> tuple[float, float, Interval] | None:
        """Mean reward of the groups in the first and the last third of the steps, and the change with its interval,
        groups as the unit; None where there are too few."""
        first, last = ([row.mean for row in part if row.mean is not None] for part in self.ends)
        change = difference_of_means(first, last)
        return (sum(first) / len(first), sum(last) / len(last), change) if change else None

    def thirds(self, metric: str) -> tuple[float, float] | None:
        """Return the mean of a metric in the first and in the last third of the steps; None where there are too few."""
        values = [value for _, value in self.series(metric)]
        third = len(values) // 3
        return (sum(values[:third]) / third, sum(values[-third:]) / third) if third else None

    def total(self, metric: str) -> float | None:
        """Return the sum of a metric over the steps; None where no step has it."""
        values = [value for _, value in self.series(metric)]
        return sum(values) if values else None

    @property
    def judging_usd(self) -> float | None:
        """What the steps' judging has cost, the monitor's with it; None without prices."""
        cost = self.total("judge/cost_usd")
        return None if cost is None else cost + (self.total("monitor/cost_usd") or 0.0)


def step_of(row: GroupRow) -> int:
    """Return the step of a run's group; 0 where another writer has left it out."""
    return row.step or 0


def read_run(path: Path, progress: Progress | None = None) -> RunData:
    """Read a run directory. Raises InputError where it holds no finished group (without groups: no finished step), or a
    file of it can't be read."""
    progress = progress or NoProgress()
    if not path.is_dir():
        raise InputError(f"{path}: no run directory", "give the --out of ropd train, or DIR/run of a quickstart")
    data = RunData(
        path=path,
        config=read_document(path / "config.yaml"),
        versions=read_document(path / "versions.json"),
        metrics=_lines(path / "metrics.jsonl"),
        validations=_lines(path / "validation.jsonl"),
        best=read_document(path / "best.json"),
        result=read_document(path / "result.json"),
        stopped=read_document(path / "stopped.json"),
        skipped=len(_lines(path / "skipped.jsonl")),
        monitor=_lines(path / "monitor.jsonl"),
    )
    data.teachers = teacher_models(data.config)
    data.spent_usd = read_document(path / "spent.json").get("usd")
    ends = [file for name in ("metrics.jsonl", "result.json", "stopped.json") if (file := path / name).is_file()]
    data.written = max((file.stat().st_mtime for file in ends), default=None)
    if data.is_supervised:
        if not data.metrics:
            raise InputError(f"{path}: no step is finished", "wait for the first step to finish")
        return data
    if data.stopped.get("message") and not any(path.glob(STEPS)):
        said = f"no step of this run is finished; it stopped: {data.stopped['message']}"
        raise InputError(f"{path}: {said}", str(data.stopped.get("hint") or f"see {path / 'train.log'}"))
    files = step_files(path)
    if finished := {int(row["step"]) for row in data.metrics}:
        data.unfinished = [step for step in map(step_of_file, files) if step not in finished]
        files = [file for file in files if step_of_file(file) in finished]
    criteria: dict[str, CriterionRow] = {}
    progress.start(len(files), "step")
    begins: list[int] = []
    common = common_sentences(views_of(files[0])) if files else frozenset()
    for file in files:
        begins.append(len(data.rows))
        for view in _trained_on(file):
            _book(data, criteria, view, common)
        progress.advance()
    progress.finish()
    if not data.rows:
        raise InputError(f"{path}: its group files hold no group", "wait for the first step to finish")
    data.hardest = _hardest(criteria.values())
    data.chosen = _choose(data)
    wanted = {number for numbers in data.chosen.values() for number in numbers} | {c.row for c in data.hardest}
    data.full = _in_full(files, begins, wanted)
    return data


def _trained_on(file: Path) -> Iterator[GroupView]:
    """Read a step's groups without those that a refill has replaced."""
    return (view for view in views_of(file) if view.left_out is None)


def _book(data: RunData, criteria: dict[str, CriterionRow], view: GroupView, common: frozenset[str]) -> None:
    """Add a group's line, its findings and its criteria to what is known of the run."""
    row = view.row(len(data.rows), common)
    data.rows.append(row)
    data.scale = data.scale or view.scale
    data.by_rules |= view.rubric is not None and view.rubric.model == BY_RULES
    for finding in view.findings:
        data.lint.setdefault(finding.rule, Counter())[step_of(row)] += 1
    for part in view.by_rubric:
        for k, criterion in enumerate(part.criteria.rubrics if part.criteria else ()):
            met = Met(1, criterion.points, *part.met("student", k), *part.met("teacher", k))
            data.categories.setdefault(criterion.category, defaultdict(Met))[step_of(row)].add(met)
            key = without_numbers(criterion.criterion)
            same = criteria.setdefault(key, CriterionRow(criterion.criterion, criterion.category, row.n))
            same.texts.add(criterion.criterion)
            same.met.add(met)


def _hardest(criteria: Iterable[CriterionRow]) -> list[CriterionRow]:
    """Return those that the teacher's answers meet and that cost the rollouts most."""
    # a criterion that the teacher's answers fail too says more of the rubric than of the student
    fair = [row for row in criteria if (rate := row.met.teacher_rate) is None or rate >= 0.5]
    worst = sorted(fair, key=lambda row: row.points_lost, reverse=True)[:_HARDEST]
    return [row for row in worst if row.points_lost > 0]


def _choose(data: RunData) -> dict[str, list[int]]:
    """Return the numbers of the groups that are shown in full, by why."""
    judged = data.judged
    steps = sorted(set(map(step_of, judged)))
    late = set(steps[len(steps) * 2 // 3 :])

    def top(rows: Iterable[GroupRow], key: Callable[[GroupRow], Any]) -> list[int]:
        return [row.n for row in sorted(rows, key=key)[:IN_FULL]]

    def latest(row: GroupRow) -> int:
        return -step_of(row)

    suspect = [row for row in judged if row.below or "mentions-reference" in row.rules]
    return {
        "telling": top((row for row in judged if step_of(row) in late), lambda row: -(row.spread or 0.0)),
        "best": top(judged, lambda row: (-(row.mean or 0.0), latest(row))),
        "worst": top(judged, lambda row: (row.mean or 0.0, latest(row))),
        "suspect": top(suspect, latest),
        "zero_variance": top((row for row in judged if row.zero_variance), latest),
        "failed": top(data.failed, latest),
    }


def _in_full(files: list[Path], begins: list[int], wanted: set[int]) -> dict[int, GroupView]:
    """Read the wanted groups again (a long run does not fit into memory); ``begins``: number of each file's first."""
    full: dict[int, GroupView] = {}
    for file, begin, end in zip(files, begins, [*begins[1:], max(wanted, default=0) + 1], strict=True):
        if any(begin <= number < end for number in wanted):
            full |= {number: view for number, view in enumerate(_trained_on(file), begin) if number in wanted}
    return full


def teacher_models(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the models that a run's teacher index names; none where it is gone."""
    data = config.get("data")
    place = data.get("index") if isinstance(data, Mapping) else None
    if not place or not Path(place).is_file():
        return ()
    try:
        index = TeacherIndex.open(place)
    except RopdError:
        return ()
    try:
        return index.models()
    finally:
        index.close()


def read_document(file: Path) -> dict[str, Any]:
    """Return what a YAML or JSON file holds; nothing where there is none."""
    if not file.is_file():
        return {}
    data = file.read_bytes()
    try:
        document = load_yaml(data.decode()) if file.suffix == ".yaml" else orjson.loads(data)
    except (yaml.YAMLError, ValueError) as fault:
        raise InputError(f"{file}: not {file.suffix[1:].upper()} ({fault})", "restore it, or move it away") from fault
    return document if isinstance(document, dict) else {}


def _lines(file: Path) -> list[dict[str, Any]]:
    return [record for _, record in read_journal(file)] if file.is_file() else []

"""The document of how far two judgings agree (``agreement.json``, and ``--json`` of ``ropd rejudge``)."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


class Estimate(TypedDict):
    """A figure with its 95% interval over groups; a limit is null where the data give none."""

    value: float
    low: float | None
    high: float | None


class Agreed(TypedDict):
    n: int
    """Pairs of judgements."""
    agreement: float
    """Share that is equal."""
    kappa: float | None


class CriterionShown(TypedDict):
    criterion: str
    category: str
    step: int
    uid: str


class AgreedOn(CriterionShown, Agreed): ...


class JudgementsShown(TypedDict):
    """Judgements of the groups whose rubric is the same."""

    n: int
    missing: dict[str, int]
    """Judgements of ``saved`` and of ``new`` that are null."""
    agreement: NotRequired[Estimate | None]
    """Absent, as kappa, where nothing was judged twice."""
    kappa: NotRequired[Estimate | None]
    sources: dict[str, Agreed]
    """By ``student`` and ``teacher``."""
    categories: dict[str, Agreed]
    criteria: list[AgreedOn]
    """Those that agree least."""


class WithinGroups(TypedDict):
    """Means over groups with spread in both judgings."""

    pearson: float | None
    kendall: float | None
    groups: int


class ScoresShown(TypedDict):
    """Scores of rollouts; only ``n`` where there are none."""

    n: int
    mean_saved: NotRequired[float]
    mean_new: NotRequired[float]
    difference: NotRequired[Estimate | None]
    pearson: NotRequired[float | None]
    spearman: NotRequired[float | None]
    within_groups: NotRequired[WithinGroups]


class AdvantagesShown(TypedDict):
    n: int
    groups: int
    sign_changes: Estimate | None
    """Share of the rollouts."""
    died: int
    """Groups that lose their spread."""
    revived: int
    """Groups that gain it."""


class TeacherAbove(TypedDict):
    above: Estimate | None
    """Share of the groups in which the teacher's mean is above the rollouts'."""
    wins: Estimate | None
    """Share of pairs that the teacher's answer wins; a tie is a half."""


class TeacherShown(TypedDict):
    """The teacher's answers against the rollouts; only ``groups`` where there are none."""

    groups: int
    saved: NotRequired[TeacherAbove]
    new: NotRequired[TeacherAbove]


class Flipped(TypedDict):
    n: int
    """Judgements."""
    rate: float


class FlippedOn(CriterionShown, Flipped): ...


class Flips(TypedDict):
    """Judgements that differ from the first of several judgings."""

    repeats: int
    groups: int
    n: int
    rate: Estimate | None
    sign_changes: Estimate | None
    categories: dict[str, Flipped]
    criteria: list[FlippedOn]


class Agreement(TypedDict):
    groups: int
    same_rubric: int
    """Groups."""
    saved: dict[str, list[str]]
    """``models`` and ``template_hashes`` of the judging."""
    new: dict[str, list[str]]
    judgements: JudgementsShown | None
    """Null where no rubric is the same."""
    scores: ScoresShown
    advantages: AdvantagesShown
    teacher: TeacherShown
    flips: Flips | None
    """Null without ``--repeats``."""

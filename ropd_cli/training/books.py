"""The groups of a run between their judging and the step that takes them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ropd_cli.errors import JudgeError
from ropd_cli.records.files import read_records, write_records
from ropd_cli.records.schemas import Answer, Failure, Group, Message, RubricRecord, VerdictRecord
from ropd_cli.training.step_metrics import StepTally

Rewards = tuple[float | None, ...]


@dataclass
class Book:
    """A group that was judged, or could not be."""

    group_id: str
    """verl's own id of the prompt, new each time that the prompt is sampled."""
    record: dict[str, Any]
    """Its line in the group file, as JSON; the step that takes it is put in there."""
    group: Group
    rubric: RubricRecord | None
    verdicts: VerdictRecord | None
    fault: str | None
    arrived: float = field(default_factory=time.monotonic)
    judged: float = 0.0
    """When its rollouts were there and when it was judged; seconds of the monotonic clock."""
    repair: str | None = None
    rewards: Rewards | None = None
    tally: StepTally = field(default_factory=StepTally)

    def count(self) -> Rewards | None:
        """Count the group by itself, and return its rewards; None where it has too few to be compared."""
        self.tally = StepTally()
        self.tally.values["judge/seconds_mean"].append(self.record["seconds"])
        self.tally.arrived, self.tally.ended = self.arrived, self.judged
        if self.repair is not None:
            self.tally.repairs.update(("tried", self.repair))
        self.rewards = self.tally.book(self.group, self.rubric, self.verdicts, self.fault)
        if self.rewards is None and self.record["error"] is None:  # it was judged, and is missing all the same
            why = Failure(stage="judge", type=JudgeError.__name__, message=self.tally.last_fault)
            self.record["error"] = why.to_json()
        return self.rewards

    def settle(self, rewards: Rewards) -> None:
        """Take rewards that were not known when the group came, shape (n,), and count it anew."""
        assert self.verdicts is not None
        self.verdicts = self.verdicts.model_copy(update={"rewards": rewards})
        self.record["verdicts"] = self.verdicts.to_json()
        self.count()

    def kept(self) -> dict[str, Any]:
        """Return it as a record that ``restored`` reads."""
        return {"group_id": self.group_id, "fault": self.fault, "repair": self.repair, "record": self.record}


def keep(books: Iterable[Book], path: Path) -> None:
    """Write groups that no step has taken yet."""
    write_records(path, [book.kept() for book in books])


def restored(path: Path) -> dict[str, Book]:
    """Read what ``keep`` wrote, by group id."""
    return {kept["group_id"]: book_of(**kept) for _, kept in read_records(path)}


def book_of(group_id: str, record: dict[str, Any], fault: str | None, repair: str | None = None) -> Book:
    """Return the book of a group's line in a group file."""
    group = Group(
        uid=record["uid"],
        prompt=tuple(Message.model_validate(message) for message in record["prompt"]),
        raw_prompt_hash=record["raw_prompt_hash"],
        teacher_answers=tuple(record["teacher_answers"]),
        rollouts=tuple(Answer.model_validate(rollout) for rollout in record["rollouts"]),
        answer=record["answer"],
    )
    rubric, verdicts = record["rubric"], record["verdicts"]
    book = Book(
        group_id=group_id,
        record=record,
        group=group,
        rubric=RubricRecord.model_validate(rubric) if rubric else None,
        verdicts=VerdictRecord.model_validate(verdicts) if verdicts else None,
        fault=fault,
        repair=repair,
    )
    book.count()
    return book

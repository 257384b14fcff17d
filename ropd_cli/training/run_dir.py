"""The files of a training run, and the state that can be read from them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ropd_cli.errors import InputError
from ropd_cli.records.files import count_records, read_journal, read_records, write_atomic, write_records
from ropd_cli.records.schemas import RubricRecord
from ropd_cli.training.checkpoints import Checkpoints


class Stop(NamedTuple):
    """Why a run stopped: the name of an error of ours, and what a user is told."""

    kind: str
    message: str
    hint: str | None


class Place:
    """A place in a directory, which an object that has ``path`` gives as a whole path."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, directory: Any, _: type) -> Path:
        return directory.path / self._name


@dataclass(frozen=True)
class RunDir:
    """Paths of one run."""

    path: Path
    config = Place("config.yaml")
    """The resolved configuration."""
    verl_config = Place("verl.yaml")
    """verl's configuration as it was composed."""
    prompts_lock = Place("prompts.lock")
    """Template hashes."""
    versions = Place("versions.json")
    """Versions of the packages that took part."""
    metrics = Place("metrics.jsonl")
    """One JSON object a finished step."""
    verl_metrics = Place(".verl-metrics.jsonl")
    """verl's own metrics file; verl empties it at every start, so the rows are copied as they come."""
    groups = Place("groups")
    """Folder of ``step-N.jsonl.zst``."""
    checkpoints = Place("checkpoints")
    """verl's checkpoints."""
    train_prompts = Place("prompts.parquet")
    """The prompts in verl's columns."""
    val_prompts = Place("validation.parquet")
    """The questions of the validation in verl's columns."""
    alarms = Place("monitor.jsonl")
    """One JSON object each time that a figure passes a threshold of ``monitor``."""
    judges = Place("monitor/judges.jsonl")
    """From which step on which two judges are compared by the monitor."""
    validation = Place("validation.jsonl")
    """One JSON object a validation: its figures by benchmark."""
    best = Place("best.json")
    """The checkpoint that is best by validation, and by which figure; its weights are in ``best_model``."""
    best_model = Place("best")
    """The best checkpoint as a plain Hugging Face folder."""
    spent = Place("spent.json")
    """What the run has cost in dollars, steps that were lost and made again included."""
    skipped = Place("skipped.jsonl")
    """The prompts that were left out for want of teacher answers."""
    log = Place("train.log")
    """What the training process printed."""
    notes = Place(".notes")
    """Lines for the user from the processes of the run, as they come."""
    heartbeat = Place(".heartbeat")
    """What the run is at, and when it last came on."""
    stopped = Place("stopped.json")
    """Written by the training process when it stops for a reason of ours: kind of error, message and hint."""
    result = Place("result.json")
    """Written when the run is finished."""

    def monitor_file(self, step: int) -> Path:
        """The second judge's verdicts on its share of a step's groups."""
        return self.path / "monitor" / f"step-{step}.jsonl.zst"

    def validation_file(self, step: int) -> Path:
        """The answers of one validation and their grades."""
        return self.path / "validation" / f"step-{step}.jsonl.zst"

    def prompt_count(self) -> int | None:
        """How many prompts the run trains on; None before they are written."""
        return count_records(self.train_prompts) if self.train_prompts.is_file() else None

    def skipped_before(self, first: int) -> list[str] | None:
        """The uids that were left out when the run began; None where no step of it is finished."""
        if not first:
            return None
        return [record["uid"] for _, record in read_journal(self.skipped)] if self.skipped.is_file() else []

    def group_file(self, step: int) -> Path:
        """The groups of one step."""
        return self.groups / f"step-{step}.jsonl.zst"

    def kept_books(self) -> Path | None:
        """The groups that the newest checkpoint has in flight; None where it has none."""
        step = self.saved.newest()
        file = self.saved.books(step) if step is not None else None
        return file if file is not None and file.is_file() else None

    @classmethod
    def of(cls, out: str | None) -> RunDir:
        """Return the run directory that a configuration's ``out`` names. Raises InputError where it names none."""
        if out is None:
            raise InputError("out is not set", "name the run directory: out: runs/mine, or --out")
        return cls(Path(out).absolute())

    @property
    def resume_command(self) -> str:
        """What a user types to go on with the run."""
        return f"ropd train --config {shlex.quote(str(self.config))} --resume"

    @property
    def saved(self) -> Checkpoints:
        """verl's checkpoints, to be looked through."""
        return Checkpoints(self.checkpoints)

    def huggingface(self, step: int) -> Path:
        """The plain Hugging Face folder of a checkpoint."""
        return self.saved.model_folder(step) / "huggingface"

    def finished(self) -> dict[str, Any] | None:
        """The result of a finished run; None where it is not finished."""
        return _document(self.result, {"model", "steps"}) if self.result.is_file() else None

    def metric_rows(self) -> list[dict[str, Any]]:
        """The metrics of the finished steps, in order."""
        return [row for _, row in read_journal(self.metrics)] if self.metrics.is_file() else []

    def spent_usd(self) -> float:
        """Dollars that the run has cost so far."""
        return float(_document(self.spent, {"usd"})["usd"]) if self.spent.is_file() else 0.0

    def keep_spent(self, usd: float) -> None:
        """Write down what the run has cost so far."""
        write_atomic(self.spent, orjson.dumps({"usd": usd}))

    def keep_stop(self, stop: Stop) -> None:
        """Leave word for the parent process why the run stops."""
        write_atomic(self.stopped, orjson.dumps(stop._asdict()))

    def stop(self) -> Stop | None:
        """Why the training process stopped, where it left word."""
        return Stop(**_document(self.stopped, set(Stop._fields))) if self.stopped.is_file() else None

    def rubrics(self) -> Iterator[RubricRecord]:
        """Yield the rubrics that groups were judged by: in the order of steps, last those that no step has taken."""
        files = {int(file.name.split("-")[1].split(".")[0]): file for file in self.groups.glob("step-*.jsonl.zst")}
        records = (record for step in sorted(files) for _, record in read_journal(files[step]))
        open_groups = self.kept_books()
        kept = (book["record"] for _, book in read_records(open_groups)) if open_groups is not None else ()
        for record in chain(records, kept):
            if record["rubric"] is not None:
                yield RubricRecord.model_validate(record["rubric"])

    def set_aside_after(self, step: int) -> Path | None:
        """Move metrics, alarms and groups of steps after ``step``, which a resumed run makes again, into a folder of
        their own, and return it; None where there are none. What they have cost stays in ``spent``."""
        aside, moved = self.path / "superseded" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-after-step-{step}", False
        for file in (self.metrics, self.validation, self.alarms):
            rows = [row for _, row in read_journal(file)] if file.is_file() else []
            later = [row for row in rows if row["step"] > step]
            if later:
                moved = True
                aside.mkdir(parents=True, exist_ok=True)
                write_records(aside / file.name, later)
                write_records(file, [row for row in rows if row["step"] <= step])
        for folder in (self.groups, self.validation_file(0).parent, self.monitor_file(0).parent):
            for file in folder.glob("step-*.jsonl.zst"):
                number = file.name.removeprefix("step-").split(".")[0]
                if number.isdigit() and int(number) > step:
                    moved = True
                    (aside / folder.name).mkdir(parents=True, exist_ok=True)
                    file.rename(aside / folder.name / file.name)
        return aside if moved else None


def _document(file: Path, names: set[str]) -> dict[str, Any]:
    """Read an object that has these names. Raises InputError for another."""
    try:
        document = orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict) or not names <= document.keys():
        raise InputError(f"{file}: damaged", "delete it, then run the same command with --resume")
    return document

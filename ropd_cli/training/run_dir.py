"""The files of a training run, and the state that can be read from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.records.files import read_records, write_atomic

_STEP = re.compile(r"global_step_(\d+)$")


@dataclass(frozen=True)
class RunDir:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def verl_config(self) -> Path:
        """verl's configuration as it was composed."""
        return self.path / "verl.yaml"

    @property
    def prompts_lock(self) -> Path:
        """Template hashes."""
        return self.path / "prompts.lock"

    @property
    def versions(self) -> Path:
        """Versions of the packages that took part."""
        return self.path / "versions.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a finished step."""
        return self.path / "metrics.jsonl"

    @property
    def verl_metrics(self) -> Path:
        """verl's own metrics file; verl empties it at every start, so the rows are copied as they come."""
        return self.path / ".verl-metrics.jsonl"

    @property
    def groups(self) -> Path:
        """Folder of ``step-N.jsonl.zst``."""
        return self.path / "groups"

    @property
    def checkpoints(self) -> Path:
        """verl's checkpoints."""
        return self.path / "checkpoints"

    @property
    def train_prompts(self) -> Path:
        """The prompts in verl's columns."""
        return self.path / "prompts.parquet"

    @property
    def val_prompts(self) -> Path:
        """The questions of the validation in verl's columns."""
        return self.path / "validation.parquet"

    @property
    def alarms(self) -> Path:
        """One JSON object each time that a figure passes a threshold of ``monitor``."""
        return self.path / "monitor.jsonl"

    def monitor_file(self, step: int) -> Path:
        """What the second judge said of its share of a step's groups."""
        return self.path / "monitor" / f"step-{step}.jsonl.zst"

    @property
    def judges(self) -> Path:
        """From which step on which two judges are compared by the monitor."""
        return self.path / "monitor" / "judges.jsonl"

    @property
    def validation(self) -> Path:
        """One JSON object a validation: its figures by benchmark."""
        return self.path / "validation.jsonl"

    def validation_file(self, step: int) -> Path:
        """The answers of one validation and their grades."""
        return self.path / "validation" / f"step-{step}.jsonl.zst"

    @property
    def best(self) -> Path:
        """Which checkpoint validation has found best, and by what; its weights are in ``best_model``."""
        return self.path / "best.json"

    @property
    def best_model(self) -> Path:
        """The best checkpoint as a plain Hugging Face folder."""
        return self.path / "best"

    @property
    def spent(self) -> Path:
        """What the run has cost in dollars, steps that were lost and made again included."""
        return self.path / "spent.json"

    @property
    def skipped(self) -> Path:
        """The prompts that were left out for want of teacher answers."""
        return self.path / "skipped.jsonl"

    def prompt_count(self) -> int | None:
        """How many prompts the run trains on; None before they are written."""
        if not self.train_prompts.is_file():
            return None
        import pyarrow.parquet as pq

        return pq.read_metadata(self.train_prompts).num_rows

    def skipped_before(self, first: int) -> list[str] | None:
        """The uids that were left out when the run began; None where no step of it is finished."""
        if not first:
            return None
        return [record["uid"] for _, record in read_records(self.skipped)] if self.skipped.is_file() else []

    @property
    def log(self) -> Path:
        """What the training process printed."""
        return self.path / "train.log"

    @property
    def notes(self) -> Path:
        """Lines for the user from the processes of the run, as they come."""
        return self.path / ".notes"

    @property
    def stopped(self) -> Path:
        """Written by the training process when it stops for a reason of ours: kind of error, message and hint."""
        return self.path / "stopped.json"

    @property
    def result(self) -> Path:
        """Written when the run is finished."""
        return self.path / "result.json"

    def group_file(self, step: int) -> Path:
        """The groups of one step."""
        return self.groups / f"step-{step}.jsonl.zst"

    def last_checkpoint(self) -> int | None:
        """Step of the newest whole checkpoint; None where there is none."""
        marker = self.checkpoints / "latest_checkpointed_iteration.txt"
        try:
            step = int(marker.read_text())
        except (OSError, ValueError):
            return None
        return step if (self.checkpoints / f"global_step_{step}").is_dir() else None

    def huggingface(self, step: int) -> Path:
        """The plain Hugging Face folder of a checkpoint."""
        return self.checkpoints / f"global_step_{step}" / "actor" / "huggingface"

    def finished(self) -> dict[str, Any] | None:
        """The result of a finished run; None where it is not finished."""
        return orjson.loads(self.result.read_bytes()) if self.result.is_file() else None

    def metric_rows(self) -> list[dict[str, Any]]:
        """The metrics of the finished steps, in order."""
        return [row for _, row in read_records(self.metrics)] if self.metrics.is_file() else []

    def spent_usd(self) -> float:
        """Dollars that the run has cost so far: of ``spent``, or of the metrics in a run that has no such file."""
        try:
            kept = float(orjson.loads(self.spent.read_bytes())["usd"])
        except (OSError, ValueError, KeyError, TypeError):
            kept = 0.0
        names = ("judge/cost_usd", "monitor/cost_usd")
        return max(kept, sum(row.get(name) or 0.0 for row in self.metric_rows() for name in names))

    def keep_spent(self, usd: float) -> None:
        """Write down what the run has cost so far."""
        write_atomic(self.spent, orjson.dumps({"usd": usd}))

    def forget_after(self, step: int) -> None:
        """Drop metrics, alarms and groups of steps after ``step``: a resumed run makes them again. What they have cost
        stays in ``spent``."""
        if usd := self.spent_usd():
            self.keep_spent(usd)
        for file in (self.metrics, self.validation, self.alarms):
            if file.is_file():
                kept = [row for _, row in read_records(file) if row["step"] <= step]
                write_atomic(file, b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in kept))
        for folder in (self.groups, self.validation_file(0).parent, self.monitor_file(0).parent):
            for file in folder.glob("step-*.jsonl.zst"):
                if int(file.name.split("-")[1].split(".")[0]) > step:
                    file.unlink()

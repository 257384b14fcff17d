"""The directory of an evaluation: settings, samples and grades by benchmark, reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.errors import InputError
from ropd_cli.evaluation.samples import Grade, Sample
from ropd_cli.records.files import existing_records, write_atomic
from ropd_cli.util.changes import changes

Key = tuple[str, int]
"""(id of the question, number of the sample)."""
OTHERWISE = "give another --out, or delete {} to draw all of it again"
"""What to do about samples that were drawn otherwise."""


@dataclass(frozen=True)
class EvalRun:
    """Paths of one evaluation, and what lies there."""

    path: Path

    def samples_file(self, benchmark: str) -> Path:
        """One record a sample."""
        return self.path / "samples" / f"{benchmark}.jsonl.zst"

    def grades_file(self, benchmark: str) -> Path:
        """One record a grade; of several of one sample the last holds."""
        return self.path / "grades" / f"{benchmark}.jsonl"

    @property
    def settings(self) -> Path:
        """What was asked of whom, and how."""
        return self.path / "eval.json"

    @property
    def report(self) -> Path:
        """The figures; ``report.md`` and ``report.html`` are made from it."""
        return self.path / "report.json"

    @property
    def log(self) -> Path:
        """What vLLM printed."""
        return self.path / "vllm.log"

    def samples(self, benchmark: str) -> Iterator[Sample]:
        """The samples on disk, each once."""
        seen: set[Key] = set()
        for number, record in existing_records(self.samples_file(benchmark)):
            sample = _read(Sample, record, f"{self.samples_file(benchmark)}:{number}")
            if (sample.id, sample.sample) not in seen:
                seen.add((sample.id, sample.sample))
                yield sample

    def grades(self, benchmark: str) -> dict[Key, Grade]:
        """The grades on disk."""
        file = self.grades_file(benchmark)
        found = (_read(Grade, record, f"{file}:{number}") for number, record in existing_records(file))
        return {(grade.id, grade.sample): grade for grade in found}

    def check(self, asked: Mapping[str, Any]) -> None:
        """Raise InputError where there are samples that were drawn by another model, or otherwise, than ``asked``.

        ``asked`` is flat, by setting.
        """
        known = (self.read_settings() or {}).get("asked")
        if known is None or not any(file.stat().st_size for file in self.path.glob("samples/*")):
            return
        if changed := "; ".join(changes(known, asked)):
            raise InputError(f"{self.path}: its samples were drawn with {changed}", OTHERWISE.format("it"))

    def write_settings(self, document: dict[str, Any]) -> None:
        """Write ``eval.json``."""
        write_atomic(self.settings, orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))

    def read_settings(self) -> dict[str, Any] | None:
        """What ``eval.json`` holds; None where there is none."""
        if not self.settings.is_file():
            return None
        try:
            document = orjson.loads(self.settings.read_bytes())
        except orjson.JSONDecodeError as fault:
            raise InputError(f"{self.settings}: not JSON ({fault})", "choose another --out") from fault
        return document if isinstance(document, dict) else None


def _read(kind: Any, record: dict[str, Any], where: str) -> Any:
    from pydantic import ValidationError

    try:
        return kind.model_validate(record)
    except ValidationError as fault:
        raise InputError(f"{where}: no {kind.__name__.lower()} of an evaluation", "choose another --out") from fault

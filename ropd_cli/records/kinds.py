"""Of which kind records are, by their fields: a file of one kind is not gone on with as if it were of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ropd_cli.errors import InputError
from ropd_cli.records.files import Record, existing_records

Kind = Literal["groups of a run", "verdicts", "answers", "rubrics", "prompts", "failed records"]
_FIELDS: dict[Kind, frozenset[str]] = {  # the first that fits: verdicts have answers too, and a group has all of it
    "groups of a run": frozenset({"rollouts", "verdicts"}),
    "verdicts": frozenset({"answers", "rewards"}),
    "answers": frozenset({"answers", "raw_prompt_hash"}),  # no more: files of others need not have our own fields
    "rubrics": frozenset({"rubric", "rubric_hash"}),
    "prompts": frozenset({"prompt"}),
    "failed records": frozenset({"uid", "error"}),
}


def kind_of(record: Record) -> Kind | None:
    """Return of which kind a record is; None for one of others."""
    return next((kind for kind, fields in _FIELDS.items() if fields <= record.keys()), None)


def existing_of(kind: Kind, out: Path) -> Iterator[Record]:
    """Yield the records already written to an output file. Raises InputError where one is of another kind."""
    for number, record in existing_records(out):
        found = kind_of(record)
        if found != kind:
            where = out if number == 1 else f"{out}:{number}"
            raise InputError(
                f"{where}: holds {found or 'no records of ropd'}, and {kind} are written here",
                "give another --out, or move the file away",
            )
        yield record

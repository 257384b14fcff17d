"""Prepare: rows of a made task, a file or the hub, as prompts in our format and verl's, and a listing of the rest.

    plan -> pool (rows read, mapped, repeated ones left out) -> filters -> draw (parts) -> files

Each row that was read is a prompt of one part or a line of the listing, with why.
"""

from __future__ import annotations

from ropd_cli.datasets.columns import Wording
from ropd_cli.stages.prepare.filters import Filters
from ropd_cli.stages.prepare.ledger import Ledger
from ropd_cli.stages.prepare.pipeline import prepare
from ropd_cli.stages.prepare.plan import Part, Plan, Prepared, Source, parse_part
from ropd_cli.stages.prepare.write import Output, dropped_path, write_all

__all__ = [
    "Filters",
    "Ledger",
    "Output",
    "Part",
    "Plan",
    "Prepared",
    "Source",
    "Wording",
    "dropped_path",
    "parse_part",
    "prepare",
    "write_all",
]

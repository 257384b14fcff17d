"""Prepare: rows of a made task, a file or the hub, as prompts in our format and verl's, and a listing of the rest.

    plan -> pool (rows read, mapped, repeated ones left out) -> filters -> draw (parts) -> files

Each row that was read is a prompt of one part or a line of the listing, with why.
"""

from __future__ import annotations

from ropd_cli.datasets.columns import Wording
from ropd_cli.stages.prepare.filters import Filters, apply_filters
from ropd_cli.stages.prepare.ledger import Ledger
from ropd_cli.stages.prepare.plan import Part, Plan, Prepared, Source, parse_part
from ropd_cli.stages.prepare.pool import fill_pool
from ropd_cli.stages.prepare.split import draw
from ropd_cli.stages.prepare.write import Output, dropped_path, write_all


def prepare(plan: Plan, ledger: Ledger | None = None) -> Prepared:
    """The prompts of a plan, drawn by its seed; ``ledger`` is told of every row that is left out.

    Raises InputError for an unknown name, an unreadable source or row, or fewer prompts than asked for, and
    MissingPackage where a package is needed that is not installed.
    """
    ledger = ledger if ledger is not None else Ledger()
    pool = fill_pool(plan, ledger)
    kept, tokens_P = apply_filters(pool, plan.filters, ledger)
    return draw(plan, kept, tokens_P, ledger)


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

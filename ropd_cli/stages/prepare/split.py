"""The draw: which of the kept prompts go into which part."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from ropd_cli.errors import InputError
from ropd_cli.method.dataset_rubrics import dataset_rubric
from ropd_cli.stages.prepare.filters import Pooled
from ropd_cli.stages.prepare.ledger import Ledger
from ropd_cli.stages.prepare.plan import TRAIN, Plan, Prepared, TokenStats


def draw(plan: Plan, kept: list[Pooled], tokens: Mapping[int, int], ledger: Ledger) -> Prepared:
    """Parts in their order, then the prompts to train on; no prompt stands in two. What is not drawn is left out.

    ``tokens`` by row. Raises InputError where there are fewer prompts than asked for.
    """
    apart = [part.count(len(kept)) for part in plan.parts]
    left = len(kept) - sum(apart)
    wanted = plan.size if plan.size is not None else left
    if plan.limit is not None:
        wanted = min(wanted, plan.limit)
    if wanted < 1 or left < wanted:
        raise InputError(
            f"{plan.source}: {len(kept)} different prompts, asked for are {max(wanted, 1)} and {sum(apart)} held out"
            + (f"; left out were {_listed(ledger.dropped)}" if ledger.dropped else ""),
            "lower --size or what is held out, or loosen the filters",
        )
    if plan.shuffle and not plan.source.is_made and (apart or wanted < left):
        random.Random(plan.seed).shuffle(kept := list(kept))
    parts: dict[str, list[Pooled]] = {}
    start = 0
    for part, count in zip(plan.parts, apart, strict=True):
        parts[part.name] = kept[start : start + count]
        start += count
    parts[TRAIN] = kept[start : start + wanted]
    for each in kept[start + wanted :]:
        ledger.leave_out(each.row, each.prompt.uid, "not drawn")
    drawn = [each for pooled in parts.values() for each in pooled]
    return Prepared(
        parts={name: [each.prompt for each in pooled] for name, pooled in parts.items()},
        read=ledger.read,
        dropped=dict(ledger.dropped),
        notes=dict(ledger.notes) | _unreadable_rubrics(drawn),
        tokens=_stats([tokens[each.row] for each in drawn]) if tokens else None,
        rubrics=sum(each.prompt.rubric is not None for each in drawn),
    )


def _unreadable_rubrics(drawn: Sequence[Pooled]) -> dict[str, int]:
    """A rubric that can't be read is an error only where rubrics of the data set are used; here it is counted."""
    count = 0
    for each in drawn:
        try:
            dataset_rubric(each.prompt)
        except InputError:
            count += 1
    return {"rubrics that can't be read": count} if count else {}


def _stats(lengths: list[int]) -> TokenStats:
    lengths = sorted(lengths)
    at = [lengths[min(len(lengths) - 1, int(share * len(lengths)))] for share in (0.5, 0.95)]
    return TokenStats(lengths[0], at[0], at[1], lengths[-1])


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} ({why})" for why, count in counts.items())

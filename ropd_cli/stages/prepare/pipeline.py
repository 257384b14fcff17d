"""From a plan to prompts: the pool of different prompts of a source, the filters, and the draw into parts."""

from __future__ import annotations

import difflib
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from ropd_cli.datasets.columns import Candidate, ColumnReader
from ropd_cli.datasets.eval_sets import shipped_file
from ropd_cli.datasets.hub import HubSet, hub_rows
from ropd_cli.datasets.known_sets import RECIPES, SHIPPED, Recipe
from ropd_cli.datasets.local_files import Row, local_rows
from ropd_cli.datasets.reasoning_gym import gym_prompts
from ropd_cli.datasets.sums import SUM_TASKS, make_sums
from ropd_cli.datasets.text_words import normalized, text_of
from ropd_cli.errors import InputError
from ropd_cli.method.dataset_rubrics import dataset_rubric
from ropd_cli.stages.prepare.filters import Pooled, apply_filters
from ropd_cli.stages.prepare.ledger import Ledger
from ropd_cli.stages.prepare.plan import GYM, HUB, TRAIN, Plan, Prepared, Source


def prepare(plan: Plan, ledger: Ledger | None = None) -> Prepared:
    """Return the prompts of a plan, drawn by its seed; ``ledger`` is told of every row that is left out.

    Raises InputError for an unknown name, an unreadable source or row, or fewer prompts than asked for, and
    MissingPackage where a package is needed that is not installed.
    """
    ledger = ledger if ledger is not None else Ledger()
    source = plan.source
    reader = ColumnReader(plan.wording, source.columns, _recipe(source), _data_source(source), source.dropped_columns)
    reader.worked_answers = not source.is_made
    pool = fill_pool(plan, reader, ledger)
    kept, tokens_P = apply_filters(pool, plan.filters, ledger)
    prepared = draw(plan, kept, tokens_P, ledger)
    if source.is_made:
        return prepared
    return replace(prepared, columns=reader.chosen, further=reader.further, not_found=reader.not_found)


def fill_pool(plan: Plan, reader: ColumnReader, ledger: Ledger) -> list[Pooled]:
    """The different prompts in the order of their rows, which are read twice: first to choose the columns. Memory grows
    with the prompts, not with the rows.

    Raises InputError for an unknown name, and with file and line for a row that is no prompt (with ``bad_rows``
    "drop" such a row is left out).
    """
    source = plan.source
    rows = partial(_made_rows, plan) if source.is_made else partial(_rows, source)
    reader.choose(itertools.islice(rows(), 1) if source.is_made else rows())
    sieve = _Sieve(plan, ledger)
    for row in rows():
        ledger.read += 1
        try:
            sieve.take(row, reader.read(row))
        except InputError as fault:
            if plan.filters.bad_rows == "error" or source.is_made:
                raise
            ledger.leave_out(row.number, None, "bad row", error=fault.message)
    if not ledger.read:
        raise InputError(f"{source}: no prompts in it", "one record per line, each with a prompt")
    return sieve.pool


class _Sieve:
    """Lets each prompt through once."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self.pool: list[Pooled] = []
        self._filters, self._ledger = plan.filters, ledger
        self._seen: dict[str, tuple[int, str | None]] = {}
        self._near: dict[str, int] = {}
        self._uids: dict[str, int] = {}

    def take(self, row: Row, candidate: Candidate) -> None:
        """Keep the prompt, or tell the ledger why not. Raises InputError for one that is malformed."""
        uid = str(candidate.fields["uid"])
        if self._filters.require_answer and candidate.answer is None:
            self._ledger.leave_out(row.number, uid, "no answer")
            return
        first = self._seen.get(candidate.hash)
        if first is not None:
            differs = candidate.answer is not None and candidate.answer != first[1]
            details = {"of": first[0]} | ({"answer": candidate.answer, "answer_of": first[1]} if differs else {})
            self._ledger.leave_out(row.number, uid, "duplicate", **details)
            self._ledger.note("duplicates with another answer", int(differs))
            return
        near = normalized(text_of(candidate.messages)) if self._filters.dedup == "normalized" else None
        if near is not None and near in self._near:
            self._ledger.leave_out(row.number, uid, "near duplicate", of=self._near[near])
            return
        self._keep(row, candidate)
        if near is not None:
            self._near[near] = row.number

    def _keep(self, row: Row, candidate: Candidate) -> None:
        prompt = candidate.prompt(row.where)
        if row.columnar:  # JSON has all types that JSON, CSV and the like can bring
            try:
                prompt.to_json()
            except ValueError as fault:  # pydantic's serialization error
                raise InputError(
                    f"{row.where}: a value can't be written as JSON ({str(fault).splitlines()[0]})",
                    f"leave its column out by --drop-column; further ones are {', '.join(prompt.model_extra or {})}",
                ) from fault
        if prompt.uid in self._uids:
            raise InputError(
                f"{row.where}: uid {prompt.uid!r} stands at another prompt too (row {self._uids[prompt.uid]})",
                "give each prompt its own uid, or take the prompt's hash: --uid-field @hash",
            )
        self._uids[prompt.uid] = row.number
        self._seen[candidate.hash] = (row.number, candidate.answer)
        self.pool.append(Pooled(row.number, prompt))
        for note in candidate.notes:
            self._ledger.note(note)


def _rows(source: Source) -> Iterator[Row]:
    if source.local is not None:
        return local_rows(source.local)
    if source.name in SHIPPED:
        if source.config or source.split or source.revision:
            raise InputError(
                f"{source.name} comes with the package, and has no --config, --split or --revision",
                f"leave them out; hf:{SHIPPED[source.name].hub} reads the set on the hub",
            )
        return local_rows(shipped_file(source.name))
    recipe = RECIPES.get(source.name)
    if recipe is not None:
        split = source.split or recipe.split
        return hub_rows(HubSet(recipe.hub, source.config or recipe.config, split, source.revision))
    if source.name.startswith(HUB):
        path, _, config = source.name.removeprefix(HUB).partition(":")
        if not path:
            raise InputError(f"{source.name!r}: no data set named", "for example hf:openai/gsm8k:main")
        return hub_rows(HubSet(path, source.config or config or None, source.split or "train", source.revision))
    known = [*SUM_TASKS, *RECIPES]
    near = difflib.get_close_matches(source.name, known, n=1, cutoff=0.6)
    start = f"did you mean {near[0]}? There are " if near else ""
    raise InputError(
        f"no task or data set {source.name!r}",
        f"{start}{', '.join(known)}, {GYM}TASK, {HUB}OWNER/NAME, or any name with --local FILE",
    )


def _recipe(source: Source) -> Recipe | None:
    recipe = RECIPES.get(source.name)
    if recipe is None or not source.columns:
        return recipe
    return replace(recipe, columns={k: v for k, v in recipe.columns.items() if k not in source.columns})


def _data_source(source: Source) -> str:
    return source.name.removeprefix(HUB).partition(":")[0] if source.name.startswith(HUB) else source.name


def _made_rows(plan: Plan) -> Iterator[Row]:
    """Prompts of a made task as rows; those of sums for the parts come first."""
    source, count = plan.source, plan.made_count
    if source.name in SUM_TASKS:
        apart = sum(part.count(count) for part in plan.parts)
        split = make_sums(count - apart, apart, plan.seed, source.name)
        prompts = [*split.held_out, *split.train]
    else:
        prompts = gym_prompts(source.name.removeprefix(GYM), count, plan.seed, source.parameters)
    ability = "math" if source.name in SUM_TASKS else "reasoning"
    for number, prompt in enumerate(prompts, start=1):
        yield Row(number, f"{source.name}:{number}", prompt.to_json() | {"ability": ability})


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
        left_out = ", ".join(f"{count} ({why})" for why, count in ledger.dropped.items())
        raise InputError(
            f"{plan.source}: {len(kept)} different prompts; {max(wanted, 1)} and {sum(apart)} held out are requested"
            + (f"; left out were {left_out}" if left_out else ""),
            f"{'lower --size' if plan.size is not None else 'hold out fewer'}, or loosen the filters",
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
        tokens=_lengths([tokens[each.row] for each in drawn]) if tokens else None,
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


def _lengths(tokens: list[int]) -> dict[str, int]:
    tokens = sorted(tokens)
    median, p95 = (tokens[min(len(tokens) - 1, int(share * len(tokens)))] for share in (0.5, 0.95))
    return {"min": tokens[0], "median": median, "p95": p95, "max": tokens[-1]}

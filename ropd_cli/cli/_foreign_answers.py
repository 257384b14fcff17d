"""Read answers that were made elsewhere into an index or an answers file (``ropd index import``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from textwrap import shorten

from ropd_cli.cli._index_exchange import AnswersWritten, LeftOut, print_added
from ropd_cli.cli._screen import Screen
from ropd_cli.datasets.hub import HubSet, hub_rows
from ropd_cli.datasets.local_files import Row, local_rows
from ropd_cli.errors import InputError
from ropd_cli.index import IndexWriter
from ropd_cli.index.exchange import V1, V2, imported_rows, prompts_by_hash
from ropd_cli.index.writer import check_name
from ropd_cli.records.files import count_records, write_records
from ropd_cli.stages.foreign_answers import ForeignAnswers, joined, prompts_by_text
from ropd_cli.util.counted import counted


@dataclass(frozen=True)
class Fields:
    """The columns that a user has named, the model, and the split of a data set of the hub."""

    prompt: str | None = None
    response: str | None = None
    uid: str | None = None
    model: str | None = None
    split: str = "train"

    @property
    def named(self) -> dict[str, str]:
        named = {"prompt": self.prompt, "response": self.response, "uid": self.uid}
        return {name: column for name, column in named.items() if column is not None}


def add_answers(
    screen: Screen,
    files: list[Path],
    out: Path,
    prompts: Path | None,
    fields: Fields,
) -> None:
    """Add the answers of files to an index, or write them as an answers file. Raises InputError."""
    is_answers = out.name.endswith((".jsonl", ".jsonl.zst"))
    if is_answers and out.is_file() and out.stat().st_size:
        raise InputError(f"{out}: is there already", "give another --out, or delete it")
    if not is_answers:
        check_name(out, "; answers are written to .jsonl or .jsonl.zst")
    rows = {str(file): partial(_rows, str(file), fields.split) for file in files}
    of_reference = [name for name, some in rows.items() if _is_of_reference(some())]
    if is_answers and of_reference:
        raise InputError(f"{of_reference[0]}: an index of the reference's", "--out names an index for it")
    known = prompts_by_text(prompts) if prompts is not None and len(of_reference) < len(rows) else None
    foreign = [
        ForeignAnswers(name, some, fields.named, fields.model, known)
        for name, some in rows.items()
        if name not in of_reference
    ]
    for each in foreign:
        each.choose()
        screen.note(f"{each.name}: {each.columns}")
    records = chain.from_iterable(
        each.records(partial(screen.track, total=each.count, what="import")) for each in foreign
    )
    if is_answers:
        written = joined(records)
        if not written:
            raise _none(foreign, prompts)
        write_records(out, (record.to_json() for record in written))
        count = sum(len(record.answers) for record in written)
        document = AnswersWritten(out=str(out), prompts=len(written), answers=count, **asdict(_left_out(foreign)))
        screen.result(document, f"{out}: {counted(count, 'answer')} to {counted(len(written), 'prompt')} written")
    else:
        hashes = prompts_by_hash(prompts) if prompts is not None and of_reference else {}
        with IndexWriter(out) as writer:
            for name in of_reference:
                for row in screen.track(imported_rows(Path(name), hashes), count_records(Path(name)), "import"):
                    writer.add_row(row)
            for record in records:
                writer.add(record)
            if foreign and not writer.added.answers and not writer.added.known and not writer.added.unusable:
                raise _none(foreign, prompts)
        print_added(screen, out, writer.added, _left_out(foreign), prompts)
    for each in foreign:
        if each.unmatched:
            places = ", ".join(each.examples)
            screen.note(f"not in {prompts}: {counted(len(each.unmatched), 'prompt')} of {each.name}: {places} …")
        if each.empty:
            screen.note(f"{each.name}: {counted(each.empty, 'row')} without an answer")


def _left_out(foreign: list[ForeignAnswers]) -> LeftOut:
    return LeftOut(
        not_in_prompts=sum(len(each.unmatched) for each in foreign), without_answer=sum(each.empty for each in foreign)
    )


def _rows(name: str, split: str) -> Iterator[Row]:
    if not name.startswith("hf:"):
        return local_rows(Path(name))
    path, _, config = name.removeprefix("hf:").partition(":")
    return hub_rows(HubSet(path, config or None, split))


def _is_of_reference(rows: Iterator[Row]) -> bool:
    return any(row.record.get("schema_version") in (V1, V2) for row in islice(rows, 1))


def _none(foreign: list[ForeignAnswers], prompts: Path | None) -> InputError:
    unmatched = sum(len(each.unmatched) for each in foreign)
    if not unmatched:
        return InputError(f"{foreign[0].name}: no row has an answer", f"columns: {foreign[0].columns}")
    ours = next(iter((foreign[0].known or {}).values()))[0].messages[-1].content
    return InputError(
        f"no prompt of {foreign[0].name} ({unmatched:,}) is in {prompts}",
        f"their texts have to be equal: {_shown(foreign[0].unlike)} there ({foreign[0].columns}), "
        f"{_shown(ours)} in {prompts}; prompts prepared with --instruction have it in their text: "
        "prepare them without it, or add it to yours",
    )


def _shown(text: object) -> str:
    return repr(shorten(str(text), 60, placeholder=" …"))

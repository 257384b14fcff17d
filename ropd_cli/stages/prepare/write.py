"""Prompt files: our fields beside verl's columns, in three formats, each whole or not at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.errors import InputError
from ropd_cli.records.files import read_records, whole_file, write_lines
from ropd_cli.records.parquet import arrow
from ropd_cli.records.schemas import Prompt, parse_prompt

SUFFIXES = (".jsonl", ".jsonl.zst", ".parquet")
_PARQUET_HINT = "write it as .jsonl or .jsonl.zst"
Record = dict[str, Any]


@dataclass(frozen=True)
class Output:
    """One file to write: the prompts of a part."""

    file: Path
    split: str
    prompts: Sequence[Prompt]


def dropped_path(out: Path) -> Path:
    """Where the rows that were left out are listed."""
    return out.with_name(out.name + ".dropped.jsonl")


def check_suffix(file: Path) -> None:
    """Raise InputError for a file whose suffix is none that prompts are written in."""
    if not file.name.endswith(SUFFIXES):
        raise InputError(
            f"{file}: prompts are not written as {file.suffix or 'that'}", f"name it {', '.join(SUFFIXES)}"
        )


def write_all(outputs: Sequence[Output], *, force: bool) -> list[bool]:
    """Write the files; False for one that already holds just these prompts.

    All are made beside their places first, then moved there, so a fault in one leaves all as they were. Raises
    InputError where a file holds something else, unless ``force``, and where Parquet can't hold a prompt.
    """
    for output in outputs:
        check_suffix(output.file)
    written = []
    with ExitStack() as files:
        made = [(output, files.enter_context(whole_file(output.file))) for output in outputs]
        for output, temporary in made:
            if temporary.suffix == ".parquet":
                _write_parquet(output, temporary)
            else:
                write_lines(temporary, _lines(output))
        for output, temporary in made:
            is_new = not (output.file.exists() and _same(output.file, temporary))
            if is_new and output.file.exists() and not force:
                raise InputError(
                    f"{output.file}: exists with other content", "give another --out, or --force to overwrite it"
                )
            if not is_new:
                temporary.unlink()
            written.append(is_new)
    return written


def verl_record(prompt: Prompt, index: int, split: str) -> Record:
    """A prompt in our fields and verl's: ``prompt`` is a list of messages, ``reward_model`` holds the answer again,
    ``extra_info`` its place and uid. What the row brought in these objects stays. Raises InputError where a value
    can't be written."""
    try:
        record = prompt.to_json()
    except ValueError as fault:  # pydantic's serialization error
        raise _unwritable(prompt, str(fault).splitlines()[0]) from fault
    own: Record = {"uid": prompt.uid, "prompt": [m.model_dump(mode="json") for m in prompt.messages]}
    if prompt.answer is not None:
        own["answer"] = prompt.answer
    model = record.pop("reward_model", None)
    model = dict(model) if isinstance(model, dict) else {}
    model["style"] = model.get("style") or ("rule" if prompt.answer is not None else "model")
    model["ground_truth"] = prompt.answer
    info = record.pop("extra_info", None)
    info = dict(info) if isinstance(info, dict) else {}
    if info.get("index") is None:
        info["index"] = index
    info |= {"split": split, "ropd_uid": prompt.uid}
    own |= {"data_source": prompt.data_source or "ropd", "ability": record.get("ability") or "general"}
    own |= {"reward_model": model, "extra_info": info}
    return own | {key: value for key, value in record.items() if key not in own}


def _records(output: Output) -> Iterator[Record]:
    return (verl_record(prompt, index, output.split) for index, prompt in enumerate(output.prompts))


def _lines(output: Output) -> Iterator[bytes]:
    for prompt, record in zip(output.prompts, _records(output), strict=True):
        try:
            yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError as fault:  # an integer beyond 64 bits
            raise _unwritable(prompt, str(fault)) from fault


def _same(file: Path, temporary: Path) -> bool:
    """Whether both files hold the same records."""
    try:
        pairs = itertools.zip_longest(read_records(file), read_records(temporary))
        return all(one == other for one, other in pairs)
    except InputError:
        return False


def _write_parquet(output: Output, temporary: Path) -> None:
    pa, pq = arrow()

    records = list(_records(output))
    names = dict.fromkeys(name for record in records for name in record)
    arrays = []
    for name in names:
        values = [record.get(name) for record in records]
        try:
            arrays.append(pa.array(values, type=_typed(pa, pa.infer_type(values))))
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as fault:
            why = str(fault).splitlines()[0]
            raise InputError(
                f"{output.file}: Parquet can't hold column {name!r} ({why})",
                f"{_PARQUET_HINT}, or leave the column out by --drop-column {name}",
            ) from fault
    try:
        with open(temporary, "wb") as file:  # pyarrow takes no path that is not UTF-8
            pq.write_table(pa.table(arrays, names=list(names)), file, write_page_checksum=True)
    except pa.ArrowException as fault:  # an object without any key
        raise InputError(f"{output.file}: Parquet can't hold this ({fault})", _PARQUET_HINT) from fault
    _check_faithful(output, temporary)


def _typed(pa: Any, kind: Any) -> Any:
    """The type with text in the place of null, where a column or a field is null throughout."""
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        fields = [kind.field(k) for k in range(kind.num_fields)]
        return pa.struct([pa.field(f.name, _typed(pa, f.type)) for f in fields])
    return pa.list_(_typed(pa, kind.value_type)) if pa.types.is_list(kind) else kind


def _check_faithful(output: Output, temporary: Path) -> None:
    """Raise InputError where a prompt reads back as another: keys that only some messages have come back as null."""
    for prompt, (number, record) in zip(output.prompts, read_records(temporary), strict=True):
        back = parse_prompt(record, f"{output.file}:{number}")
        if (back.raw_prompt_hash, back.uid, back.answer) != (prompt.raw_prompt_hash, prompt.uid, prompt.answer):
            raise InputError(
                f"{output.file}: Parquet can't hold the prompt of uid {prompt.uid} as it is (its columns are the same "
                "for all messages, and others here have other keys or kinds of content)",
                _PARQUET_HINT,
            )


def _unwritable(prompt: Prompt, why: str) -> InputError:
    more = ", ".join(prompt.model_extra or {})
    return InputError(
        f"uid {prompt.uid}: a value can't be written as JSON ({why})",
        f"leave its column out by --drop-column NAME; further columns are {more}",
    )

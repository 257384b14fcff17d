"""Records in Parquet files. pyarrow is imported where it is first needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ropd_cli.errors import InputError, MissingPackage
from ropd_cli.records.lines import Damage


def arrow() -> tuple[Any, Any]:
    """Return the modules pyarrow and pyarrow.parquet. Raises MissingPackage where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as fault:
        raise MissingPackage("Parquet files need the package pyarrow", "pip install 'ropd-cli[data]'") from fault
    return pyarrow, pyarrow.parquet


@contextmanager
def parquet_file(path: Path) -> Iterator[Any]:
    """Open a Parquet file. Raises InputError for one that can't be read."""
    pa, pq = arrow()

    with open(path, "rb") as raw:  # pyarrow takes no path that is not UTF-8
        try:
            file = pq.ParquetFile(raw, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError) as fault:
            words = f"{path}: not a readable Parquet file ({fault})"
            raise InputError(words, "copy it again, or write it again") from fault
        yield file


def parquet_contents(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Damage]:
    """Yield (row number from 1, record), and in their places the parts that can't be read."""
    with parquet_file(path) as file:
        yield from _rows_of(file, path)


def _rows_of(file: Any, path: Path) -> Iterator[tuple[int, dict[str, Any]] | Damage]:
    pa, _ = arrow()

    before = 0
    for group in range(file.num_row_groups):
        number = before
        try:
            for batch in file.iter_batches(batch_size=256, row_groups=[group]):
                for record in _with_digits(batch).to_pylist():
                    number += 1
                    yield number, record
        except (pa.ArrowException, OSError, ValueError) as fault:
            yield Damage(f"{path}:{number + 1}", f"the rest of row group {group + 1} can't be read ({fault})")
        before += file.metadata.row_group(group).num_rows
    if before != file.metadata.num_rows:  # pages have checksums, the footer that counts their rows has none
        yield Damage(f"{path}:{before + 1}", f"{file.metadata.num_rows} rows are announced and {before} are there")


def _with_digits(batch: Any) -> Any:
    """Return the batch with its columns of short floats as doubles of the same digits: 0.1 is 0.1, not
    0.10000000149011612."""
    pa, _ = arrow()

    for place, column in enumerate(batch.schema):
        if column.type in (pa.float16(), pa.float32()):
            values = batch.column(place).cast(pa.string()).cast(pa.float64())
            batch = batch.set_column(place, column.name, values)
    return batch


def write_parquet(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write records to a new file, with checksums of its pages."""
    pa, pq = arrow()

    names = dict.fromkeys(name for record in records for name in record)  # from_pylist looks at the first alone
    table = pa.table({name: [_without_empty(record.get(name)) for record in records] for name in names})
    with open(path, "wb") as file:
        pq.write_table(table, file, write_page_checksum=True)


def _without_empty(value: Any) -> Any:
    """Return the value with null for objects without fields: Parquet has no type for a column of such."""
    if isinstance(value, dict):
        return {name: _without_empty(part) for name, part in value.items()} or None
    return [_without_empty(part) for part in value] if isinstance(value, list) else value

"""Looking for damage: the whole file is read, once as a database and once text by text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ropd_cli.errors import InputError
from ropd_cli.index.layout import text_digest
from ropd_cli.index.reader import TeacherIndex
from ropd_cli.records.schemas import prompt_hash
from ropd_cli.util.counted import counted

SHOWN = 20
"""So many findings are shown; of pages that do not fit more are not looked for."""


def integrity(index: TeacherIndex, track: Callable[[list[tuple]], Iterable[tuple]] = iter) -> Iterator[str]:
    """Read everything, and yield what is wrong, in lines for a user: the database's own check (pages, order, that the
    tables' indexes fit), then every checksum, every length, every hash of a prompt whose text is known. ``track`` shows
    how far the loop over prompts is."""
    try:
        for (line,) in index.query(f"PRAGMA integrity_check({SHOWN})"):
            if line != b"ok":
                yield line.decode().replace("\n", " ")
        orphans = index.query(
            "SELECT count(*) FROM answers a LEFT JOIN prompts p ON p.id = a.prompt_id"
            " LEFT JOIN sources s ON s.id = a.source_id WHERE p.id IS NULL OR s.id IS NULL"
        )[0][0]
        if orphans:
            yield f"{counted(orphans, 'answer')} without a prompt or without a source"
        for (number,) in track(index.query("SELECT id FROM prompts ORDER BY id")):
            try:
                yield from _check_row(index, number)
            except InputError as fault:
                yield fault.message.removeprefix(f"{index.path}: ")
    except InputError as fault:
        yield fault.message.removeprefix(f"{index.path}: ")


def _check_row(index: TeacherIndex, number: int) -> Iterator[str]:
    """Compare one prompt and its answers with the columns that are derived from them."""
    row = index.row(number)
    if row.prompt is not None and prompt_hash(row.prompt) != row.raw_prompt_hash:
        yield f"uid {row.uid!r}: raw_prompt_hash is not that of the prompt"
    columns = index.query(
        "SELECT chars, tokens, finish_reason, digest FROM answers WHERE prompt_id = ? ORDER BY id", (number,)
    )
    for stored, (chars, tokens, reason, digest) in zip(row.answers, columns, strict=True):
        answer = stored.answer
        tokens_of_usage = answer.usage.completion_tokens if answer.usage else None
        kept = (len(answer.text), tokens_of_usage, answer.finish_reason, text_digest(answer.text))
        if kept != (chars, tokens, reason.decode() if reason is not None else None, digest):
            yield f"uid {row.uid!r}: what is counted of an answer is not what it has"

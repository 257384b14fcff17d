"""``ropd index export | import | rehash``: what an index exchanges with others."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._options import ReadOptions, command
from ropd_cli.cli._screen import Screen
from ropd_cli.index import Added
from ropd_cli.util.counted import counted

IndexFile = Annotated[Path, typer.Argument(help="Teacher index.")]


@dataclass(kw_only=True)
class AddedTo(Added):
    out: str


@dataclass(kw_only=True)
class LeftOut:
    """What of the files was not taken."""

    not_in_prompts: int
    """Prompts that the prompts file lacks."""
    without_answer: int
    """Rows."""


@dataclass(kw_only=True)
class AddedFromFiles(AddedTo, LeftOut):
    """With an index as ``--out``."""


@dataclass(kw_only=True)
class AnswersWritten(LeftOut):
    """With an answers file as ``--out``."""

    out: str
    prompts: int
    answers: int


class RowsWritten(TypedDict):
    index: str
    out: str
    rows: int
    left_out: int
    """Prompts without a usable answer."""


class Rehashed(TypedDict):
    """Prompts whose answers were found by their text."""

    index: str
    prompts: int


@command
def export(
    index: IndexFile,
    out: Annotated[Path, typer.Option(help="File (.jsonl, .jsonl.zst).")],
    version: Annotated[
        Literal["v1", "v2"], typer.Option("--format", help="v2: all answers per prompt; v1: the first.")
    ] = "v2",
    plain: Annotated[
        bool, typer.Option("--plain", help="Write only the format's own fields; a later import is then not equal.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    *,
    screen: Screen,
) -> None:
    """Write an index as JSON Lines of the method's reference implementation.

    v2 has one additional field for data that the format lacks, so that an import gives an equal index.
    """
    from ropd_cli.errors import InputError
    from ropd_cli.index import TeacherIndex
    from ropd_cli.index.exchange import write_reference
    from ropd_cli.records.outputs import sole_writer

    with sole_writer(out), closing(TeacherIndex.open(index)) as opened:
        if out.exists() and not force:
            raise InputError(f"{out}: is there already", "give another --out, or overwrite it by --force")
        written, left_out = write_reference(opened, out, version, plain=plain)
    document = RowsWritten(index=str(index), out=str(out), rows=written, left_out=left_out)
    more = f", {left_out} without a usable answer left out" if left_out else ""
    screen.result(document, f"{out}: {counted(written, 'row')} written{more}")


@command
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Answers made elsewhere (JSON Lines, JSON, CSV, TSV, Parquet), hf:OWNER/NAME[:CONFIG], or an index of "
            "the reference implementation (v1, v2)."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Index file, created or added to; or an answers file (.jsonl, .jsonl.zst), made anew.")
    ],
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts file; answers are matched to its prompts by their text.")
    ] = None,
    prompt_field: Annotated[
        str | None, typer.Option("--prompt-field", help="Column of the prompts.", show_default="guessed")
    ] = None,
    response_field: Annotated[
        str | None, typer.Option("--response-field", help="Column of the answers.", show_default="guessed")
    ] = None,
    uid_field: Annotated[
        str | None, typer.Option("--uid-field", help="Column of the uids, without --prompts.", show_default="uid")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Model that answered.", show_default="a column, where there is one")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split of a Hugging Face data set.")] = "train",
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Add answers that were made elsewhere to an index.

    The columns of prompts and answers are guessed and shown. A chat whose last message is the assistant's has its
    answer there. Rows of one prompt are joined. With --prompts, a bare text, one user message, and a text with blanks
    around it are the same prompt.
    """
    from ropd_cli.cli._foreign_answers import Fields, add_answers

    fields = Fields(prompt_field, response_field, uid_field, model, split)
    add_answers(screen, files, out, prompts, fields)


@command
def rehash(index: IndexFile, prompts: Annotated[Path, typer.Argument(help="Prompts file.")], *, screen: Screen) -> None:
    """Give a prompts file the answers that the index has to the same texts in another form.

    A prompt as a bare text and the same prompt as a message have different hashes, and so have texts with and without
    blanks around them. Nothing is asked of a teacher.
    """
    from ropd_cli.records.schemas import load_prompts
    from ropd_cli.stages.foreign_answers import rehash as assign

    count = assign(index, load_prompts(prompts))
    screen.result(
        Rehashed(index=str(index), prompts=count), f"{index}: answers of {counted(count, 'prompt')} found by their text"
    )


def print_added(
    screen: Screen, out: Path, added: Added, left_out: LeftOut | None = None, prompts: Path | None = None
) -> None:
    """Print what was added to an index, and what of the files was not taken."""
    from ropd_cli.cli._stages import closing_lines

    text = (
        f"{out}: {counted(added.answers, 'answer')} to {counted(added.prompts, 'new prompt')} added, "
        f"{added.known} already there"
    )
    if added.differing:
        text += f" ({added.differing} of them from another source)"
    if added.truncated:
        text += f", {added.truncated} cut off by the token limit"
    if added.unusable:
        text += f", {added.unusable} left out (empty, or thoughts alone)"
    following = ("ropd", "rollout", prompts or "PROMPTS", "--out", out.parent / "rollouts.jsonl", "--model", "STUDENT")
    text = "\n".join([text, *closing_lines({}, following)])
    screen.result({"out": str(out), **asdict(added), **(asdict(left_out) if left_out else {})}, text)

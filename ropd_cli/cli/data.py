"""``ropd data prepare`` and ``ropd data list``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._completion import benchmarks, data_sets
from ropd_cli.cli._options import ReadOptions, command, command_group
from ropd_cli.cli._screen import Screen, snake_keys
from ropd_cli.datasets.columns import Chosen
from ropd_cli.util.counted import counted

if TYPE_CHECKING:
    from ropd_cli.stages.prepare import Part, Prepared

_parts_option = partial(typer.Option, rich_help_panel="Size and parts")
app = command_group("data", help="Prepare prompts.")

NAME_HELP = "A name that ropd data list shows, hf:OWNER/NAME[:CONFIG] or reasoning-gym:TASK; any name with --local."
HELD_OUT = "held-out"
SHOWN = 10
"""Further columns in the summary."""


class PartFile(TypedDict):
    file: str
    prompts: int


class PreparedPrompts(TypedDict):
    """The prompts that were written, and the rows that were not. ``read`` is the sum of ``kept`` and ``dropped``."""

    out: str
    prompts: int
    """In ``out``."""
    held_out: int
    """Prompts of all other parts."""
    held_out_out: str | None
    parts: dict[str, PartFile]
    """By name; ``train`` is ``out``."""
    read: int
    """Rows."""
    kept: int
    dropped: dict[str, int]
    """Rows that were left out, by why."""
    dropped_out: str | None
    """File that lists them."""
    notes: dict[str, int]
    """Further counts of rows or prompts, by what they are."""
    columns: dict[str, Chosen]
    """Where each field was read; empty for a made task."""
    further_columns: list[str]
    """Columns that are kept as they are."""
    answers: int
    """Kept prompts with an answer."""
    rubrics: int
    """Kept prompts with a rubric."""
    tokens: dict[str, int] | None
    """Tokens of the kept prompts: ``min``, ``median``, ``p95`` and ``max``; null without ``--tokenizer``."""


class DataSet(TypedDict):
    name: str
    source: str
    """``generated``, ``package``, or its name on the hub."""
    about: str


class DataSets(TypedDict):
    data_sets: list[DataSet]


@app.command("prepare")
@command
def prepare(
    name: Annotated[str, typer.Argument(help=NAME_HELP, autocompletion=data_sets)],
    out: Annotated[Path, typer.Option(help="Prompts file (.jsonl, .jsonl.zst or .parquet).")],
    local: Annotated[
        Path | None,
        typer.Option(help="File to read: JSONL (.zst), JSON, CSV, TSV, Parquet. No network is used."),
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a hub set.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of a hub set.", show_default="train")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of a hub set.")] = None,
    prompt_field: Annotated[str | None, typer.Option(help="Column of prompts or messages.")] = None,
    answer_field: Annotated[str | None, typer.Option(help="Column of checkable answers.")] = None,
    uid_field: Annotated[str | None, typer.Option(help="Column of uids; @hash uses the prompt's hash.")] = None,
    system_field: Annotated[str | None, typer.Option(help="Column of system prompts.")] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Column of prompt, answer, uid, system, rubric, data_source or ability (repeatable).",
        ),
    ] = None,
    drop_column: Annotated[list[str] | None, typer.Option(help="Column to leave out (repeatable).")] = None,
    bad_rows: Annotated[
        Literal["error", "drop"], typer.Option(help="Stop at a row that is not a valid prompt, or leave it out.")
    ] = "error",
    require_answer: Annotated[
        bool, typer.Option("--require-answer", help="Leave out prompts without an answer.")
    ] = False,
    dedup: Annotated[
        Literal["exact", "normalized"],
        typer.Option(help="Duplicates: prompts of one hash, or equal except for case, spaces and punctuation."),
    ] = "exact",
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Folder or hub name of a tokenizer, to count tokens with its chat template."),
    ] = None,
    max_prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Leave out longer prompts.")] = None,
    min_prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Leave out shorter prompts.")] = None,
    decontaminate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            autocompletion=benchmarks,
            help="Leave out prompts that overlap with an evaluation set: math500, ifeval, gsm8k-sample, another name, "
            "FILE or NAME=FILE (repeatable, or separated by commas).",
        ),
    ] = None,
    ngram: Annotated[int, typer.Option(min=1, help="Number of consecutive words that count as an overlap.")] = 13,
    contaminated: Annotated[
        Literal["drop", "keep"],
        typer.Option(help="Leave overlapping prompts out, or keep and list them."),
    ] = "drop",
    size: Annotated[
        int | None,
        _parts_option(min=1, help="Exact number of prompts.", show_default="100 for a generated task, else all"),
    ] = None,
    limit: Annotated[int | None, _parts_option(min=1, help="Maximum number of prompts, drawn by --seed.")] = None,
    held_out: Annotated[
        str | None, _parts_option(metavar="N", help="Number or share (0.1, 10%) of held-out prompts.")
    ] = None,
    held_out_out: Annotated[Path | None, _parts_option(help="File of the held-out prompts.")] = None,
    split_out: Annotated[
        list[str] | None, _parts_option(metavar="NAME=N:FILE", help="Another held-out part (repeatable).")
    ] = None,
    shuffle: Annotated[
        bool, _parts_option("--shuffle/--no-shuffle", help="Draw parts by --seed, or take rows in file order.")
    ] = True,
    seed: Annotated[int, _parts_option(help="Seed of generated questions, parts and --limit.")] = 0,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Setting of a reasoning-gym task (repeatable)."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt for prompts without one.")] = None,
    instruction: Annotated[
        str | None,
        typer.Option(help="Text after each question; '' for none.", show_default="the set's own"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files with other content.")] = False,
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Write the prompts of a data set, a task or a file, in the prompts format and in verl's columns.

    Repeated prompts are written once. Rows that are left out are listed in OUT.dropped.jsonl with the reason. The
    same command again writes the same files.
    """
    from ropd_cli.cli._stages import closing_lines
    from ropd_cli.errors import InputError
    from ropd_cli.records.outputs import sole_writer
    from ropd_cli.stages import prepare as stage
    from ropd_cli.util.terminal import Console, Text

    if tokenizer is None and (max_prompt_tokens or min_prompt_tokens):
        raise InputError(
            "a limit on prompt tokens needs a tokenizer", "name the student's: --tokenizer FOLDER or a name of the hub"
        )
    parts, files = _parts(held_out, held_out_out, split_out or [])
    named = {"prompt": prompt_field, "answer": answer_field, "uid": uid_field, "system": system_field}
    source = stage.Source(
        name,
        local,
        _parameters(param or []),
        _columns(named, mapping or []),
        frozenset(drop_column or ()),
        config,
        split,
        revision,
    )
    filters = stage.Filters(
        dedup,
        require_answer,
        bad_rows,
        tokenizer,
        min_prompt_tokens,
        max_prompt_tokens,
        _eval_sets(decontaminate or []),
        ngram,
        contaminated,
    )
    wording = stage.Wording(system, instruction)
    plan = stage.Plan(source, wording, filters, parts, size, limit, seed, shuffle)
    files["train"] = out
    sets = [Path(each.partition("=")[2] or each) for each in filters.decontaminate]
    _check_files(list(files.values()), [local, *sets] if local else sets)
    waiting = Console(stderr=True, quiet=screen.quiet).status(Text(f"preparing {source}"))  # on a terminal only
    with ExitStack() as held, waiting, stage.Ledger(stage.dropped_path(out)) as ledger:
        for file in files.values():
            held.enter_context(sole_writer(file))
        prepared = stage.prepare(plan, ledger)
        splits = {part: part for part in files} | {"train": source.main_split}
        outputs = [stage.Output(file, splits[part], prepared.parts[part]) for part, file in files.items()]
        written = stage.write_all(outputs, force=force)
        listing = ledger.finish()
    if not screen.quiet:
        _show(prepared, listing)
    lines = [
        f"{each.file}: {counted(len(each.prompts), 'prompt')}{'' if is_new else ' (already there)'}"
        for each, is_new in zip(outputs, written, strict=True)
    ]
    document = _document(prepared, files, listing)
    following = closing_lines(
        {}, ("ropd", "teacher-gen", out, "--out", out.parent / "teacher.jsonl", "--model", "MODEL")
    )
    screen.result(document, "\n".join([lines[-1], *lines[:-1], *following]))


@app.command("list")
@command
def list_sets(*, screen: Screen) -> None:
    """List the names that data prepare knows.

    It also takes hf:OWNER/NAME[:CONFIG], reasoning-gym:TASK, and files by --local.
    """
    from rich.table import Table

    from ropd_cli.datasets.known_sets import RECIPES, SHIPPED
    from ropd_cli.datasets.sums import SUM_TASKS

    sources = dict.fromkeys(SUM_TASKS, "generated")
    sources |= {name: "package" if name in SHIPPED else recipe.hub for name, recipe in RECIPES.items()}
    about = {name: task.about for name, task in SUM_TASKS.items()}
    about |= {name: recipe.about for name, recipe in RECIPES.items()}
    sets = [DataSet(name=name, source=source, about=about[name]) for name, source in sources.items()]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("name", "source"):
        table.add_column(head, no_wrap=True)
    table.add_column("what it holds")
    for each in sets:
        table.add_row(each["name"], each["source"], each["about"])
    screen.result(DataSets(data_sets=sets), table)


def _document(prepared: Prepared, files: dict[str, Path], listing: Path | None) -> PreparedPrompts:
    apart = {part: len(prompts) for part, prompts in prepared.parts.items() if part != "train"}
    return {
        "out": str(files["train"]),
        "prompts": len(prepared.train),
        "held_out": sum(apart.values()),
        "held_out_out": str(files[HELD_OUT]) if HELD_OUT in files else None,
        "parts": {part: {"file": str(files[part]), "prompts": len(some)} for part, some in prepared.parts.items()},
        "read": prepared.read,
        "kept": prepared.kept,
        "dropped": snake_keys(prepared.dropped),
        "dropped_out": str(listing) if listing else None,
        "notes": snake_keys(prepared.notes),
        "columns": dict(prepared.columns),
        "further_columns": list(prepared.further),
        "answers": prepared.with_answer,
        "rubrics": prepared.rubrics,
        "tokens": prepared.tokens,
    }


def _show(prepared: Prepared, listing: Path | None) -> None:
    """Print the summary on stderr."""
    from rich.table import Table

    from ropd_cli.util.terminal import Console, Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("rows read", f"{prepared.read:,}")
    for name, chosen in prepared.columns.items():
        table.add_row(f"  {name}", f"{chosen.rows:,}", f"in {chosen}")
    if prepared.further:
        more = f" and {len(prepared.further) - SHOWN} more" if len(prepared.further) > SHOWN else ""
        table.add_row("  kept as they are", "", ", ".join(prepared.further[:SHOWN]) + more)
    for why, count in sorted(prepared.dropped.items(), key=lambda each: -each[1]):
        table.add_row(f"  {why}", f"-{count:,}", f"{count / prepared.read:.1%}")
    table.add_row("kept", f"{prepared.kept:,}", f"{prepared.kept / prepared.read:.1%}", style="bold")
    parts = {f"  {part}": len(prompts) for part, prompts in prepared.parts.items()} if len(prepared.parts) > 1 else {}
    rubrics = {"with a rubric": prepared.rubrics} if prepared.rubrics else {}
    for what, count in (parts | {"with an answer": prepared.with_answer} | rubrics | prepared.notes).items():
        table.add_row(what, f"{count:,}")
    if prepared.tokens is not None:
        table.add_row("tokens", "", ", ".join(f"{what} {count}" for what, count in prepared.tokens.items()))
    console = Console(stderr=True)
    console.print(table)
    if prepared.not_found:
        words = {
            "answer": "no column of answers found: --answer-field COLUMN",
            "uid": "uids are hashes of the prompts: --uid-field COLUMN",
        }
        found = "; ".join(words[name] for name in prepared.not_found)
        columns = Text(", ".join(prepared.further[:SHOWN]))
        console.print(Text(f"{found} (columns: ").append_text(columns).append(")"), soft_wrap=True)
    if listing is not None:
        console.print(f"rows left out: {listing}", style="dim", soft_wrap=True)


def _parts(held_out: str | None, held_out_out: Path | None, split_out: Sequence[str]) -> tuple[tuple[Part, ...], dict]:
    """Return the held-out parts, and their files by name. Raises InputError."""
    from ropd_cli.errors import InputError
    from ropd_cli.stages.prepare import parse_part

    if held_out == "0" and held_out_out is None:
        held_out = None
    if (held_out is not None) != (held_out_out is not None):
        raise InputError("--held-out and --held-out-out go together", "give both or none")
    parts: list[Part] = []
    files: dict[str, Path] = {}
    if held_out is not None and held_out_out is not None:
        parts.append(parse_part(HELD_OUT, held_out, "--held-out"))
        files[HELD_OUT] = held_out_out
    for text in split_out:
        name, equals, rest = text.partition("=")
        count, colon, file = rest.partition(":")
        if not (name and equals and colon and file):
            raise InputError(
                f"--split-out {text!r}: expected NAME=N:FILE", "for example --split-out test=5%:test.jsonl"
            )
        if name in files or name == "train":
            raise InputError(f"--split-out {text!r}: there is a part {name!r} already", "give it another name")
        parts.append(parse_part(name, count, "--split-out"))
        files[name] = Path(file)
    if sum(part.size for part in parts if isinstance(part.size, float)) >= 1:
        raise InputError("the shares that are held out leave nothing to train on", "let them sum to less than 1")
    return tuple(parts), files


def _check_files(files: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raise InputError for a suffix that is not known, and for a file that is named twice."""
    from ropd_cli.errors import InputError
    from ropd_cli.records.outputs import refuse_inputs
    from ropd_cli.stages.prepare.write import check_suffix

    refuse_inputs(files, inputs)
    seen: set[str] = set()
    for file in files:
        check_suffix(file)
        if os.path.realpath(file) in seen:
            raise InputError(f"{file}: named twice", "give each file a name of its own")
        seen.add(os.path.realpath(file))


def _columns(named: dict[str, str | None], mapping: Sequence[str]) -> dict[str, str]:
    """Return the column of each field, by the fields' own options and by ``--map``. Raises InputError."""
    from ropd_cli.datasets.columns import FIELDS
    from ropd_cli.errors import InputError

    columns = {field: column for field, column in named.items() if column}
    for text in mapping:
        field, separator, column = text.partition("=")
        if not separator or not column or field not in FIELDS:
            raise InputError(f"--map {text!r}: expected FIELD=COLUMN", f"fields are {', '.join(FIELDS)}")
        if columns.get(field, column) != column:
            raise InputError(f"--map {text!r}: {field} is {columns[field]!r} already", "name one column for it")
        columns[field] = column
    return columns


def _eval_sets(given: Sequence[str]) -> tuple[str, ...]:
    """Return the names and files; a text is split at commas unless it is one file."""
    sets: dict[str, None] = {}
    for text in given:
        whole = Path(text.partition("=")[2] or text).is_file()
        sets.update(dict.fromkeys([text] if whole else filter(None, map(str.strip, text.split(",")))))
    return tuple(sets)


def _parameters(settings: list[str]) -> dict[str, Any]:
    """Return the settings of ``--param``, their values read as YAML. Raises InputError for another form."""
    import yaml

    from ropd_cli.errors import InputError
    from ropd_cli.util.yaml_text import load_yaml

    parameters = {}
    for text in settings:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InputError(f"--param {text!r}: expected NAME=VALUE", "for example --param min_terms=2")
        try:
            parameters[name] = load_yaml(value)
        except yaml.YAMLError as fault:
            raise InputError(
                f"--param {name}: not a YAML value ({fault})", "for example --param min_terms=2"
            ) from fault
    return parameters

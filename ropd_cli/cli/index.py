"""``ropd index build | show | get | check | merge | export | import | rehash``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._completion import uids_of_index
from ropd_cli.cli._index_exchange import IndexFile, export, import_, print_added, rehash
from ropd_cli.cli._options import ReadOptions, command, command_group
from ropd_cli.cli._screen import Screen
from ropd_cli.index.contents import Survey
from ropd_cli.index.rows import StoredShown
from ropd_cli.util.counted import counted

if TYPE_CHECKING:
    from ropd_cli.index.reader import Coverage

app = command_group("index", help="Build, show, check, merge and exchange the teacher index.")
Prompts = Annotated[Path | None, typer.Option("--prompts", help="Prompts file.")]
SHOWN_UIDS = 20
BAR_WIDTH = 30


class CoverageShown(TypedDict):
    """How an index covers a prompts file."""

    m: int
    """Distinct answers needed per prompt."""
    prompts: int
    """In the file."""
    complete: bool
    missing: list[str]
    """Uids of prompts without an answer."""
    short: dict[str, int]
    """Of prompts with fewer than ``m`` distinct answers: how many, by uid."""


@dataclass(frozen=True, kw_only=True)
class IndexShown(Survey):
    index: str
    per_prompt: dict[str, int]
    """Another name of ``distinct``."""


@dataclass(frozen=True, kw_only=True)
class IndexCovered(IndexShown):
    """With ``--prompts``."""

    coverage: CoverageShown


class AnswersShown(TypedDict):
    index: str
    answers: list[StoredShown]


class Opened(TypedDict):
    """With ``--quick`` and without PROMPTS."""

    index: str


class Whole(Opened):
    """Without PROMPTS."""

    whole: bool
    damage: list[str]
    """The first 20 findings."""
    damage_count: int


class Covers(Opened, CoverageShown):
    """With ``--quick`` and PROMPTS."""

    same_text: int
    """Prompts without an answer that match one of the index by text, not by hash."""


class WholeAndCovers(Whole, Covers):
    """With PROMPTS."""


@app.command("build")
@command
def build(
    answers: Annotated[list[Path], typer.Argument(help="Answers files of a teacher, from ropd teacher-gen.")],
    out: Annotated[Path, typer.Option(help="Index file; created, or added to.")],
    use_truncated: Annotated[
        bool, typer.Option("--use-truncated", help="Use answers that were cut off like the others.")
    ] = False,
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Add answers files to an index.

    Answers that the index already has are not added again. Empty answers and thinking without an answer are left out.
    An answer that was cut off by the token limit is kept, marked, and not used. Readers see the old index until the
    build is finished; a build that was killed leaves the index as it was.
    """
    from ropd_cli.errors import InputError
    from ropd_cli.index import IndexWriter
    from ropd_cli.index.layout import is_index
    from ropd_cli.records.files import count_records
    from ropd_cli.records.schemas import AnswerRecord, load_models

    def records_of(file: Path) -> Iterator[AnswerRecord]:
        records = load_models(file, AnswerRecord)
        try:
            first = next(records, None)
        except InputError as fault:
            raise InputError(fault.message, f"{fault.hint}; made elsewhere? ropd index import {file}") from fault
        if first is not None:
            yield first
        yield from records

    total = sum(map(count_records, answers))  # a file that is missing is an error before anything is made
    for file in filter(is_index, answers):
        raise InputError(f"{file}: a teacher index, not answers", "ropd index merge joins indexes")
    with IndexWriter(out, use_truncated=use_truncated) as writer:
        records = (record for file in answers for record in records_of(file))
        is_empty = True
        for record in screen.track(records, total, "build"):
            writer.add(record)
            is_empty = False
        if is_empty:
            raise InputError(
                f"{', '.join(map(str, answers))}: no answers in it", "ropd teacher-gen writes answers files"
            )
    print_added(screen, out, writer.added)


@app.command("show")
@command
def show(
    index: IndexFile,
    prompts: Prompts = None,
    m: Annotated[int, typer.Option("--m", "-m", min=1, help="With --prompts: distinct answers needed per prompt.")] = 4,
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Show what an index holds, and with --prompts how much of a prompts file it covers."""
    from rich.console import Group

    from ropd_cli.index import TeacherIndex
    from ropd_cli.index.contents import survey
    from ropd_cli.records.schemas import load_prompts

    with closing(TeacherIndex.open(index)) as opened:
        contents = survey(opened)
        coverage = opened.check(load_prompts(prompts), m) if prompts is not None else None
    document: dict[str, Any] = {"index": str(index), **contents.as_dict()}
    lines: list[Any] = [_survey_table(str(index), contents)]
    if coverage is not None:
        document["coverage"] = _coverage_document(coverage, m)
        lines += ["", *_coverage_lines(str(prompts), coverage, m)]
    screen.result(document, Group(*lines))


@app.command("get")
@command
def get(
    index: IndexFile,
    uid: Annotated[str | None, typer.Option(autocompletion=uids_of_index, help="A prompt's uid.")] = None,
    prompt_hash: Annotated[str | None, typer.Option("--hash", help="A prompt's raw_prompt_hash.")] = None,
    *,
    screen: Screen,
) -> None:
    """Print the answers to one prompt, including those that were cut off."""
    from ropd_cli.errors import IndexMissing, InputError
    from ropd_cli.index import TeacherIndex

    if uid is None and prompt_hash is None:
        raise InputError("which prompt?", "give --uid or --hash")
    with closing(TeacherIndex.open(index)) as opened:
        stored = opened.get(uid, prompt_hash)
        if not stored:
            parts = [uid and f"uid {uid!r}", prompt_hash and f"hash {prompt_hash}"]
            examples = ", ".join(known for known, _ in zip(opened.uids(), range(5), strict=False))
            raise IndexMissing(
                f"{index}: no answer for {' and '.join(part for part in parts if part)}",
                f"the index begins with the uids {examples or '(none)'}",
            )
    lines = []
    for number, one in enumerate(stored, start=1):
        ended = f", ended by {one.answer.finish_reason}" if one.answer.finish_reason else ""
        marked = "" if one.usable else ", not handed out"
        model = f", {one.model}" if one.model else ""
        lines += [f"— answer {number} of {len(stored)}, uid {one.uid}{model}{ended}{marked}"]
        lines += [one.answer.text, ""]
    documents = [one.to_json() for one in stored]
    screen.result({"index": str(index), "answers": documents}, "\n".join(lines).rstrip())


@app.command("check")
@command
def check(
    index: IndexFile,
    prompts: Annotated[Path | None, typer.Argument(help="Prompts file that the index should cover.")] = None,
    m: Annotated[int, typer.Option("--m", "-m", min=1, help="Distinct answers needed per prompt.")] = 4,
    quick: Annotated[bool, typer.Option("--quick", help="Do not read every text to look for damage.")] = False,
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Check that an index is whole, and that every prompt has m distinct answers.

    Exit code 2 where the index is damaged, 3 where answers are missing.
    """
    from ropd_cli.errors import EXIT_INPUT, EXIT_PARTIAL
    from ropd_cli.index import TeacherIndex
    from ropd_cli.index.integrity import SHOWN, integrity
    from ropd_cli.records.schemas import load_prompts
    from ropd_cli.stages.foreign_answers import same_text

    wanted = load_prompts(prompts) if prompts is not None else []
    with closing(TeacherIndex.open(index)) as opened:
        coverage = opened.check(wanted, m) if prompts is not None else None
        missing = set(coverage.missing) if coverage is not None else set()
        by_text = same_text(opened, [prompt for prompt in wanted if prompt.uid in missing]) if missing else []
        damage = None if quick else list(integrity(opened, lambda rows: screen.track(rows, len(rows), "check")))
        prompts_read = opened.prompts if damage == [] else 0
    document: dict[str, Any] = {"index": str(index)}
    lines = []
    if damage is not None:
        document |= {"whole": not damage, "damage": damage[:SHOWN], "damage_count": len(damage)}
        lines += [f"{index}: damaged, {finding}" for finding in damage[:SHOWN]]
        lines += [f"{index}: whole, {counted(prompts_read, 'prompt')} read"] if not damage else []
    if coverage is not None:
        document |= _coverage_document(coverage, m)
        document["same_text"] = len(by_text)
        lines += _coverage_lines(str(index), coverage, m)
        if by_text:
            lines.append(f"{index}: {len(by_text)} of these prompts match by text, not by hash")
    screen.result(document, "\n".join(lines) or f"{index}: opened")
    if damage:
        screen.note("hint: copy it again, or build it again from the answers files")
        raise typer.Exit(EXIT_INPUT)
    if coverage is not None and not coverage.complete:
        again = "run ropd teacher-gen for them, then ropd index build"
        again += ", or ask for fewer with -m" if coverage.short else ""
        screen.note(f"hint: {f'ropd index rehash {index} {prompts}' if by_text else again}")
        raise typer.Exit(EXIT_PARTIAL)


@app.command("merge")
@command
def merge(
    indexes: Annotated[list[Path], typer.Argument(help="Teacher indexes.")],
    out: Annotated[Path, typer.Option(help="Index file; created, or added to.")],
    on_conflict: Annotated[
        Literal["first", "last", "error"],
        typer.Option(help="Source to keep for equal answers; error: stop at the first."),
    ] = "first",
    *,
    screen: Screen,
) -> None:
    """Merge several indexes into one.

    Answers to the same prompt are joined, equal ones once; those in --out come first. An answer that only some of the
    indexes mark as cut off is used.
    """
    from ropd_cli.index import IndexWriter, TeacherIndex

    for each in indexes:
        TeacherIndex.open(each).close()  # what is missing, or no index, is an error before anything is made
    with IndexWriter(out, prefer=on_conflict) as writer:
        for each in indexes:
            with closing(TeacherIndex.open(each)) as opened:
                for row in screen.track(opened.rows(), opened.prompts, f"merge {each.name}"):
                    writer.add_row(row)
    print_added(screen, out, writer.added)


app.command("export")(export)
app.command("import")(import_)
app.command("rehash")(rehash)


def _survey_table(name: str, contents: Survey) -> Any:
    """Return the figures of an index as a rich renderable."""
    from rich.console import Group
    from rich.table import Table

    from ropd_cli.util.terminal import Text

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in columns:
            made.add_column(column, justify="right" if column else "left")
        return made

    head = (
        f"{name}: {counted(contents.answers, 'answer')} to {counted(contents.prompts, 'prompt')}, "
        f"{contents.bytes / 1e6:,.1f} MB"
    )
    lines = [Text(head, style="bold")]
    if contents.truncated:
        share = f"{contents.truncated_share:.1%} of all"
        lines.append(Text(f"{contents.truncated:,} more were cut off ({share}): marked, not used"))
    if contents.without_prompt:
        lines.append(
            Text(f"{counted(contents.without_prompt, 'prompt')} without their text (imported rows): found by hash")
        )
    counts = table("Prompts by distinct answers", "answers", "prompts", "")
    most = max(contents.distinct.values(), default=1)
    for number, count in contents.distinct.items():
        counts.add_row(str(number), f"{count:,}", "█" * max(1, round(BAR_WIDTH * count / most)))
    lengths = table("Length of an answer", "", "least", "median", "95%", "most")
    for unit, each in (("characters", contents.chars), ("tokens", contents.tokens)):
        if each is not None:
            lengths.add_row(unit, *(f"{value:,}" for value in (each.least, each.median, each.p95, each.most)))
    models = table("Models", "", "answers", "cut off", "tokens", "mean characters", "temperature")
    for model, figures in contents.models.items():
        temperatures = ", ".join("not set" if each is None else f"{each:g}" for each in figures.temperatures)
        numbers = (figures.answers, figures.truncated, figures.tokens, round(figures.mean_chars))
        models.add_row(model or "(no model name)", *(f"{number:,}" for number in numbers), temperatures)
    return Group(*lines, *(Group("", part) for part in (counts, lengths, models) if part.row_count))


def _coverage_document(coverage: Coverage, m: int) -> CoverageShown:
    return CoverageShown(
        m=m, prompts=coverage.prompts, complete=coverage.complete, missing=coverage.missing, short=coverage.short
    )


def _coverage_lines(name: str, coverage: Coverage, m: int) -> list[str]:
    if coverage.complete:
        return [f"{name}: {counted(coverage.prompts, 'prompt')}, each with {counted(m, 'distinct answer')} or more"]
    lines = []
    if coverage.missing:
        lines.append(
            f"{name}: no answer for {len(coverage.missing)} of {counted(coverage.prompts, 'prompt')}: "
            f"{_few(coverage.missing)}"
        )
    if coverage.short:
        short = [f"{uid} ({count})" for uid, count in coverage.short.items()]
        lines.append(
            f"{name}: fewer than {counted(m, 'distinct answer')} for {counted(len(short), 'prompt')}: {_few(short)}"
        )
    return lines


def _few(items: list[str]) -> str:
    return ", ".join(items[:SHOWN_UIDS]) + (" … (all of them: --json)" if len(items) > SHOWN_UIDS else "")

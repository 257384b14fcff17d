"""``ropd index build | show | get | check``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen

app = typer.Typer(
    name="index",
    help="Build, show and check the teacher index.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
IndexFile = Annotated[Path, typer.Argument(help="Teacher index.")]
SHOWN_UIDS = 5


@app.command("build")
def build(
    answers: Annotated[list[Path], typer.Argument(help="Answers files of a teacher (from teacher-gen).")],
    out: Annotated[Path, typer.Option("--out", help="Index file; made, or added to.")],
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Put answers files into an index.

    What the index holds already is not added twice. An answer that is empty, cut off by the token limit, or
    all thinking can't teach and is left out.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from dataclasses import asdict

        from ropd_cli.errors import InputError
        from ropd_cli.index import IndexWriter
        from ropd_cli.schemas import AnswerRecord, load_models

        for file in answers:
            if not file.is_file():
                raise InputError(f"no file {file}", "give answers files as ropd teacher-gen writes them")
        with IndexWriter(out) as writer:
            for file in answers:
                for record in load_models(file, AnswerRecord):
                    writer.add(record)
        added = writer.added
        left_out = f", {added.unusable} left out (empty, cut off, or thoughts alone)" if added.unusable else ""
        text = f"{out}: {added.answers} answers to {added.prompts} new prompts added, {added.known} already there"
        screen.result({"out": str(out), **asdict(added)}, text + left_out)


@app.command("show")
def show(index: IndexFile, json: o.Json = False, quiet: o.Quiet = False, debug: o.Debug = False) -> None:
    """Say what an index holds."""
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from dataclasses import asdict

        from ropd_cli.index import TeacherIndex

        with closing(TeacherIndex.open(index)) as opened:
            overview = opened.overview()
        lines = [f"{index}: {overview.answers} answers to {overview.prompts} prompts"]
        lines += [f"  {model or '(no model name)'}: {count} answers" for model, count in overview.models.items()]
        lines += [f"  {count} prompts with {n} distinct answers" for n, count in overview.per_prompt.items()]
        document = asdict(overview)
        document["per_prompt"] = {str(n): count for n, count in overview.per_prompt.items()}
        screen.result({"index": str(index), **document}, "\n".join(lines))


@app.command("get")
def get(
    index: IndexFile,
    uid: Annotated[str | None, typer.Option("--uid", help="uid of a prompt.")] = None,
    prompt_hash: Annotated[str | None, typer.Option("--hash", help="raw_prompt_hash of a prompt.")] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Print the answers to one prompt."""
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.errors import IndexMissing, InputError
        from ropd_cli.index import TeacherIndex

        if uid is None and prompt_hash is None:
            raise InputError("which prompt?", "give --uid or --hash")
        with closing(TeacherIndex.open(index)) as opened:
            stored = opened.get(uid, prompt_hash)
            if not stored:
                wanted = " and ".join(
                    part for part in (uid and f"uid {uid!r}", prompt_hash and f"hash {prompt_hash}") if part
                )
                examples = ", ".join(uid for uid, _ in zip(opened.uids(), range(SHOWN_UIDS), strict=False))
                raise IndexMissing(
                    f"{index}: no answer for {wanted}", f"the index begins with the uids {examples or '(none)'}"
                )
        documents = [
            {
                "uid": s.uid,
                "raw_prompt_hash": s.raw_prompt_hash,
                "model": s.model,
                "sampling": s.sampling,
                **s.answer.to_json(),
            }
            for s in stored
        ]
        lines = []
        for number, one in enumerate(stored, start=1):
            ended = f", ended by {one.answer.finish_reason}" if one.answer.finish_reason else ""
            lines += [f"— answer {number} of {len(stored)}, uid {one.uid}, {one.model}{ended}", one.answer.text, ""]
        screen.result({"index": str(index), "answers": documents}, "\n".join(lines).rstrip())


@app.command("check")
def check(
    index: IndexFile,
    prompts: Annotated[Path, typer.Argument(help="Prompts file.")],
    m: Annotated[int, typer.Option("--m", "-m", min=1, help="Distinct answers that each prompt needs.")] = 4,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Say whether every prompt has m distinct answers; exit code 2 where not."""
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.errors import EXIT_INPUT
        from ropd_cli.index import TeacherIndex
        from ropd_cli.schemas import load_prompts

        with closing(TeacherIndex.open(index)) as opened:
            coverage = opened.check(load_prompts(prompts), m)
        document = {"index": str(index), "m": m, "prompts": coverage.prompts, "complete": coverage.complete}
        document |= {"missing": coverage.missing, "short": coverage.short}
        lines = (
            [f"{index}: {coverage.prompts} prompts, each with {m} distinct answers or more"]
            if coverage.complete
            else []
        )
        if coverage.missing:
            lines.append(
                f"{index}: no answer for {len(coverage.missing)} of {coverage.prompts} prompts: "
                f"{_few(coverage.missing)}"
            )
        if coverage.short:
            counted = [f"{uid} ({count})" for uid, count in coverage.short.items()]
            lines.append(f"{index}: fewer than {m} distinct answers for {len(counted)} prompts: {_few(counted)}")
        screen.result(document, "\n".join(lines))
        if not coverage.complete:
            screen.note("hint: run ropd teacher-gen for them, then ropd index build, or ask for fewer with -m")
            raise typer.Exit(EXIT_INPUT)


def _few(items: list[str]) -> str:
    return ", ".join(items[:20]) + (" … (all of them: --json)" if len(items) > 20 else "")

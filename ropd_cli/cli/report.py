"""``ropd report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run directories; several are put side by side.")],
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write the page there. Of one run the default is RUN/report.html."),
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Write one page of a training run, or of several side by side.

    The page needs nothing else: no network, no other file. It shows whether the student learned, what a rubric looks
    like, which criteria are hardest, what failed, and the best and the worst groups in full.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.analysis.run_data import read_run
        from ropd_cli.errors import InputError
        from ropd_cli.records.files import write_atomic
        from ropd_cli.report.run_page import page
        from ropd_cli.report.run_words import outcome
        from ropd_cli.report.runs_page import compared_page, figures

        if len(runs) > 1 and html is None:
            raise InputError("several runs make a page of their own", "say where it goes: --html FILE")
        progress = screen.progress()
        read = [read_run(run, progress) for run in runs]
        file = html or runs[0] / "report.html"
        write_atomic(file, (page(read[0]) if len(read) == 1 else compared_page(read)).encode())
        lines = []
        for run in read:
            lines += [run.name, *(f"  {words}" for words, _ in outcome(run))]
        document = {
            "html": str(file),
            "runs": [{"path": str(run.path), "name": run.name, **figures(run)} for run in read],
        }
        screen.result(document, "\n".join([*lines, f"page: {file}"]))

"""``ropd report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._options import ReadOptions, command
from ropd_cli.cli._screen import Screen, snake_keys
from ropd_cli.errors import InputError
from ropd_cli.report.runs_page import RunFigures


class Reported(TypedDict):
    """The page that was written, and the figures of each run."""

    html: str
    runs: list[RunFigures]


@command
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run directories; several are shown side by side.")
    ],
    html: Annotated[
        Path | None,
        typer.Option("--html", help="File of the page.", show_default="RUN/report.html of one run"),
    ] = None,
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Write one page of a training run, or of several side by side.

    The page is self-contained: no network, no other file. It shows whether the student learned, what a rubric looks
    like, which criteria are hardest, what failed, and the best and the worst groups in full.
    """
    from ropd_cli.analysis.run_data import read_run
    from ropd_cli.records.files import write_atomic
    from ropd_cli.records.outputs import is_being_written
    from ropd_cli.report.run_page import page
    from ropd_cli.report.run_words import outcome, worth_a_look
    from ropd_cli.report.runs_page import compared_page, figures
    from ropd_cli.training.run_dir import RunDir

    if len(runs) > 1 and html is None:
        raise InputError("several runs make a page of their own", "say where it goes: --html FILE")
    progress = screen.progress()
    data = [read_run(run, progress) for run in runs]
    file = html or runs[0] / "report.html"
    write_atomic(file, page(data[0]) if len(data) == 1 else compared_page(data))
    lines = []
    for run in data:
        words = [*(words for words, _ in outcome(run)), *worth_a_look(run)]
        if not run.result and (run.path / "verl.yaml").is_file() and not is_being_written(run.path):
            here = RunDir.of(str(run.path))
            moved = "" if run.config.get("out") == str(here.path) else f" --out {here.path}"
            words.append(f"Go on with: {here.resume_command}{moved}")
        lines += [run.name, *(f"  {each}" for each in words)]
    document = {
        "html": str(file),
        "runs": [{"path": str(run.path), "name": run.name, **snake_keys(figures(run))} for run in data],
    }
    screen.result(document, "\n".join([*lines, f"page: {file}"]))

"""``ropd doctor``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ropd_cli.cli._completion import gpus
from ropd_cli.cli._options import Config, ConfigOptions, Set, command
from ropd_cli.cli._screen import Screen
from ropd_cli.errors import EXIT_FAILED
from ropd_cli.util.progress import NoProgress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ropd_cli.doctor.check import Check, Status

STYLES: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}
SIGNS: dict[Status, str] = {"skipped": "–"}
NAME_WIDTH = 18


@command
def doctor(
    config: Config = None,
    overrides: Set = None,
    offline: Annotated[
        bool, typer.Option("--offline", "--no-calls", help="Send nothing: ask no endpoint and no hub.")
    ] = False,
    device: Annotated[Literal["gpu", "cpu"] | None, typer.Option("--device", help="Check for this device.")] = None,
    simulate: Annotated[
        str | None,
        typer.Option(
            "--simulate",
            metavar="GPU:COUNT",
            autocompletion=gpus,
            help="Only forecast the run on these GPUs per node, for example H100-80GB:8.",
        ),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds per answer, at most.")] = 60.0,
    *,
    screen: Screen,
) -> None:
    """Check what works on this machine, and how to mend what does not.

    Checks packages, devices and disk; with a configuration also its endpoints, judges, teacher index and student,
    and the cost of a run. Endpoints get a few short questions, which are announced first. Exit code 1 if a check
    fails. With --simulate nothing is checked: the command forecasts whether the run fits on other GPUs, and how long a
    step takes.
    """
    import sys

    from ropd_cli.doctor.check import Case
    from ropd_cli.doctor.run_checks import COUNT, examine, plan
    from ropd_cli.training.starting_point import with_student_of_run

    settings = with_student_of_run(ConfigOptions(config, overrides).load({"device": device}))
    if simulate is not None:
        from ropd_cli.doctor.simulated import simulate as simulated

        checks, figures = simulated(settings, simulate, ask_hub=not offline)
        screen.note("only the run on other GPUs: prompts, lengths and judges are checked without --simulate")
        _print(checks, screen, {"simulated": figures})
        return
    case = Case(
        config=settings,
        named=bool(config or overrides),
        offline=offline,
        timeout_s=timeout,
        debug=screen.debug,
    )
    asking = plan(case)
    if asking:
        screen.note(f"asks about {'; about '.join(asking)} (--offline: none of it)")
    progress = screen.progress() if sys.stderr.isatty() else NoProgress()
    progress.start(COUNT, "doctor")
    try:
        checks = screen.run(examine(case, lambda _section: progress.advance()))
    finally:
        progress.finish()
    _print(checks, screen)


def _print(checks: list[Check], screen: Screen, more: dict[str, Any] | None = None) -> None:
    """Print the checks; exit with 1 where one fails."""
    failed = any(check.status == "fail" for check in checks)
    document: dict[str, Any] = {"checks": [check.model_dump(mode="json") for check in checks], "ok": not failed}
    screen.result(document | (more or {}), _page(checks))
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _page(checks: list[Check]) -> RenderableType:
    """Return the checks by section, and a last line that counts them."""
    from rich.table import Table

    from ropd_cli.util.terminal import Text

    page = Table.grid(padding=(0, 1))
    page.add_column(width=4, no_wrap=True)
    page.add_column(width=NAME_WIDTH)
    page.add_column(ratio=1)
    before = None
    for check in checks:
        if check.section != before:
            page.add_row()
            page.add_row("", Text(check.section, style="bold"), "")
            before = check.section
        style = STYLES[check.status]
        words = Text(check.found, style="dim" if check.status == "skipped" else "")
        if check.mend:
            words.append(f"\n→ {check.mend}", style="cyan")
        page.add_row(Text(SIGNS.get(check.status, check.status), style=style), Text(check.name), words)
    counted = Counter(check.status for check in checks)
    counts = [Text(f"{counted[status]} {status}", style=style) for status, style in STYLES.items() if counted[status]]
    page.add_row()
    page.add_row("", Text("in all", style="bold"), Text(", ").join(counts))
    return page

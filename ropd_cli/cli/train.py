"""``ropd train``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._completion import profiles
from ropd_cli.cli._options import CacheDir, Config, ConfigOptions, MaxCost, Seed, Set, command
from ropd_cli.cli._screen import Screen
from ropd_cli.errors import EXIT_INTERRUPTED, InputError, OutputBusy
from ropd_cli.util.counted import counted
from ropd_cli.util.visible_text import print_err

if TYPE_CHECKING:
    from rich.table import Table

    from ropd_cli.config.profiles import Difference
    from ropd_cli.training.launch import Result


class DifferenceShown(TypedDict):
    key: str
    values: dict[str, Any]
    """By profile."""
    why: dict[str, str]
    """By profile; "" where the profile leaves the key to what lies below it."""


class Differences(TypedDict):
    """With ``--diff``."""

    differences: list[DifferenceShown]


@command
def train(
    config: Config = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="paper|reference",
            autocompletion=profiles,
            help="Numbers of the paper or of its reference code; --config overrides them.",
        ),
    ] = None,
    set_: Set = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run directory.", show_default="out in the configuration")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint of the run directory.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print verl's configuration, the device's choices and a forecast; train nothing."
        ),
    ] = False,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--diff", metavar="PROFILE PROFILE", help="Print the differences between two profiles; train nothing."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train even on untested versions of verl and vLLM.")] = False,
    max_cost: MaxCost = None,
    seed: Seed = None,
    cache_dir: CacheDir = None,
    *,
    screen: Screen,
) -> None:
    """Train the student (verl GRPO, vLLM rollouts).

    Groups are judged while others are still being sampled. A finished run is not trained again: its result is printed.
    """
    import os

    from ropd_cli.training import launch

    options = ConfigOptions(config, set_, cache_dir)
    flags = {"out": str(out) if out else None, "seed": seed, "max_cost": max_cost}
    if diff is not None:
        from ropd_cli.config.profiles import differences

        rows = differences(diff, (options.load(flags, diff[0]), options.load(flags, diff[1])))
        listed = [
            DifferenceShown(key=key, values=dict(zip(diff, values, strict=True)), why=dict(zip(diff, why, strict=True)))
            for key, values, why in rows
        ]
        screen.result(Differences(differences=listed), _table(diff, rows))
        return
    if not config and profile is None:
        raise InputError("no configuration is named", "--config FILE, --profile paper, or both")
    resolved = options.load(flags, profile)
    if out is None:
        _check_not_copied(config or (), resolved.out)
    if dry_run:
        tree, forecast = launch.resolve(resolved)
        from omegaconf import OmegaConf  # comes with verl, whose absence is an error of resolve()

        from ropd_cli.training.device_choices import described, table

        choices = launch.choices_of(resolved)
        document = OmegaConf.to_container(tree)
        document["ropd"] |= {"forecast": forecast, "choices": described(choices, resolved.verl)}
        screen.result(document, OmegaConf.to_yaml(tree))
        if not screen.quiet:
            _print_choices(table(choices, resolved.verl))
        if forecast is not None:
            from ropd_cli.training.run_estimate import sentence

            screen.note(sentence(forecast))
        elif resolved.data.prompts is None:
            screen.note("no forecast: data.prompts is not set")
        return
    is_ours = True
    try:
        result = launch.train(resolved, resume=resume, environ=os.environ, progress=screen.progress(), force=force)
    except KeyboardInterrupt:
        print_err(f"ropd: interrupted; {launch.after_a_stop(resolved.out)}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (OutputBusy, InputError):
        is_ours = False  # the process that trains writes the page; or nothing was started
        raise
    finally:
        if resolved.out and is_ours:
            _write_report(Path(resolved.out), screen)
    document = result.document()
    curve = ""
    for name, what in (("rewards", "mean reward"), ("losses", "loss")):
        if values := [value for value in document.get(name, []) if value is not None]:
            curve += f", {what} {values[0]:.3f} at the first and {values[-1]:.3f} at the last"
    words = f"{counted(document['steps'], 'step')}{curve}\nmodel: {document['model']}\nrun: {document['run_dir']}"
    screen.result(document, "\n".join([words, *_closing_lines(result)]))


def _closing_lines(result: Result) -> list[str]:
    """Return what the last step earned, what the judging has cost, and the command to go on with."""
    from ropd_cli.cli._stages import closing_lines, dollars
    from ropd_cli.training.run_dir import RunDir

    last = result.rows[-1] if result.rows else {}
    judged = last.get("groups/judged")
    if not judged:
        return []
    figures = {
        "reward_mean": last.get("reward/mean"),
        "teacher_mean": last.get("reward/teacher_mean"),
        "without_spread": last.get("groups/zero_variance", 0.0) / judged,
    }
    first, *following = closing_lines(figures, ("ropd", "inspect-rubrics", result.run_dir, "--step", last["step"]))
    spent = RunDir(result.run_dir).spent_usd()
    return [f"last step: {first}", *([f"judging: {dollars(spent)}"] if spent else []), *following]


def _print_choices(rows: Iterable[Sequence[str]]) -> None:
    from rich.table import Table

    from ropd_cli.util.terminal import Console, Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    Console(stderr=True).print(grid)


def _check_not_copied(files: Iterable[Path], out: str | None) -> None:
    """Raise InputError for the configuration of a run directory that was copied or moved: its ``out`` is still the
    other one."""
    from ropd_cli.config.load import read_yaml
    from ropd_cli.training.run_dir import RunDir

    for run in (RunDir(file.absolute().parent) for file in files if file.name == "config.yaml"):
        if run.verl_config.is_file() and out is not None and Path(out).resolve() != run.path.resolve():
            if read_yaml(run.config).get("out") != out:
                continue  # another directory is named
            raise InputError(
                f"{run.path} was copied or moved: out in its config.yaml is {out}",
                f"--out {run.path} for this directory, or --out of a new run",
            )


def _table(names: tuple[str, str], rows: list[Difference]) -> Table:
    """Return a row per key in which two profiles differ: the values, and under each why it is so."""
    from rich import box
    from rich.table import Table

    from ropd_cli.util.terminal import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("key", no_wrap=True)
    for name in names:
        table.add_column(name)
    for row in rows:
        cells = zip(row.values, row.why, strict=True)
        table.add_row(row.key, *(Text(_shown(value)).append(f"\n{why}", style="dim") for value, why in cells))
    return table


def _shown(value: object) -> str:
    """Return a value as YAML has it."""
    import json
    from types import NoneType

    return json.dumps(value) if isinstance(value, list | bool | NoneType) else str(value)


def _write_report(run: Path, screen: Screen) -> None:
    """Write the run's page, also of a run that stopped; nothing where no step is finished."""
    from ropd_cli.analysis.run_data import read_run
    from ropd_cli.records.files import write_atomic
    from ropd_cli.report.run_page import page

    metrics = run / "metrics.jsonl"
    if not any((run / "groups").glob("step-*")) and not (metrics.is_file() and metrics.stat().st_size):
        return
    try:
        write_atomic(run / "report.html", page(read_run(run)))
    except Exception as fault:  # a page must not hide how the run ended, whatever is wrong with it
        screen.note(f"no report: {getattr(fault, 'message', None) or repr(fault)}; ropd report {run} tries again")
    else:
        screen.note(f"report: {run / 'report.html'}")

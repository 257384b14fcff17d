"""``ropd compare-methods``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typing_extensions import TypedDict

from ropd_cli.analysis.method_runs import MethodRow, by_task
from ropd_cli.cli._options import CacheDir, command
from ropd_cli.cli._screen import Screen
from ropd_cli.training.run_estimate import RunForecast, cost_words
from ropd_cli.util.counted import counted


class Comparison(TypedDict):
    """Methods over their seeds, by task; the first method of a task is what the others are compared with."""

    tasks: dict[str, list[MethodRow]]
    cells: str
    """File with the figures of each run."""


class PlannedMethod(TypedDict):
    """A method of a comparison that is forecast."""

    method: str
    runs: int
    """That are left to make."""
    forecast: RunForecast | None
    """Of one run; null where no judge is asked."""


class Planned(TypedDict):
    """With ``--dry-run``: what the judges would be asked, and what that costs."""

    methods: list[PlannedMethod]
    cost_usd: float | None
    """Of all runs; null where a price is not known."""


@command
def compare_methods(
    config: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="YAML configuration that all methods share: a path, or a shipped name."),
    ] = "quickstart",
    methods: Annotated[
        str, typer.Option("--methods", help="Methods with their variants, separated by commas: ropd,t-judge,ropd@m1.")
    ] = "ropd,t-judge,sft,grpo-verifiable",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds per method, from 0 on.")] = 3,
    out: Annotated[Path, typer.Option("--out", help="Directory of all files.")] = Path("runs/compare"),
    task: Annotated[str, typer.Option("--task", help="Made task: sums or long-sums.")] = "sums",
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", help="Prompts with answers to measure by, not a made task.", show_default=False),
    ] = None,
    points: Annotated[int, typer.Option("--points", min=1, help="Checkpoints that are measured per run.")] = 3,
    add: Annotated[
        list[Path] | None,
        typer.Option("--add", help="compare.json of another comparison, whose cells are taken in.", show_default=False),
    ] = None,
    model_path: Annotated[
        str | None,
        typer.Option("--model-path", help="Student: a folder or hub name.", show_default="SmolLM2-135M-Instruct"),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[METHOD:]KEY=VALUE",
            help="Set a configuration key, of all methods or of one: train.steps=8, gad:discriminator.warmup_steps=2. "
            "Repeatable.",
            show_default=False,
        ),
    ] = None,
    cache_dir: CacheDir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and cost; train nothing.")] = False,
    *,
    screen: Screen,
) -> None:
    """Train one student by several methods, and compare what they reach.

    Each method is trained with each seed on the same prompts, and measured on held-out prompts before, in between and
    after. Finished runs are not made again: the same command continues, and more methods or seeds can be added later.
    Tables and curves are written to compare.md and compare.html.
    """
    import os

    from rich.console import Group

    from ropd_cli.recipes.compare_methods import Options, Paths, forecasts
    from ropd_cli.recipes.compare_methods import compare_methods as recipe
    from ropd_cli.records.files import write_atomic
    from ropd_cli.report.compare_report import NOTE, markdown, page, table
    from ropd_cli.util.terminal import Text

    options = Options(
        out=out.absolute(),
        labels=tuple(dict.fromkeys(label.strip() for label in methods.split(",") if label.strip())),
        seeds=seeds,
        config=config,
        task=task,
        held_out=held_out,
        points=points,
        overrides=tuple(overrides or ()),
        added=tuple(add or ()),
        model_path=model_path,
        cache_dir=str(cache_dir) if cache_dir is not None else None,
        environ=os.environ,
    )
    if dry_run:
        planned = [PlannedMethod(method=name, runs=runs, forecast=one) for name, runs, one in forecasts(options)]
        screen.result(*_planned(planned))
        return
    cells = recipe(options, screen.progress())
    tasks = by_task(cells)
    paths = Paths(options.out)
    write_atomic(paths.markdown, markdown(tasks))
    write_atomic(paths.page, page(tasks, cells, "Methods side by side"))
    shown = Group(*(part for name, rows in tasks.items() for part in (Text(name), table(rows), Text(""))), Text(NOTE))
    screen.result(Comparison(tasks=tasks, cells=str(paths.cells)), shown)


def _planned(methods: list[PlannedMethod]) -> tuple[Planned, str]:
    """Return a forecast as the document and in words."""
    lines, runs, calls, total = [], 0, 0, 0.0
    is_priced = True
    for method in methods:
        told, one = "no judge is asked", method["forecast"]
        if one is not None:
            tokens = one["prompt_tokens"] + one["completion_tokens"]
            told = f"each {counted(one['calls'], 'call')}, about {counted(tokens, 'token')}, {cost_words(one)}"
            calls += method["runs"] * one["calls"]
            total += method["runs"] * (one["cost_usd"] or 0.0)
            is_priced = is_priced and one["cost_usd"] is not None
        runs += method["runs"]
        lines.append(f"{method['method']}: {counted(method['runs'], 'run')}, {told}")
    lines.append(
        f"in all: {counted(runs, 'run')}, {counted(calls, 'call')}, "
        f"{f'${total:,.2f}' if is_priced else 'no price known'}"
    )
    return Planned(methods=methods, cost_usd=total if is_priced else None), "\n".join(lines)

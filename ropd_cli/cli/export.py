"""``ropd export pairs | sft | rubrics | verdicts | model``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._options import ReadOptions, command, command_group
from ropd_cli.cli._screen import Screen, snake_keys
from ropd_cli.util.counted import counted

if TYPE_CHECKING:
    from ropd_cli.analysis.exported_sets import Kind, Row
    from ropd_cli.analysis.judged_groups import GroupView

app = command_group("export", help="Export pairs, SFT rows, rubrics, verdicts or the model of a run.")
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory, or a rubrics or verdicts file.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the data set.", show_default="RUN/export/KIND, or FILE-KIND")
]
_source_option = partial(typer.Option, show_default="what RUN was made from")
Rubrics = Annotated[Path | None, _source_option("--rubrics", help="Rubrics file.")]
Rollouts = Annotated[Path | None, _source_option("--rollouts", help="Answers file with the rollouts.")]
Prompts = Annotated[Path | None, _source_option("--prompts", help="Prompts file.")]


class ExportedRows(TypedDict):
    out: str
    rows: int
    groups: int
    """That were read."""
    left_out: dict[str, int]
    """Groups without a row, by why."""


class ExportedModel(TypedDict):
    out: str
    step: int
    url: str | None
    """Of the repository, with ``--push``."""


@app.command("pairs")
@command
def pairs(
    run: Run,
    out: Out = None,
    rollouts: Rollouts = None,
    prompts: Prompts = None,
    margin: Annotated[float, typer.Option("--margin", min=0.0, help="Least difference of the two rewards.")] = 0.0,
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Export preference pairs: the best and the worst rollout of each group by reward.

    Columns prompt, chosen and rejected are those of TRL's DPOTrainer. A missing reward is neither best nor worst; a
    group whose rewards are equal gives no pair.
    """
    from ropd_cli.analysis.exported_sets import pair_rows

    _export(screen, "pairs", run, out, lambda view: pair_rows(view, margin), rollouts=rollouts, prompts=prompts)


@app.command("sft")
@command
def sft(
    run: Run,
    out: Out = None,
    rollouts: Rollouts = None,
    prompts: Prompts = None,
    source: Annotated[
        Literal["best", "teacher", "both"],
        typer.Option("--source", help="The best rollout of each group, the teacher's answers, or both."),
    ] = "best",
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Export conversations for supervised fine-tuning: best of n, teacher answers, or both.

    The column messages is that of TRL's SFTTrainer. Teacher answers are those of the run's group files or, for a
    rubrics or verdicts file, of the index that it was made with.
    """
    from ropd_cli.analysis.exported_sets import sft_rows

    _export(screen, "sft", run, out, lambda view: sft_rows(view, source), rollouts=rollouts, prompts=prompts)


@app.command("rubrics")
@command
def rubrics(
    run: Run,
    out: Out = None,
    prompts: Prompts = None,
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Export the rubrics, one row each; a rubric that later groups use again stands there once."""
    from ropd_cli.analysis.exported_sets import rubric_rows

    _export(screen, "rubrics", run, out, rubric_rows, prompts=prompts)


@app.command("verdicts")
@command
def verdicts(
    run: Run,
    out: Out = None,
    rubrics: Rubrics = None,
    rollouts: Rollouts = None,
    prompts: Prompts = None,
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Export the verdicts, one row per judged answer."""
    from ropd_cli.analysis.exported_sets import verdict_rows

    _export(screen, "verdicts", run, out, verdict_rows, rubrics=rubrics, rollouts=rollouts, prompts=prompts)


@app.command("model")
@command
def model(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model.")],
    step: Annotated[
        int | None, typer.Option("--step", min=1, help="Step of the checkpoint.", show_default="the newest whole one")
    ] = None,
    repo: Annotated[
        str | None,
        typer.Option("--push", metavar="OWNER/NAME", help="Upload it to this repository of the hub."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: a new repository is public.")] = False,
    *,
    read: ReadOptions,
    screen: Screen,
) -> None:
    """Export the model of a checkpoint: weights, tokenizer, chat template and a card.

    The card names base model, data, method, judge, teacher, cost and measures; of paths it shows the last name alone,
    and no secret. A repository that --push makes is private.
    """
    from ropd_cli.analysis.exported_sets import check_out
    from ropd_cli.recipes.model_export import check_push, export_model, model_folder, push
    from ropd_cli.records.outputs import sole_writer
    from ropd_cli.training.run_dir import RunDir

    directory = RunDir(run)
    chosen, folder = model_folder(directory, step)
    check_out(out)
    if repo is not None:
        check_push(repo)
    with sole_writer(out, directory=True):
        export_model(directory, chosen, folder, out)
    url = push(out, repo, private=not public) if repo is not None else None
    words = f"{out}: the model of step {chosen}" + (f", uploaded to {url}" if url else "")
    screen.result(ExportedModel(out=str(out), step=chosen, url=url), words)


def _export(
    screen: Screen,
    kind: Kind,
    run: Path,
    out: Path | None,
    rows_of: Callable[[GroupView], list[Row] | str],
    **named: Path | None,
) -> None:
    """Write the data set of a run directory or a file, and say what gave no row."""
    from ropd_cli.analysis.exported_sets import check_out, collect, export_facts, write_set
    from ropd_cli.analysis.group_files import iter_groups
    from ropd_cli.errors import InputError
    from ropd_cli.records.group_sources import Sources
    from ropd_cli.records.outputs import sole_writer
    from ropd_cli.records.parquet import arrow

    arrow()  # a missing package is an error before anything is made
    if out is None:
        out = run / "export" / kind if run.is_dir() else run.with_name(f"{run.name.partition('.')[0]}-{kind}")
    if out.suffix in (".csv", ".json", ".jsonl", ".parquet", ".zst"):
        raise InputError(f"{out}: an export is a folder of Parquet files, not a file", f"--out {out.with_suffix('')}")
    check_out(out)
    made = collect(kind, iter_groups(run, Sources.of(run, **named)), rows_of)
    if not made.rows:
        hints = {
            "pairs": "a pair needs two rewards, --margin or more apart, of rollouts whose texts are there (--rollouts)",
            "sft": "give a run, or a file whose rollouts are there (--rollouts); --source teacher wants one made with "
            "--index",
            "rubrics": "give a run of a method with rubrics, or a rubrics file",
            "verdicts": "give a run that was judged, or a verdicts file",
        }
        raise InputError(f"{run}: nothing to export as {kind} (groups: {made.reasons})", hints[kind])
    with sole_writer(out, directory=True):
        write_set(made, out, export_facts(run))
    document = ExportedRows(out=str(out), rows=len(made.rows), groups=made.groups, left_out=snake_keys(made.left_out))
    left = f"; no row from {made.left_out.total()} ({made.reasons})" if made.left_out else ""
    screen.result(document, f"{out}: {counted(len(made.rows), 'row')} from {counted(made.groups, 'group')}{left}")

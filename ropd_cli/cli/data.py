"""``ropd data prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen

app = typer.Typer(
    name="data",
    help="Prepare prompts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _group() -> None:
    """Prepare prompts."""


@app.command("prepare")
def prepare(
    name: Annotated[str, typer.Argument(help="sums, reasoning-gym:TASK, or with --local a name for the data.")],
    out: Annotated[Path, typer.Option("--out", help="Prompts file (.jsonl, .jsonl.zst or .parquet).")],
    local: Annotated[
        Path | None, typer.Option("--local", help="A file of your own: JSONL, JSON, CSV, TSV, Parquet.")
    ] = None,
    prompt_field: Annotated[str | None, typer.Option("--prompt-field", help="Its column of prompts.")] = None,
    answer_field: Annotated[str | None, typer.Option("--answer-field", help="Its column of checkable answers.")] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="How many prompts; default: 100, of a file all.")
    ] = None,
    held_out: Annotated[
        int, typer.Option("--held-out", min=0, help="How many others to keep apart for evaluation.")
    ] = 0,
    held_out_out: Annotated[Path | None, typer.Option("--held-out-out", help="File of those.")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="A setting of a reasoning-gym task (repeatable)."),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="System prompt before each that has none.")] = None,
    instruction: Annotated[str | None, typer.Option("--instruction", help="Text after each question.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that hold something else.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Draws questions and the held-out part.")] = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Write prompts of a task or a file in the prompts format.

    The same command again writes the same files.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.errors import InputError
        from ropd_cli.stages import prepare as stage

        if (held_out > 0) != (held_out_out is not None):
            raise InputError("--held-out and --held-out-out go together", "give both or none")
        source = stage.Source(name, local, size, seed, _parameters(param or []), prompt_field, answer_field)
        train, kept = stage.prepare(source, stage.Wording(system, instruction), held_out)
        files: list[tuple[Path, list[Any]]] = [(out, train)]
        if held_out_out is not None:
            files.append((held_out_out, kept))
        lines = []
        for file, prompts in files:
            written = stage.write_prompts(prompts, file, force=force)
            lines.append(f"{file}: {len(prompts)} prompts{'' if written else ' (already there)'}")
        document = {"out": str(out), "prompts": len(train), "held_out": len(kept)}
        document["held_out_out"] = str(held_out_out) if held_out_out else None
        screen.result(document, "\n".join(lines))


def _parameters(settings: list[str]) -> dict[str, Any]:
    import yaml

    from ropd_cli.errors import InputError

    parameters = {}
    for text in settings:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InputError(f"--param {text!r}: expected NAME=VALUE", "for example --param min_terms=2")
        parameters[name] = yaml.safe_load(value)
    return parameters

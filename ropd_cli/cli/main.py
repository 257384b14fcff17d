"""The ``ropd`` command: a table of subcommands, each imported only when it is called.

``ropd --help`` therefore costs typer and rich and nothing else; the lines it shows are the ones in
``COMMANDS`` (a test holds them against the docstrings).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# name -> (module, attribute, line of help). The attribute is a function, or a typer.Typer of subcommands.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "quickstart": ("quickstart", "quickstart", "Distil a small student, from nothing, right here."),
    "data": ("data", "app", "Prepare prompts."),
    "teacher-gen": ("teacher_gen", "teacher_gen", "Ask a teacher for m answers a prompt."),
    "rollout": ("rollout", "rollout", "Sample n student answers a prompt."),
    "index": ("index", "app", "Build, show, check, merge and exchange the teacher index."),
    "rubricate": ("rubricate", "rubricate", "Write one rubric for each group of rollouts."),
    "verify": ("verify", "verify", "Judge every answer by its group's rubric."),
    "inspect-rubrics": ("inspect_rubrics", "inspect_rubrics", "Show rubrics, verdicts and scores of groups."),
    "train": ("train", "train", "Train the student (verl GRPO, vLLM rollouts)."),
    "eval": ("eval", "app", "Measure a model on benchmarks, and say how far the figures can be trusted."),
    "rejudge": (
        "rejudge",
        "rejudge",
        "Judge the saved groups of a run again, and say how far the judges agree.",
    ),
    "report": ("report", "report", "Write one page of a training run, or of several side by side."),
    "doctor": ("doctor", "doctor", "Say what works here, and what to do about what does not."),
    "cache": ("cache", "app", "Look after the cache of replies."),
    "serve-judge": (
        "serve_judge",
        "serve_judge",
        "Serve a judge over HTTP: vLLM, or built-in rules.",
    ),
}


class LazyGroup(TyperGroup):
    """Lists commands from the table and imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][2], rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        name, stub, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else stub, rest


def load_command(name: str) -> Any:
    """The real command of a name of ``COMMANDS``."""
    module, attribute, _ = COMMANDS[name]
    target = getattr(importlib.import_module(f"ropd_cli.cli.{module}"), attribute)
    if isinstance(target, typer.Typer):
        command = typer.main.get_group(target)
    else:
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(name)(target)
        command = typer.main.get_command(single)
    command.name = name
    for each in (command, *getattr(command, "commands", {}).values()):
        each.help = _reflowed(each.help)
    return command


def _reflowed(text: str | None) -> str | None:
    """Help with its paragraphs as one line each: the terminal's width breaks them, not the source's."""
    if text is None:
        return None
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


app = typer.Typer(
    name="ropd",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from ropd_cli import __version__

        typer.echo(f"ropd {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Distil a strong teacher into a small student, with rubrics, from text alone.

    The stages, in order: data prepare, teacher-gen, index build, train. rollout, rubricate, verify and
    inspect-rubrics run the parts of one training step by hand.
    """


def main() -> None:
    """Entry point of the ``ropd`` script."""
    try:
        app()
    except BrokenPipeError:  # `ropd … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()

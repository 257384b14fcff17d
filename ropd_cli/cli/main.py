"""The ``ropd`` command: a table of subcommands, each imported only when it is called.

``ropd --help`` therefore costs typer and rich and nothing else; the lines it shows are the ones in
``COMMANDS`` (a test holds them against the docstrings).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import io
import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from ropd_cli.cli._options import command_group
from ropd_cli.cli._screen import print_error
from ropd_cli.errors import EXIT_FAILED, EXIT_INPUT
from ropd_cli.util.visible_text import guard_streams, print_err, print_out

# name -> (module, attribute, line of help). The attribute is a function, or a typer.Typer of subcommands.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "quickstart": ("quickstart", "quickstart", "Distil a small student on this machine, from nothing."),
    "config": ("config", "app", "Show and explain configurations, and print shipped ones."),
    "data": ("data", "app", "Prepare prompts."),
    "teacher-gen": ("teacher_gen", "teacher_gen", "Ask a teacher for m answers per prompt."),
    "rollout": ("rollout", "rollout", "Sample n student answers per prompt."),
    "index": ("index", "app", "Build, show, check, merge and exchange the teacher index."),
    "rubricate": ("rubricate", "rubricate", "Write one rubric for each group of rollouts."),
    "verify": ("verify", "verify", "Judge every answer by its group's rubric."),
    "inspect-rubrics": ("inspect_rubrics", "inspect_rubrics", "Show rubrics, verdicts and scores of groups."),
    "train": ("train", "train", "Train the student (verl GRPO, vLLM rollouts)."),
    "compare-methods": (
        "compare_methods",
        "compare_methods",
        "Train one student by several methods, and compare what they reach.",
    ),
    "eval": ("eval", "app", "Measure a model on benchmarks, with the uncertainty of each figure."),
    "rejudge": ("rejudge", "rejudge", "Judge the saved groups of a run again, and measure how far the judges agree."),
    "runs": ("runs", "runs", "List the training runs below a folder, with state, step, mean reward and cost."),
    "report": ("report", "report", "Write one page of a training run, or of several side by side."),
    "export": ("export", "app", "Export pairs, SFT rows, rubrics, verdicts or the model of a run."),
    "doctor": ("doctor", "doctor", "Check what works on this machine, and how to mend what does not."),
    "prices": ("prices", "prices", "Show the prices that forecasts and limits go by, in dollars per million tokens."),
    "cache": ("cache", "app", "Show, clean, export and import the cache of replies."),
    "serve-judge": ("serve_judge", "serve_judge", "Serve a judge over HTTP: vLLM, or built-in rules."),
    "serve-reward": ("serve_reward", "serve_reward", "Serve rewards over HTTP to a trainer of your own."),
}


class LazyGroup(TyperGroup):
    """Lists commands from the table and imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][2], rich_markup_mode="rich")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"No such command '{args[0]}'" + (f", did you mean {near[0]}?" if near else ""))
        name, stub, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else stub, rest


def load_command(name: str) -> Any:
    """Import and return the real command of a name of ``COMMANDS``."""
    module, attribute, _ = COMMANDS[name]
    target = getattr(importlib.import_module(f"ropd_cli.cli.{module}"), attribute)
    command: Any
    if isinstance(target, typer.Typer):
        command = typer.main.get_group(target)
    else:
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
        single.command(name)(target)
        command = typer.main.get_command(single)
    command.name = name
    for each in (command, *getattr(command, "commands", {}).values()):
        if each.help is not None:  # one line per paragraph: the terminal's width breaks them, not the source's
            paragraphs = inspect.cleandoc(each.help).split("\n\n")
            each.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return command


app = command_group("ropd", cls=LazyGroup, add_completion=True)


def _version(show: bool) -> None:
    if show:
        from pathlib import Path

        from ropd_cli import __version__
        from ropd_cli.util.checkout import commit

        at = commit(Path(__file__).parents[2])
        print_out(f"ropd {__version__}" + (f", checkout at {at}" if at else ""))
        raise typer.Exit()


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Distil a strong teacher into a small student, with rubrics, from text alone.

    The stages, in order: data prepare, teacher-gen, index build, train.

    By hand, the parts of one training step: rollout, rubricate, verify, inspect-rubrics.
    """


def main() -> None:
    """Run the ``ropd`` script."""
    _open_streams()
    guard_streams()
    try:
        # Not standalone: typer would print a usage error in its own style, and not as `ropd: error:` with a hint.
        # It ends quietly, with exit code 1, where nobody reads stdout any more (`| head`).
        sys.exit(app(prog_name="ropd", standalone_mode=False) or 0)
    except TyperException as fault:
        sys.exit(_usage_error(fault))
    except typer.Abort:  # Ctrl-C or the end of input at a question
        print_error("aborted", None)
        sys.exit(EXIT_FAILED)
    except Exception:
        print_err(traceback.format_exc().rstrip())  # it quotes what somebody else wrote
        sys.exit(EXIT_FAILED)


def _open_streams() -> None:
    """See that all three are there, so that no file gets their numbers, and that printing never fails for a character:
    paths need not be UTF-8, and stdout need not be either."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="backslashreplace" if is_utf8 else "replace")


def _usage_error(fault: TyperException) -> int:
    """Print what is wrong with a command line, and return the exit code."""
    message = fault.format_message().rstrip(".").replace("Value error, ", "")
    context = getattr(fault, "ctx", None)
    if message:  # empty where a group was called without a command: its help is printed already
        path = context.command_path if context is not None else "ropd"
        print_error(f"{message[:1].lower()}{message[1:]}", f"{path} --help lists what it takes")
    return EXIT_INPUT


if __name__ == "__main__":
    main()

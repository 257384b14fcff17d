"""What the shell completes beside commands and options: the values that an option takes.

Modules are imported where they are needed, as every press of the tab key is a start of the program. Typer
leaves out what does not fit. Where nothing is left, the shell completes file names itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import typer

MOST_UIDS = 100


def config_files(incomplete: str) -> list[str]:
    """Return the shipped configurations, and the YAML files of the folder that is being typed."""
    from ropd_cli.util.resources import shipped_configs

    folder = incomplete[: incomplete.rfind("/") + 1]
    return [*shipped_configs(), *sorted(f"{folder}{file.name}" for file in Path(folder).glob("*.y*ml"))]


def config_keys() -> list[str]:
    """Return the keys of a configuration, each with its equals sign."""
    from ropd_cli.config.describe import all_keys

    return [f"{each.key}=" for each in all_keys()]


def keys_and_sections() -> list[str]:
    """Return the sections and the keys of a configuration."""
    from ropd_cli.config.describe import all_keys

    keys = [each.key for each in all_keys()]
    return [*dict.fromkeys(key.rpartition(".")[0] for key in keys if "." in key), *keys]


def shipped_names() -> list[str]:
    """Return the names of the shipped configurations."""
    from ropd_cli.util.resources import shipped_configs

    return list(shipped_configs())


def profiles() -> list[str]:
    """Return the profiles of train."""
    return [name.removeprefix("profiles/") for name in shipped_names() if name.startswith("profiles/")]


def gpus() -> list[str]:
    """Return the names of known GPUs, each before the count per node."""
    from ropd_cli.training.gpus import GPUS

    return [f"{each.name}:" for each in GPUS]


def lint_rules() -> list[str]:
    """Return the rules of the rubric linter."""
    from ropd_cli.lint import RULES

    return ["any", *RULES]


def data_sets() -> list[str]:
    """Return the names that data prepare knows."""
    from ropd_cli.datasets.known_sets import RECIPES
    from ropd_cli.datasets.sums import SUM_TASKS

    return [*SUM_TASKS, *RECIPES]


def benchmarks(incomplete: str) -> list[str]:
    """Return a list of benchmarks, separated by commas, with one more at its end."""
    from ropd_cli.datasets.eval_sets import KNOWN_SETS

    begun = incomplete[: incomplete.rfind(",") + 1]
    return [f"{begun}{name}" for name in KNOWN_SETS if name not in begun.split(",")]


def sort_orders() -> list[str]:
    """Return the columns that inspect-rubrics sorts by."""
    from ropd_cli.analysis.query import SORTS

    return list(SORTS)


def uids_of_groups(context: typer.Context, incomplete: str) -> list[str]:
    """Return uids of the run, rubrics file or verdicts file that the command line names."""
    from ropd_cli.analysis.group_files import step_files
    from ropd_cli.records.files import read_journal

    def uids(path: Path) -> Iterator[str]:
        for file in step_files(path) if path.is_dir() else [path]:
            yield from (str(record.get("uid")) for _, record in read_journal(file))

    return _first(uids, context, incomplete)


def uids_of_index(context: typer.Context, incomplete: str) -> list[str]:
    """Return uids of the teacher index that the command line names."""
    from contextlib import closing

    from ropd_cli.index import TeacherIndex

    def uids(path: Path) -> Iterator[str]:
        with closing(TeacherIndex.open(path)) as index:
            yield from index.uids()

    return _first(uids, context, incomplete)


def _first(uids: Callable[[Path], Iterator[str]], context: typer.Context, incomplete: str) -> list[str]:
    """Return the first uids that fit, of the file that stands before the option; none where it can't be read."""
    from ropd_cli.errors import RopdError

    # an option without its value ends the parsing, so that the file is still among the words
    path = context.params.get("path") or context.params.get("index") or next(iter(context.args), None)
    found: dict[str, None] = {}
    with suppress(RopdError, OSError, ValueError):
        for uid in uids(Path(path)) if path else ():
            if uid.startswith(incomplete):
                found[uid] = None
            if len(found) == MOST_UIDS:
                break
    return list(found)

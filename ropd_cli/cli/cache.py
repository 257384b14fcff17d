"""``ropd cache info | gc | clear | export | import``."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from typing_extensions import TypedDict

from ropd_cli.cli._options import ConfigOptions, command, command_group
from ropd_cli.cli._screen import Screen
from ropd_cli.util.counted import counted
from ropd_cli.util.visible_text import visible

app = command_group("cache", help="Show, clean, export and import the cache of replies.")
UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


class Cleared(TypedDict):
    folder: str
    bytes_freed: int


class Imported(TypedDict):
    file: str
    entries: int
    new: int
    """Not in the cache before."""


class Exported(TypedDict):
    out: str
    entries: int
    corrupt: int
    """Replies that could not be read, and are not in the file."""


@app.command("info")
@command
def info(*, options: ConfigOptions, screen: Screen) -> None:
    """Show what the cache holds."""
    from ropd_cli.llm.cache_maintenance import contents

    settings = options.load()
    held = contents(settings.cache_dir, settings.cache_max_gb)
    limit = f" of at most {held.limit_gb:g} GB" if held.limit_gb is not None else ", no limit"
    lines = [f"{held.folder}: {counted(held.entries, 'reply', 'replies')}, {held.bytes / 1e6:.1f} MB on disk{limit}"]
    if held.oldest is not None and held.newest is not None:
        lines.append(f"stored from {_date(held.oldest)} to {_date(held.newest)}")
    lines += [f"  {count:8d}  {model or '(no model name)'}" for model, count in held.models.items()]
    if held.catalogues_bytes:
        lines.append(f"{held.catalogues_bytes / 1e6:.1f} MB of catalogues (ropd inspect-rubrics)")
    if held.corrupt:
        lines.append(f"{held.corrupt} more can't be read; ropd cache gc removes them")
    screen.result(held, "\n".join(lines))


@app.command("gc")
@command
def gc(
    older_than: Annotated[
        str | None, typer.Option(metavar="30d", help="Remove replies stored longer ago (m, h, d, w).")
    ] = None,
    max_gb: Annotated[
        float | None, typer.Option(min=0.0, help="Remove the oldest replies until the cache is no larger.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed; remove nothing.")] = False,
    *,
    options: ConfigOptions,
    screen: Screen,
) -> None:
    """Remove old replies.

    Replies that can't be read are always removed.
    """
    from ropd_cli.llm.cache_maintenance import collect

    settings = options.load()
    age_s = _seconds(older_than) if older_than is not None else None
    removed = collect(settings.cache_dir, older_than_s=age_s, max_gb=max_gb, dry_run=dry_run)
    verb = "would be removed" if dry_run else "removed"
    size = "" if dry_run else f", {removed.bytes_left / 1e6:.1f} MB on disk"
    screen.result(
        removed,
        f"{removed.old} old, {removed.over_limit} over the limit, {removed.corrupt} unreadable {verb}; "
        f"{counted(removed.entries_left, 'reply', 'replies')} left{size}",
    )


@app.command("clear")
@command
def clear(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    *,
    options: ConfigOptions,
    screen: Screen,
) -> None:
    """Remove every reply and the catalogues of inspect-rubrics; works on a damaged cache, too."""
    from ropd_cli.errors import InputError
    from ropd_cli.llm import cache_maintenance
    from ropd_cli.llm.cache import catalogues_folder

    settings = options.load()
    folder = cache_maintenance.require_cache(settings.cache_dir)
    size = sum(map(cache_maintenance.bytes_of, (folder, catalogues_folder(settings.cache_dir))))
    if not yes:
        held = f"{size / 1e6:.1f} MB of replies and catalogues"
        if not sys.stdin.isatty():
            raise InputError(f"{folder}: {held} would be removed", "confirm with --yes")
        if not typer.confirm(f"Remove {held} from {visible(str(folder))}?", err=True):
            raise InputError("nothing removed", None)
    freed = cache_maintenance.clear(settings.cache_dir)
    screen.result(Cleared(folder=str(folder), bytes_freed=freed), f"{folder}: {freed / 1e6:.1f} MB freed")


@app.command("export")
@command
def export(
    out: Annotated[Path, typer.Argument(help="New file: .jsonl, .jsonl.zst or .parquet.")],
    *,
    options: ConfigOptions,
    screen: Screen,
) -> None:
    """Write every reply to a file: key, model, time, reply."""
    from ropd_cli.llm.cache_maintenance import export as write
    from ropd_cli.records.outputs import sole_writer

    settings = options.load()
    with sole_writer(out):
        count, corrupt = write(settings.cache_dir, out)
    lost = f", {corrupt} could not be read" if corrupt else ""
    screen.result(
        Exported(out=str(out), entries=count, corrupt=corrupt), f"{out}: {counted(count, 'reply', 'replies')}{lost}"
    )


@app.command("import")
@command
def import_(
    file: Annotated[Path, typer.Argument(help="File that ropd cache export wrote.")],
    *,
    options: ConfigOptions,
    screen: Screen,
) -> None:
    """Keep the replies of another cache, from its export."""
    from ropd_cli.llm.cache_maintenance import import_ as read

    settings = options.load()
    count, new = read(settings.cache_dir, file, settings.cache_max_gb)
    document = Imported(file=str(file), entries=count, new=new)
    screen.result(document, f"{file}: {counted(count, 'reply', 'replies')}, {new} of them new here")


def _seconds(text: str) -> float:
    """Return the seconds of an age like 30d. Raises InputError for another form."""
    from ropd_cli.errors import InputError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if match is None:
        raise InputError(f"--older-than {text!r}: not an age", "a number and m, h, d or w, as in 30d")
    return float(match[1]) * UNITS_S[match[2]]


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))

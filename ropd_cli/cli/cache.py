"""``ropd cache info | gc | clear | export``."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from ropd_cli.cli import _options as o
from ropd_cli.cli._screen import Screen

app = typer.Typer(
    name="cache",
    help="Look after the cache of replies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


@app.command("info")
def info(
    cache_dir: o.CacheDir = None,
    config: o.Config = None,
    overrides: o.Set = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Say what the cache holds."""
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.llm.cache_maintenance import contents

        settings = o.load(config, overrides, cache_dir=cache_dir)
        found = contents(settings.cache_dir, settings.cache_max_gb)
        limit = f" of at most {found.limit_gb:g} GB" if found.limit_gb is not None else ", no limit"
        lines = [f"{found.folder}: {found.entries} replies, {found.bytes / 1e6:.1f} MB on disk{limit}"]
        if found.oldest is not None and found.newest is not None:
            lines.append(f"stored from {_date(found.oldest)} to {_date(found.newest)}")
        lines += [f"  {count:8d}  {model or '(no model name)'}" for model, count in found.models.items()]
        if found.corrupt:
            lines.append(f"{found.corrupt} more can't be read; ropd cache gc removes them")
        screen.result(found.as_dict(), "\n".join(lines))


@app.command("gc")
def gc(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="30d", help="Remove what was stored longer ago (m, h, d, w).")
    ] = None,
    max_gb: Annotated[
        float | None, typer.Option("--max-gb", min=0.0, help="Remove the oldest until it is no larger.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
    cache_dir: o.CacheDir = None,
    config: o.Config = None,
    overrides: o.Set = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Clean the cache up.

    Entries that can't be read always go.
    """
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.llm.cache_maintenance import collect

        settings = o.load(config, overrides, cache_dir=cache_dir)
        age_s = _seconds(older_than) if older_than is not None else None
        gone = collect(settings.cache_dir, older_than_s=age_s, max_gb=max_gb, dry_run=dry_run)
        verb = "would go" if dry_run else "removed"
        screen.result(
            gone.as_dict(),
            f"{gone.old} old, {gone.over_limit} over the limit, {gone.corrupt} unreadable {verb}; "
            f" {gone.entries_left} replies left, {gone.bytes_left / 1e6:.1f} MB on disk",
        )


@app.command("clear")
def clear(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    cache_dir: o.CacheDir = None,
    config: o.Config = None,
    overrides: o.Set = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Remove every reply, also from a damaged cache."""
    import sys

    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.errors import InputError
        from ropd_cli.llm import cache_maintenance as cache_care

        settings = o.load(config, overrides, cache_dir=cache_dir)
        folder = cache_care.require_cache(settings.cache_dir)
        size = cache_care.bytes_of(folder)
        if not yes:
            if not sys.stdin.isatty():
                raise InputError(f"{folder}: {size / 1e6:.1f} MB of paid-for replies would go", "say so by --yes")
            if not typer.confirm(f"Remove {size / 1e6:.1f} MB of replies from {folder}?", err=True):
                raise InputError("nothing removed", None)
        freed = cache_care.clear(settings.cache_dir)
        screen.result({"folder": str(folder), "bytes_freed": freed}, f"{folder}: {freed / 1e6:.1f} MB freed")


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="A new .jsonl, .jsonl.zst or .parquet file.")],
    cache_dir: o.CacheDir = None,
    config: o.Config = None,
    overrides: o.Set = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Write every reply to a file: key, model, time, reply."""
    screen = Screen(json, quiet, debug)
    with screen.errors():
        from ropd_cli.llm.cache_maintenance import export as write

        settings = o.load(config, overrides, cache_dir=cache_dir)
        count, corrupt = write(settings.cache_dir, out)
        lost = f", {corrupt} could not be read" if corrupt else ""
        screen.result({"out": str(out), "entries": count, "corrupt": corrupt}, f"{out}: {count} replies{lost}")


def _seconds(text: str) -> float:
    from ropd_cli.errors import InputError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if match is None:
        raise InputError(f"--older-than {text!r}: not an age", "a number and m, h, d or w, as in 30d")
    return float(match[1]) * UNITS_S[match[2]]


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))

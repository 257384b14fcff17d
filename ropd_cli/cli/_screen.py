"""What a command says: the result on stdout, everything else on stderr, errors as two lines and an exit code."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer

from ropd_cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PARTIAL, RopdError

T = TypeVar("T")
LOG_EVERY_S = 10.0


class Screen:
    """One command's voice. ``json``: one JSON document on stdout; ``quiet``: no progress or notes."""

    def __init__(self, json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        self.json, self.quiet, self.debug = json, quiet, debug

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Print an expected error as one line and a hint and exit with its code; Ctrl-C exits with 130."""
        try:
            yield
        except KeyboardInterrupt:
            _say("ropd: interrupted; what is finished is written, the same command goes on from there")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except Exception as fault:
            expected = _expected(fault)
            if self.debug or expected is None:
                raise
            _say(f"ropd: error: {_one_line(expected.message)}")
            if expected.hint:
                _say(f"hint: {_one_line(expected.hint)}")
            raise typer.Exit(expected.exit_code) from None

    def result(self, document: dict[str, Any], text: Any) -> None:
        """Print the result: ``document`` with ``--json``, else ``text`` (a string or a rich renderable)."""
        if self.json:
            import orjson

            typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        elif isinstance(text, str):
            typer.echo(text)
        else:
            from rich.console import Console

            Console(file=sys.stdout, highlight=False).print(text)

    def note(self, text: str) -> None:
        """One line on stderr; nothing with ``--quiet``."""
        if not self.quiet:
            _say(text)

    def progress(self, stats: Callable[[], str] | None = None) -> Bar | LogLines | Silent:
        """Shows a stage's progress: a bar on a terminal, a line now and then elsewhere."""
        if self.quiet:
            return Silent()
        return Bar(stats) if sys.stderr.isatty() else LogLines(stats)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; Ctrl-C cancels it and lets it write what is finished."""
        return asyncio.run(work)


def exit_partial(failed: int) -> None:
    """End a finished command with exit code 3 where some records failed."""
    if failed:
        raise typer.Exit(EXIT_PARTIAL)


def pace(done: float, seconds: float) -> str:
    """How fast it goes: pieces a second, or seconds a piece where that is slower than one in two seconds."""
    if done and seconds / done > 2:
        return f"{seconds / done:.0f} s each"
    return f"{done / max(seconds, 1e-9):.1f}/s"


class Silent:
    """Shows nothing."""

    def start(self, total: int, what: str) -> None: ...

    def advance(self, n: int = 1, failed: int = 0) -> None: ...

    def note(self, text: str) -> None: ...

    def finish(self) -> None: ...


class LogLines:
    """A line at the start, at the end, and at most every ``LOG_EVERY_S`` seconds between."""

    def __init__(self, stats: Callable[[], str] | None = None) -> None:
        self._stats = stats
        self._total = self._done = self._failed = 0
        self._what = ""
        self._began = self._last = time.monotonic()

    def start(self, total: int, what: str) -> None:
        self._total, self._what, self._done, self._failed = total, what, 0, 0
        self._began = self._last = time.monotonic()
        _say(f"{what}: {total} to do" if total else f"{what}: nothing left to do")

    def advance(self, n: int = 1, failed: int = 0) -> None:
        self._done += n
        self._failed += failed
        if time.monotonic() - self._last >= LOG_EVERY_S:
            self._last = time.monotonic()
            self._line()

    def note(self, text: str) -> None:
        _say(text)

    def finish(self) -> None:
        if self._what and self._total:
            self._line()
            self._what = ""

    def _line(self) -> None:
        seconds = max(time.monotonic() - self._began, 1e-9)
        parts = [f"{self._what}: {self._done}/{self._total}", pace(self._done, seconds)]
        if self._failed:
            parts.append(f"{self._failed} failed")
        if self._stats and self._stats():
            parts.append(self._stats())
        _say(", ".join(parts))


class Bar:
    """A rich progress bar on stderr, with rate, failures and what ``stats`` says."""

    def __init__(self, stats: Callable[[], str] | None = None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._stats = stats
        self._failed = 0
        self._task: Any = None
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[extra]}"),
            console=self._console,
        )

    def start(self, total: int, what: str) -> None:
        self._failed = 0
        self._began = time.monotonic()
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=total, extra="", rate="")
        self._bar.start()

    def advance(self, n: int = 1, failed: int = 0) -> None:
        self._failed += failed
        parts = [f"[red]{self._failed} failed[/]"] if self._failed else []
        if self._stats and self._stats():
            parts.append(self._stats())
        task = next(t for t in self._bar.tasks if t.id == self._task)
        rate = pace(task.completed + n, time.monotonic() - self._began)
        self._bar.update(self._task, advance=n, extra=", ".join(parts), rate=rate)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def finish(self) -> None:
        self._bar.stop()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _expected(fault: BaseException) -> RopdError | None:
    """The expected error in an exception, looking into the groups that task groups raise."""
    if isinstance(fault, RopdError):
        return fault
    if isinstance(fault, BaseExceptionGroup):
        found = [_expected(inner) for inner in fault.exceptions]
        known = [error for error in found if error is not None]
        if known and len(known) == len(found):
            return known[0]
    if isinstance(fault, OSError) and fault.errno == 28:
        return RopdError("no space left on the disk", "make room, then run the same command again")
    return None


__all__ = ["EXIT_FAILED", "Bar", "LogLines", "Screen", "Silent", "exit_partial"]

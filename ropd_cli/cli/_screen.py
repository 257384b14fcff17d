"""What a command prints: the result on stdout, everything else on stderr, errors as two lines and an exit code."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ropd_cli.errors import EXIT_INTERRUPTED, EXIT_PARTIAL, expected_error
from ropd_cli.util.progress import NoProgress, Progress
from ropd_cli.util.visible_text import print_err, print_json, print_out

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Document = Mapping[str, Any] | DataclassInstance
    """What ``--json`` prints; docs/_outputs.py lists the type of each command's."""

T = TypeVar("T")
LOG_EVERY_S = 10.0
STATE_EVERY_S = 60.0

Stats = Callable[[int, int], str]
"""Words beside a progress, from how many records are done, and of how many."""


@dataclass(frozen=True)
class Screen:
    """One command's output, and the options of every command that shape it."""

    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no notes.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Print an expected error as one line and a hint (with ``--debug`` below its traceback) and exit with its code;
        Ctrl-C, SIGTERM and a closed terminal exit with 128 + the signal's number."""
        came: list[int] = []
        try:
            with _interrupted_by_signals(came):
                yield
            if came:  # a server that has ended by itself
                raise typer.Exit(128 + came[0])
        except KeyboardInterrupt:
            print_err("ropd: interrupted; what is finished is kept, the same command does the rest")
            raise typer.Exit(128 + came[0] if came else EXIT_INTERRUPTED) from None
        except typer.Exit as end:
            raise typer.Exit(128 + came[0]) if came else end from None
        except Exception as fault:
            expected = expected_error(fault)
            if expected is None:
                raise
            if self.debug:
                print_err(traceback.format_exc().rstrip())
            print_error(expected.message, expected.hint)
            raise typer.Exit(expected.exit_code) from None

    @contextmanager
    def serving(self, last: str = "stopped") -> Iterator[None]:
        """Around a server: Ctrl-C is how it ends, which ``last`` says."""
        try:
            yield
        except KeyboardInterrupt:
            self.note(last)
            raise typer.Exit(EXIT_INTERRUPTED) from None

    def result(self, document: Document, text: Any) -> None:
        """Print the result: ``document`` with ``--json``, else ``text`` (a string or a rich renderable)."""
        if self.json:
            print_json(_json(document))
        elif isinstance(text, str):
            print_out(text)
        else:
            from ropd_cli.util.terminal import Console

            Console().print(text)

    def note(self, text: str) -> None:
        """Print one line on stderr; nothing with ``--quiet``."""
        if not self.quiet:
            print_err(text)

    def progress(self, stats: Stats | None = None) -> Progress:
        """Return what shows a stage's progress: a bar on a terminal, a line now and then elsewhere."""
        if self.quiet:
            return NoProgress()
        return Bar(stats) if sys.stderr.isatty() else LogLines(stats)

    def track(self, records: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Yield the records, and show how many of ``total`` the caller is through with."""
        progress = self.progress()
        progress.start(total, what)
        try:
            for record in records:
                yield record
                progress.advance()
        finally:
            progress.finish()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; Ctrl-C cancels it and lets it write what is finished."""
        return asyncio.run(work)


@contextmanager
def _interrupted_by_signals(came: list[int]) -> Iterator[None]:
    """Let SIGTERM and SIGHUP do inside what Ctrl-C does, whoever handles that, and append them to ``came``. One that is
    ignored (``nohup``) stays so."""

    def interrupt(number: int, _frame: object) -> None:
        came.append(number)
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a script: nothing would happen
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    is_main = threading.current_thread() is threading.main_thread()
    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if is_main and signal.getsignal(each) == signal.SIG_DFL]
    for each in numbers:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)


def snake_keys(figures: Mapping[str, T]) -> dict[str, T]:
    """Return figures under names for ``--json``: ``groups_without_spread`` for "groups without spread"."""
    return {re.sub(r"\W+", "_", name.lower()).strip("_"): value for name, value in figures.items()}


def _json(document: Document) -> str:
    """Return the document as text that stdout can take: with escapes where it has another encoding than UTF-8, and
    where a path is none, which Python reads as halves of surrogate pairs."""
    import orjson

    try:
        text = orjson.dumps(document, default=vars, option=orjson.OPT_INDENT_2).decode()
        text.encode(sys.stdout.encoding or "utf-8")
    except (TypeError, UnicodeEncodeError):
        return json.dumps(document, default=vars, indent=2)
    return text


def print_error(message: str, hint: str | None) -> None:
    """Print an error in the one form that every command has."""
    print_err(f"ropd: error: {' '.join(message.split())}")
    if hint:
        print_err(f"hint: {' '.join(hint.split())}")


def exit_partial(failed: int) -> None:
    """End a finished command with exit code 3 where some records failed."""
    if failed:
        raise typer.Exit(EXIT_PARTIAL)


def pace(done: float, seconds: float) -> str:
    """Return how fast it goes: pieces per second, or seconds per piece where that is slower than one in two seconds."""
    if done and seconds / done > 2:
        return f"{seconds / done:.0f} s each"
    return f"{done / max(seconds, 1e-9):.1f}/s"


class LogLines:
    """A progress as lines: one at the start, one at the end, and one every ``LOG_EVERY_S`` seconds at most."""

    def __init__(self, stats: Stats | None = None) -> None:
        self._stats = stats
        self._what = ""
        self._total = self._done = self._failed = self._before = 0
        self._seconds: float | None = None
        self._began = self._printed = time.monotonic()
        self._state_due = 0.0

    def start(self, total: int, what: str, done: int = 0) -> None:
        self._total, self._what, self._done, self._failed = total, what, done, 0
        self._before, self._seconds = done, None
        self._began = self._printed = time.monotonic()
        self._show_start()

    def advance(self, n: int = 1, failed: int = 0, seconds: float | None = None) -> None:
        self._done += n
        if seconds is not None:
            self._seconds = (self._seconds or 0.0) + seconds
        self._failed += failed
        self._show()

    def note(self, text: str) -> None:
        print_err(text)

    def state(self, text: str) -> None:
        if time.monotonic() >= self._state_due:
            self._state_due = time.monotonic() + STATE_EVERY_S
            print_err(text)

    def finish(self) -> None:
        if self._what and self._total:
            self._print_line()
            self._what = ""

    def _rate(self) -> str:
        return pace(self._done - self._before, self._seconds or time.monotonic() - self._began)

    def _extras(self) -> list[str]:
        failed = [f"{self._failed} failed"] if self._failed else []
        words = self._stats(self._done, self._total) if self._stats else ""
        return [*failed, *([words] if words else [])]

    def _show_start(self) -> None:
        left = self._total - self._done
        print_err(f"{self._what}: {left} to do" if left else f"{self._what}: nothing left to do")

    def _show(self) -> None:
        if time.monotonic() - self._printed >= LOG_EVERY_S:
            self._printed = time.monotonic()
            self._print_line()

    def _print_line(self) -> None:
        print_err(", ".join([f"{self._what}: {self._done}/{self._total}", self._rate(), *self._extras()]))


class Bar(LogLines):
    """A progress as a rich bar on stderr."""

    def __init__(self, stats: Stats | None = None) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.table import Column

        from ropd_cli.util.terminal import Console

        super().__init__(stats)
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=10 if console.width < 120 else 30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left", style="progress.remaining"),
            # wraps where the terminal is narrow, so that nothing else is cut
            TextColumn("{task.fields[extra]}", markup=False, table_column=Column(no_wrap=False)),
            console=console,
        )

    def note(self, text: str) -> None:
        self._bar.console.print(text)

    def state(self, text: str) -> None:
        """Show nothing: the bar moves."""

    def finish(self) -> None:
        self._bar.stop()

    def _show_start(self) -> None:
        for task in self._bar.task_ids:  # a command with several stages shows the one at work
            self._bar.remove_task(task)
        self._bar.add_task(self._what, total=self._total, completed=self._done, extra="", rate="")
        self._bar.start()

    def _show(self) -> None:
        for task in self._bar.task_ids:  # none where nothing was to do
            self._bar.update(task, completed=self._done, extra=", ".join(self._extras()), rate=self._rate())

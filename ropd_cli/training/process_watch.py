"""Start and watch the training process, copy its metrics, and leave nothing of it behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import orjson

from ropd_cli import errors
from ropd_cli.config import RopdConfig
from ropd_cli.errors import RopdError, TrainingError
from ropd_cli.methods import method_of
from ropd_cli.records.journals import RecordWriter
from ropd_cli.training.heartbeat import Heartbeat, Phase
from ropd_cli.training.run_dir import RunDir
from ropd_cli.util.processes import Child, how_it_ended
from ropd_cli.util.progress import Progress

POLL_S = 0.5


def watch(config: RopdConfig, run: RunDir, environment: dict[str, str], progress: Progress) -> None:
    """Start the training process and wait for it. Raises TrainingError unless it ended well."""
    run.verl_metrics.unlink(missing_ok=True)
    run.notes.unlink(missing_ok=True)
    command = [sys.executable, "-m", method_of(config).program, str(run.path), str(os.getpid())]
    rows = _Rows(run, progress)
    child = Child(command, environment, run.log)
    heartbeat = Heartbeat(run.heartbeat)
    heartbeat.enter(Phase.STARTING)
    began = time.monotonic()
    try:
        while child.process.poll() is None:
            time.sleep(POLL_S)
            rows.copy()
            run.saved.prune(config.train.keep_checkpoints)
            phase, silent_s = heartbeat.read()
            minutes = round((time.monotonic() - began) / 60)
            progress.state(f"train: {rows.step}{phase}, {minutes} min after the start; log: {run.log}")
            name = "watchdog_update_s" if phase is Phase.UPDATE else "watchdog_s"
            limit_s = getattr(config.train, name)
            if silent_s > limit_s:
                raise TrainingError(
                    f"the training process was silent for {limit_s:g} s while {phase} and was stopped",
                    f"see {run.log}; go on by --resume; a slow step wants a larger train.{name}",
                )
        rows.copy()
        run.saved.prune(config.train.keep_checkpoints)
    finally:
        rows.close()
        child.end()
    if child.process.returncode:
        raise failure(run, child.process.returncode, child.began)


def failure(run: RunDir, code: int, began: int) -> RopdError:
    """Why the process ended: its own word where it left one, else the last error line of its log."""
    if (stop := run.stop()) is not None:
        return getattr(errors, stop.kind)(stop.message, stop.hint)
    ended = how_it_ended(code, run.log, began)
    return TrainingError(f"the training process ended {ended}", f"see {run.log}; go on by --resume")


class _Tail:
    """The whole lines that a file has grown by."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new_lines(self) -> list[bytes]:
        """Lines since the last call; none while there is no file."""
        if not self._path.is_file():
            return []
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.splitlines()


class _Rows:
    """Copies finished steps from verl's metrics file to ``metrics.jsonl``, and counts them."""

    def __init__(self, run: RunDir, progress: Progress) -> None:
        self._metrics, self._notes = _Tail(run.verl_metrics), _Tail(run.notes)
        self._progress = progress
        self._writer = RecordWriter(run.metrics)
        self._last: int | None = None

    @property
    def step(self) -> str:
        """The last step that is finished, in words."""
        return f"step {self._last} is done, " if self._last is not None else ""

    def copy(self) -> None:
        """Copy what is new, and show the notes."""
        for note in self._notes.new_lines():
            self._progress.note(note.decode(errors="replace"))
        for row in map(orjson.loads, self._metrics.new_lines()):
            if "timing_s/step" not in row["data"]:  # a validation before the first step
                self._progress.note(f"step {row['step']}: {_validated(row['data'])}")
                continue
            self._writer.append({"step": row["step"], **row["data"]})
            seconds = row["data"]["timing_s/step"]
            self._progress.advance(seconds=seconds)
            self._last = row["step"]
            scores = f"; {scores}" if (scores := _validated(row["data"])) else ""
            self._progress.note(f"step {row['step']}: {_learnt(row['data'])}, {seconds:.1f} s{scores}")

    def close(self) -> None:
        self._writer.close()


def _learnt(data: dict[str, float]) -> str:
    """What a step was trained on in words: rewards, or the loss on given answers."""
    loss, mean = data.get("train/loss"), data.get("reward/mean")
    if loss is not None:
        return f"loss {loss:.3f}"
    reward = f"reward {mean:.3f}, " if mean is not None else ""
    return f"{reward}{data.get('groups/missing', 0):g} groups missing"


def _validated(data: dict[str, float]) -> str:
    """The scores of a validation in words."""
    scores = {name: value for name, value in data.items() if name.startswith("val/") and not name.endswith("/missing")}
    return ", ".join(f"{name.removeprefix('val/')} {value:.3f}" for name, value in scores.items())

"""verl's checkpoints of a run: which are whole, which one a resumed run goes on from, which are pruned."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ropd_cli.errors import InputError
from ropd_cli.records.files import write_atomic

_FOLDER = re.compile(r"global_step_(\d+)")
_SHARD = re.compile(r"(model|optim|extra_state)_world_size_(\d+)_rank_(\d+)\.pt")


@dataclass(frozen=True)
class Checkpoints:
    """The folder ``checkpoints`` of a run. verl names the newest one in a marker file, which it writes last."""

    path: Path

    @property
    def marker(self) -> Path:
        return self.path / "latest_checkpointed_iteration.txt"

    def folder(self, step: int) -> Path:
        return self.path / f"global_step_{step}"

    def model_folder(self, step: int) -> Path:
        """The folder of a checkpoint that holds the weights; that of verl's SFT trainer has none for the actor."""
        actor = self.folder(step) / "actor"
        return actor if actor.is_dir() else self.folder(step)

    def books(self, step: int) -> Path:
        """The groups that were judged and not trained on when the checkpoint was written (``train.async``)."""
        return self.folder(step) / "books.jsonl.zst"

    def steps(self) -> list[int]:
        """Steps that have a folder, whole or not, in order."""
        if not self.path.is_dir():
            return []
        found = (_FOLDER.fullmatch(entry.name) for entry in self.path.iterdir() if entry.is_dir())
        return sorted(int(match[1]) for match in found if match)

    def newest(self) -> int | None:
        """Step of the newest whole checkpoint; None where there is none."""
        return next((step for step in reversed(self.steps()) if self.is_whole(step)), None)

    def is_whole(self, step: int) -> bool:
        """Whether a checkpoint has the shards of every rank, a model folder, the state of the data loader, without
        which verl would begin the prompts anew, and where groups are in flight those that are judged."""
        folder, model = self.folder(step), self.model_folder(step)
        shards = [
            match for file in model.glob("*.pt") if file.stat().st_size and (match := _SHARD.fullmatch(file.name))
        ]
        sizes = {int(shard[2]) for shard in shards}
        loader = "data_0.pt" if model == folder else "data.pt"
        return (
            len(sizes) == 1
            and len(shards) == 3 * max(sizes)
            and (model / "huggingface" / "config.json").is_file()
            and (folder / loader).is_file()
            and (self.books(step).is_file() or not (folder / "transfer_queue").exists())
        )

    def settle(self) -> int:
        """Return the step to go on after, and make the marker name it; 0 where the run begins anew.

        Raises InputError where a checkpoint was finished once and none is whole: to begin anew would throw the run
        away. (One that was never finished is what a kill in the first save leaves.)
        """
        step = self.newest()
        if step is None:
            if self.marker.is_file():
                raise InputError(
                    f"{self.path}: no checkpoint there is whole ({len(self.steps())} folders)",
                    "put a whole one back, or remove the folder to begin the run anew (what was paid for is cached)",
                )
            return 0
        if not self.marker.is_file() or self.marker.read_text().strip() != str(step):
            write_atomic(self.marker, str(step).encode())
        return step

    def prune(self, keep: int) -> None:
        """Remove all but the ``keep`` newest whole checkpoints. What is newer than the marker is being written."""
        try:
            last = int(self.marker.read_text())
        except (OSError, ValueError):
            return
        older = [step for step in self.steps() if step <= last]
        kept = [step for step in older if self.is_whole(step)][-keep:]
        for step in older:
            if kept and step not in kept:
                shutil.rmtree(self.folder(step), ignore_errors=True)

    def keep_last_model(self) -> None:
        """Remove all but the model of the newest whole checkpoint: a finished run is not resumed."""
        self.prune(1)
        for file in self.path.glob("**/*.pt"):
            file.unlink()

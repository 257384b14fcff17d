"""What is remembered of batches beside the output they are for: ``<out>.batch.json``, replaced as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import TypedDict

from ropd_cli.errors import InputError
from ropd_cli.records.files import write_atomic

Phase = Literal["prepared", "uploaded", "submitting", "submitted", "collected"]


class Batch(BaseModel):
    """One batch. ``tag`` is the digest of its content, by which it is found at the server when this file was not
    written in time; ``most_usd`` what it can cost at most, ``cost_usd`` what it has cost."""

    model_config = ConfigDict(extra="forbid")
    tag: str
    url: str
    model: str
    api: Literal["chat", "responses"]
    max_tokens: int | None
    keys: list[str]
    """Of the requests; none any more when it is collected."""
    count: int
    phase: Phase = "prepared"
    file_id: str | None = None
    batch_id: str | None = None
    status: str = ""
    most_usd: float = 0.0
    cost_usd: float = 0.0


class BatchShown(TypedDict):
    batch_id: str | None
    """The server's id; null where it has none yet."""
    model: str
    phase: Phase
    status: str
    """The server's word for it; "" before it is asked."""
    cost_usd: float
    """So far."""
    requests: int


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: Literal[1] = 1
    batches: list[Batch] = []
    refused: dict[str, str] = {}
    came_back: dict[str, int] = {}


class BatchState:
    """The batches of one output, and the requests that a server refused, with its words, by their keys."""

    def __init__(self, path: Path) -> None:
        """Raises InputError for a file that is none."""
        self.path = path
        self._file = _File()
        if path.is_file():
            try:
                self._file = _File.model_validate(orjson.loads(path.read_bytes()))
            except (orjson.JSONDecodeError, ValidationError) as fault:
                raise InputError(f"{path}: not the state of a batch", "it was changed: put it back") from fault

    @property
    def batches(self) -> list[Batch]:
        return self._file.batches

    @property
    def open(self) -> list[Batch]:
        """Those that are not collected."""
        return [batch for batch in self.batches if batch.phase != "collected"]

    @property
    def refused(self) -> dict[str, str]:
        return self._file.refused

    def forget_refusals(self) -> None:
        """What was refused may be tried again: a new run has begun."""
        if self._file.refused or self._file.came_back:
            self._file.refused, self._file.came_back = {}, {}
            self.save()

    def came_back(self, key: str) -> int:
        """Book that a request came back without a reply that can be kept; how often it has."""
        self._file.came_back[key] = self._file.came_back.get(key, 0) + 1
        return self._file.came_back[key]

    @property
    def spent_usd(self) -> float:
        """What the batches have cost so far."""
        return sum(batch.cost_usd for batch in self.batches)

    def save(self) -> None:
        """Write it; a kill leaves the old one or the new one."""
        write_atomic(self.path, orjson.dumps(self._file.model_dump(mode="json")))

    def add(self, batch: Batch) -> None:
        """Remember a batch."""
        self.batches.append(batch)
        self.save()

    def document(self) -> list[Any]:
        """For ``--json`` (``BatchShown``)."""
        names = ("batch_id", "model", "phase", "status", "cost_usd")
        return [{name: getattr(batch, name) for name in names} | {"requests": batch.count} for batch in self.batches]


def state_path(out: Path) -> Path:
    """Return where the batches of an output are remembered."""
    return out.with_name(out.name + ".batch.json")

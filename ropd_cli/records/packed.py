"""Records of a file by their group, small enough for files of a hundred thousand groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Generic, TypeVar

import zstandard

from ropd_cli.records.schemas import RecordModel, load_models

M = TypeVar("M", bound=RecordModel)
Key = tuple[str, str]
"""(uid, raw_prompt_hash)."""


class Packed(Mapping[Key, M], Generic[M]):
    """The records of a file by group, or by another ``key``; of several the last counts.

    They are kept compressed: as objects those of 100,000 groups would fill a gigabyte. Raises InputError, with file and
    line, for a record that does not fit.
    """

    def __init__(
        self, file: Path, kind: type[M], key: Callable[[M], Key] = attrgetter("uid", "raw_prompt_hash")
    ) -> None:
        self._kind = kind
        pack = zstandard.ZstdCompressor(level=1).compress
        self._packed: dict[Key, bytes] = {}
        for record in load_models(file, kind):
            self._packed[key(record)] = pack(record.model_dump_json().encode("utf-8", "surrogatepass"))

    def __getitem__(self, key: Key) -> M:
        return self._kind.model_validate_json(zstandard.decompress(self._packed[key]))

    def __iter__(self) -> Iterator[Key]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

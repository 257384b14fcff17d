"""Rows of a Hugging Face data set: from the hub, or from a folder that ``datasets.load_dataset`` can read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropd_cli.datasets.local_files import Row
from ropd_cli.errors import InputError, MissingPackage

ROWS_A_BATCH = 256
_HINT = "give a copy of it by --local FILE, or check the network (HF_ENDPOINT names a mirror)"


@dataclass(frozen=True)
class HubSet:
    """One split of a data set; ``path`` is OWNER/NAME or a folder. ``file``: one file of the repository."""

    path: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        config = f":{self.config}" if self.config else ""
        return f"{self.path}{config} ({self.split})"


def hub_rows(source: HubSet) -> Iterator[Row]:
    """The rows of a split, in its order. They are read from the mapped Arrow file of the ``datasets`` cache, a few
    hundred at a time, so memory does not grow with the set.

    Raises MissingPackage without ``datasets``, InputError where the set, configuration, split or revision is not
    there, may not be read, or the hub can't be reached.
    """
    number = 0
    for batch in _load(source).iter(batch_size=ROWS_A_BATCH):
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield Row(number, f"{source}:{number}", dict(zip(batch, values, strict=True)), columnar=True)


def _load(source: HubSet) -> Any:
    try:
        import datasets
    except ImportError as fault:
        raise MissingPackage("Hugging Face sets need the package datasets", "pip install 'ropd-cli[data]'") from fault
    from datasets.exceptions import DatasetNotFoundError

    if source.path.startswith((".", "/", "~")) and not Path(source.path).exists():
        raise InputError(f"hf:{source}: no folder {source.path}", "give OWNER/NAME of the hub, or a folder")
    files = {"data_files": {source.split: source.file}} if source.file else {}
    # without a warning for each retry: what is wrong in the end is said once
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(source.path, source.config, split=source.split, revision=source.revision, **files)
    except DatasetNotFoundError as fault:
        hint = "check the name and the revision; a gated set needs its terms accepted and a token in HF_TOKEN"
        raise InputError(f"hf:{source.path}: {_first_line(fault)}", hint) from fault
    except (FileNotFoundError, ValueError) as fault:  # an unknown configuration, split, or kind of file
        hint = "name them by --config and --split, or give one file by --local"
        raise InputError(f"hf:{source}: {_first_line(fault)}", hint) from fault
    except OSError as fault:  # ConnectionError and what the HTTP libraries raise
        raise InputError(f"hf:{source}: can't be read from the hub ({_first_line(fault)})", _HINT) from fault
    except datasets.exceptions.DatasetsError as fault:
        raise InputError(f"hf:{source}: {_first_line(fault)}", "give one file of it by --local") from fault


def _first_line(fault: BaseException) -> str:
    return str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__

"""``python -m ropd_cli.training.verl.saved_model FOLDER DTYPE [RANK ALPHA]``: make the model folder of a checkpoint one
that loads everywhere.

verl 0.9.1 writes float32 weights beside a ``config.json`` that may name another type, and those of a LoRA run as the
adapter library names them (``base_model.model.….base_layer.weight`` beside ``….lora_A.default.weight``), which neither
transformers nor vLLM loads. Here each base weight gets its product added, W + (alpha / r) B A, and its plain name back,
and files and ``config.json`` get the type that the student samples in. Done twice it changes nothing.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

PREFIX = "base_model.model."
INDEX = "model.safetensors.index.json"


def finish_folder(folder: Path, dtype: str, rank: int = 0, alpha: float = 0.0) -> None:
    """Merge the adapter in a folder of safetensors, where ``rank`` is not 0, and give its floats ``dtype``."""
    if rank:
        _merge_files(folder, rank, alpha)
    for file in sorted(folder.glob("*.safetensors")):
        _cast(file, dtype)
    config = json.loads((folder / "config.json").read_text())
    config.pop("torch_dtype", None)  # the older name of it
    _replace(folder / "config.json", json.dumps(config | {"dtype": dtype}, indent=2).encode())


def _merge_files(folder: Path, rank: int, alpha: float) -> None:
    from safetensors.torch import load_file, save_file

    files = sorted(folder.glob("*.safetensors"))
    tensors: dict[str, Any] = {}
    for file in files:
        tensors |= load_file(file)
    if not any(".lora_A." in name for name in tensors):
        return
    temporary = folder / ".merged.tmp"
    save_file(merge(tensors, alpha / rank), temporary, metadata={"format": "pt"})
    os.replace(temporary, folder / "model.safetensors")
    for file in files:
        if file.name != "model.safetensors":
            file.unlink()
    (folder / INDEX).unlink(missing_ok=True)


def merge(tensors: dict[str, Any], scale: float) -> dict[str, Any]:
    """Plain weights from those of a model with an adapter. B A is computed in float32; the result has the base
    weight's type."""
    merged: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if ".lora_" in name:
            continue
        plain = name.removeprefix(PREFIX).replace(".base_layer.", ".")
        stem = name.removesuffix(".base_layer.weight")
        a, b = tensors.get(f"{stem}.lora_A.default.weight"), tensors.get(f"{stem}.lora_B.default.weight")
        if name.endswith(".base_layer.weight") and a is not None and b is not None:
            tensor = (tensor.float() + scale * (b.float() @ a.float())).to(tensor.dtype)
        merged[plain] = tensor.contiguous()
    return merged


def _cast(file: Path, dtype: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    wanted = getattr(torch, dtype)
    tensors = load_file(file)
    if all(not tensor.is_floating_point() or tensor.dtype == wanted for tensor in tensors.values()):
        return
    cast = {name: tensor.to(wanted) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    temporary = file.with_name(".cast.tmp")
    save_file(cast, temporary, metadata={"format": "pt"})
    os.replace(temporary, file)
    index = file.with_name(INDEX)
    if index.is_file():  # its total is in bytes
        document = json.loads(index.read_text())
        before = sum(tensor.nbytes for tensor in tensors.values())
        document["metadata"]["total_size"] += sum(tensor.nbytes for tensor in cast.values()) - before
        _replace(index, json.dumps(document, indent=2).encode())


def _replace(file: Path, data: bytes) -> None:
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, file)


if __name__ == "__main__":
    where, type_name, *adapter = sys.argv[1:]
    finish_folder(Path(where), type_name, *(int(adapter[0]), float(adapter[1])) if adapter else ())

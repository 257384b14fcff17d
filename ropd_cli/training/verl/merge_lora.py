"""``python -m ropd_cli.training.verl.merge_lora FOLDER RANK ALPHA``: merge a LoRA adapter into its model.

verl 0.9.1 writes the weights of a LoRA run as the adapter library names them (``base_model.model.….base_layer.weight``
beside ``….lora_A.default.weight``), which neither transformers nor vLLM loads. Here each base weight gets its
product added, W + (alpha / r) B A, and its plain name back. Done twice it changes nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

PREFIX = "base_model.model."
INDEX = "model.safetensors.index.json"


def merge_folder(folder: Path, rank: int, alpha: float) -> None:
    """Merge the adapter in a folder of safetensors, where there is one."""
    from safetensors.torch import load_file, save_file

    files = sorted(folder.glob("*.safetensors"))
    tensors: dict[str, Any] = {}
    for file in files:
        tensors |= load_file(file)
    if not any(".lora_A." in name for name in tensors):
        return
    merged = merge(tensors, alpha / rank)
    temporary = folder / ".merged.tmp"
    save_file(merged, temporary, metadata={"format": "pt"})
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


if __name__ == "__main__":
    merge_folder(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))

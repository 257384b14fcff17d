"""``python -m ropd_cli.engines.dequantise FILE.gguf OUT``: a GGUF file as a dense Hugging Face folder.

Runs in a process of its own, since it loads torch and transformers. The folder is what transformers 4.57
and later, and vLLM, load without further options.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ropd_cli.records.files import write_atomic

ROPE_THETA = 100_000.0  # of SmolLM2; transformers 4.x reads it at the top level of config.json only
CONTEXT_TOKENS = 8192
END_OF_TURN = "<|im_end|>"
DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
"""The original's. transformers makes one of a GGUF file that decodes the same, but looks like SentencePiece: vLLM's
constrained decoding then takes every token that begins with a blank for another text."""


def dequantise(source: Path, out: Path) -> None:
    """Write the model and tokenizer of ``source`` to ``out`` in bfloat16 safetensors."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    packed = {}
    if hasattr(transformers, "GgufConfig"):  # later 5.x: keeps the blocks packed unless told, then refuses to save
        packed["quantization_config"] = transformers.GgufConfig(gguf_file=source.name, dequantize=True)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # the GGUF file's metadata lost what ends a turn; these are the original's
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16, **packed)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    mend_tokenizer(out)
    _edit(out / "config.json", drop=("_model_name_or_path",), rope_theta=ROPE_THETA, rope_scaling=None)
    _edit(
        out / "tokenizer_config.json",
        drop=(
            "backend",
            "is_local",
            "local_files_only",
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
            "unk_token_id",
        ),
        tokenizer_class="PreTrainedTokenizerFast",
        model_max_length=CONTEXT_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
    )


def mend_tokenizer(folder: Path) -> None:
    """Give the tokenizer its original decoder, where it has another; a folder that can't be written stays as it is."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["decoder"]["type"] != DECODER["type"] and os.access(folder, os.W_OK):
        write_atomic(file, json.dumps(content | {"decoder": DECODER}, ensure_ascii=False))


def _edit(file: Path, drop: tuple[str, ...], **values: object) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    content.update(values)
    for key in drop:
        content.pop(key, None)
    file.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    dequantise(Path(sys.argv[1]), Path(sys.argv[2]))

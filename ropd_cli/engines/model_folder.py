"""What a model's folder tells, read without torch or transformers, which take many seconds to import."""

from __future__ import annotations

import json
import math
import os
import re
import struct
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ropd_cli.errors import InputError

_LONGEST_HEADER = 100_000_000
HUB_TIMEOUT_S = 5.0
SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


def has_tokenizer(folder: Path) -> bool:
    """Return whether a model's folder has one."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def looks_local(model_path: str) -> bool:
    """Return whether ``student.model_path`` is meant as a folder, and not as a name on the hub."""
    return model_path.startswith((".", "/", "~")) or model_path.count("/") > 1 or Path(model_path).exists()


def local_folder(model_path: str | None) -> Path | None:
    """Return the folder of a model on this disk: the one that is named, or the hub's cache of a name; None for
    neither."""
    if model_path is None:
        return None
    if looks_local(model_path):
        folder = Path(os.path.expanduser(model_path))
        return folder if folder.is_dir() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(model_path, "config.json")
    except HFValidationError:
        return None
    return Path(config).parent if isinstance(config, str) else None


def read_json(file: Path) -> dict[str, Any]:
    """Return a JSON object of a model's file; empty where there is none. Raises InputError for what is no JSON."""
    if not file.is_file():
        return {}
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as fault:
        raise InputError(f"{file}: can't be read ({fault})", "copy or download the model again") from fault
    return document if isinstance(document, dict) else {}


def model_config(model_path: str | None, *, ask_hub: bool) -> dict[str, Any]:
    """Return a model's config.json, from its folder or, with ``ask_hub``, from the hub; empty where neither has one
    that can be read."""
    folder = local_folder(model_path)
    if folder is None:
        return _hub_config(model_path) if ask_hub and model_path and not looks_local(model_path) else {}
    try:
        return read_json(folder / "config.json")
    except InputError:  # who loads the model says so
        return {}


@cache
def _hub_config(name: str) -> dict[str, Any]:
    from huggingface_hub import HfApi, hf_hub_download

    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT_S)  # without a network it fails at once; a download tries on
        return read_json(Path(hf_hub_download(name, "config.json")))
    except Exception:  # which HTTP library's errors these are differs between versions of the hub's client
        return {}


def parameters(folder: Path) -> int | None:
    """Return how many weights a model has, by the shapes in the headers of its safetensors; None without them."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with open(file, "rb") as opened:
                (size,) = struct.unpack("<Q", opened.read(8))
                header = json.loads(opened.read(min(size, _LONGEST_HEADER)))
        except (OSError, struct.error, ValueError):
            return None
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total or None


class Template:
    """A chat template with the tokens that it may name, rendered as transformers does."""

    def __init__(self, source: str, tokens: dict[str, str]) -> None:
        # {% generation %} … {% endgeneration %} mark the replies for transformers; the text inside stays.
        source = re.sub(r"(\{%-?\s*)generation(?=\s*-?%\})", r"\1if true", source)
        self._source = re.sub(r"(\{%-?\s*)endgeneration(?=\s*-?%\})", r"\1endif", source)
        self._tokens = tokens

    @classmethod
    def of(cls, folder: Path) -> Template | None:
        """Return a folder's template, from where transformers would take it; None where it has none."""
        settings = read_json(folder / "tokenizer_config.json")
        tokens, special = {}, read_json(folder / "special_tokens_map.json") | settings
        for name in SPECIAL_TOKENS:
            value = special.get(name)
            value = value.get("content") if isinstance(value, dict) else value
            tokens[name] = value if isinstance(value, str) else ""
        own = folder / "chat_template.jinja"
        if own.is_file():
            return cls(own.read_text(encoding="utf-8"), tokens)
        for place in (read_json(folder / "chat_template.json"), settings):
            source = place.get("chat_template")
            if isinstance(source, list):  # several, by name
                named = {one.get("name"): one.get("template") for one in source if isinstance(one, dict)}
                source = named.get("default")
            if isinstance(source, str):
                return cls(source, tokens)
        return None

    def render(self, messages: list[dict[str, Any]], **options: Any) -> str:
        """Return the prompt that a model gets. Raises InputError for a template or messages that do not go
        together."""
        world = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        world.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
        world.globals["raise_exception"] = _raise_exception
        world.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            template = world.from_string(self._source)
            return template.render(messages=messages, add_generation_prompt=True, **self._tokens, **options)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as fault:
            raise InputError(
                f"the chat template can't be rendered: {fault}", "take another model, or mend its chat template"
            ) from fault


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)

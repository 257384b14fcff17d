"""What a model's folder says of itself, read without torch or transformers."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ropd_cli.errors import InputError

_LONGEST_HEADER = 100_000_000
SWITCH = "enable_thinking"


def looks_local(model_path: str) -> bool:
    """Whether ``student.model_path`` is meant as a folder, and not as a name on the hub."""
    return model_path.startswith((".", "/", "~")) or Path(model_path).exists()


def local_folder(model_path: str | None) -> Path | None:
    """The folder of a model on this disk: the one that is named, or the hub's cache of a name; None for neither."""
    if model_path is None:
        return None
    if looks_local(model_path):
        folder = Path(model_path).expanduser()
        return folder if folder.is_dir() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model_path, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file of a model; empty where there is none. Raises InputError for one that is no JSON."""
    if not file.is_file():
        return {}
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as fault:
        raise InputError(f"{file}: can't be read ({fault})", "copy or download the model again") from fault
    return document if isinstance(document, dict) else {}


def parameters(folder: Path) -> int | None:
    """How many weights a model has: by the headers of its safetensors, else by its configuration; None where neither
    says (or can't be read, which the student's section tells)."""
    counts = [_weights_in(file) for file in sorted(folder.glob("*.safetensors"))]
    if counts and None not in counts:
        return sum(count for count in counts if count is not None)
    try:
        return _by_config(read_json(folder / "config.json"))
    except InputError:
        return None


def chat_template(folder: Path) -> str | None:
    """The chat template of a model, from wherever transformers would take it."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = read_json(folder / name).get("chat_template")
        if isinstance(found, list):  # several, by name
            found = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}.get("default")
        if isinstance(found, str):
            return found
    return None


@dataclass(frozen=True)
class Template:
    """A chat template with the tokens that it may name."""

    source: str
    tokens: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> Template | None:
        """A folder's template; None where it has none."""
        source = chat_template(folder)
        return None if source is None else cls(source, _special_tokens(folder))

    @property
    def names_switch(self) -> bool:
        """Whether the text of the template speaks of ``enable_thinking``."""
        return SWITCH in self.source

    def render(self, messages: list[dict[str, Any]], **options: Any) -> str:
        """The prompt that a model gets, as transformers renders it. Raises ImportError without jinja2, and InputError
        for a template or messages that do not go together."""
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        world = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_generation_tag(), "jinja2.ext.loopcontrols"]
        )
        world.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
        world.globals["raise_exception"] = _refused
        world.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            template = world.from_string(self.source)
            return template.render(messages=messages, add_generation_prompt=True, **self.tokens, **options)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as fault:
            raise InputError(
                f"the chat template can't be rendered: {fault}", "take another model, or mend its chat template"
            ) from fault


def _refused(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _generation_tag() -> Any:
    """``{% generation %}…{% endgeneration %}``, which transformers' templates may hold, as what stands inside."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - jinja2's own way

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    return Generation


def _special_tokens(folder: Path) -> dict[str, str]:
    settings = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
    found = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = settings.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        found[name] = value if isinstance(value, str) else ""
    return found


def _weights_in(file: Path) -> int | None:
    """Weights of one safetensors file, by the shapes in its header."""
    try:
        with open(file, "rb") as opened:
            (size,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(min(size, _LONGEST_HEADER)))
    except (OSError, struct.error, ValueError):
        return None
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            count = 1
            for length in tensor["shape"]:
                count *= length
            total += count
    return total


def _by_config(config: dict[str, Any]) -> int | None:
    """Weights of a dense decoder by its sizes; None for what is none (a mixture of experts, another architecture)."""
    try:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        inner, words = int(config["intermediate_size"]), int(config["vocab_size"])
        heads = int(config["num_attention_heads"])
    except (KeyError, TypeError, ValueError):
        return None
    if any("expert" in key for key in config):
        return None
    head = int(config.get("head_dim") or hidden // heads)
    pairs = int(config.get("num_key_value_heads") or heads)
    attention = hidden * head * (2 * heads + 2 * pairs)
    embeddings = words * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return layers * (attention + 3 * hidden * inner + 2 * hidden) + embeddings

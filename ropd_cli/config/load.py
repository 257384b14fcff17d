"""Reading a configuration: defaults < YAML < environment < ``--set``, and all faults at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ropd_cli.config.masking import shown_url
from ropd_cli.config.models import EndpointConfig, RopdConfig, laid_over
from ropd_cli.errors import ConfigError, InputError
from ropd_cli.util.resources import find_config
from ropd_cli.util.yaml_text import load_yaml

# environment variable -> the keys it sets
_ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "OPENAI_BASE_URL": (
        "teacher.base_url",
        "student.endpoint.base_url",
        "rubricator.base_url",
        "verifier.base_url",
        "monitor.judge.base_url",
        "lint.judge.base_url",
    ),
    "ROPD_TEACHER_MODEL": ("teacher.model",),
    "ROPD_RUBRICATOR_MODEL": ("rubricator.model",),
    "ROPD_VERIFIER_MODEL": ("verifier.model",),
    "ROPD_MODEL_PATH": ("student.model_path",),
    "ROPD_TEACHER_INDEX_PATH": ("data.index",),
    "ROPD_CACHE_DIR": ("cache_dir",),
}


def load_config(
    path: str | Path | None = None,
    *,
    overrides: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str],
) -> RopdConfig:
    """Return the configuration a command runs with.

    ``overrides`` are ``a.b=value`` (the value is read as YAML); ``flags`` are dotted keys of
    command-line options, the last word; a None among them is "not given". A YAML file's relative
    paths are taken from the current directory, like every path on the command line.
    Raises ConfigError with every fault, its dotted path and the nearest known name.
    """
    source = "configuration"
    tree: dict[str, Any] = {}
    if path is not None:
        file = find_config(path)
        source = str(file)
        tree = read_yaml(file)
    problems: list[str] = []
    for name, keys in _ENVIRONMENT.items():
        if environ.get(name):
            for key in keys:
                _set(tree, key, environ[name], problems)
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            problems.append(f"--set {text!r}: expected a.b=value")
            continue
        try:
            _set(tree, key.strip(), load_yaml(value), problems)
        except yaml.YAMLError:
            problems.append(f"--set {key}: not a YAML value")
    for key, value in (flags or {}).items():
        if value is not None:
            _set(tree, key, value, problems)
    try:
        config = RopdConfig.model_validate(laid_over(RopdConfig().model_dump(), tree))
    except ValidationError as fault:
        errors = fault.errors()
        of_teacher = [(error["loc"][1:], error["input"]) for error in errors if error["loc"][0] == "teacher"]
        # What an entry of `teachers` has from `teacher` is wrong once, and not in every entry.
        problems += [
            _describe(error)
            for error in errors
            if error["loc"][0] != "teachers" or (error["loc"][2:], error["input"]) not in of_teacher
        ]
    if problems:
        raise ConfigError(problems, source, "ropd's keys and defaults are listed in docs/configuration.md")
    return config


def differing(a: Any, b: Any, path: str = "") -> list[str]:
    """Return the dotted paths at which two trees have different values."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in {**a, **b} for d in differing(a.get(k), b.get(k), f"{path}.{k}" if path else k)]
    return [] if a == b else [path]


def dump_config(config: RopdConfig) -> str:
    """Return the resolved configuration as YAML, as it is written to a run directory."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the sections of a YAML file. Raises InputError for what is none."""
    try:
        tree = load_yaml(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise InputError(
            f"{where}: not valid YAML ({getattr(fault, 'problem', None) or fault})", "check the indentation"
        ) from fault
    except UnicodeDecodeError as fault:
        raise InputError(f"{file}: not UTF-8 text", "is it a YAML file?") from fault
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError(
            f"{file}: expected sections (key: value), found {type(tree).__name__}", "see configs/ for examples"
        )
    return tree


def _set(tree: dict[str, Any], key: str, value: Any, problems: list[str]) -> None:
    try:
        json.dumps(value, default=str, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        problems.append(f"{key}: {value!r} is not UTF-8 text")
        return
    *parents, last = key.split(".")
    node = tree
    for part in parents:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            problems.append(f"{key}: {part} is not a section")
            return
    node[last] = value


def _describe(error: Any) -> str:
    """Return one fault as its dotted path and what is wrong there."""
    loc = error["loc"]
    path = ".".join(str(part) for part in loc)
    if error["type"] == "value_error":  # of a whole section: its keys do not fit together
        return f"{path}: {error['ctx']['error']}"
    if error["type"] != "extra_forbidden":
        return f"{path}: {error['msg'][:1].lower()}{error['msg'][1:]}{_found(loc, error['input'])}"
    near = difflib.get_close_matches(str(loc[-1]), _known_keys(loc[:-1]), n=1, cutoff=0.5)
    return f"{path}: unknown key" + (f", did you mean {near[0]}?" if near else "")


def _found(loc: tuple[Any, ...], value: Any) -> str:
    """Return the value that is wrong, in words; nothing where it may hold a secret."""
    if isinstance(value, dict | list) or {"headers", "extra_body", "base_url", "api_key_env"} & set(loc):
        return ""
    return f" (found {(shown_url(value) if isinstance(value, str) and '://' in value else value)!r})"


def _known_keys(parents: tuple[Any, ...]) -> list[str]:
    """Return the keys of the section at a path."""
    model: type[BaseModel] = RopdConfig
    if parents[:1] == ("teachers",) and len(parents) > 1:
        model, parents = EndpointConfig, parents[2:]
    for part in parents:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)

"""Reading a configuration: defaults < profile < YAML files < environment < ``--set``, and all faults at once."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ropd_cli.config.describe import all_keys
from ropd_cli.config.masking import shown_url
from ropd_cli.config.models import EndpointConfig, RopdConfig, laid_over
from ropd_cli.errors import ConfigError, InputError
from ropd_cli.util.resources import find_config
from ropd_cli.util.yaml_text import load_yaml

PROFILES = ("paper", "reference")
ENVIRONMENT: dict[str, tuple[str, ...]] = {
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
"""By environment variable, the keys it sets."""


HEIRS = ("teacher", "rubricator", "verifier", "monitor.judge", "lint.judge")
"""The sections that inherit from ``endpoint`` what they leave out."""


def load_config(
    paths: str | Path | Sequence[str | Path] | None = None,
    *,
    profile: str | None = None,
    overrides: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    flags_from: str = "command line",
    environ: Mapping[str, str],
) -> RopdConfig:
    """Return the configuration a command runs with.

    Of several files each is laid over those before it, and the first over the ``profile``.

    ``overrides`` are ``a.b=value`` (the value is read as YAML); ``flags`` are dotted keys of
    command-line options, the last word; a None among them is "not given". ``flags_from`` names them in an error.
    A YAML file's relative paths are taken from the current directory, like every path on the command line.
    Raises ConfigError with every fault, its dotted path and the nearest known name.
    """
    files = [find_config(path) for path in ([paths] if isinstance(paths, str | Path) else paths or ())]
    if profile is not None:
        files.insert(0, profile_file(profile))
    trees = [read_yaml(file) for file in files]
    tree: dict[str, Any] = reduce(laid_over, trees, {})
    sources = _Sources({str(file): tree for file, tree in zip(files, trees, strict=True)})
    problems: list[tuple[str, str]] = []  # each with its source

    def put(key: str, value: Any, source: str) -> None:
        sources.given[tuple(_keys(key) or [key])] = source
        if fault := _set(tree, key, value):
            problems.append((source, fault))

    for name, keys in ENVIRONMENT.items():
        if environ.get(name):
            for key in keys:
                put(key, environ[name], name)
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            problems.append((f"--set {text!r}", "expected a.b=value"))
            continue
        try:
            put(key.strip(), load_yaml(value), f"--set {key.strip()}")
        except yaml.YAMLError:
            problems.append((f"--set {key}", "not a YAML value"))
    for key, value in (flags or {}).items():
        if value is not None:
            put(key, value, flags_from)
    try:
        config = RopdConfig.model_validate(laid_over(RopdConfig().model_dump(), _inherited(tree)))
    except ValidationError as fault:
        problems += [(sources.of(error["loc"]), _describe(error)) for error in _without_heirs(fault.errors())]
    if problems:
        told = [(source, text.removeprefix(f"{source.removeprefix('--set ')}: ")) for source, text in problems]
        source, several = told[0][0], len({source for source, _ in told}) > 1
        lines = [f"{source}: {text}" if several else text for source, text in told]
        raise ConfigError(
            lines, "configuration" if several else source, "ropd config explain lists the keys and their defaults"
        )
    return config


@dataclass
class _Sources:
    """Where the keys of a configuration are from: files, the later over the earlier, and what is ``given`` besides."""

    files: dict[str, dict[str, Any]]
    given: dict[tuple[str, ...], str] = field(default_factory=dict)

    def of(self, loc: tuple[Any, ...]) -> str:
        """Return the source of the key at ``loc``; all files for what is in none."""
        keys = tuple(map(str, loc))
        for end in range(len(keys), 0, -1):
            if keys[:end] in self.given:
                return self.given[keys[:end]]
        holding = [file for file, tree in self.files.items() if keys and _holds(tree, keys)]
        inside = [source for key, source in self.given.items() if keys and key[: len(keys)] == keys]
        return ", ".join([*holding[-1:], *inside] or self.files) or "configuration"


def _holds(tree: Any, keys: tuple[str, ...]) -> bool:
    return not keys or not isinstance(tree, dict) or (keys[0] in tree and _holds(tree[keys[0]], keys[1:]))


def profile_file(name: str) -> Path:
    """Return the shipped file of a profile. Raises InputError for a name that none has."""
    if name not in PROFILES:
        raise InputError(f"no profile {name}", f"one of {', '.join(PROFILES)}")
    return find_config(f"profiles/{name}")


def differing(a: Any, b: Any, path: str = "") -> list[str]:
    """Return the dotted paths at which two trees have different values."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in {**a, **b} for d in differing(a.get(k), b.get(k), f"{path}.{k}" if path else k)]
    return [] if a == b else [path]


def value_at(tree: Any, path: str) -> Any:
    """Return what stands at a dotted path, as ``differing`` returns them; None where nothing does."""
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


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
            f"{file}: expected sections (key: value), found {type(tree).__name__}", "ropd config init lists examples"
        )
    return tree


def _inherited(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the tree with the section ``endpoint`` laid below each section that names an endpoint."""
    common = tree.get("endpoint")
    if not isinstance(common, dict):
        return tree  # pydantic says what is wrong with it
    heirs: dict[str, Any] = {}
    for path in HEIRS:
        parent, _, last = path.rpartition(".")
        own = tree.get(parent, {}) if parent else tree
        section = own.get(last, {}) if isinstance(own, dict) else own
        if isinstance(section, dict):
            laid = laid_over(common, section)
            heirs[parent or last] = {last: laid} if parent else laid
    return laid_over(tree, heirs)


def _without_heirs(errors: Sequence[Any]) -> Iterator[Any]:
    """Yield the errors without those that a section has inherited: they are wrong once, and not in every heir."""
    told: set[tuple[Any, str]] = set()
    ranks = {"endpoint": 0, "teacher": 1}
    for error in sorted(errors, key=lambda error: ranks.get(str(error["loc"][0]) if error["loc"] else "", 2)):
        loc = tuple(map(str, error["loc"]))
        above = [path for path in (*HEIRS, "endpoint") if loc[: path.count(".") + 1] == tuple(path.split("."))]
        depth = 2 if loc[:1] == ("teachers",) else above[0].count(".") + 1 if above else 0
        key = (loc[depth:], repr(error["input"]))
        if depth and key in told:
            continue
        if depth:
            told.add(key)
        yield error


def _keys(dotted: str) -> list[str]:
    """Return the keys of a dotted path; one that has dots itself stands in quotes: ``prices."gpt-5.2".input``."""
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|([^."]+)', dotted)]


def _set(tree: dict[str, Any], key: str, value: Any) -> str | None:
    """Set a key, and return what is wrong with it."""
    try:
        json.dumps(value, default=str, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return f"{key}: {value!r} is not UTF-8 text"
    *parents, last = _keys(key) or [key]
    node = tree
    for part in parents:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            return f"{key}: {part} is not a section"
    node[last] = value
    return None


def _describe(error: Any) -> str:
    """Return one fault as its dotted path and what is wrong there."""
    loc = error["loc"]
    path = ".".join(str(part) for part in loc)
    if error["type"] == "value_error":  # of a whole section: its keys do not fit together
        return f"{path}: {error['ctx']['error']}".removeprefix(": ")
    if error["type"] != "extra_forbidden":
        return f"{path}: {error['msg'][:1].lower()}{error['msg'][1:]}{_found(loc, error['input'])}"
    near = difflib.get_close_matches(str(loc[-1]), _known_keys(loc[:-1]), n=1, cutoff=0.5)
    if not near:  # the same name in another section, first in one below the section itself
        elsewhere = [each.key for each in all_keys() if each.key.rpartition(".")[2] == loc[-1]]
        near = sorted(elsewhere, key=lambda key: (not key.startswith(f"{loc[0]}."), key.count(".")))[:1]
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

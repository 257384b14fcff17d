"""What the keys of a configuration are: their types, defaults and meanings, from the models themselves."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any

from pydantic import BaseModel

from ropd_cli.config.models import RopdConfig
from ropd_cli.errors import InputError


@dataclass(frozen=True)
class KeyDescription:
    """One key."""

    key: str
    """Dotted."""
    type: str
    """As it is written: ``integer``, ``one of paper, group``, …"""
    default: Any
    meaning: str
    limits: str
    """``at least 1``, …; "" where there is none."""


def describe(key: str) -> list[KeyDescription]:
    """Return the description of a key, or of all keys of a section. Raises InputError for one that is not known."""
    found = [each for each in all_keys() if each.key == key or each.key.startswith(f"{key}.")]
    if not found:
        names = [each.key for each in all_keys()]
        near = difflib.get_close_matches(key, [*names, *(name.rpartition(".")[0] for name in names)], n=1, cutoff=0.6)
        raise InputError(f"{key}: unknown key", f"did you mean {near[0]}?" if near else "ropd config explain lists all")
    return found


def all_keys(defaults: BaseModel | None = None, path: str = "") -> Iterator[KeyDescription]:
    """Yield every key, in the order of the configuration. ``defaults`` is the section to describe, with its default
    values (None: a whole configuration); a section has other defaults in one place than in another."""
    defaults = RopdConfig() if defaults is None else defaults
    for name, field in type(defaults).model_fields.items():
        key, default = f"{path}{name}", getattr(defaults, name)
        if isinstance(default, BaseModel):
            yield from all_keys(default, f"{key}.")
            continue
        limits = ", ".join(filter(None, map(_limit, field.metadata)))
        yield KeyDescription(key, type_words(field.annotation), default, field.description or "", limits)


def changed(tree: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that have other values than the defaults."""
    different: dict[str, Any] = {}
    for key, value in tree.items():
        default = defaults.get(key)
        if value == default and key in defaults:
            continue
        is_section = isinstance(value, dict) and isinstance(default, dict)
        different[key] = changed(value, default) if is_section else value  # type: ignore[arg-type]
    return different


def type_words(annotation: Any) -> str:
    """Return a type in words."""
    if annotation is NoneType:
        return "null"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_words(arguments[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is dict:
        return f"{type_words(arguments[1])} by name" if arguments else "a mapping"
    if origin in (list, tuple):
        inner = [each for each in arguments if each is not Ellipsis]
        return f"list of {type_words(inner[0])}" if inner else "list"
    if arguments:
        return " or ".join(type_words(each) for each in arguments)
    names = {str: "text", int: "integer", float: "number", bool: "true or false", dict: "mapping", Any: "anything"}
    return names.get(annotation, "section" if isinstance(annotation, type) else str(annotation))


def _limit(constraint: Any) -> str:
    signs = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    return ", ".join(
        f"{words} {value:g}"
        for sign, words in signs.items()
        if isinstance(value := getattr(constraint, sign, None), int | float)
    )

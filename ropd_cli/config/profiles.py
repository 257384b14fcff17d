"""Profiles: the paper's numbers and the reference implementation's, as shipped files below ``configs/profiles``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from ropd_cli.config.load import differing, profile_file, value_at
from ropd_cli.config.models import RopdConfig


class Difference(NamedTuple):
    """A key that two profiles set to different values; each pair is (of the first, of the second). ``why`` is "" where
    the profile leaves the key to what lies below it."""

    key: str
    values: tuple[Any, Any]
    why: tuple[str, str]


def differences(names: tuple[str, str], configs: tuple[RopdConfig, RopdConfig]) -> list[Difference]:
    """Return in what two configurations, each resolved with the profile of that name, differ, and the reasons that
    the profiles give."""
    a, b = (config.model_dump(mode="json") for config in configs)
    of_a, of_b = (_reasons(name) for name in names)
    return [
        Difference(key, (value_at(a, key), value_at(b, key)), (of_a.get(key, ""), of_b.get(key, "")))
        for key in differing(a, b)
    ]


def _reasons(name: str) -> dict[str, str]:
    """Return what a profile's file says of each key, in the comment at its end, by dotted key."""
    text = profile_file(name).read_text(encoding="utf-8")
    lines = text.splitlines()

    def walk(node: yaml.Node, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from walk(value, f"{path}.{key.value}" if path else key.value)
        else:
            rest = lines[node.end_mark.line][node.end_mark.column :]
            yield path, rest.partition("#")[2].strip()

    tree = yaml.compose(text, yaml.SafeLoader)
    return dict(walk(tree, "")) if tree is not None else {}

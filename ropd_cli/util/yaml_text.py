"""Reading YAML that somebody else may have written: a short text can stand for a tree without end."""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_CHARS = 1_000_000
"""Of a text, and of the tree that it stands for once its aliases are written out."""
MOST_LEVELS = 60


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-6 as a number (YAML 1.1 wants 1.0e-6 and would give a string)."""


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def load_yaml(text: str) -> Any:
    """Return what a YAML text holds. Raises YAMLError, also for one that is too large, written out, or too deep."""
    if len(text) > MOST_CHARS:
        raise yaml.YAMLError(f"more than {MOST_CHARS:,} characters")
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _chars(root, {}, 0) > MOST_CHARS:
            raise yaml.YAMLError("its aliases stand for too much")
        return loader.construct_document(root)
    except RecursionError as fault:
        raise yaml.YAMLError("nested too deeply") from fault
    except ValueError as fault:  # of a date or a number that is none
        raise yaml.YAMLError(str(fault)) from fault
    finally:
        loader.dispose()


def _chars(node: yaml.Node, known: dict[int, int], level: int) -> int:
    """Return how many characters a node stands for, each alias written out. Every node is counted once: ``known``."""
    if level > MOST_LEVELS:  # a node that holds itself gets here, too
        raise yaml.YAMLError("nested too deeply")
    if id(node) not in known:
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        is_scalar = isinstance(node, yaml.ScalarNode)
        count = len(node.value) if is_scalar else sum(_chars(part, known, level + 1) for part in parts)
        known[id(node)] = count + 1
    return known[id(node)]

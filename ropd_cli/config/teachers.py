"""``teachers`` of a configuration: further teachers by name, each a section laid over ``teacher``."""

from __future__ import annotations

from typing import Any

from ropd_cli.config.models import EndpointConfig, RopdConfig


def named_teacher(config: RopdConfig, name: str) -> EndpointConfig:
    """A teacher of ``teachers``. Raises KeyError for none, pydantic's ValidationError for one that is no endpoint."""
    return EndpointConfig.model_validate(laid_over(config.teacher.model_dump(), config.teachers[name]))


def laid_over(defaults: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """``tree`` laid over ``defaults``, section by section: a section given in part keeps its other defaults."""
    merged = dict(defaults)
    for key, value in tree.items():
        below = merged.get(key)
        merged[key] = laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged

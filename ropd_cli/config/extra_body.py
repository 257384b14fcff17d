"""``extra_body`` of an endpoint: what may be in it, and what the program sets itself."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "reasoning_effort": "reasoning_effort",
}
_ONE_REPLY = "one whole reply is read from a response"
_OURS = {
    "messages": "ropd writes it",
    "input": "ropd writes it",
    "model": "set `model` of the endpoint",
    "response_format": "set `structured_output` of the endpoint",
    "text.format": "set `structured_output` of the endpoint",
    "store": "ropd sets it",
    "prompt_cache_key": "set `prompt_cache_key: true` of the endpoint",
    "stream": _ONE_REPLY,
    "stream_options": _ONE_REPLY,
    "background": _ONE_REPLY,
    "n": _ONE_REPLY,
    **{name: f"set `sampling.{key}` of the endpoint" for name, key in _SAMPLING.items()},
}


def check_extra_body(extra: dict[str, Any]) -> dict[str, Any]:
    """The same. Raises pydantic's ValidationError with the path of every key that is the program's, and of every
    value that JSON can't hold."""
    faults = []
    for key, value in extra.items():
        names = [key, *(f"{key}.{below}" for below in value)] if isinstance(value, dict) else [key]
        for name in names:
            if name in _OURS:
                faults.append(_fault(name, f"can't be set here: {_OURS[name]}", value))
        try:
            orjson.dumps({key: value})
        except TypeError as fault:
            faults.append(_fault(str(key), f"no JSON: {fault}", value))
    if faults:
        raise ValidationError.from_exception_data("extra_body", faults)
    return extra


def _fault(name: str, why: str, value: Any) -> InitErrorDetails:
    kind = PydanticCustomError("extra_body", "{why}", {"why": why})
    return InitErrorDetails(type=kind, loc=tuple(name.split(".")), input=value)

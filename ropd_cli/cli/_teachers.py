"""The teachers that a command names, and what it prints of each at the end."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropd_cli.cli._stages import dollars, with_model
from ropd_cli.errors import InputError
from ropd_cli.util.counted import counted

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig

_AT = re.compile(r"@(?=(?:https?|builtin)://)")


def endpoints_of(config: RopdConfig, named: Sequence[str], model: str | None) -> list[EndpointConfig]:
    """Return the endpoints of ``--teacher`` options, their models filled in; without any, the section ``teacher``.

    Raises InputError where ``--model`` is given too, and for a name without a model.
    """
    if named and model is not None:
        raise InputError("--model and --teacher exclude each other", "name every teacher by --teacher")
    chosen = [_endpoint(config, name) for name in named] or [("teacher", config.teacher)]
    return [with_model(endpoint, section) for section, endpoint in chosen]


def _endpoint(config: RopdConfig, name: str) -> tuple[str, EndpointConfig]:
    """Return (section, endpoint) of a name of the configuration, of MODEL@URL, or of a model at the teacher's
    endpoint."""
    if name in config.teachers:
        endpoint = config.teachers[name]
        if not endpoint.model and not (endpoint.base_url or "").startswith("builtin://"):
            raise InputError(
                f"teachers.{name}: no model", f"set teachers.{name}.model (or teacher.model) in the configuration"
            )
        return f"teachers.{name}", endpoint
    model, *url = _AT.split(name, maxsplit=1)
    if not model.strip():
        raise InputError(
            f"--teacher {name!r}: no model", "MODEL, MODEL@URL, or a name of the configuration's `teachers`"
        )
    return "teacher", config.teacher.model_copy(update={"model": model} | ({"base_url": url[0]} if url else {}))


def text_or_file(option: str, value: str | None) -> str | None:
    """Return the text of an option, or of the file that ``@FILE`` names. Raises InputError where it can't be read."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return Path(os.path.expanduser(value[1:])).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        what = getattr(fault, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{option} {value}: {what}", "@FILE is a text file; give the text itself without @") from fault


def teacher_words(document: dict[str, Any]) -> str:
    """Return the counts of one teacher as a line."""
    named = (
        ("duplicates", "left out as the same"),
        ("truncated", "cut off"),
        ("empty", "without an answer"),
        ("wrong", "wrong"),
        ("undecided", "undecided"),
    )
    parts = [
        counted(document["answers"], "answer"),
        *(f"{document[key]} {what}" for key, what in named if document[key]),
    ]
    if document["requests_sent"]:
        parts.append(
            f"{counted(document['prompt_tokens'], 'prompt token')}, "
            f"{counted(document['completion_tokens'], 'reply token')}"
        )
    if document["cost_usd"]:
        parts.append(dollars(document["cost_usd"]))
    return f"{document['model']} at {document['endpoint']}: {', '.join(parts)}"

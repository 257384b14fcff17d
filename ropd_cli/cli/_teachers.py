"""The teachers that a command names, and what it says of each at the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropd_cli.cli._stages import dollars
from ropd_cli.errors import InputError

if TYPE_CHECKING:
    from ropd_cli.config import EndpointConfig, RopdConfig
    from ropd_cli.llm.chat import ClientStats
    from ropd_cli.stages.teacher import TeacherCount

_AT = re.compile(r"@(?=(?:https?|builtin)://)")


def endpoints_of(config: RopdConfig, named: Sequence[str], model: str | None) -> list[EndpointConfig]:
    """The endpoints of ``--teacher`` options, their models filled in; without any, the section ``teacher``.

    Raises InputError where ``--model`` is given too, and for a name without a model.
    """
    from ropd_cli.llm.urls import model_name

    if named and model is not None:
        raise InputError("--model and --teacher exclude each other", "name every teacher by --teacher")
    chosen = [_endpoint(config, name) for name in named] or [("teacher", config.teacher)]
    return [endpoint.model_copy(update={"model": model_name(endpoint, section)}) for section, endpoint in chosen]


def _endpoint(config: RopdConfig, name: str) -> tuple[str, EndpointConfig]:
    """(section, endpoint) of a name of the configuration, of MODEL@URL, or of a model at the teacher's endpoint."""
    from ropd_cli.config import named_teacher

    if name in config.teachers:
        endpoint = named_teacher(config, name)
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
    """The text of an option, or of the file that ``@FILE`` names. Raises InputError where that can't be read."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        what = getattr(fault, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{option} {value}: {what}", "@FILE is a text file; give the text itself without @") from fault


def one_of(option: str, value: str, known: Sequence[str]) -> str:
    """The value. Raises InputError where it is none of those that are known."""
    if value not in known:
        raise InputError(f"{option} {value!r}: not known", f"one of {', '.join(known)}")
    return value


def documents(counts: Sequence[TeacherCount], stats: Sequence[ClientStats]) -> list[dict[str, Any]]:
    """What came of each teacher, for ``--json``."""
    wanted = ("requests_sent", "cache_hits", "prompt_tokens", "completion_tokens", "cost_usd")
    return [
        count.as_dict() | {name: getattr(stat, name) for name in wanted}
        for count, stat in zip(counts, stats, strict=True)
    ]


def line(document: dict[str, Any]) -> str:
    """The same of one teacher, to be read."""
    named = (
        ("duplicates", "the same as another"),
        ("truncated", "cut off"),
        ("empty", "without an answer"),
        ("wrong", "wrong"),
        ("undecided", "undecided"),
    )
    parts = [f"{document['answers']} answers", *(f"{document[key]} {what}" for key, what in named if document[key])]
    if document["requests_sent"]:
        parts.append(f"{document['prompt_tokens']:,} + {document['completion_tokens']:,} tokens")
    if document["cost_usd"]:
        parts.append(dollars(document["cost_usd"]))
    return f"{document['model']} at {document['endpoint']}: {', '.join(parts)}"

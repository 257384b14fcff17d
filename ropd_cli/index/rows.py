"""The records of an index: sources, answers, and prompts with all their answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from ropd_cli.records.schemas import Answer


@dataclass(frozen=True)
class Source:
    """How answers were made: the model, where it was asked (a URL without secrets), with what sampling, and the hash
    of a system prompt of the teacher's own. ``fingerprint`` is the reference's ``teacher_fingerprint`` of imported
    rows, as it stood there."""

    model: str = ""
    endpoint: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    template: str | None = None
    fingerprint: dict[str, Any] | None = None

    def body(self) -> bytes:
        """Return its canonical JSON, by which equal sources stand once in an index."""
        fields = {name: value for name, value in vars(self).items() if value is not None}
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def of(cls, body: bytes) -> Source:
        """Return the source of a ``body``."""
        return cls(**orjson.loads(body))


@dataclass(frozen=True)
class Stored:
    """One answer as the index holds it, and where it came from. ``usable`` is false for an answer that was cut off:
    it is kept, and never used."""

    uid: str
    raw_prompt_hash: str
    answer: Answer
    source: Source
    usable: bool = True

    @property
    def model(self) -> str:
        return self.source.model

    @property
    def sampling(self) -> dict[str, Any]:
        return self.source.sampling

    def to_json(self) -> dict[str, Any]:
        """Return the answer as ``--json`` prints it (``StoredShown``)."""
        answer = {k: v for k, v in self.answer.model_dump(mode="json").items() if v is not None}
        head = {"uid": self.uid, "raw_prompt_hash": self.raw_prompt_hash, "usable": self.usable}
        return head | orjson.loads(self.source.body()) | answer


class StoredShown(Answer):
    """An answer of an index, with its source; what it lacks is left out."""

    uid: str
    raw_prompt_hash: str
    usable: bool
    """False for an answer that was cut off: it is kept, and not used."""
    template: str | None = None
    fingerprint: dict[str, Any] | None = None
    """The reference's ``teacher_fingerprint`` of imported rows, as it stood there."""


@dataclass(frozen=True)
class Row:
    """A prompt and all its answers, in the order they were added. ``prompt`` is the prompt as JSON holds it (a string
    or a list of messages), None where it is not known."""

    uid: str
    raw_prompt_hash: str
    prompt: Any
    answers: tuple[Stored, ...]
    left_out: int = 0
    """Answers of a file that held nothing, or thoughts alone."""


def rest_of(answer: Answer) -> bytes:
    """Return all of an answer but its text and its source, as JSON."""
    fields = answer.model_dump(mode="json", exclude={"text", "model", "endpoint", "sampling"})
    return orjson.dumps({name: value for name, value in fields.items() if value is not None})


def answer_of(text: str, rest: bytes) -> Answer:
    """Return the answer with this text and ``rest_of``."""
    return Answer.model_validate({"text": text, **orjson.loads(rest)})

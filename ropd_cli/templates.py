"""What the two judges read: the block they share (``block``), and the instructions after it.

Rubricator and verifier get the same system message and a user message that begins with the same bytes, the
block, so that an endpoint's prefix cache serves both.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import orjson

from ropd_cli.block import LAYOUT, Block, encoded
from ropd_cli.errors import InputError
from ropd_cli.resources import shipped
from ropd_cli.schemas import Message, Rubric, Written, digest

_PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}")
_REQUIRED: dict[str, frozenset[str]] = {
    "system": frozenset(),
    "rubricator": frozenset({"references"}),
    "verifier": frozenset({"rubric"}),
}
_OPTIONAL: dict[str, frozenset[str]] = {
    "system": frozenset(),  # the same bytes in both requests, so nothing is filled in
    "rubricator": frozenset({"tag", "answer_count"}),
    "verifier": frozenset({"tag", "answer_count", "criterion_count"}),
}


@dataclass(frozen=True)
class Templates:
    """The texts around the block. ``system`` is sent with both requests, the other two end the user message.

    Placeholders are written ``{{name}}``; everything else, single braces included, is sent as it stands.
    """

    system: str
    rubricator: str
    verifier: str

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Templates:
        """The shipped templates, with those of ``folder`` (system.md, rubricator.md, verifier.md) in their place.

        Raises InputError for a folder that is missing or holds none of them, and for a template that lacks
        a placeholder it needs or has one that nobody fills.
        """
        own = Path(folder) if folder is not None else None
        if own is not None and not any((own / f"{name}.md").is_file() for name in _REQUIRED):
            raise InputError(
                f"judge.templates: no templates in {own}",
                "put system.md, rubricator.md or verifier.md there; the shipped ones stand in for those you leave out",
            )
        texts = {}
        for name in _REQUIRED:
            file = shipped("prompts") / f"{name}.md"
            if own is not None and (own / f"{name}.md").is_file():
                file = own / f"{name}.md"
            texts[name] = _read_template(name, file)
        return cls(**texts)

    @cached_property
    def rubricator_hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all the text that makes a rubricator request."""
        return digest([LAYOUT, self.system, self.rubricator])[:16]

    @cached_property
    def verifier_hash(self) -> str:
        """As ``rubricator_hash``, of a verifier request."""
        return digest([LAYOUT, self.system, self.verifier])[:16]

    @property
    def hashes(self) -> dict[str, str]:
        """Template hash of each request, as a run directory's ``prompts.lock`` keeps them."""
        return {"rubricator": self.rubricator_hash, "verifier": self.verifier_hash}

    def rubricator_messages(self, block: Block) -> tuple[Message, ...]:
        """The request for a rubric: the block, then the instructions, which say whose answers are references."""
        numbers = ", ".join(str(k) for k in block.references)
        values = {"references": f"<references-{block.tag}>{numbers}</references-{block.tag}>"}
        return self._messages(block, self.rubricator, values)

    def verifier_messages(self, block: Block, rubric: Rubric) -> tuple[Message, ...]:
        """The request for verdicts: the same block, then the instructions with the rubric."""
        values = {
            "rubric": f"<rubric-{block.tag}>{_rubric_json(rubric, block.tag)}</rubric-{block.tag}>",
            "criterion_count": str(len(rubric.rubrics)),
        }
        return self._messages(block, self.verifier, values)

    def written(self, block: Block, messages: tuple[Message, ...]) -> Written:
        """``messages``, which were made from ``block`` here, as JSON and their hash. The block, the long part of
        both requests of a group, is encoded and hashed once."""
        tail = messages[-1].content[len(block.text) :]
        hashed = hashlib.sha256(f"{len(self.system)} {self.system}{block.hash}".encode())
        hashed.update(tail.encode())
        system = (b'{"content":', orjson.dumps(self.system), b',"role":"system"},') if self.system else ()
        user = (b'{"content":"', block.json, orjson.dumps(tail)[1:-1], b'","role":"user"}')
        return Written(hashed.hexdigest(), b"".join((b"[", *system, *user, b"]")))

    def _messages(self, block: Block, tail: str, values: dict[str, str]) -> tuple[Message, ...]:
        values |= {"tag": block.tag, "answer_count": str(len(block.answers))}
        user = Message(role="user", content=f"{block.text}\n\n{fill(tail, values)}")
        return (Message(role="system", content=self.system), user) if self.system else (user,)


def fill(template: str, values: dict[str, str]) -> str:
    """Put the values in the place of ``{{name}}``, in one pass: what a value holds is never looked into."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), template)


def _read_template(name: str, file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as fault:
        raise InputError(f"{file}: not UTF-8 text", "save the template as UTF-8") from fault
    except OSError as fault:
        raise InputError(f"{file}: {fault.strerror}", "check the template's path and rights") from fault
    found = set(_PLACEHOLDER.findall(text))
    known = _REQUIRED[name] | _OPTIONAL[name]
    for placeholder in sorted(found - known):
        near = difflib.get_close_matches(placeholder, known, n=1)
        can = ", ".join(f"{{{{{each}}}}}" for each in sorted(known)) or "none"
        raise InputError(
            f"{file}: unknown placeholder {{{{{placeholder}}}}}"
            + (f", did you mean {{{{{near[0]}}}}}?" if near else ""),
            f"placeholders of {name}.md: {can}",
        )
    for placeholder in sorted(_REQUIRED[name] - found):
        raise InputError(
            f"{file}: placeholder {{{{{placeholder}}}}} is missing", f"write {{{{{placeholder}}}}} where it belongs"
        )
    if not text and name != "system":
        raise InputError(f"{file}: empty template", "delete the file to use the shipped one")
    return text


def _rubric_json(rubric: Rubric, tag: str) -> str:
    """The rubric in the reference's format, on one line. Its text was written by a model that has seen the
    tag, so where the tag stands in it every "<" is escaped: no rubric can close or open one either."""
    text, _ = encoded(json.dumps(rubric.model_dump(mode="json"), ensure_ascii=False))
    return text.replace("<", "\\u003c") if tag in text else text

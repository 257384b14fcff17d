"""Make the texts that the judges read: instructions from template files, and a group's block between or before them.

In the form ``shared-prefix`` both requests have the same system message and a user message that begins with the same
bytes, the block, so that an endpoint's prefix cache serves both; the instructions follow it. In the forms
``group`` and ``paper`` the templates say themselves where question, answers and rubric stand. A request for scores is
laid out as in ``shared-prefix`` in every form.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, get_args

import orjson

from ropd_cli.config import JudgeConfig
from ropd_cli.errors import InputError
from ropd_cli.method.block import LAYOUT, Block, encoded
from ropd_cli.method.layouts import Layout
from ropd_cli.records.schemas import Message, Rubric, Written, digest
from ropd_cli.util.resources import shipped

Form = Literal["shared-prefix", "group", "paper"]
NAMES = ("system", "rubricator", "verifier", "score", "repair")
_MARK = re.compile(r"\{\{([#^/]?)([a-z_]+)\}\}")
_SECTION = re.compile(r"\{\{([#^])([a-z_]+)\}\}(\n?)(.*?)\{\{/\2\}\}(\n?)", re.DOTALL)
_LAID_OUT = {"question", "answers"}
"""Placeholders of the forms that have no block before the template."""
_OPTIONAL: dict[str, set[str]] = {
    "system": set(),  # the same bytes in both requests, so nothing is filled in
    "rubricator": {"tag", "answer_count", "instructions"},
    "verifier": {"tag", "answer_count", "criterion_count", "instructions", "references", "students", "judged"}
    | {"judged_count"},
    "score": {"tag", "several", "references", "instructions", "first", "top", "high", "middle", "low"},
    "repair": {"score"},
    "lint": set(),
}


@dataclass(frozen=True)
class Templates:
    """The texts around a group's block, in one form. ``system`` is sent with both requests.

    Placeholders are written ``{{name}}``; ``{{#name}}…{{/name}}`` stands only where the value is not empty,
    ``{{^name}}…{{/name}}`` only where it is. Everything else, single braces included, is sent as it stands.
    """

    system: str
    rubricator: str
    verifier: str
    repair: str = ""
    score: str = ""
    form: Form = "shared-prefix"
    is_blind: bool = True
    rubricator_instructions: str = ""
    verifier_instructions: str = ""

    @classmethod
    def load(cls, settings: JudgeConfig | None = None) -> Templates:
        """The shipped templates of a form and language, with those of the folder ``settings.templates`` (system.md,
        rubricator.md, verifier.md, score.md, repair.md) in their place.

        Raises InputError for a folder that is missing or holds none of them, and for a template that lacks
        a placeholder it needs or has one that nobody fills.
        """
        settings = settings or JudgeConfig()
        own = Path(settings.templates) if settings.templates is not None else None
        if own is not None:
            _check_places(own)
        texts = {}
        for name in NAMES:
            file = shipped("prompts") / settings.language / _place(name, settings)
            if own is not None:
                file = next((each for each in _own_files(own, name, settings) if each.is_file()), file)
            texts[name] = read_template(name, file, _needed(name, settings))
        return cls(
            **texts,
            form=settings.form,
            is_blind=settings.blind,
            rubricator_instructions=settings.rubricator_instructions or "",
            verifier_instructions=settings.verifier_instructions or "",
        )

    @cached_property
    def rubricator_hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all the text that makes a rubricator request."""
        return self._hash(self.rubricator, self.rubricator_instructions)

    @cached_property
    def verifier_hash(self) -> str:
        """As ``rubricator_hash``, of a verifier request."""
        return self._hash(self.verifier, self.verifier_instructions)

    def score_hash(self, top: int) -> str:
        """As ``rubricator_hash``, of a request for scores from 0 to ``top``."""
        return self._hash(self.score, f"{top} {self.verifier_instructions}")

    @property
    def hashes(self) -> dict[str, str]:
        """Template hash of each request, as a run directory's ``prompts.lock`` keeps them."""
        return {"rubricator": self.rubricator_hash, "verifier": self.verifier_hash, "repair": self.repair_hash}

    def rubricator_messages(self, block: Block) -> tuple[Message, ...]:
        """The request for a rubric, which says whose answers are references."""
        values = {"references": _tagged("references", _listed(block.references), block)}
        return self._messages(block, self.rubricator, values | {"instructions": self.rubricator_instructions})

    @cached_property
    def repair_hash(self) -> str:
        """As ``rubricator_hash``, of the request to write a rubric again."""
        return digest([self.rubricator_hash, self.repair])[:16]

    def repair_messages(
        self, block: Block, request: tuple[Message, ...], rubric: Rubric, findings: str, score: float
    ) -> tuple[Message, ...]:
        """The request for a rubric of a block, the rubric that came, and what is wrong with it."""
        if block.tag in findings:  # they quote models that have seen the tag: no finding can close or open one
            findings = findings.replace("<", "‹")
        order = fill(self.repair, {"findings": findings, "score": f"{score:.2f}"})
        before = Message(role="assistant", content=_rubric_json(rubric, block.tag))
        return (*request, before, Message(role="user", content=order))

    def verifier_messages(self, layout: Layout, rubric: Rubric) -> tuple[Message, ...]:
        """The request for verdicts. Whose answers are whose is told only where ``is_blind`` is False."""
        block = layout.block
        judged = _tagged("judged", _listed(layout.judged), block) if layout.is_part else ""
        values = {
            "rubric": _tagged("rubric", _rubric_json(rubric, block.tag), block),
            "criterion_count": str(len(rubric.rubrics)),
            "judged": judged,
            "judged_count": str(len(layout.judged)),
            "references": "" if self.is_blind else _tagged("references", _listed(block.references), block),
            "students": "" if self.is_blind else _tagged("students", _listed(block.rollouts), block),
        }
        return self._messages(block, self.verifier, values | {"instructions": self.verifier_instructions})

    def score_messages(self, layout: Layout, top: int) -> tuple[Message, ...]:
        """The request for one score, 0 to ``top``, of each answer that is judged. It says which of the others are
        references."""
        block, judged = layout.block, layout.judged
        marks = {"top": top, "high": round(0.8 * top), "middle": round(0.5 * top), "low": round(0.2 * top)}
        values = {
            "scale": _tagged("scale", f"0-{top}", block),
            "judged": _tagged("judged", _listed(judged), block),
            "several": str(len(judged)) if len(judged) > 1 else "",
            "references": _tagged("references", _listed(block.references), block),
            "first": str(judged[0]),
            **{name: str(mark) for name, mark in marks.items()},
        }
        values |= {"tag": block.tag, "instructions": self.verifier_instructions}
        return self._sent(f"{block.text}\n\n{fill(self.score, values)}")

    def written(self, block: Block, messages: tuple[Message, ...]) -> Written | None:
        """``messages``, which were made from ``block`` here, as JSON and their hash; None in the forms whose requests
        do not begin with the block."""
        # The block is the long part of both requests of a group: it is encoded and hashed once. The hash is part of the
        # cache key, so another way of making it would lose every reply that is kept.
        if self.form != "shared-prefix":
            return None
        tail = messages[-1].content[len(block.text) :]
        hashed = hashlib.sha256(f"{len(self.system)} {self.system}{block.hash}".encode())
        hashed.update(tail.encode())
        system = (b'{"content":', orjson.dumps(self.system), b',"role":"system"},') if self.system else ()
        user = (b'{"content":"', block.json, orjson.dumps(tail)[1:-1], b'","role":"user"}')
        return Written(hashed.hexdigest(), b"".join((b"[", *system, *user, b"]")))

    def _messages(self, block: Block, template: str, values: dict[str, str]) -> tuple[Message, ...]:
        values |= {"tag": block.tag, "answer_count": str(len(block.answers))}
        if self.form == "shared-prefix":
            text = f"{block.text}\n\n{fill(template, values)}"
        else:
            text = fill(template, values | {"question": block.question_text, "answers": block.answers_text})
        return self._sent(text)

    def _sent(self, text: str) -> tuple[Message, ...]:
        user = Message(role="user", content=text)
        return (Message(role="system", content=self.system), user) if self.system else (user,)

    def _hash(self, template: str, instructions: str) -> str:
        return digest([LAYOUT, self.system, template, *([instructions] if instructions else [])])[:16]


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put the values in the place of ``{{name}}`` and decide the sections; what a value holds is never looked into."""
    kept = _decided(template, frozenset(name for name, value in values.items() if value))
    return _MARK.sub(lambda match: match[0] if match[1] else values.get(match[2], match[0]), kept)


@lru_cache(maxsize=64)
def _decided(template: str, present: frozenset[str]) -> str:
    """A template with the sections that stand, without the lines of their marks."""

    def section(match: re.Match[str]) -> str:
        kind, name, own_line, inside, line_end = match.groups()
        stands = (name in present) == (kind == "#")
        return (inside if stands else "") + ("" if own_line else line_end)

    kept = _SECTION.sub(section, template)
    return kept if kept == template else re.sub(r"\n{3,}", "\n\n", kept)  # a section that is gone leaves empty lines


def _place(name: str, settings: JudgeConfig) -> str:
    """Where a template lies in the folder of a language."""
    if name not in ("rubricator", "verifier"):
        return f"{name}.md"
    form = "group" if (settings.form, name) == ("paper", "rubricator") else settings.form
    return f"{form}/{name}.md"


def _check_places(own: Path) -> None:
    """Raise InputError for a folder of the user's without templates, or with one that nothing would read."""
    places = {f"{name}.md" for name in _OPTIONAL}
    places |= {_place(name, JudgeConfig(form=form)) for form in get_args(Form) for name in NAMES}
    found = {file.relative_to(own).as_posix() for file in own.rglob("*.md")} - {"README.md"}
    if unread := sorted(found - places):
        raise InputError(
            f"judge.templates: {own / unread[0]} would not be read", f"templates are {', '.join(sorted(places))}"
        )
    if not found:
        raise InputError(
            f"judge.templates: no {'templates in' if own.is_dir() else 'folder'} {own}",
            f"put {', '.join(f'{name}.md' for name in _OPTIONAL)} or some of them there; the shipped ones stand in for "
            "those you leave out",
        )


def _own_files(own: Path, name: str, settings: JudgeConfig) -> tuple[Path, Path]:
    """Where a template of the user's may lie: in the folder itself, or as in a copy of the shipped folder."""
    return own / f"{name}.md", own / _place(name, settings)


def _needed(name: str, settings: JudgeConfig) -> dict[str, str]:
    """Placeholders that a template can't do without, and why."""
    if name == "system":
        return {}
    if name == "repair":
        return {"findings": ""}
    names = {"rubricator": ("references",), "verifier": ("rubric",), "score": ("judged", "scale")}[name]
    needed = dict.fromkeys(names, "")
    if settings.form != "shared-prefix" and name != "score":
        needed |= dict.fromkeys(sorted(_LAID_OUT), f"judge.form is {settings.form}")
    instructions = "rubricator_instructions" if name == "rubricator" else "verifier_instructions"
    if getattr(settings, instructions):
        needed["instructions"] = f"judge.{instructions} is set"
    if name == "verifier" and not settings.blind:
        needed["references"] = "judge.blind is false"
    if name == "verifier" and settings.form == "shared-prefix" and settings.chunk_size is not None:
        needed["judged"] = "judge.chunk_size is set"
    return needed


def read_template(name: str, file: Path, needed: Mapping[str, str]) -> str:
    """Return the text of a template. Raises InputError for one that can't be read, lacks a placeholder that is
    ``needed`` (name: why), or has one that nobody fills."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as fault:
        raise InputError(f"{file}: not UTF-8 text", "save the template as UTF-8") from fault
    except OSError as fault:
        raise InputError(f"{file}: {fault.strerror}", "check the template's path and rights") from fault
    used = {match[2] for match in _MARK.finditer(text)}
    known = needed.keys() | _OPTIONAL[name]
    for placeholder in sorted(used - known):
        near = difflib.get_close_matches(placeholder, known, n=1)
        can = ", ".join(f"{{{{{each}}}}}" for each in sorted(known)) or "none"
        raise InputError(
            f"{file}: unknown placeholder {{{{{placeholder}}}}}"
            + (f", did you mean {{{{{near[0]}}}}}?" if near else ""),
            f"placeholders of {name}.md: {can}",
        )
    for placeholder in sorted(needed.keys() - used):
        why = f" ({needed[placeholder]})" if needed[placeholder] else ""
        raise InputError(
            f"{file}: placeholder {{{{{placeholder}}}}} is missing{why}",
            f"write {{{{{placeholder}}}}} where it belongs",
        )
    _check_sections(text, file)
    if not text and name != "system":
        raise InputError(f"{file}: empty template", "delete the file to use the shipped one")
    return text


def _check_sections(text: str, file: Path) -> None:
    """Raise InputError for a section that is not closed, or stands in another."""
    open_section: str | None = None
    for match in _MARK.finditer(text):
        kind, name = match.groups()
        if (kind in ("#", "^") and open_section is not None) or (kind == "/" and name != open_section):
            raise InputError(
                f"{file}: {match[0]} stands where {{{{/{open_section}}}}} was expected"
                if open_section
                else f"{file}: {match[0]} closes a section that is not open",
                "a section is {{#name}}…{{/name}} or {{^name}}…{{/name}}, and holds no other",
            )
        open_section = {"#": name, "^": name, "/": None}.get(kind, open_section)
    if open_section is not None:
        raise InputError(f"{file}: {{{{/{open_section}}}}} is missing", "close the section where it ends")


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(str(k) for k in numbers)


def _tagged(name: str, value: str, block: Block) -> str:
    """A value between tags of the group; nothing where there is none."""
    return f"<{name}-{block.tag}>{value}</{name}-{block.tag}>" if value else ""


def _rubric_json(rubric: Rubric, tag: str) -> str:
    """The rubric in the reference's format, on one line. Its text was written by a model that has seen the
    tag, so where the tag stands in it every "<" is escaped: no rubric can close or open one either."""
    text, _ = encoded(json.dumps(rubric.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":")))
    return text.replace("<", "\\u003c") if tag in text else text

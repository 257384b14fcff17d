"""What the two judges read: the block they share, and the instructions after it.

Rubricator and verifier get the same system message and a user message that begins with the same bytes,
the *block* (so an endpoint's prefix cache serves both)::

    <question-TAG>
    the prompt; "[role]" lines between the messages where it is more than one user message
    </question-TAG>

    <answer-TAG index="1">exact text</answer-TAG>
    <answer-TAG index="2">exact text</answer-TAG>

TAG is drawn from the whole block's content, so no answer can know it and none can open or close a tag.
The order of the answers is drawn from their texts too: whose text it is plays no part in it. Lone
surrogates, which UTF-8 can't carry, become U+FFFD; every other character is sent as it is.
"""

from __future__ import annotations

import difflib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ropd_cli.errors import InputError
from ropd_cli.resources import shipped
from ropd_cli.schemas import Group, Message, Rubric, digest
from ropd_cli.thinking import split_thinking

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
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
_LAYOUT = "ropd.block.v1"  # part of every template hash: a new layout of the block asks something new


@dataclass(frozen=True)
class ShownAnswer:
    """One answer as the judge sees it, and whose it is (which the judge is not told)."""

    source: Literal["student", "teacher"]
    index: int
    """From 0, among the answers of its source."""
    text: str


@dataclass(frozen=True)
class Block:
    """Prompt and answers of one group as both judges read them."""

    tag: str
    question: str
    answers: tuple[ShownAnswer, ...]
    """In shown order; answer k of the judge's reply is ``answers[k - 1]``."""
    text: str

    @property
    def references(self) -> tuple[int, ...]:
        """Shown numbers, from 1, of the teacher's answers."""
        return tuple(k for k, answer in enumerate(self.answers, start=1) if answer.source == "teacher")

    @property
    def has_students(self) -> bool:
        """Whether any rollout is to be judged."""
        return any(answer.source == "student" for answer in self.answers)


def build_block(group: Group) -> Block:
    """The shared block of a group: its prompt and every answer of teacher and student.

    Only what follows an answer's thinking is shown; a reply without an answer is left out.
    """
    messages = [_on_wire(message.model_dump(mode="json")) for message in group.prompt]
    shown = shown_order(
        messages,
        _answers("teacher", group.teacher_answers) + _answers("student", [r.text for r in group.rollouts]),
    )
    texts = [answer.text for answer in shown]
    tag = group_tag([messages, texts])
    question = render_question(messages)
    lines = [f"<question-{tag}>\n{question}\n</question-{tag}>\n"]
    lines += [f'<answer-{tag} index="{k}">{text}</answer-{tag}>' for k, text in enumerate(texts, start=1)]
    return Block(tag=tag, question=question, answers=shown, text="\n".join(lines))


def shown_order(messages: list[dict[str, Any]], answers: Sequence[ShownAnswer]) -> tuple[ShownAnswer, ...]:
    """Shuffle by content: the same prompt and texts always come in the same order, whoever wrote them."""
    ordered = sorted(answers, key=lambda answer: (answer.text, answer.source, answer.index))
    seed = int(digest([messages, [answer.text for answer in ordered]]), 16)
    random.Random(seed).shuffle(ordered)
    return tuple(ordered)


def group_tag(content: list[Any], digits: int = 16) -> str:
    """First ``digits`` hex digits of the SHA-256 of ``content``'s canonical JSON.

    A text that holds its own tag would be a fixed point of the hash; should there be one, a counter is
    hashed along until the tag stands nowhere in the content.
    """
    everything = json.dumps(content, ensure_ascii=False)
    tag, salt = digest(content)[:digits], 0
    while tag in everything:
        salt += 1
        tag = digest([*content, salt])[:digits]
    return tag


def render_question(messages: list[dict[str, Any]]) -> str:
    """A prompt as text: a lone user message is its content, several stand under a line with their role."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return _content(messages[0]["content"])
    return "\n\n".join(f"[{message['role']}]\n{_content(message['content'])}" for message in messages)


def read_block(text: str) -> tuple[str, list[str]]:
    """(question, answers in shown order) of a message that begins with a block: what a reader of the
    format gets back. Raises ValueError where the text does not begin with one."""
    opening = re.match(r"<question-([0-9a-f]{16})>\n", text)
    if opening is None:
        raise ValueError("no block at the start of the text")
    tag = opening[1]
    question, closed, rest = text[opening.end() :].partition(f"\n</question-{tag}>")
    if not closed:
        raise ValueError("the question is not closed")
    answers: list[str] = []
    for number, answer in re.findall(rf'<answer-{tag} index="(\d+)">(.*?)</answer-{tag}>', rest, re.DOTALL):
        if int(number) != len(answers) + 1:
            raise ValueError(f"answer {number} stands where {len(answers) + 1} was expected")
        answers.append(answer)
    return question, answers


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

    @property
    def rubricator_hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all the text that makes a rubricator request."""
        return digest([_LAYOUT, self.system, self.rubricator])[:16]

    @property
    def verifier_hash(self) -> str:
        """As ``rubricator_hash``, of a verifier request."""
        return digest([_LAYOUT, self.system, self.verifier])[:16]

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
    text = _no_surrogates(json.dumps(rubric.model_dump(mode="json"), ensure_ascii=False))
    return text.replace("<", "\\u003c") if tag in text else text


def _answers(source: Literal["student", "teacher"], texts: Sequence[str]) -> list[ShownAnswer]:
    visible = ((index, split_thinking(text)[1]) for index, text in enumerate(texts))
    return [ShownAnswer(source, index, _no_surrogates(text)) for index, text in visible if text is not None]


def _content(content: Any) -> str:
    """Text of a message; of several parts the text parts, and any other part as JSON."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        return json.dumps(content, ensure_ascii=False)
    is_text = [isinstance(part, dict) and isinstance(part.get("text"), str) for part in content]
    return "\n".join(
        part["text"] if text else json.dumps(part, ensure_ascii=False)
        for part, text in zip(content, is_text, strict=True)
    )


def _no_surrogates(text: str) -> str:
    return _LONE_SURROGATE.sub("\ufffd", text)


def _on_wire(value: Any) -> Any:
    """A JSON value whose every text is valid in UTF-8."""
    if isinstance(value, str):
        return _no_surrogates(value)
    if isinstance(value, list):
        return [_on_wire(item) for item in value]
    if isinstance(value, dict):
        return {key: _on_wire(item) for key, item in value.items()}
    return value

"""Lay out a group as the judges read it: its prompt and the answers to it, each between tags that nobody can know::

    <question-TAG>
    the prompt; "[role]" lines between the messages where it is more than one user message
    </question-TAG>

    <answer-TAG index="1">exact text</answer-TAG>
    <answer-TAG index="2">exact text</answer-TAG>

TAG is drawn from the whole block's content, so no answer can know it and none can open or close a tag.
The order of the answers is blind: drawn from their texts too, whose text it is plays no part in it. Lone
surrogates, which UTF-8 can't carry, become U+FFFD; every other character is sent as it is.

A group has one block of all its answers (``build_block``). A request that shows fewer of them, or shows them in
another order, has a block of its own made from that one (``Block.of``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from operator import contains
from typing import Any, Literal, NamedTuple

import orjson

from ropd_cli.answers.thinking import answer_of
from ropd_cli.method.blind_order import blind_order
from ropd_cli.records.schemas import Group
from ropd_cli.util.tokens import cut_middle, estimate_tokens

LAYOUT = "ropd.block.v2"
"""Part of every template hash: a new layout of the block asks something new."""
Source = Literal["student", "teacher"]
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_OPENING = re.compile(r"<question-([0-9a-f]{16})>\n")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShownAnswer:
    """One answer as the judge sees it, and whose it is (which the judge is not told)."""

    source: Source
    index: int
    """From 0, among the answers of its source."""
    text: str
    cut: bool = False
    """Its middle is left out."""


@dataclass(frozen=True)
class Block:
    """The prompt and the answers of one group, or some of them, as a judge reads them."""

    tag: str
    question: str
    answers: tuple[ShownAnswer, ...]
    """In shown order; answer k of the judge's reply is ``answers[k - 1]``."""
    text: str
    hash: str
    """Hex SHA-256 that stands for ``text``."""
    hashes: tuple[bytes, ...] = field(repr=False)
    """SHA-256 of each answer's text; the texts in UTF-8 would double what a group takes while it is judged."""

    @cached_property
    def json(self) -> bytes:
        """``text`` inside a JSON string, without the quotes."""
        return orjson.dumps(self.text)[1:-1]

    @property
    def question_text(self) -> str:
        """The question between its tags: how ``text`` begins."""
        return f"<question-{self.tag}>\n{self.question}\n</question-{self.tag}>"

    @property
    def answers_text(self) -> str:
        """The answers between their tags: how ``text`` ends."""
        return self.text[len(self.question_text) :].strip("\n") if self.answers else ""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Shown numbers of all answers, from 1."""
        return tuple(range(1, len(self.answers) + 1))

    @property
    def references(self) -> tuple[int, ...]:
        """Shown numbers, from 1, of the teacher's answers."""
        return tuple(k for k, answer in enumerate(self.answers, start=1) if answer.source == "teacher")

    @property
    def rollouts(self) -> tuple[int, ...]:
        """Shown numbers, from 1, of the student's answers."""
        return tuple(k for k, answer in enumerate(self.answers, start=1) if answer.source == "student")

    @property
    def has_students(self) -> bool:
        """Whether any rollout is to be judged."""
        return any(answer.source == "student" for answer in self.answers)

    @property
    def cut(self) -> tuple[str, ...]:
        """The answers without their middle, as "student 0"."""
        return tuple(sorted(f"{answer.source} {answer.index}" for answer in self.answers if answer.cut))

    @property
    def places(self) -> str:
        """Whose answer stands where, as "s0 t1 s2"."""
        return " ".join(f"{answer.source[0]}{answer.index}" for answer in self.answers)

    def of(self, numbers: Sequence[int]) -> Block:
        """The block of these answers (shown numbers) in this order, with a tag of its own."""
        if tuple(numbers) == self.numbers:
            return self
        shown = [(self.answers[k - 1], self.hashes[k - 1]) for k in numbers]
        chosen = [_Encoded(answer, answer.text.encode(), digest) for answer, digest in shown]
        return _block(self.question, self.question.encode(), chosen)


def build_block(group: Group, max_answer_tokens: int | None = None) -> Block:
    """The block of a group: its prompt and every answer of teacher and student, in blind order (step 4 of the method).

    Only what follows an answer's thinking is shown; a reply without an answer is left out. An answer of
    more than ``max_answer_tokens`` (by estimate) is shown without its middle, and that is logged.
    """
    question, question_data = encoded(render_question([m.model_dump(mode="json") for m in group.prompt]))
    texts: list[tuple[Source, int, str]] = [("teacher", k, text) for k, text in enumerate(group.teacher_answers)]
    texts += [("student", k, rollout.text) for k, rollout in enumerate(group.rollouts)]
    answers: list[_Encoded] = []
    for source, index, whole in texts:
        visible = answer_of(whole)
        if visible is not None:
            answers.append(_shown(group.uid, source, index, *encoded(visible), max_answer_tokens))
    return _block(question, question_data, blind_order(hashlib.sha256(question_data).digest(), answers))


class _Encoded(NamedTuple):
    """An answer that is shown, its text in UTF-8, and the hash of that."""

    answer: ShownAnswer
    data: bytes
    hash: bytes


def _block(question: str, question_data: bytes, ordered: Sequence[_Encoded]) -> Block:
    answers = tuple([each.answer for each in ordered])
    own = tuple([each.hash for each in ordered])
    hashes = [hashlib.sha256(question_data).digest(), *own]
    tag = group_tag([question_data, *(each.data for each in ordered)], hashes)
    parts = [f"<question-{tag}>\n", question, f"\n</question-{tag}>\n"]
    for k, answer in enumerate(answers, start=1):  # pieces, so that long texts are copied once
        parts += (f'\n<answer-{tag} index="{k}">', answer.text, f"</answer-{tag}>")
    whole = hashlib.sha256(b"".join([LAYOUT.encode(), tag.encode(), *hashes])).hexdigest()
    return Block(tag=tag, question=question, answers=answers, text="".join(parts), hash=whole, hashes=own)


def group_tag(texts: Sequence[bytes], hashes: Sequence[bytes] | None = None, digits: int = 16) -> str:
    """First ``digits`` hex digits of the SHA-256 of the hashes of texts in UTF-8, which are made where not given."""
    start = b"".join(hashes if hashes is not None else [hashlib.sha256(text).digest() for text in texts])
    tag, salt = hashlib.sha256(start).hexdigest()[:digits], 0
    # A text that holds its own tag would be a fixed point of the hash; should there be one, a counter is hashed along
    # until the tag stands nowhere in the texts.
    while any(map(contains, texts, repeat(tag.encode()))):
        salt += 1
        tag = hashlib.sha256(start + salt.to_bytes(8, "big")).hexdigest()[:digits]
    return tag


def render_question(messages: list[dict[str, Any]]) -> str:
    """A prompt as text: a lone user message is its content, several stand under a line with their role."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return _content(messages[0]["content"])
    return "\n\n".join(f"[{message['role']}]\n{_content(message['content'])}" for message in messages)


def read_block(text: str) -> tuple[str, list[str]]:
    """(question, answers in shown order) of a message that holds a block, at its start or further on: what a reader
    of the format gets back. Raises ValueError where the text holds none."""
    opening = _OPENING.search(text)
    if opening is None:
        raise ValueError("no block in the text")
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


def encoded(text: str) -> tuple[str, bytes]:
    """A text with every lone surrogate replaced, and its UTF-8."""
    try:
        return text, text.encode()
    except UnicodeEncodeError:
        clean = _LONE_SURROGATE.sub("\ufffd", text)
        return clean, clean.encode()


def _shown(uid: str, source: Source, index: int, text: str, data: bytes, max_tokens: int | None) -> _Encoded:
    """An answer as it is shown."""
    shorter = cut_middle(data, max_tokens) if max_tokens is not None else None
    if shorter is not None:
        tokens = estimate_tokens(data)
        log.warning(
            "uid %s: %s answer %d has about %d tokens; its middle is left out, %d are shown (judge.max_answer_tokens)",
            *(uid, source, index, tokens, max_tokens),
        )
        text, data = shorter, shorter.encode()
    return _Encoded(ShownAnswer(source, index, text, shorter is not None), data, hashlib.sha256(data).digest())


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

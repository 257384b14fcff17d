"""Answers that were made elsewhere: rows of any columns as records of answers, matched to prompts by their text.

    rows -> columns (named or guessed over all rows) -> prompt and responses of each row -> records

Each row is an answer, or several, to one prompt; rows of one prompt are joined where the records are used.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ropd_cli.datasets.columns import GUESSES, Chosen, ColumnReader
from ropd_cli.datasets.local_files import Row
from ropd_cli.errors import InputError
from ropd_cli.index import IndexWriter, TeacherIndex
from ropd_cli.records.fields import is_missing
from ropd_cli.records.schemas import Answer, AnswerRecord, Message, Prompt, digest, load_prompts, prompt_hash

RESPONSES = (
    "response", "responses", "generation", "generations", "completion", "completions", "output", "outputs",
    "model_output", "teacher_answers", "chosen", "answers", "answer", "solution",
)  # fmt: skip
MODELS = ("model", "model_name", "generation_model", "generation_models", "teacher", "source_model")
ENDINGS = ("finish_reason", "stop_reason")
SHOWN = 3
_LOOKED_AT = 100
"""Rows that are looked at for whether their chats end with a reply."""


def text_key(prompt: str | Iterable[Message]) -> str:
    """Return what prompts of the same text have in common: a bare text and one user message are the same prompt, and
    blanks around a message play no part."""
    if isinstance(prompt, str):
        return digest([["user", prompt.strip()]])
    return digest([[m.role, m.content.strip() if isinstance(m.content, str) else m.content] for m in prompt])


def prompts_by_text(file: Path) -> dict[str, list[Prompt]]:
    """Return the prompts of a file by ``text_key``. Raises InputError where prompts of one text have other answers."""
    known: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in load_prompts(file):
        known[text_key(prompt.prompt)].append(prompt)
    differing = [some for some in known.values() if len({prompt.answer for prompt in some}) > 1]
    if differing:
        uids = "; ".join(", ".join(prompt.uid for prompt in some) for some in differing[:SHOWN])
        raise InputError(
            f"{file}: {len(differing)} texts stand there with different answers: uids {uids}",
            "leave one prompt of each in the file",
        )
    return known


def same_text(index: TeacherIndex, prompts: Iterable[Prompt]) -> list[tuple[Prompt, int]]:
    """Return those of the prompts whose text an index has under another hash, each with the number of its prompt
    there."""
    wanted: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        wanted[text_key(prompt.prompt)].append(prompt)
    found = []
    for number, stored in index.prompt_texts():
        messages = stored if isinstance(stored, str) else tuple(Message.model_validate(each) for each in stored)
        found += [(prompt, number) for prompt in wanted.pop(text_key(messages), ())]
    return found


def rehash(path: Path, prompts: Sequence[Prompt]) -> int:
    """Give answers that lie under another hash of a prompt's text to the prompt itself; the number of these prompts.
    Raises InputError for a path that holds no index."""
    with closing(TeacherIndex.open(path)) as index:
        lacking = [prompt for prompt in prompts if not index.count(prompt.uid, prompt.raw_prompt_hash)]
        found = same_text(index, lacking)
        if found:
            with IndexWriter(path) as writer:
                for prompt, number in found:
                    row = index.row(number)
                    writer.add_row(
                        replace(
                            row,
                            uid=prompt.uid,
                            raw_prompt_hash=prompt.raw_prompt_hash,
                            prompt=prompt.to_json()["prompt"],
                        )
                    )
    return len(found)


def joined(records: Iterable[AnswerRecord]) -> list[AnswerRecord]:
    """Join the records of each prompt to one, in the order in which the prompts come first."""
    by_prompt: dict[tuple[str, str], AnswerRecord] = {}
    for record in records:
        key = record.uid, record.raw_prompt_hash
        first = by_prompt.get(key)
        answers = record.answers if first is None else (*first.answers, *record.answers)
        by_prompt[key] = (first or record).model_copy(update={"answers": answers})
    return list(by_prompt.values())


@dataclass
class ForeignAnswers:
    """The records of a file of answers. Which columns it has is known when ``choose`` has seen the rows."""

    name: str
    rows: Callable[[], Iterable[Row]]
    named: Mapping[str, str] = field(default_factory=dict)
    """Field -> column, as the user named it: prompt, response, model, uid, system."""
    model: str | None = None
    known: Mapping[str, list[Prompt]] | None = None
    """Prompts by text; None: each row's prompt is taken as it stands there."""
    response: Chosen | None = None
    """None: the last message of the prompt's chat is the answer."""
    unmatched: Counter[str] = field(default_factory=Counter)
    """Texts that no known prompt has, by ``text_key``, each with its rows."""
    examples: list[str] = field(default_factory=list)
    """Where the first of these stand."""
    unlike: str = ""
    """The last message of the first of these."""
    empty: int = 0
    """Rows without an answer."""
    count: int = 0
    """Rows in all."""

    def choose(self) -> None:
        """Choose the columns. Raises InputError, with those that there are, where none can be prompt or answer."""
        prompt = {name: column for name, column in self.named.items() if name in ("prompt", "system")}
        self._reader = ColumnReader(named=prompt, worked_answers=False)
        counts: Counter[str] = Counter()

        def counted() -> Iterator[Row]:
            for row in self.rows():
                self.count += 1
                counts.update({name: not is_missing(value) for name, value in row.record.items()})
                yield row

        self._reader.choose(counted())
        if not self.count:
            raise InputError(f"{self.name}: no rows in it", "give a file with prompts and answers")
        names = ", ".join(counts) or "none"
        if "prompt" not in self._reader.chosen:
            raise InputError(
                f"{self.name}: no column of prompts among {names}",
                f"name it by --prompt-field; guessed are {', '.join(GUESSES['prompt'])}",
            )
        self.response = self._column("response", RESPONSES, counts)
        if "response" not in self.named and any(
            self._reader.prompt_and_replies(row)[1] for row in islice(self.rows(), _LOOKED_AT)
        ):
            self.response = None
        elif self.response is None:
            raise InputError(
                f"{self.name}: no column of answers among {names}",
                f"name it by --response-field; guessed are {', '.join(RESPONSES)}, or a chat whose last message is "
                "the assistant's",
            )
        self._models = self._column("model", MODELS, counts)
        self._endings = self._column("finish_reason", ENDINGS, counts)

    @property
    def columns(self) -> str:
        """The chosen columns, in words."""
        prompt = self._reader.chosen["prompt"]
        answers = str(self.response) if self.response else f"the last replies in {prompt}"
        model = f", model: {self._models}" if self._models and self.model is None else ""
        return f"prompt: {prompt}, answers: {answers}{model}"

    def records(self, track: Callable[[Iterable[Row]], Iterable[Row]] = iter) -> Iterator[AnswerRecord]:
        """Yield a record per row, and per known prompt of its text; ``track`` shows how far the rows are. Raises
        InputError that names the row."""
        for row in track(self.rows()):
            prompt, replies = self._reader.prompt_and_replies(row)
            answers = self._answers(row, replies)
            if not answers:
                self.empty += 1
                continue
            model = self.model or _first_text(self._value(row, self._models)) or ""
            if self.known is None:
                hash_ = prompt_hash(prompt)
                uid = self.named.get("uid")
                value = row.record.get(uid) if uid else row.record.get("uid")
                name = str(value) if not is_missing(value) else hash_[:16]
                yield AnswerRecord(uid=name, prompt=prompt, raw_prompt_hash=hash_, answers=answers, model=model)
                continue
            messages = prompt if isinstance(prompt, str) else tuple(Message.model_validate(each) for each in prompt)
            key = text_key(messages)
            if key not in self.known:
                self.unlike = self.unlike or (prompt if isinstance(prompt, str) else str(prompt[-1]["content"]))
                self.unmatched[key] += 1
                if len(self.examples) < SHOWN and self.unmatched[key] == 1:
                    self.examples.append(row.where)
                continue
            for one in self.known[key]:
                yield AnswerRecord(
                    uid=one.uid, prompt=one.prompt, raw_prompt_hash=one.raw_prompt_hash, answers=answers, model=model
                )

    def _column(self, name: str, guesses: tuple[str, ...], counts: Counter[str]) -> Chosen | None:
        """Return the column that is named, else the first guess that some row has, and that no prompt is made of."""
        if name in self.named:
            column = self.named[name]
            if column not in counts:
                raise InputError(f"{self.name}: no column {column!r}", f"it has {', '.join(counts) or 'none'}")
            return Chosen((column,), counts[column])
        taken = self._reader.chosen["prompt"].columns
        folded = {column.strip().lower(): column for column in counts if column not in taken and counts[column]}
        found = next((folded[guess] for guess in guesses if guess in folded), None)
        return Chosen((found,), counts[found]) if found else None

    def _value(self, row: Row, column: Chosen | None) -> Any:
        return row.record.get(column.columns[0]) if column is not None else None

    def _answers(self, row: Row, replies: list[dict[str, Any]]) -> tuple[Answer, ...]:
        values = replies[-1:] if self.response is None else _listed(self._value(row, self.response))
        endings = _listed(self._value(row, self._endings))
        made = []
        for number, value in enumerate(values):
            text = _text(value)
            if text is None:
                raise InputError(
                    f"{row.where}: an answer is {type(value).__name__}, not a text",
                    "name the column of the answers by --response-field",
                )
            ending = endings[number] if len(endings) == len(values) else None
            if text.strip():
                made.append(Answer(text=text, finish_reason=ending if isinstance(ending, str) else None))
        return tuple(made)


def _listed(value: Any) -> list[Any]:
    """Return several answers of a row; messages are one answer, their last."""
    if is_missing(value):
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return [value]
    if not isinstance(value, list):
        return [value]
    is_chat = bool(value) and all(isinstance(each, dict) and ({"role", "content"} <= each.keys()) for each in value)
    return value[-1:] if is_chat else [each for each in value if not is_missing(each)]


def _text(value: Any) -> str | None:
    """Return the text of an answer: its own, or that of a message or choice."""
    for name in ("message", "content", "value", "text", "generated_text"):
        if isinstance(value, dict) and value.get(name) is not None:
            value = value[name]
    return value if isinstance(value, str) else str(value) if type(value) in (int, float) else None


def _first_text(value: Any) -> str | None:
    first = next((each for each in _listed(value) if not is_missing(each)), None)
    return first if isinstance(first, str) else None

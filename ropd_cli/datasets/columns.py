"""One row of any columns as one prompt: which column is which field, and what the columns hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ropd_cli.datasets.chats import alpaca_messages, chat_messages, with_system
from ropd_cli.datasets.known_sets import Recipe
from ropd_cli.datasets.local_files import Row
from ropd_cli.errors import InputError
from ropd_cli.records.fields import answer_text, as_object, is_missing, verl_objects
from ropd_cli.records.schemas import Prompt, checked_hash, parse_prompt

GUESSES = {
    "prompt": ("prompt", "messages", "conversations", "conversation", "question", "problem", "instruction", "query"),
    "answer": (
        "answer",
        "reward_model.ground_truth",
        "ground_truth",
        "final_answer",
        "expected_answer",
        "target",
        "label",
        "solution",
    ),
    "system": ("system", "system_prompt"),
}
"""Columns of a field that is not named, in any case of letters."""
ALPACA = "instruction"
ALPACA_PARTS = ("input", "context", "history")
"""Columns that belong to the prompt where it is an instruction."""
FIELDS = ("prompt", "answer", "uid", "system", "rubric", "data_source", "ability")
"""What a column can be mapped to."""
UID_BY_HASH = "@hash"
_TRUTH = "reward_model.ground_truth"
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")


@dataclass(frozen=True)
class Wording:
    """What is put around each question: a system prompt where there is none, and a sentence after the question
    (the form of the answer). ``instruction`` None: what the recipe of the data set says; "": none."""

    system: str | None = None
    instruction: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A row with its prompt as chat messages, not validated yet: cheap to make, so that of a prompt that comes a
    hundred times ninety-nine are never validated."""

    fields: dict[str, Any]
    hash: str
    """``raw_prompt_hash`` of the messages."""
    notes: tuple[str, ...] = ()
    """What the summary counts."""

    @property
    def messages(self) -> list[Any]:
        return self.fields["prompt"]

    @property
    def answer(self) -> str | None:
        return self.fields.get("answer")

    def prompt(self, where: str) -> Prompt:
        """The validated prompt. Raises InputError that names ``where``."""
        return parse_prompt(self.fields, where)


@dataclass(frozen=True)
class Chosen:
    """The columns of a field, and in how many rows the first of them has a value."""

    columns: tuple[str, ...]
    rows: int

    def __str__(self) -> str:
        return " + ".join(self.columns)


@dataclass
class ColumnReader:
    """Turns rows into candidates, by columns that are named, those of a recipe, or those that ``choose`` chose."""

    wording: Wording = field(default_factory=Wording)
    named: Mapping[str, str] = field(default_factory=dict)
    """Field -> column as the user named it; a dot goes into an object (``extra_info.index``)."""
    recipe: Recipe | None = None
    data_source: str | None = None
    dropped: frozenset[str] = frozenset()
    worked_answers: bool = True
    """Whether an answer may be a worked solution that ends in ``#### 42``."""
    chosen: dict[str, Chosen] = field(default_factory=dict)
    further: tuple[str, ...] = ()
    """Columns that are no field, and stay as they are."""
    uids_by_hash: bool = False
    """Whether a row had no uid, and its prompt's hash was taken unasked."""

    def choose(self, rows: Iterable[Row]) -> None:
        """Choose the column of each field that is not named, over all rows: of the columns it may have the first that
        has a value in half as many rows, at least, as the one that has most."""
        wanted = {name: self._candidates(name) for name in FIELDS if name != "uid"}
        paths = {path for paths in wanted.values() for path in paths if "." in path}
        counts: Counter[str] = Counter()
        for row in rows:
            counts.update({name: int(not is_missing(value)) for name, value in row.record.items()})
            counts.update(path for path in paths - row.record.keys() if not is_missing(value_at(row.record, path)))
        known = [column for column in counts if column not in self.dropped]
        for name, options in wanted.items():
            some = options if name in self.named else [c for o in options for c in known if _folded(c) == _folded(o)]
            most = max((counts[column] for column in some), default=0)
            column = next((column for column in some if 2 * counts[column] >= most), None)
            if column is not None:
                parts = [c for part in ALPACA_PARTS for c in known if _folded(c) == part]
                whole = (column, *parts) if name == "prompt" and _folded(column) == ALPACA else (column,)
                self.chosen[name] = Chosen(whole, counts[column])
        used = {
            *FIELDS,
            "reward_model",
            "extra_info",
            *paths,
            *(c for each in self.chosen.values() for c in each.columns),
        }
        self.further = tuple(column for column in known if column not in used)

    @property
    def not_found(self) -> tuple[str, ...]:
        """Fields that one of the ``further`` columns of a set without a recipe may be."""
        if self.recipe is not None or not self.further:
            return ()
        return ("answer",) * ("answer" not in self.chosen) + ("uid",) * self.uids_by_hash

    def read(self, row: Row) -> Candidate:
        """Raises InputError that names the row, what is wrong with it and how to mend it."""
        notes: list[str] = []
        raw, messages, replies = self._prompt(row)
        if replies:
            notes.append("prompts whose last messages, replies, were cut off")
        used = set(self.chosen["prompt"].columns)
        fields: dict[str, Any] = {}
        for name in ("answer", "rubric", "data_source", "ability", "system"):
            if name in self.chosen and not (name == "system" and messages[0]["role"] == "system"):
                column = self.chosen[name].columns[0]
                value = self._get(row, name, column)
                used.add(column)
                if not is_missing(value):
                    fields[name] = value
        if "answer" in fields:
            fields["answer"] = self._final(fields["answer"], row, notes)
        system = fields.pop("system", None)
        if system is not None and not isinstance(system, str):
            raise InputError(
                f"{row.where}: the system prompt is {type(system).__name__}, not a text",
                "name its column by --system-field",
            )
        messages = with_system(messages, system)
        kept = {k: v for k, v in row.record.items() if k not in used and k not in self.dropped and v is not None}
        fields = kept | verl_objects(kept, row.where) | fields
        self._take_answer_of_verl(fields, row, notes)
        uid = self._uid(row, raw if isinstance(raw, str) and "system" not in self.chosen else messages)
        messages = self._worded(messages, row.where)
        own = {"uid": uid, "prompt": messages}
        fields = own | {key: value for key, value in fields.items() if key not in own}
        self._fill_in(fields)
        return Candidate(fields, checked_hash(messages, row.where), tuple(notes))

    def _candidates(self, name: str) -> tuple[str, ...]:
        """The columns that a field may have: the user's, else the recipe's, else those that are usual."""
        if name in self.named:
            return (self.named[name],)
        known = self.recipe.columns.get(name) if self.recipe else None
        return GUESSES.get(name, ()) if known is None else known

    def prompt_and_replies(self, row: Row) -> tuple[str | list[Any], list[Any]]:
        """Return a row's prompt, a text where it is no more than one, and the replies that stood at its end. Raises
        InputError that names the row."""
        raw, messages, replies = self._prompt(row)
        system = self._get(row, "system", self.chosen["system"].columns[0]) if "system" in self.chosen else None
        messages = with_system(messages, system if isinstance(system, str) else None)
        return raw if messages == [{"role": "user", "content": raw}] else messages, replies

    def _prompt(self, row: Row) -> tuple[Any, list[Any], list[Any]]:
        """The prompt as it stands in the row, its messages, and the replies after them."""
        if "prompt" not in self.chosen:
            names = ", ".join(map(str, row.record))
            raise InputError(f"{row.where}: no field with a prompt among {names}", "name it by --prompt-field")
        column, *parts = self.chosen["prompt"].columns
        raw = self._get(row, "prompt", column)
        if parts and (is_missing(raw) or isinstance(raw, str)):
            raw = alpaca_messages(raw, {part: row.record.get(part) for part in parts}, row.where)
        messages, replies = chat_messages(raw, row.where, columnar=row.columnar)
        return raw, messages, replies

    def _get(self, row: Row, name: str, column: str) -> Any:
        record = row.record
        if column not in record and value_at(record, column) is None and (name == "prompt" or name in self.named):
            has = f"it has {', '.join(map(str, record))}"
            hint = has if name in self.named else f"{has}; prepare sets of other columns apart, or name one column"
            raise InputError(f"{row.where}: no field {column!r}", hint)
        return value_at(record, column)

    def _final(self, value: Any, row: Row, notes: list[str]) -> str | None:
        """The checkable end of an answer: what follows the ``####`` of a worked solution, else all of it."""
        text = answer_text(value, columnar=row.columnar)
        if isinstance(value, dict) or (isinstance(value, list) and len(value) > 1):
            notes.append("answers that are lists or objects, kept as JSON")
        if text is not None and self.worked_answers:
            text = worked_result(text)
        return _THOUSANDS.sub("", text) if text and self.recipe and self.recipe.plain_numbers else text

    def _take_answer_of_verl(self, fields: dict[str, Any], row: Row, notes: list[str]) -> None:
        model = fields.get("reward_model")
        truth = self._final(model.get("ground_truth"), row, []) if isinstance(model, dict) else None
        answer = fields.pop("answer", None) or truth
        if answer:
            fields["answer"] = answer
        if truth and answer != truth:
            notes.append(f"answers other than {_TRUTH}")

    def _uid(self, row: Row, prompt: Any) -> str:
        named = self.named.get("uid")
        if named != UID_BY_HASH:
            values = [] if named is None else [self._get(row, "uid", named)]
            values += [value_at(row.record, name) for name in ("uid", "extra_info.index")]
            uid = next((each for each in values if not is_missing(each)), None)
            if uid is not None:
                return str(uid)
            self.uids_by_hash = True
        return checked_hash(prompt, row.where)[:16]

    def _worded(self, messages: list[Any], where: str) -> list[Any]:
        instruction = self.wording.instruction
        if instruction is None and self.recipe is not None:
            instruction = self.recipe.instruction
        if instruction:
            last = messages[-1]
            if not isinstance(last["content"], str):
                raise InputError(
                    f"{where}: the last message is not a user's text",
                    "leave --instruction out, or say --instruction ''",
                )
            if not last["content"].endswith(instruction):  # a file that this command wrote
                messages = [*messages[:-1], last | {"content": f"{last['content']}\n\n{instruction}"}]
        return with_system(messages, self.wording.system)

    def _fill_in(self, fields: dict[str, Any]) -> None:
        if self.recipe is not None:
            for name in self.recipe.left_out:
                fields.pop(name, None)
        source = (self.recipe.data_source if self.recipe else None) or self.data_source
        if source and not fields.get("data_source"):
            fields["data_source"] = source
        if not fields.get("ability"):
            fields["ability"] = self.recipe.ability if self.recipe else "general"


def value_at(record: Any, path: str) -> Any:
    """The value of a column; a dotted path goes into objects, also such as are texts of JSON, where no column has just
    that name."""
    if path in record:
        return record[path]
    for part in path.split("."):
        with suppress(ValueError):
            record = as_object(record)
        if not isinstance(record, dict) or part not in record:
            return None
        record = record[part]
    return record


def _folded(column: str) -> str:
    return column.strip().lower()


def worked_result(answer: str) -> str:
    """What follows the ``####`` of a worked solution, where that is its last line; else all of the answer."""
    result = answer.rpartition("####")[2].strip()
    return answer.strip() if "\n" in result else result

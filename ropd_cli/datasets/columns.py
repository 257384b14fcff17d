"""One row of any columns as one prompt: which column is which field, and chat messages in the forms they come in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ropd_cli.datasets.known_sets import Recipe
from ropd_cli.datasets.local_files import Row
from ropd_cli.errors import InputError
from ropd_cli.records.schemas import Prompt, parse_prompt, prompt_hash

PROMPT_FIELDS = ("prompt", "messages", "conversations", "question", "problem", "instruction", "query")
ANSWER_FIELDS = ("answer", "ground_truth", "final_answer", "target", "label", "solution")
FIELDS = ("prompt", "answer", "uid", "system", "rubric", "data_source", "ability")
"""What a column can be mapped to."""
UID_BY_HASH = "@hash"
_SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
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
    cut_replies: int = 0
    """Assistant messages that stood behind the last question, and were cut off."""

    @property
    def messages(self) -> list[Any]:
        return self.fields["prompt"]

    @property
    def answer(self) -> str | None:
        return self.fields.get("answer")

    def prompt(self, where: str) -> Prompt:
        """The validated prompt. Raises InputError that names ``where``."""
        return parse_prompt(self.fields, where)


@dataclass
class ColumnReader:
    """Turns rows into candidates. Columns that are not named are found in the first row, and stay for all rows."""

    wording: Wording = field(default_factory=Wording)
    named: Mapping[str, str] = field(default_factory=dict)
    """Field -> column as the user named it; a dot goes into an object (``extra_info.index``)."""
    recipe: Recipe | None = None
    data_source: str | None = None
    dropped: frozenset[str] = frozenset()
    worked_answers: bool = True
    """Whether an answer may be a worked solution that ends in ``#### 42``."""
    _found: dict[str, str | None] = field(default_factory=dict)

    def read(self, row: Row) -> Candidate:
        """Raises InputError that names the row, what is wrong with it and how to mend it."""
        record, where = row.record, row.where
        column = self._column("prompt", PROMPT_FIELDS, row)
        if column is None:
            raise InputError(f"{where}: no field with a prompt among {', '.join(record)}", "name it by --prompt-field")
        raw = self._get(row, "prompt", column)
        used = {column}
        fields: dict[str, Any] = {}
        for name in ("answer", "rubric", "data_source", "ability"):
            chosen = self._column(name, ANSWER_FIELDS if name == "answer" else (), row)
            if chosen is not None:
                value = self._get(row, name, chosen)
                used.add(chosen)
                if value is not None:
                    fields[name] = self._final(value) if name == "answer" else value
        kept = {k: v for k, v in record.items() if k not in used and k not in self.dropped and v is not None}
        messages, cut = _messages(raw, where, columnar=row.columnar, cut_replies=column != "prompt")
        system_column = self._column("system", (), row)
        if system_column is not None:
            used.add(system_column)
            kept.pop(system_column, None)
            messages = _with_system(messages, self._get(row, "system", system_column))
        fields = kept | fields
        _take_answer_of_verl(fields)
        uid = self._uid(row, raw if isinstance(raw, str) and system_column is None else messages)
        messages = self._worded(messages, where)
        own = {"uid": uid, "prompt": messages}
        fields = own | {key: value for key, value in fields.items() if key not in own}
        self._fill_in(fields)
        return Candidate(fields, prompt_hash(messages), cut)

    def _column(self, name: str, guesses: tuple[str, ...], row: Row) -> str | None:
        """The column of a field: the user's, else the recipe's, else the first of ``guesses`` that the row has."""
        if name in self.named:
            return self.named[name]
        if self._found.get(name) is None:
            known = self.recipe.columns.get(name) if self.recipe else None
            options = guesses if known is None else known
            if name == "answer" and known is None and "reward_model" in row.record:
                options = ("answer",)
            self._found[name] = next((each for each in options if value_at(row.record, each) not in (None, "")), None)
        return self._found[name]

    def _get(self, row: Row, name: str, column: str) -> Any:
        record = row.record
        if column not in record and value_at(record, column) is None and (name == "prompt" or name in self.named):
            hint = (
                f"name it by --{name}-field"
                if name in ("prompt", "answer", "uid", "system") and name not in self.named
                else f"it has {', '.join(map(str, record))}"
            )
            raise InputError(f"{row.where}: no field {column!r}", hint)
        return value_at(record, column)

    def _final(self, value: Any) -> str:
        """The checkable end of an answer: what follows the ``####`` of a worked solution, else all of it."""
        text = value if isinstance(value, str) else _json_text(value)
        if self.worked_answers:
            text = text.rpartition("####")[2].strip()
        return _THOUSANDS.sub("", text) if self.recipe and self.recipe.plain_numbers else text

    def _uid(self, row: Row, prompt: Any) -> str:
        if self.named.get("uid") != UID_BY_HASH:
            column = self._column("uid", ("uid", "extra_info.index"), row)
            values = [None if column is None else self._get(row, "uid", column)]
            values += [value_at(row.record, name) for name in ("uid", "extra_info.index")]
            value = next((each for each in values if each is not None), "")
            if str(value).strip():
                return str(value)
        return prompt_hash(prompt)[:16]

    def _worded(self, messages: list[Any], where: str) -> list[Any]:
        instruction = self.wording.instruction
        if instruction is None and self.recipe is not None:
            instruction = self.recipe.instruction
        if instruction:
            last = messages[-1]
            if not isinstance(last, dict) or last.get("role") != "user" or not isinstance(last.get("content"), str):
                raise InputError(
                    f"{where}: the last message is not a user's text",
                    "leave --instruction out, or say --instruction ''",
                )
            if not last["content"].endswith(instruction):  # a file that this command wrote
                messages = [*messages[:-1], last | {"content": f"{last['content']}\n\n{instruction}"}]
        return _with_system(messages, self.wording.system)

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
    """The value of a column; a dotted path goes into objects where no column has just that name."""
    if path in record:
        return record[path]
    for part in path.split("."):
        if not isinstance(record, dict) or part not in record:
            return None
        record = record[part]
    return record


def _take_answer_of_verl(fields: dict[str, Any]) -> None:
    model = fields.get("reward_model")
    if "answer" not in fields and isinstance(model, dict) and model.get("ground_truth") is not None:
        truth = model["ground_truth"]
        fields["answer"] = truth if isinstance(truth, str) else _json_text(truth)
    if fields.get("answer") == "":
        del fields["answer"]


def _json_text(value: Any) -> str:
    """A number as it is written, a list or object as JSON."""
    return orjson.dumps(value, default=str).decode() if isinstance(value, list | dict) else str(value)


def _messages(value: Any, where: str, *, columnar: bool, cut_replies: bool) -> tuple[list[Any], int]:
    """A prompt's value as messages, and how many replies at its end were cut off."""
    if isinstance(value, str) and value.lstrip().startswith('[{"'):
        value = _parsed_messages(value)
    if isinstance(value, bool | int | float):
        value = str(value)
    if value is None or value == "" or value == [] or (isinstance(value, str) and not value.strip()):
        raise InputError(f"{where}: 'prompt' is empty", "give a string or a list of {role, content} messages")
    if isinstance(value, str):
        return [{"role": "user", "content": value}], 0
    if not isinstance(value, list):
        raise InputError(f"{where}: 'prompt' is {type(value).__name__}", "give a string or a list of messages")
    messages = [_message(each, where, columnar=columnar) for each in value]
    count = len(messages)
    while cut_replies and messages and messages[-1].get("role") == "assistant":
        messages.pop()
    if not messages:
        raise InputError(f"{where}: no question among the messages", "a prompt ends with a user's message")
    return messages, count - len(messages)


def _parsed_messages(text: str) -> Any:
    """The messages that a text of JSON is (as in a CSV); the text itself where it is something else."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    is_chat = isinstance(value, list) and all(
        isinstance(each, dict) and {"role", "content"} <= each.keys() for each in value
    )
    return value if is_chat else text


def _message(raw: Any, where: str, *, columnar: bool) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise InputError(f"{where}: a message is {type(raw).__name__}", "each is an object with role and content")
    if "from" in raw and "value" in raw and "role" not in raw:  # ShareGPT
        return {"role": _SHAREGPT_ROLES.get(str(raw["from"]), str(raw["from"])), "content": raw["value"]}
    if columnar:  # a key that only other rows have reads as null there
        return {key: _without_nulls(value) for key, value in raw.items() if value is not None or key == "content"}
    return raw


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _with_system(messages: list[Any], system: Any) -> list[Any]:
    if not system or (messages and messages[0].get("role") == "system"):
        return messages
    return [{"role": "system", "content": str(system)}, *messages]

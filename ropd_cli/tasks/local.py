"""A file of the user's own, of whatever columns, as prompts."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.artifacts import read_records
from ropd_cli.errors import InputError
from ropd_cli.schemas import Prompt, parse_prompt

PROMPT_FIELDS = ("prompt", "messages", "question", "problem", "instruction", "query")
ANSWER_FIELDS = ("answer", "ground_truth", "final_answer", "target", "label", "solution")


def local_prompts(file: Path, prompt_field: str | None, answer_field: str | None) -> list[Prompt]:
    """The prompts of a JSONL, JSON, CSV, TSV or Parquet file.

    ``prompt_field`` None: the first of PROMPT_FIELDS that the first record has; likewise the answer, which
    may be absent. Records whose prompt stands in the file already are left out. Raises InputError with file
    and line.
    """
    prompts: dict[str, Prompt] = {}
    uids: set[str] = set()
    asked, answered = prompt_field, answer_field
    for number, record in _records(file):
        where = f"{file}:{number}"
        asked = asked or _first_of(PROMPT_FIELDS, record)
        if asked is None or asked not in record:
            raise InputError(
                f"{where}: no field {asked!r}"
                if asked
                else f"{where}: no field with a prompt among {', '.join(record)}",
                "name it by --prompt-field",
            )
        if answer_field is not None and answer_field not in record:
            raise InputError(f"{where}: no field {answer_field!r}", f"it has {', '.join(record)}")
        if not answered and "reward_model" not in record:
            answered = _first_of(ANSWER_FIELDS, record)
        fields = {key: value for key, value in record.items() if key not in (asked, answered)}
        fields["prompt"] = _prompt_of(record[asked])
        if answered and record.get(answered) is not None:
            fields["answer"] = _final(str(record[answered]))
        prompt = parse_prompt(fields, where)
        if prompt.raw_prompt_hash in prompts:
            continue
        if prompt.uid in uids:
            raise InputError(
                f"{where}: uid {prompt.uid!r} stands at another prompt too", "give each prompt its own uid"
            )
        uids.add(prompt.uid)
        prompts[prompt.raw_prompt_hash] = prompt
    if not prompts:
        raise InputError(f"{file}: no prompts in it", "one record a line, each with a prompt")
    return list(prompts.values())


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record) of a file by its suffix."""
    if not file.is_file():
        raise InputError(f"no file {file}", "check the path; paths are taken from the current directory")
    if file.suffix in (".csv", ".tsv"):
        with open(file, encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ",")
            try:
                for row in reader:
                    yield reader.line_num, row
            except (csv.Error, UnicodeDecodeError) as fault:
                raise InputError(f"{file}:{reader.line_num}: not readable as CSV ({fault})", "is it UTF-8?") from fault
        return
    if file.suffix == ".json":
        try:
            document = orjson.loads(file.read_bytes())
        except orjson.JSONDecodeError:
            document = None  # JSON Lines under another name
        if isinstance(document, list):
            for number, record in enumerate(document, start=1):
                if not isinstance(record, dict):
                    raise InputError(f"{file}: entry {number} is not a JSON object", "a list of objects, or one a line")
                yield number, record
            return
    yield from read_records(file)


def _first_of(names: tuple[str, ...], record: dict[str, Any]) -> str | None:
    return next((name for name in names if record.get(name) not in (None, "")), None)


def _prompt_of(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) else value


def _final(answer: str) -> str:
    """The checkable end of an answer: what follows the ``####`` of a worked solution, else all of it."""
    return answer.rpartition("####")[2].strip()

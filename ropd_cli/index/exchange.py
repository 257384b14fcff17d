"""The teacher index as JSON Lines of the method's reference implementation: ``ropd.teacher_index.v1`` (one answer a
prompt) and ``ropd.teacher_index.v2`` (several).

A row of ours has one field more, ``ropd``: what those formats have no place for (the prompt, and of each answer its
own source, time, usage, thinking, and the answers that were cut off), so that an index that is exported to v2 and
imported again is equal. A row without it is read as the format says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from ropd_cli.answers.thinking import canonical, split_thinking
from ropd_cli.errors import InputError
from ropd_cli.index.reader import TeacherIndex
from ropd_cli.index.rows import Row, Source, Stored, answer_of, rest_of
from ropd_cli.records.files import read_records, write_records
from ropd_cli.records.schemas import Answer, load_prompts

V1, V2 = "ropd.teacher_index.v1", "ropd.teacher_index.v2"
EXTRA = "ropd"
_HASH = re.compile(r"[0-9a-f]{64}")
_HINT = "a row has schema_version, uid, raw_prompt_hash, teacher_fingerprint and teacher_answers (v1: teacher_answer)"


def reference_row(row: Row, version: str, *, plain: bool = False) -> dict[str, Any] | None:
    """Return a row in the reference's format; ``plain``: without the field of ours. None where the format can't hold
    it: v1 and plain rows need an answer that can be used. v1 takes the first one."""
    usable = [stored for stored in row.answers if stored.usable]
    if not usable and (plain or version == V1):
        return None
    first = usable[0].source if usable else row.answers[0].source if row.answers else Source()
    record: dict[str, Any] = {"schema_version": version, "uid": row.uid, "raw_prompt_hash": row.raw_prompt_hash}
    if version == V1:
        record["teacher_answer"] = usable[0].answer.text
    else:
        record["teacher_answers"] = [stored.answer.text for stored in usable]
    record["teacher_fingerprint"] = _fingerprint(first)
    if not plain and version == V2:
        record[EXTRA] = _extra(row)
    return record


def write_reference(index: TeacherIndex, out: Path, version: str, *, plain: bool) -> tuple[int, int]:
    """Write an index as JSON Lines, whole or not at all: rows written, and rows left out (see ``reference_row``).
    ``version`` is "v1" or "v2". Raises InputError for a name of another format."""
    if out.suffix != ".jsonl" and out.suffixes[-2:] != [".jsonl", ".zst"]:
        raise InputError(f"{out}: the format is JSON Lines", "give a name that ends in .jsonl or .jsonl.zst")
    name = {"v1": V1, "v2": V2}[version]
    counts = Counter[bool]()

    def records() -> Iterator[dict[str, Any]]:
        for row in index.rows():
            record = reference_row(row, name, plain=plain)
            counts[record is not None] += 1
            if record is not None:
                yield record

    write_records(out, records())
    return counts[True], counts[False]


def prompts_by_hash(file: Path) -> dict[str, Any]:
    """Return the prompts of a file by their ``raw_prompt_hash``, as JSON holds them."""
    return {prompt.raw_prompt_hash: prompt.to_json()["prompt"] for prompt in load_prompts(file)}


def imported_rows(file: Path, prompts: Mapping[str, Any] | None = None) -> Iterator[Row]:
    """Yield the rows of a file of the reference's (v1 and v2 may be mixed). ``prompts``: prompts by their hash, for
    rows without theirs. Raises InputError with file and line for a row that is none."""
    for number, record in read_records(file):
        yield _row(record, f"{file}:{number}", prompts or {})


def _fingerprint(source: Source) -> dict[str, Any]:
    """Return the reference's description of how answers were sampled; of an imported row, its own."""
    if source.fingerprint is not None:
        return source.fingerprint
    sampling = source.sampling
    return {
        "provider": "openai-compatible" if source.endpoint else None,
        "model": source.model,
        "base_url": source.endpoint,
        "reasoning_effort": sampling.get("reasoning_effort"),
        "max_output_tokens": sampling.get("max_tokens"),
        "temperature": sampling.get("temperature"),
        "top_p": sampling.get("top_p"),
        "timeout_seconds": None,
        "prompt_template_version": source.template,
    }


def _extra(row: Row) -> dict[str, Any]:
    """Return what the reference's format has no place for."""
    sources: dict[bytes, int] = {}
    answers = []
    for stored in row.answers:
        place = sources.setdefault(stored.source.body(), len(sources))
        answer = {"source": place, **orjson.loads(rest_of(stored.answer))}
        answers.append(answer if stored.usable else answer | {"unusable": True, "text": stored.answer.text})
    return {"prompt": row.prompt, "sources": [orjson.loads(body) for body in sources], "answers": answers}


def _row(record: dict[str, Any], where: str, prompts: Mapping[str, Any]) -> Row:
    version = record.get("schema_version")
    if version not in (V1, V2):
        raise InputError(f"{where}: schema_version is {version!r}, not {V1} or {V2}", _HINT)
    uid, hash_ = record.get("uid"), record.get("raw_prompt_hash")
    if not isinstance(uid, str | int) or isinstance(uid, bool) or uid == "":
        raise InputError(f"{where}: uid is {uid!r}", _HINT)
    if not isinstance(hash_, str) or _HASH.fullmatch(hash_) is None:
        raise InputError(f"{where}: raw_prompt_hash is {hash_!r}, not 64 hex digits", _HINT)
    texts = record.get("teacher_answers") if version == V2 else [record.get("teacher_answer")]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        name = "teacher_answers is no list of texts" if version == V2 else "teacher_answer is no text"
        raise InputError(f"{where}: {name}", _HINT)
    fingerprint = record.get("teacher_fingerprint")
    if fingerprint is not None and not isinstance(fingerprint, dict):
        raise InputError(f"{where}: teacher_fingerprint is {type(fingerprint).__name__}", _HINT)
    if isinstance(record.get(EXTRA), dict):
        return _own_row(str(uid), hash_, texts, record[EXTRA], where)
    source = _source(fingerprint)
    answers = [answer for text in texts if (answer := _answer(text)) is not None]
    stored = tuple(Stored(str(uid), hash_, answer, source) for answer in answers)
    return Row(str(uid), hash_, prompts.get(hash_), stored, left_out=len(texts) - len(stored))


def _answer(text: str) -> Answer | None:
    thinking, answer = split_thinking(canonical(text))
    if answer is None:
        return None
    return Answer(text=answer.strip(), reasoning=thinking) if thinking else Answer(text=answer)


def _source(fingerprint: dict[str, Any] | None) -> Source:
    if fingerprint is None:
        return Source()
    names = {"temperature": "temperature", "top_p": "top_p", "max_tokens": "max_output_tokens"}
    names["reasoning_effort"] = "reasoning_effort"
    sampling = {ours: fingerprint[theirs] for ours, theirs in names.items() if fingerprint.get(theirs) is not None}
    text = {
        name: str(fingerprint[name])
        for name in ("model", "base_url", "prompt_template_version")
        if fingerprint.get(name)
    }
    return Source(
        text.get("model", ""), text.get("base_url"), sampling, text.get("prompt_template_version"), fingerprint
    )


def _own_row(uid: str, hash_: str, texts: list[str], extra: dict[str, Any], where: str) -> Row:
    """Return a row that this program exported. Raises InputError where the two parts of it no longer fit."""
    left = iter(texts)
    stored = []
    try:
        sources = [Source.of(orjson.dumps(body)) for body in extra["sources"]]
        for answer in extra["answers"]:
            rest = {name: value for name, value in answer.items() if name not in ("source", "unusable", "text")}
            usable = not answer.get("unusable", False)
            text = next(left) if usable else answer["text"]
            source = sources[answer["source"]]
            stored.append(Stored(uid, hash_, answer_of(text, orjson.dumps(rest)), source, usable))
    except (KeyError, IndexError, TypeError, ValueError, StopIteration) as fault:
        raise _edited(where) from fault
    if next(left, None) is not None:
        raise _edited(where)
    return Row(uid, hash_, extra.get("prompt"), tuple(stored))


def _edited(where: str) -> InputError:
    return InputError(
        f"{where}: the field {EXTRA!r} does not fit teacher_answers", f"delete {EXTRA!r} from rows that you edit"
    )

"""Make the JSON schemas of the judges' replies, and read a reply.

The formats are the reference's, ``ropd.rubric.v1`` and ``ropd.batch_verifier.v2``, and for one score per
answer ``ropd.scores.v1``, made like them. A reply is never
trusted further than its choices: sums and scores are computed here or later, ids and lengths are
checked. What is only a little off and has one meaning (a wrong sum, ids out of order) is mended, and
named in the record; anything else that does not fit raises ReplyInvalid, so that it is asked for again.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from reprlib import repr as short  # of a value nested as deeply as a reply may be, repr() fails
from typing import Any

from ropd_cli.answers.latex_escapes import with_latex
from ropd_cli.errors import REPLY_HINT, ReplyInvalid
from ropd_cli.records.schemas import Criterion, Rubric

RUBRIC_NAME, VERDICTS_NAME, SCORES_NAME = "ropd_rubric", "ropd_verdicts", "ropd_scores"
RUBRIC_VERSION, VERDICTS_VERSION, SCORES_VERSION = "ropd.rubric.v1", "ropd.batch_verifier.v2", "ropd.scores.v1"
CATEGORIES = ("Task Completion", "Observable Quality", "General Reasoning")
MIN_CRITERIA, MAX_CRITERIA = 4, 12
MAX_POINTS = 5
MAX_CRITERION_CHARS = 1000
WRITTEN_CRITERION_CHARS = (8, 500)
"""What a judge is held to where its server enforces the schema: a weak one writes neither blanks alone nor more than
fits: 12 such criteria take less than 8,192 tokens, whatever is written in them."""
MAX_ID_CHARS = 16

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s-]+")
_NUMBERED = re.compile(r"c[0-9]+")

Judgements = tuple[tuple[bool | None, ...], ...]
"""Shape (answers in shown order, K); None where the judge gave no verdict."""
RawScores = tuple[int | None, ...]
"""Shape (answers in shown order,), on the judge's scale; None where the judge gave no score."""


@lru_cache(maxsize=1)
def rubric_schema() -> dict[str, Any]:
    """JSON schema of a rubric; every text and list is bounded, so that a reply can't run away."""
    criterion = _object(
        criterion_id={"type": "string", "maxLength": MAX_ID_CHARS},
        category={"type": "string", "enum": list(CATEGORIES)},
        criterion={
            "type": "string",
            "minLength": WRITTEN_CRITERION_CHARS[0],
            "maxLength": WRITTEN_CRITERION_CHARS[1],
        },
        points={"type": "integer", "minimum": 1, "maximum": MAX_POINTS},
    )
    return _object(
        schema_version={"type": "string", "enum": [RUBRIC_VERSION]},
        rubrics={"type": "array", "items": criterion, "minItems": MIN_CRITERIA, "maxItems": MAX_CRITERIA},
        maximum_score={"type": "integer", "minimum": MIN_CRITERIA, "maximum": MAX_CRITERIA * MAX_POINTS},
    )


@lru_cache(maxsize=256)
def verdicts_schema(answers: int, criteria: int, first: int = 1) -> dict[str, Any]:
    """JSON schema of the verdicts on ``answers`` answers, numbered from ``first``, by ``criteria`` criteria: exactly so
    many of each."""
    answer = _object(
        answer_index={"type": "integer", "minimum": first, "maximum": first + answers - 1},
        judgement={"type": "array", "items": {"type": "boolean"}, "minItems": criteria, "maxItems": criteria},
        final_score={"type": "integer", "minimum": 0, "maximum": criteria * MAX_POINTS},  # a number has endless digits
    )
    return _object(
        schema_version={"type": "string", "enum": [VERDICTS_VERSION]},
        answers={"type": "array", "items": answer, "minItems": answers, "maxItems": answers},
    )


@lru_cache(maxsize=256)
def scores_schema(answers: int, top: int, first: int = 1) -> dict[str, Any]:
    """JSON schema of the scores, 0 to ``top``, of ``answers`` answers, numbered from ``first``."""
    answer = _object(
        answer_index={"type": "integer", "minimum": first, "maximum": first + answers - 1},
        score={"type": "integer", "minimum": 0, "maximum": top},
    )
    return _object(
        schema_version={"type": "string", "enum": [SCORES_VERSION]},
        answers={"type": "array", "items": answer, "minItems": answers, "maxItems": answers},
    )


def parse_rubric(document: Any) -> tuple[Rubric, tuple[str, ...]]:
    """The rubric in a reply's JSON, and what of it was mended.

    "maximum_score": the sum was wrong or missing; "criterion_id": ids, which are only names, were missing, stood
    twice, or were of the form c1, c2 … and out of order, and are numbered anew; "points": a whole number was
    written as 3.0; "json": keys were written otherwise (maximumScore), or the rubric was wrapped or a JSON text once
    more. Fields that the format does not have are dropped. Raises ReplyInvalid for anything else than 4 to 12
    whole criteria with points of 1 to 5.
    """
    mended: set[str] = set()
    document, items = _list(document, "rubrics", RUBRIC_VERSION, mended)
    if not MIN_CRITERIA <= len(items) <= MAX_CRITERIA:
        raise _invalid(f"{len(items)} criteria, not {MIN_CRITERIA} to {MAX_CRITERIA}")
    parsed = [_criterion(item, f"rubrics[{number}]", mended) for number, item in enumerate(items)]
    ids = [criterion.criterion_id for criterion in parsed]
    distinct = {each for each in ids if each}
    numbers = [f"c{number}" for number in range(1, len(parsed) + 1)]
    if ids != numbers and (len(distinct) < len(ids) or all(map(_NUMBERED.fullmatch, ids))):
        mended.add("criterion_id")
        parsed = [each.model_copy(update={"criterion_id": new}) for each, new in zip(parsed, numbers, strict=True)]
    total = sum(criterion.points for criterion in parsed)
    if type(document.get("maximum_score")) is not int or document["maximum_score"] != total:
        mended.add("maximum_score")
    return Rubric(rubrics=tuple(parsed), maximum_score=total), tuple(sorted(mended))


def parse_verdicts(document: Any, answers: int, criteria: int, first: int = 1) -> Judgements:
    """The judgements in a reply's JSON, shape (answers, criteria), in shown order, numbered from ``first``.

    ``final_score`` is not looked at. Raises ReplyInvalid unless every answer is there once, in order, with
    true, false or null (no verdict) for each criterion.
    """
    _, rows = _list(document, "answers", VERDICTS_VERSION, set())
    if len(rows) != answers:
        raise _invalid(f"verdicts on {len(rows)} answers, not {answers}")
    return tuple([_judgement(row, number, first, criteria) for number, row in enumerate(rows, start=first)])


def parse_scores(document: Any, answers: int, top: int, first: int = 1) -> RawScores:
    """The scores in a reply's JSON, shape (answers,), in shown order, numbered from ``first``; the reply may have them
    in any order. Raises ReplyInvalid unless every answer has one score, a whole number from 0 to ``top``.
    """
    scores, faults = read_scores(document, answers, top, first)
    if faults:
        raise _invalid("; ".join(faults))
    return scores


def read_scores(document: Any, answers: int, top: int, first: int = 1) -> tuple[RawScores, list[str]]:
    """The scores that can be read in a reply's JSON, as ``parse_scores`` gives them, and what is wrong with the others,
    which are None. Raises ReplyInvalid where the reply holds no list of answers."""
    _, rows = _list(document, "answers", SCORES_VERSION, set())
    values: dict[int, list[int | None]] = {number: [] for number in range(first, first + answers)}
    faults = []
    for at, row in enumerate(rows):
        where = f"answers[{at}]"
        if not isinstance(row, dict):
            faults.append(f"{where} is not an object")
            continue
        row = _with_keys(row, ("answer_index", "score"), set())
        index, value = row.get("answer_index"), row.get("score")
        if type(index) is not int or index not in values:
            faults.append(f"{where}.answer_index is {short(index)}, not one of {first} to {first + answers - 1}")
            continue
        is_score = type(value) is int and 0 <= value <= top
        if not is_score:
            faults.append(f"{where}.score is {short(value)}, not a whole number from 0 to {top}")
        values[index].append(value if is_score else None)
    faults += [f"{len(given)} scores for answer {number}" for number, given in values.items() if len(given) != 1]
    return tuple([given[0] if len(given) == 1 else None for given in values.values()]), faults


def _criterion(item: Any, where: str, mended: set[str]) -> Criterion:
    if not isinstance(item, dict):
        raise _invalid(f"{where} is not an object")
    item = _with_keys(item, ("category", "criterion", "points"), mended)
    given = item.get("criterion_id")
    texts = {
        "criterion_id": _text("" if given is None else given, f"{where}.criterion_id", MAX_ID_CHARS, empty=True),
        "category": _text(item.get("category"), f"{where}.category", MAX_CRITERION_CHARS),
        "criterion": _text(item.get("criterion"), f"{where}.criterion", MAX_CRITERION_CHARS),
    }
    points = item.get("points")
    if type(points) is float and points.is_integer():
        points = int(points)
        mended.add("points")
    if type(points) is not int or not 1 <= points <= MAX_POINTS:
        raise _invalid(f"{where}.points is {short(points)}, not a whole number from 1 to {MAX_POINTS}")
    return Criterion(**texts, points=points)


def _text(value: Any, where: str, limit: int, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value.strip() or empty):
        raise _invalid(f"{where} is not a text")
    if len(value) > limit:
        raise _invalid(f"{where} has {len(value)} characters, the limit is {limit}")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise _invalid(f"{where} holds a lone surrogate")  # JSON can escape it, UTF-8 can't hold it
    return value.strip() if empty else value


def _judgement(row: Any, number: int, first: int, criteria: int) -> tuple[bool | None, ...]:
    where = f"answers[{number - first}]"
    if not isinstance(row, dict):
        raise _invalid(f"{where} is not an object")
    row = _with_keys(row, ("answer_index", "judgement"), set())
    index = row.get("answer_index")
    if type(index) is not int or index != number:
        raise _invalid(f"{where}.answer_index is {short(index)}, not {number}")
    judgement = row.get("judgement")
    if not isinstance(judgement, list) or len(judgement) != criteria:
        given = f"{len(judgement)} values" if isinstance(judgement, list) else "no list"
        raise _invalid(f"{where}.judgement has {given}, the rubric has {criteria} criteria")
    for value in judgement:
        if value is not True and value is not False and value is not None:  # 1 == True, and is none
            raise _invalid(f"{where}.judgement holds something else than true, false and null")
    return tuple(judgement)


def _list(document: Any, field: str, version: str, mended: set[str]) -> tuple[dict[str, Any], list[Any]]:
    """Return a reply's object and a list field of it; a ``schema_version`` may be absent but not another one."""
    if isinstance(document, dict):
        document = _with_keys(document, (field,), mended)
        if field not in document and len(document) == 1:
            (inner,) = map(_unquoted, document.values())
            document = _with_keys(inner, (field,), mended) if isinstance(inner, dict) else document
            mended.add("json")
    value = document.get(field) if isinstance(document, dict) else None
    items = _unquoted(value)
    if not isinstance(items, list):
        raise _invalid(f"no list {field!r} in it")
    if items is not value:
        mended.add("json")
    if document.get("schema_version", version) != version:
        raise _invalid(f"schema_version is {short(document['schema_version'])}, not {version!r}")
    return document, items


def _unquoted(value: Any) -> Any:
    """Return what a JSON text holds; any other value as it is."""
    try:
        return json.loads(with_latex(value)) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _with_keys(item: dict[str, Any], keys: tuple[str, ...], mended: set[str]) -> dict[str, Any]:
    """Return an object with its keys as the format writes them where any of ``keys`` is missing: ``answerIndex`` is
    ``answer_index``."""
    if all(key in item for key in keys):
        return item
    renamed = {_WORD_START.sub("_", key.strip()).lower(): value for key, value in item.items()} | item
    if any(key in renamed and key not in item for key in keys):
        mended.add("json")
    return renamed


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _invalid(what: str) -> ReplyInvalid:
    return ReplyInvalid(f"the judge's reply does not fit: {what[:300]}", REPLY_HINT)

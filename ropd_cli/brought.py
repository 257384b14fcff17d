"""Rubrics that a data set brings with its prompts, in the forms they come in.

- the reference's ``{"schema_version": "ropd.rubric.v1", "rubrics": [...]}``;
- a list of criteria, each with a text (``criterion``, ``description`` or ``text``) and a number (``points`` or
  ``weight``): the column of Rubrics as Rewards (RaR) is one. There a *pitfall* describes a mistake and has a
  negative weight. A score here is a share of positive points, so such a criterion is turned round: the
  answer earns its points by avoiding the mistake;
- a JSON string of either. The field is ``rubric``, else ``extra_info.rubric``.
"""

from __future__ import annotations

import json
import math
from typing import Any

from ropd_cli.errors import InputError
from ropd_cli.judging_format import CATEGORIES, MAX_CRITERION_CHARS, MAX_POINTS
from ropd_cli.schemas import Criterion, Prompt, Rubric

MAX_BROUGHT = 100
AVOIDS = "The answer avoids this mistake: "
_TEXT_FIELDS, _WEIGHT_FIELDS = ("criterion", "description", "text"), ("points", "weight")
_HINT = "see the forms of brought rubrics in docs/rewards.md"


def brought_rubric(prompt: Prompt) -> Rubric | None:
    """The rubric a prompt brings; None where it brings none. Raises InputError that names the uid."""
    raw = prompt.rubric
    if raw is None and prompt.model_extra:
        extra_info = prompt.model_extra.get("extra_info")
        raw = extra_info.get("rubric") if isinstance(extra_info, dict) else None
    if raw is None:
        return None
    items = _items(raw, prompt.uid)
    if not 1 <= len(items) <= MAX_BROUGHT:
        raise _bad(prompt.uid, f"{len(items)} criteria, not 1 to {MAX_BROUGHT}")
    weights = [_weight(item, prompt.uid, number) for number, item in enumerate(items)]
    largest = max(map(abs, weights))
    whole = all(weight == int(weight) for weight in weights) and largest <= MAX_POINTS
    scale = 1.0 if whole else MAX_POINTS / largest
    criteria = tuple(
        _criterion(item, weight, scale, prompt.uid, number)
        for number, (item, weight) in enumerate(zip(items, weights, strict=True), start=1)
    )
    return Rubric(rubrics=criteria, maximum_score=sum(each.points for each in criteria))


def merged(brought: Rubric, induced: Rubric) -> Rubric:
    """One rubric of the criteria of both, the brought ones first. Where the rubricator used ids like d1 itself, the
    brought ones get as many d's more as it takes."""
    taken = {each.criterion_id for each in induced.rubrics}
    prefix = ""
    while any(f"{prefix}{each.criterion_id}" in taken for each in brought.rubrics):
        prefix += "d"
    first = [each.model_copy(update={"criterion_id": f"{prefix}{each.criterion_id}"}) for each in brought.rubrics]
    criteria = (*first, *induced.rubrics)
    return Rubric(rubrics=criteria, maximum_score=sum(each.points for each in criteria))


def _items(raw: Any, uid: str) -> list[Any]:
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError as fault:
            raise _bad(uid, f"its `rubric` is a text and no JSON ({fault})") from fault
    if isinstance(raw, dict):
        raw = raw.get("rubrics")
    if not isinstance(raw, list | tuple):
        raise _bad(uid, "its `rubric` is neither a list of criteria nor an object with `rubrics`")
    return list(raw)


def _weight(item: Any, uid: str, number: int) -> float:
    value = next((item[name] for name in _WEIGHT_FIELDS if name in item), None) if isinstance(item, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value == 0:
        raise _bad(uid, f"criterion {number + 1} has no `points` or `weight` other than 0")
    return float(value)


def _criterion(item: dict[str, Any], weight: float, scale: float, uid: str, number: int) -> Criterion:
    text = next((item[name] for name in _TEXT_FIELDS if isinstance(item.get(name), str) and item[name].strip()), None)
    if text is None:
        raise _bad(uid, f"criterion {number} has no text (`criterion`, `description` or `text`)")
    if len(text) > MAX_CRITERION_CHARS:
        raise _bad(uid, f"criterion {number} has {len(text)} characters, the limit is {MAX_CRITERION_CHARS}")
    category = item.get("category")
    return Criterion(
        criterion_id=f"d{number}",
        category=category if category in CATEGORIES else CATEGORIES[0],
        criterion=text if weight > 0 else f"{AVOIDS}{text}",
        points=min(MAX_POINTS, max(1, round(abs(weight) * scale))),
    )


def _bad(uid: str, what: str) -> InputError:
    return InputError(f"uid {uid}: {what}", _HINT)

"""Read the rubric that a data set has for a prompt, in the forms such rubrics come in.

- the reference's ``{"schema_version": "ropd.rubric.v1", "rubrics": [...]}``;
- a list of criteria, each with a text (``criterion``, ``description`` or ``text``) and a number (``points`` or
  ``weight``): the column of Rubrics as Rewards (RaR) is one;
- a numbered text, a criterion per item, all of one weight (OpenRubrics; its ``[Hard Rule]`` and ``[Principle]`` are
  left out of the criterion);
- a JSON string of the first two. The field is ``rubric``, else ``extra_info.rubric``.

A criterion with a negative weight describes a mistake (RaR calls it a *pitfall*). A score here is a share of
positive points, so it is turned round: the answer earns the points by avoiding the mistake. But many of RaR's
pitfalls already say what a good answer does ("should not omit …", most of RaR-Science), with the same negative
weight as those that name the mistake ("Does not mention …", most of RaR-Medicine). What reads as a demand is kept
as it stands; turned round, it would reward the mistake.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ropd_cli.errors import InputError
from ropd_cli.method.replies import CATEGORIES, MAX_CRITERION_CHARS, MAX_POINTS
from ropd_cli.records.schemas import Criterion, Prompt, Rubric

MAX_DATASET_CRITERIA = 100
AVOIDS = "The answer avoids this mistake: "
_TEXT_FIELDS, _WEIGHT_FIELDS = ("criterion", "description", "text"), ("points", "weight")
_LABEL = re.compile(r"\s*(essential|important|optional|pitfall)(?:\s+criteri(?:a|on))?\s*:\s*", re.IGNORECASE)
"""What RaR writes before a text; the weight says the same."""
_DEMAND = re.compile(
    r"(?:(?:the|this|an?|any)\s+(?:[\w'’-]+\s+)?)?(?:responses?|answers?|solutions?|explanations?|derivations?|it)\s+"
    r"(?:should|must|ought|shall|shouldn['’]t|mustn['’]t)\b|(?:avoid|don['’]t|do\s+not|must\s+not|should)\b",
    re.IGNORECASE,
)
"""What an answer is to do, as against what it does ("The response should …", "Avoid …")."""
_AVOIDS = re.compile(
    r"(?:(?:the|this)\s+)?(?:(?:response|answer|solution)\s+)?(?:avoids|avoiding|refrains)\b", re.IGNORECASE
)
"""A demand in a pitfall of RaR; elsewhere it may be the mistake ("avoids the question")."""
_NUMBERED = re.compile(r"^\s*\d{1,3}[.)]\s+", re.MULTILINE)
_MARK = re.compile(r"\s*\[(?:hard rule|principle)\]\s*$", re.IGNORECASE)
_HINT = (
    "give an ropd.rubric.v1 object, or a list of criteria, each with a text (criterion, description or text) and a "
    "number (points or weight)"
)


def dataset_rubric(prompt: Prompt) -> Rubric | None:
    """The rubric that comes with a prompt; None where none does. Raises InputError that names the uid."""
    raw = prompt.rubric
    if raw is None and prompt.model_extra:
        extra_info = prompt.model_extra.get("extra_info")
        raw = extra_info.get("rubric") if isinstance(extra_info, dict) else None
    if raw is None:
        return None
    items = _items(raw, prompt.uid)
    if not 1 <= len(items) <= MAX_DATASET_CRITERIA:
        raise _bad(prompt.uid, f"{len(items)} criteria, not 1 to {MAX_DATASET_CRITERIA}")
    weights = [_weight(item, prompt.uid, number) for number, item in enumerate(items, start=1)]
    largest = max(map(abs, weights))
    whole = all(weight == int(weight) for weight in weights) and largest <= MAX_POINTS
    most = MAX_POINTS if whole else largest  # whole weights up to MAX_POINTS stay what they are, others are scaled
    criteria = tuple(
        _criterion(item, weight, most, prompt.uid, number)
        for number, (item, weight) in enumerate(zip(items, weights, strict=True), start=1)
    )
    return Rubric(rubrics=criteria, maximum_score=sum(each.points for each in criteria))


def merged(dataset: Rubric, induced: Rubric) -> Rubric:
    """One rubric of the criteria of both, the data set's first (``judge.rubrics: both``)."""
    taken = {each.criterion_id for each in induced.rubrics}
    prefix = ""
    while any(f"{prefix}{each.criterion_id}" in taken for each in dataset.rubrics):
        prefix += "d"  # the rubricator has used ids like d1 itself
    first = [each.model_copy(update={"criterion_id": f"{prefix}{each.criterion_id}"}) for each in dataset.rubrics]
    criteria = (*first, *induced.rubrics)
    return Rubric(rubrics=criteria, maximum_score=sum(each.points for each in criteria))


def _items(raw: Any, uid: str) -> list[Any]:
    if isinstance(raw, str) and (listed := _NUMBERED.split(raw)[1:]):
        return [{"criterion": _MARK.sub("", " ".join(each.split())), "points": 1} for each in listed]
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError as fault:
            raise _bad(uid, f"its `rubric` is a text, and neither a numbered list nor JSON ({fault})") from fault
    if isinstance(raw, dict):
        raw = raw.get("rubrics")
    if not isinstance(raw, list | tuple):
        raise _bad(uid, "its `rubric` is neither a list of criteria nor an object with `rubrics`")
    return list(raw)


def _weight(item: Any, uid: str, number: int) -> float:
    """The weight of a criterion, not 0."""
    given = [item[name] for name in _WEIGHT_FIELDS if item.get(name) is not None] if isinstance(item, dict) else []
    try:
        weight = float(given[0]) if given and isinstance(given[0], int | float) and given[0] is not True else 0.0
    except OverflowError:
        weight = math.inf
    if not weight or not math.isfinite(weight):
        raise _bad(uid, f"criterion {number} has no `points` or `weight` that is a number other than 0")
    return weight


def _criterion(item: dict[str, Any], weight: float, most: float, uid: str, number: int) -> Criterion:
    text = next((item[name] for name in _TEXT_FIELDS if isinstance(item.get(name), str) and item[name].strip()), None)
    if text is None:
        raise _bad(uid, f"criterion {number} has no text (`criterion`, `description` or `text`)")
    if len(text) > MAX_CRITERION_CHARS:
        raise _bad(uid, f"criterion {number} has {len(text)} characters, the limit is {MAX_CRITERION_CHARS}")
    category = item.get("category")
    return Criterion(
        criterion_id=f"d{number}",
        category=category if category in CATEGORIES else CATEGORIES[0],
        criterion=_to_be_true(text, weight < 0),
        points=max(1, round(abs(weight) / most * MAX_POINTS)),
    )


def _to_be_true(text: str, is_negative: bool) -> str:
    """The text of a criterion so that true is good, without RaR's label."""
    label = _LABEL.match(text)
    bare = text[label.end() :] if label and len(text) > label.end() else text
    if not is_negative or _DEMAND.match(bare):
        return bare
    is_pitfall = label is not None and label[1].lower() == "pitfall"
    return bare if is_pitfall and _AVOIDS.match(bare) else f"{AVOIDS}{bare}"


def _bad(uid: str, what: str) -> InputError:
    return InputError(f"uid {uid}: {what}", _HINT)

"""Counts and lengths of an index; no text is read for them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson

from ropd_cli.index.reader import TeacherIndex


@dataclass(frozen=True)
class Lengths:
    """Of the usable answers: shortest, median, 95th percentile (nearest rank), longest; None where there are none."""

    least: int
    median: int
    p95: int
    most: int

    @classmethod
    def of(cls, values: list[int]) -> Lengths | None:
        """Of values in any order."""
        if not values:
            return None
        values = sorted(values)

        def rank(percent: int) -> int:
            return values[-(-percent * len(values) // 100) - 1]  # the ceiling, in integers

        return cls(values[0], rank(50), rank(95), values[-1])


@dataclass(frozen=True)
class ModelFigures:
    """Of one model: its usable answers, those that were cut off, tokens of them all as the endpoint counted them (0
    where it did not), mean characters of the usable, and the temperatures they were sampled at."""

    answers: int
    truncated: int
    tokens: int
    mean_chars: float
    temperatures: tuple[float | None, ...]


@dataclass(frozen=True)
class Survey:
    """``answers`` are usable ones, ``truncated`` those that were cut off (``truncated_share``: of both), ``distinct``
    counts prompts by their number of distinct usable answers; ``chars`` and ``tokens`` are lengths of an answer."""

    prompts: int
    answers: int
    truncated: int
    truncated_share: float
    distinct: dict[int, int]
    chars: Lengths | None
    tokens: Lengths | None
    models: dict[str, ModelFigures]
    sources: int
    without_prompt: int
    bytes: int
    built: int | None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; ``per_prompt`` is another name of ``distinct``."""
        document = asdict(self)
        document["distinct"] = {str(number): count for number, count in self.distinct.items()}
        document["per_prompt"] = document["distinct"]
        return document


def survey(index: TeacherIndex) -> Survey:
    """Count what an index holds."""
    rows = index.query("SELECT prompt_id, source_id, usable, chars, tokens, finish_reason FROM answers")
    sources = {number: orjson.loads(body) for number, body in index.query("SELECT id, body FROM sources")}
    per_prompt: dict[int, int] = {number: 0 for (number,) in index.query("SELECT id FROM prompts")}
    for prompt, _, usable, *_rest in rows:
        per_prompt[prompt] = per_prompt.get(prompt, 0) + usable
    distinct: dict[int, int] = {}
    for count in per_prompt.values():
        distinct[count] = distinct.get(count, 0) + 1
    usable_rows = [row for row in rows if row[2]]
    truncated = sum(row[5] == b"length" for row in rows)
    built = index.meta("built")
    return Survey(
        prompts=len(per_prompt),
        answers=len(usable_rows),
        truncated=truncated,
        truncated_share=truncated / len(rows) if rows else 0.0,
        distinct=dict(sorted(distinct.items())),
        chars=Lengths.of([row[3] for row in usable_rows]),
        tokens=Lengths.of([row[4] for row in usable_rows if row[4] is not None]),
        models=_models(rows, sources),
        sources=len({row[1] for row in rows}),
        without_prompt=index.query("SELECT count(*) FROM prompts WHERE prompt IS NULL")[0][0],
        bytes=index.path.stat().st_size,
        built=int(built) if built else None,
    )


def _models(rows: list[tuple], sources: dict[int, dict[str, Any]]) -> dict[str, ModelFigures]:
    """Return figures by model, the one with the most answers first."""
    by_model: dict[str, list[tuple]] = {}
    for row in rows:
        by_model.setdefault(sources.get(row[1], {}).get("model", ""), []).append(row)
    figures = {}
    for model, mine in by_model.items():
        usable = [row for row in mine if row[2]]
        temperatures = {sources[row[1]].get("sampling", {}).get("temperature") for row in mine}
        figures[model] = ModelFigures(
            answers=len(usable),
            truncated=sum(row[5] == b"length" for row in mine),
            tokens=sum(row[4] or 0 for row in mine),
            mean_chars=sum(row[3] for row in usable) / len(usable) if usable else 0.0,
            temperatures=tuple(sorted(temperatures, key=lambda each: (each is not None, each or 0.0))),
        )
    return dict(sorted(figures.items(), key=lambda item: (-item[1].answers, item[0])))

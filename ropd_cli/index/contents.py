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
    by_prompt = "SELECT coalesce(sum(a.usable), 0) AS n FROM prompts p LEFT JOIN answers a ON a.prompt_id = p.id"
    ((prompts, without_prompt),) = index.query("SELECT count(*), coalesce(sum(prompt IS NULL), 0) FROM prompts")
    ((rows, truncated, sources),) = index.query(
        "SELECT count(*), coalesce(sum(finish_reason IS 'length'), 0), count(DISTINCT source_id) FROM answers"
    )
    chars = [number for (number,) in index.query("SELECT chars FROM answers WHERE usable")]
    tokens = [number for (number,) in index.query("SELECT tokens FROM answers WHERE usable AND tokens IS NOT NULL")]
    built = index.meta("built")
    return Survey(
        prompts=prompts,
        answers=len(chars),
        truncated=truncated,
        truncated_share=truncated / rows if rows else 0.0,
        distinct=dict(index.query(f"SELECT n, count(*) FROM ({by_prompt} GROUP BY p.id) GROUP BY n ORDER BY n")),
        chars=Lengths.of(chars),
        tokens=Lengths.of(tokens),
        models=_models(index),
        sources=sources,
        without_prompt=without_prompt,
        bytes=index.path.stat().st_size,
        built=int(built) if built else None,
    )


def _models(index: TeacherIndex) -> dict[str, ModelFigures]:
    """Return figures by model, the one with the most answers first."""
    rows = index.query(
        "SELECT coalesce(json_extract(s.body, '$.model'), '') AS model, sum(usable) AS used,"
        " sum(finish_reason IS 'length'), coalesce(sum(tokens), 0),"
        " coalesce(avg(CASE WHEN usable THEN chars END), 0.0),"
        " json_group_array(DISTINCT json_extract(s.body, '$.sampling.temperature'))"
        " FROM answers a LEFT JOIN sources s ON s.id = a.source_id GROUP BY model ORDER BY used DESC, model"
    )
    figures = {}
    for model, answers, truncated, tokens, mean_chars, temperatures in rows:
        ordered = sorted(orjson.loads(temperatures), key=lambda each: (each is not None, each or 0.0))
        figures[model.decode()] = ModelFigures(answers, truncated, tokens, mean_chars, tuple(ordered))
    return figures
